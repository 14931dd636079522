"""The command `known`: of a method's first pictures, how many share what is known of the target?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro

from dtrak_core.amounts import counted, numbers_of
from dtrak_core.commands import answers, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.jobs import asking
from dtrak_core.lds import known_answers
from dtrak_core.methods import costs, scores
from dtrak_core.methods.methods import METHODS, method_of
from dtrak_core.methods.plans import Plan
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target

FIRST = ("d-trak", "trak", "raw-pixel-cosine")
MOST = 100_000
MOST_HELD_OUT = 64  # where the user names no number


def known(
    generated: Annotated[
        str | None, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="(default: 0-15 from prompts, else none)")
    ] = None,
    held_out: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64 or all, 0 beside prompts)")
    ] = None,
    method: tuple[str, ...] = (),
    top: int = known_answers.TOP,
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    sampled: Drawing = Sampled(),  # noqa: B008
    json: Json = False,
) -> None:
    """Count how many of a method's first pictures share the target's known family, label or contributor.

    What is known of a generated picture is what the pictures of its prompt share; of a held-out one its own facts.

    Args:
        generated: Seeds of generated targets, like 0-63, of a model with prompts or classes; empty for none.
        held_out: Number of held-out targets, from the first; 0 for none.
        method: d-trak, trak, lite0-cosine, ..., or all that need no further training; may be given several times
            (default: d-trak, trak, raw-pixel-cosine).
        top: Pictures of each target that are counted.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint that generates.
        sampled: Sampler.
    """
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    known_answers.check(top, len(chosen.train.rows))
    how = answers.with_prompts(chosen, weights, sampled)
    names = list(METHODS) if "all" in method else [method_of(one).id for one in dict.fromkeys(method or FIRST)]
    reasons = {name: asking.unusable(METHODS[name], chosen.digest, weights.digest, train=False) for name in names}
    wanted = _targets(chosen, weights, generated, held_out, how)
    if not known_answers.known(chosen, wanted):
        raise SettingsError(
            f"Nothing is known of these targets that some pictures of '{chosen.name}' share and others do not. It "
            "takes families, labels or contributors."
        )
    held = {}
    lacking: list[Plan] = []
    for name in names:
        found = known_answers.stored(chosen, weights, METHODS[name], wanted)
        if found is not None:
            held[name] = found
        elif not (able := known_answers.explained(METHODS[name], wanted)):
            reasons[name] = reasons[name] or "It explains none of these targets."
        elif not reasons[name]:
            planned = known_answers.plan(chosen, weights, METHODS[name], able)
            reasons[name] = planned.refused
            lacking += [] if planned.refused else [planned]
    if not held and not lacking:
        raise SettingsError(f"{METHODS[names[0]].label} cannot be used. {reasons[names[0]]}")
    _compute(chosen, weights, lacking, how)
    for plan in lacking:
        if (found := known_answers.stored(chosen, weights, plan.method, wanted)) is not None:
            held[plan.method.id] = found
    ordered = {name: held[name] for name in names if name in held}
    document = {
        "dataset": chosen.name,
        "checkpoint": weights.name,
        "top": top,
        "targets": [target.id for target in wanted],
        "sampled": how.model_dump(mode="json"),
        "tables": known_answers.tables(chosen, wanted, ordered, top),
        "warning": known_answers.WARNING,
        "left_out": {name: reasons[name] for name in names if name not in held},
    }
    say(document, json, _shown)


def _targets(
    dataset: Dataset, checkpoint: Checkpoint, generated: str | None, held_out: int | None, how: Sampled
) -> list[Target]:
    """Return the targets, generating those that are not stored."""
    if generated and not how.prompts:
        raise SettingsError(
            f"'{checkpoint.name}' draws from noise alone, so nothing is known of its pictures. Leave --generated out."
        )
    there = len(dataset.held_out.rows)
    if held_out is not None and not 0 <= held_out <= there:
        raise SettingsError(f"--held-out is {held_out}; '{dataset.name}' has {there}. Give 0 to {there}.")
    if generated is None:
        generated = "0-15" if how.prompts else ""
    seeds = numbers_of(generated, "seeds", MOST) if generated else []
    if held_out is None:
        held_out = 0 if how.prompts else min(MOST_HELD_OUT, there)
    if not seeds and not held_out:
        raise SettingsError("No target was given. Name some, like --generated 0-15 or --held-out 64.")
    lacking = [s for s in seeds if targets.find_sample(targets.sample_settings(checkpoint.digest, s, how)) is None]
    if lacking:
        answers.generated(checkpoint, lacking, how)
    names = [*(f"seed:{seed}" for seed in seeds), *(f"held-out:{number}" for number in range(held_out))]
    return [targets.resolve(dataset, checkpoint.digest, name, how) for name in names]


def _compute(dataset: Dataset, checkpoint: Checkpoint, plans: Sequence[Plan], how: Sampled) -> None:
    """Have computed what plans miss, those of the same targets together."""
    if not plans:
        return
    labels = ", ".join(plan.method.label for plan in plans)
    missing = [part for plan in plans for part in plan.missing]
    explained = [target for plan in plans for target in plan.targets]
    costs.tell(scores.estimate(dataset, checkpoint, missing, explained), labels)
    for alike in dict.fromkeys(tuple(t.id for t in plan.targets) for plan in plans):
        own = [plan for plan in plans if tuple(t.id for t in plan.targets) == alike]
        for job in asking.jobs_for(own, how):
            answers.completed(job, f"{', '.join(p.method.label for p in own)} for {counted(len(alike), 'target')}")


def _shown(document: Mapping[str, Any]) -> str:
    """Return one table for each fact and kind of target, and what it does not show."""
    lines = [f"Of the first {document['top']}, the share that is"]
    for one in document["tables"]:
        rows = [
            {
                "method": row["label"],
                "share": f"{row['share']:.3f}",
                "95 % interval": "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
            }
            for row in one["rows"]
        ]
        asked = counted(one["count"], f"{one['targets']} target")
        lines.append(
            f"\n{one['words']} as the target ({asked}): by chance {one['chance']:.3f}, at most {one['most']:.3f}\n"
            f"{tables.table(rows, ('method', 'share', '95 % interval'))}"
        )
        lines += [one["reason"]] if one["reason"] else []
    lines += ["", document["warning"]]
    lines += [f"{METHODS[name].label} is left out. {why}" for name, why in document["left_out"].items() if why]
    return "\n".join(lines)
