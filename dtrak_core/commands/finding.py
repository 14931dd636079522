"""The command that says whether works are in a training set, and what they helped to make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dtrak_core import store
from dtrak_core.amounts import numbers_of
from dtrak_core.commands import answers, credits, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json
from dtrak_core.counterfactual import comparisons, work_sheet
from dtrak_core.counterfactual.work_sheet import Sheet
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.methods import crediting, defaults, scores, set_credit, works
from dtrak_core.methods.methods import Method, method_of
from dtrak_core.models import checkpoints
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target

LISTED = 12  # training and generated pictures in the terminal


def find_work(
    file: tyro.conf.Positional[tuple[Path, ...]],
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    pictures: Annotated[str, tyro.conf.arg(metavar="NUMBERS", help_behavior_hint="")] = "",
    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="(default: all that are drawn)")] = "",
    method: str = "d-trak",
    sampled: Drawing = Sampled(),  # noqa: B008
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Say whether works are among the training pictures, and which generated pictures they helped.

    Args:
        file: Pictures of the works; each is cropped and resized as the training pictures were.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        pictures: Training pictures that are the works, like 40,112-114 (default: those that equal one, or nearly so).
        seeds: Generated pictures, like 0-15; those that are not drawn yet are drawn first.
        method: Whose scores say what helped; they must have a sign.
        sampled: How seeds are drawn.
        out: The report as a file: .html to print or send, with pictures, .csv or .json.
    """
    write = None if out is None else work_sheet.writer(out)
    one = method_of(method)
    if reason := set_credit.refusal(one):
        raise SettingsError(reason)
    if not file:
        raise SettingsError("No work was given. Give the file of a picture.")
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    found = [works.find(chosen, weights, _taken_in(path, chosen)) for path in file]
    count = len(chosen.train.rows)
    members = numbers_of(pictures, "training pictures", count) if pictures else None
    told = work_sheet.sheet(found, members, chosen, weights)
    if told.members:
        told = _helped(told, one, credits.pictures_of(seeds, chosen, weights, sampled))
    if out is not None and write is not None:
        store.write_bytes(out, write(told))
    tables.say(work_sheet.document(told), json, lambda _: _shown(told))


def _taken_in(path: Path, dataset: Dataset) -> Target:
    if not path.is_file():
        raise NotFoundError(f"'{path}' is no file. Give the path of a picture.")
    return works.taken_in(dataset, path.read_bytes(), path.name)


def _helped(told: Sheet, method: Method, explained: Sequence[Target]) -> Sheet:
    dataset, weights = told.dataset, told.checkpoint
    if reason := scores.refusal(method, weights.digest, None, dataset.digest):
        raise SettingsError(reason)
    base = defaults.base_for(dataset.digest, weights.digest, method, {})
    plan = credits.computed(scores.resolve(method, dataset, weights.digest, explained, base), weights)
    stored = comparisons.listing(dataset, weights.digest)
    return work_sheet.sheet(told.works, told.members, dataset, weights, plan, scores.score(plan), stored)


def _shown(told: Sheet) -> str:
    """Return sentences, then the closest training pictures of each work, then what the works helped most."""
    parts = ["\n".join(work_sheet.sentences(told))]
    for work in told.works:
        rows = [
            {"index": one.index, "distance": one.distance, "bits": one.bits, "mirrored": one.mirrored}
            | {key: told.dataset.train.rows[one.index].get(key, "") for key in ("name", "contributor", "label")}
            for one in work.matches[:LISTED]
        ]
        columns = ("index", "distance", "bits", "mirrored", "name", "contributor", "label")
        parts.append(f"Closest to {work.target.caption}\n{tables.table(rows, columns)}")
    if told.help is not None:
        rows = [
            {"generated": told.help.targets[i].id, "share of its credit": crediting.percent(float(told.help.each[i]))}
            for i in work_sheet.order(told.help)[:LISTED]
        ]
        parts.append(f"Helped most\n{tables.table(rows, tuple(rows[0]))}")
    return "\n\n".join([*parts, *filter(None, [crediting.terms(told.dataset)])])
