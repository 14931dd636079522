"""The command that removes, retrains and compares, and the one that shows a finished comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dtrak_core import files, store
from dtrak_core.amounts import numbers_of
from dtrak_core.commands import answers, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json, say
from dtrak_core.counterfactual import (
    badges,
    comparison_document,
    comparison_figure,
    comparisons,
    contrasts,
    removals,
    verdicts,
)
from dtrak_core.counterfactual.entries import label
from dtrak_core.counterfactual.removal_sets import CONTRIBUTOR, PICTURES, SAME
from dtrak_core.counterfactual.settings import Group
from dtrak_core.datasets import catalogue
from dtrak_core.errors import SettingsError
from dtrak_core.jobs import job_costs, jobs
from dtrak_core.methods import costs
from dtrak_core.models import checkpoints, descriptions
from dtrak_core.models.settings import DIFFUSION_STEPS, Sampled
from dtrak_core.settings import build, key_of


def counterfactual(
    target: tuple[str, ...] = (),
    method: tuple[str, ...] = (),
    remove: Annotated[str, tyro.conf.arg(metavar="COUNTS", help_behavior_hint="(default: 20 %)")] = "",
    share: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None,
    contributor: tuple[str, ...] = (),
    pictures: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NUMBERS")] = (),
    same: tuple[Literal["family", "contributor", "label"], ...] = (),
    group: Group = "none",
    random_draws: int = 2,
    train_seeds: Annotated[int, tyro.conf.arg(aliases=("--floor-seeds",))] = 1,
    floor_models: int = 1,
    take_over: int = DIFFUSION_STEPS,
    bottom: bool = True,
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    sampled: Drawing = Sampled(),  # noqa: B008
    name: str = "comparison",
    show: Annotated[str, tyro.conf.arg(help_behavior_hint="")] = "",
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Remove the top training pictures, retrain, regenerate with the same seed, compare.

    Args:
        target: A generated target, like seed:3; may be given several times.
        method: d-trak, trak, lite0-cosine, raw-pixel-cosine, ...; may be given several times (default: d-trak).
        remove: Numbers of pictures removed, like 90 or 10,30,90.
        share: Share removed of the pictures that the model learned from, 0 to 1, instead of a number.
        contributor: Remove all pictures of this contributor; may be given several times.
        pictures: Remove these training pictures, like 3,17-19, together; may be given several times.
        same: Remove all pictures of the target's family, contributor or label, as its prompt tells them.
        group: Remove whole families, contributors or labels of the top pictures.
        random_draws: Random removals of equal size, at least 1.
        train_seeds: Training seeds of every removal and control, at least 1; none is the original's.
        floor_models: Models with nothing removed, each of another seed; as many as the seeds at least.
        take_over: Timestep of 1,000 below which the retrained models draw, and the original above. It needs no further
            training.
        bottom: Leave out the control that removes the lowest scores of the first method.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        sampled: Sampler.
        name: What to call the comparison.
        show: Show a finished comparison of this name instead of computing one.
        out: Folder for comparison.csv, comparison.json and comparison.png.
    """
    if out is not None:
        files.check_place(out, folder=True)
    if show:
        found = comparisons.by_name(show)
        of = comparisons.dataset_of(found)
    else:
        chosen = answers.prepared(dataset)
        weights = checkpoints.by_name(checkpoint, chosen.digest)
        given = {CONTRIBUTOR: contributor, PICTURES: pictures, SAME: same}
        fixed = tuple(f"{begin}{one}" for begin, values in given.items() for one in values)
        methods = (*(method or (() if fixed else ("d-trak",))), *fixed)
        learned = descriptions.learned_from(weights, len(chosen.train.rows))
        asked = {
            "targets": target,
            "remove": _counts(remove, share, learned, bool(fixed and not method)),
            "group": group,
            "random_draws": random_draws,
            "train_seeds": train_seeds,
            "floor_models": floor_models,
            "take_over": take_over,
            "bottom": bottom,
        }
        if not target:
            raise SettingsError("No target was given. Name one, like --target seed:3, or show one with --show demo.")
        removals.check(chosen, method, group, f"Leave --group {group} out.")
        settings = removals.settings_for(
            chosen, weights, methods, asked | answers.with_prompts(chosen, weights, sampled).drawing()
        )
        job = build(jobs.CounterfactualJob, settings=settings, name=name)
        if store.find("comparisons", key_of("comparisons", settings)) is None:
            costs.tell(job_costs.of_comparison(chosen, weights, settings).cost, f"removals for {', '.join(target)}")
        answers.completed(job, f"Compare removals for {', '.join(target)}")
        found, of = comparisons.read(settings), chosen
    document = comparison_document.document(found, of)
    if out is not None:
        store.write_bytes(out / "comparison.csv", comparison_document.to_csv(found, of))
        store.write_json(out / "comparison.json", document)
        store.write_bytes(out / "comparison.png", comparison_figure.draw(found, max(found.settings.remove), of))
    say(document, json, lambda told: _shown(found, told))


def _counts(remove: str, share: float | None, count: int, by_name_only: bool) -> tuple[int, ...]:
    if remove and share is not None:
        raise SettingsError(f"--remove {remove} and --share {share:g} were both given. Give one of them.")
    if share is not None and not 0 < share < 1:
        raise SettingsError(
            f"--share is {share:g}; give a share between 0 and 1 of the pictures that the model learned from."
        )
    if remove:
        return tuple(numbers_of(remove, "numbers of pictures", count))
    if by_name_only:
        return (1,)  # a contributor's pictures are as many as they are
    number = round((0.2 if share is None else share) * count)
    if not number:
        raise SettingsError(f"--share is {share:g}: of {count:,} training pictures that is none. Give a larger share.")
    return (number,)


def _shown(comparison: comparisons.Comparison, document: dict[str, Any]) -> str:
    """Return the medians and the entries as two tables, and the verdicts as sentences between them."""
    columns = ("method", "l2", "cosine", "loss_change", "n")
    rounded = [
        {"method": label(name)} | {c: round(row[c], 4) for c in columns[1:]}
        for name, row in document["medians"].items()
    ]
    entries = [
        {"target": e["target"], "method": label(e["method"]), "removed": len(e["removed"])}
        | {"named for": e["owner"]}
        | {c: round(e[c], 4) for c in columns[1:4]}
        for e in document["entries"]
    ]
    listed = tables.table(entries, ("target", "method", "named for", "removed", "l2", "cosine", "loss_change"))
    if why := comparisons.unjudged(comparison):
        told = f"No verdict: {why}."
    else:
        standing = [f"{label(method)}: {badges.words(one)}" for method, one in badges.badges(comparison).items()]
        told = "\n".join([badges.headline(comparison), *standing]) + "\n\n"
        told += "\n\n".join(
            "\n".join([verdicts.NAMES[measure], *(f"  {line}" for line in lines)])
            for measure, lines in comparisons.sentences(comparison).items()
        )
        between = contrasts.contrasts(comparison)
        if any(between.values()):
            told += f"\n\n{contrasts.summary(between)}"
            for measure, each in between.items():
                lines = "\n".join(f"  {contrasts.sentence(one, measure)}" for one in each)
                told += f"\n\n{verdicts.NAMES[measure]}, method against method\n{lines}"
    changed = f"{document['changed']}\n\n" if document["changed"] else ""
    return f"{changed}Medians over targets\n{tables.table(rounded, columns)}\n\n{told}\n\n{listed}"
