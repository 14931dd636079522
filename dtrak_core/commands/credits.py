"""The command that says who gets credit over a set of generated pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import program, store
from dtrak_core.amounts import counted, numbers_of
from dtrak_core.commands import answers, make, refusals, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json
from dtrak_core.counterfactual import comparisons, credits
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import ModelOutput
from dtrak_core.jobs import asking
from dtrak_core.jobs.job_kinds import AttributeJob
from dtrak_core.methods import costs, credit_page, credit_sheet, crediting, defaults, scores, set_credit, set_scores
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import method_of, with_output
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.set_credit import By
from dtrak_core.models import checkpoints, descriptions, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target

LISTED = 30  # groups in the table of the terminal


def credit(
    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="(default: all that are drawn)")] = "",
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    method: str = "d-trak",
    by: Annotated[By | None, tyro.conf.arg(metavar="|".join(set_credit.BY), help_behavior_hint="")] = None,
    damping: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None,
    rank_share: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=make.BY_METHOD)] = None,
    model_output: Annotated[
        ModelOutput | None, tyro.conf.arg(metavar="OUTPUT", help_behavior_hint=make.BY_METHOD)
    ] = None,
    features: Annotated[make.FeatureOptions, tyro.conf.arg(name="")] = make.FeatureOptions(),  # noqa: B008
    feature_batch: int = 0,
    sampled: Drawing = Sampled(),  # noqa: B008
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Say whose training pictures get credit over a set of generated pictures. What is not stored is computed.

    Args:
        seeds: Numbers and ranges, like 0-15 or 3,7,20-23; those that are not drawn yet are drawn first.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        method: d-trak, trak, gradient-dot, ...; its scores must have a sign.
        by: Group training pictures by contributor, label or family, or take them singly (default: the first of these
            that the pictures have).
        damping: Damping of TRAK and D-TRAK, in the units of the kernel's eigenvalues.
        rank_share: Damping by what it means: effective rank over the number of training pictures, 0 to 1.
        model_output: Function whose gradient is taken, as of `attribute`.
        features: Features.
        feature_batch: Pictures whose gradients are computed at once, 0 chooses; changes no score.
        sampled: How seeds are drawn; of stored pictures, --prompts takes those of these prompts alone.
        out: Credits as a file: .html to print or send, with pictures, .csv or .json.
    """
    write = None if out is None else credit_page.writer(out)
    one = with_output(method_of(method), model_output)
    if reason := set_credit.refusal(one):
        raise SettingsError(reason)
    refusals.damping([one], damping, rank_share)
    refusals.feature_batch(feature_batch)
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    if reason := scores.refusal(one, weights.digest, None, chosen.digest):
        raise SettingsError(reason)
    set_credit.check_grouping(chosen.train.rows, by)
    base = defaults.base_for(chosen.digest, weights.digest, one, features.model_dump())
    plan = scores.resolve(one, chosen, weights.digest, pictures_of(seeds, chosen, weights, sampled), base)
    plan = computed(plan, weights, feature_batch)
    found = scores.score(plan, damping, rank_share)
    stored = comparisons.listing(chosen, weights.digest)
    told = credits.sheet(plan, found, weights, by, stored)
    if out is not None and write is not None:
        store.write_bytes(out, write(told))
    tables.say(credit_sheet.document(told), json, lambda document: _shown(told, document))


def pictures_of(seeds: str, dataset: Dataset, checkpoint: Checkpoint, sampled: Sampled) -> Sequence[Target]:
    """Return the generated pictures that are meant: of seeds, drawn first where needed, or all that are stored."""
    way = answers.with_prompts(dataset, checkpoint, sampled)
    if seeds:
        numbers = numbers_of(seeds, "seeds", make.MOST_SEEDS)
        settings = {number: targets.sample_settings(checkpoint.digest, number, way) for number in numbers}
        if lacking := [number for number in numbers if targets.find_sample(settings[number]) is None]:
            answers.generated(checkpoint, lacking, way)
        return [targets.resolve(dataset, checkpoint.digest, f"seed:{number}", way) for number in numbers]
    if found := set_scores.drawn(checkpoint.digest, prompts=sampled.prompts, sampled=way):
        return found
    told = descriptions.undrawn(checkpoint, repr(checkpoint.name), way, sampled.prompts)
    command = program.command(f"sample --dataset {dataset.name} --checkpoint {checkpoint.name}")
    raise SettingsError(f"{told} Draw some ({command}), or give --seeds.")


def computed(plan: Plan, checkpoint: Checkpoint, feature_batch: int = 0) -> Plan:
    """Have computed what a plan lacks; return it complete."""
    if plan.refused:
        raise SettingsError(plan.refused)
    if not plan.missing:
        return plan
    if reason := family_of(plan.method).lacking(plan.method):
        raise SettingsError(reason)
    what = f"{plan.method.label} for {counted(len(plan.targets), 'picture')}"
    costs.tell(scores.estimate(plan.dataset, checkpoint, plan.missing, plan.targets), what)
    for sampled, some in asking.sets(plan, targets.way_of(checkpoint, plan.dataset.train)):
        for job in asking.jobs_for([set_scores.of_some(plan, some)], sampled):
            own = job.model_copy(update={"pictures_per_batch": feature_batch}) if isinstance(job, AttributeJob) else job
            answers.completed(own, what)
    return set_scores.of_some(plan, plan.targets)


def _shown(told: Sheet, document: dict[str, Any]) -> str:
    """Return sentences, then the table of groups, the check, and what the numbers are of."""
    columns = ("share", "pictures", "share_of_pictures", "lift", "interval", "p", "verdict")
    by = told.credit.by
    rows = [
        {by: group["name"], "pictures": group["pictures"], "verdict": group["verdict"]}
        | {name: crediting.percent(group[name]) for name in ("share", "share_of_pictures")}
        | {"lift": f"{group['lift']:.2f}", "p": "" if group["p"] is None else f"{group['p']:.2g}"}
        | {"interval": "" if group["lift_low"] is None else f"{group['lift_low']:.2f} to {group['lift_high']:.2f}"}
        for group in document["groups"][:LISTED]
    ]
    left = len(document["groups"]) - LISTED
    parts = ["\n".join(document["sentences"]), tables.table(rows, (by, *columns))]
    parts += [f"and {left:,} more (all of them: --json, --out)"] if left > 0 else []
    parts += [document["protocol"], f"Checked by leaving out: {document['checked']['sentence']}", document["licence"]]
    return "\n\n".join(part for part in parts if part)
