"""What is to be said of somebody's works and a model, in sentences and as a report. No torch here."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual import left_out, trials
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.copy_sheet import as_close, name_of, too_few
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import copies, crediting, report, set_words, spreadsheet, works
from dtrak_core.methods.plans import Plan, Scores
from dtrak_core.methods.works import Help, Match, Work
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint

HELPED = 16  # generated pictures of the page
UNKNOWN = "What it helped is not computed yet."


@dataclass(frozen=True, eq=False)
class Sheet:
    """Works, the training pictures that are said to be theirs (`members`), what these helped, what removal did."""

    works: tuple[Work, ...]
    members: tuple[int, ...]
    dataset: Dataset
    checkpoint: Checkpoint
    help: Help | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    removal: str = ""


def sheet(
    found: Sequence[Work],
    members: Sequence[int] | None,
    dataset: Dataset,
    checkpoint: Checkpoint,
    plan: Plan | None = None,
    scored: Scores | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Sheet:
    """Return what is to be said.

    Args:
        found: The works that were looked for.
        members: Training pictures that are theirs; None takes those that the works stand as.
        dataset: The training set.
        checkpoint: The model.
        plan: Method and generated pictures, where scores are there.
        scored: Their scores (M, N).
        comparisons: Finished comparisons of the checkpoint.

    Raises:
        SettingsError: If there is no such training picture.
    """
    there = range(len(dataset.train.rows))
    if wrong := [i for i in (() if members is None else members) if isinstance(i, bool) or i not in there]:
        raise SettingsError(f"There is no training picture {wrong[0]!r}: there are {len(there):,}, numbered from 0.")
    own = sorted({i for one in found for i in one.standing} if members is None else map(int, set(members)))
    if not own or plan is None or scored is None:
        return Sheet(tuple(found), tuple(own), dataset, checkpoint)
    helped = works.help_of(plan, scored, checkpoint, own)
    learned = checkpoints.learned(checkpoint)
    taken = own if learned is None else np.intersect1d(own, learned).tolist()  # a removal takes no others
    checked = left_out.check(comparisons, {works.NAME: taken}, scored.values, plan.targets)
    removal = " ".join([measured(checked), *_tried(dataset, checkpoint, taken)])
    return Sheet(tuple(found), tuple(own), dataset, checkpoint, helped, dict(scored.provenance), removal)


def sentences(told: Sheet, quoted: Callable[[str], str] = str) -> list[str]:
    """Return what it says; names are `quoted`."""
    lines = [standing(one, told.dataset, quoted) for one in told.works]
    if not told.members:
        unlike = not any(match.looks_like_it for one in told.works for match in one.matches)
        return [*lines, *["So there is nothing that it could have helped."] * unlike]
    if told.help is None:
        return [*lines, UNKNOWN]
    group = told.help.group
    chance = "" if group.p is None else f"; random pictures lie as far from their share with p = {group.p:.2g}"
    count = counted(len(told.help.targets), "generated picture")
    lines.append(f"By {told.help.label}, over {count}: {set_words.words(group)}{chance}.")
    if group.verdict in ("chance", "unknown"):
        lines.append(f"That is {set_words.VERDICTS[group.verdict]}.")
    best = int(np.argmax(told.help.each))
    part = crediting.percent(float(told.help.each[best]))
    lines.append(f"It helped {told.help.targets[best].called} most: {part} of the credit for that picture.")
    return [*lines, told.removal]


def standing(work: Work, dataset: Dataset, quoted: Callable[[str], str] = str) -> str:
    """Say whether a work stands in the training set."""
    name, first = quoted(work.target.caption or "your work"), work.matches[0]
    near = quoted(name_of(dataset, first.index))
    if work.standing:
        more = len(work.standing) - 1
        how = "pixel by pixel" if first.distance == 0 else "nearly pixel by pixel"
        extra = f", with {counted(more, 'near-duplicate')}" if more else ""
        return f"{name} is in the training set: it is {near}{', mirrored' * first.mirrored}, {how}{extra}."
    if first.looks_like_it:
        return (
            f"{name} is not in the training set pixel by pixel, but may be in another version: {near} has the same "
            f"outlines ({first.bits} of 64 bits apart, distance {first.distance:.2f}). Say which pictures are the work."
        )
    p = work.copy.p
    far = f"{'mirrored, ' * first.mirrored}distance {first.distance:.2f} in pixels"
    said = f"{name} was not found in the training set. Closest is {near} ({far})"
    if p is None or first.mirrored:  # held-out pictures are compared as they are, and say nothing of mirrored ones
        return f"{said}."
    if few := too_few(work.held_out):
        return f"{said}. {few} Compare them by eye."
    close = "closer than chance" if p <= copies.LEVEL else "no closer than chance"
    return f"{said}, {close}: {as_close(p, work.held_out)}."


def document(told: Sheet, date: str = "") -> dict[str, Any]:
    """Return a report as plain JSON values; the date is today's where none is given."""
    dataset, checkpoint, helped = told.dataset, told.checkpoint, told.help
    found: dict[str, Any] = {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sentences": sentences(told),
        "licence": crediting.terms(dataset),
        "dataset": {"name": dataset.name, "digest": dataset.digest, "pictures": len(dataset.train.rows)},
        "checkpoint": {"name": checkpoint.name, "digest": checkpoint.digest},
        "works": [_facts(one, dataset) for one in told.works],
        "pictures": [_row(i, dataset) for i in told.members],
        "help": None,
        "removal": told.removal,
        "provenance": dict(told.provenance),
        "versions": store.versions(),
    }
    if helped is not None:
        group = helped.group
        found["help"] = {
            "method": helped.method,
            "share": group.share,
            "share_of_pictures": group.set_share,
            "lift": group.lift,
            "lift_low": group.low,
            "lift_high": group.high,
            "p": group.p,
            "verdict": set_words.VERDICTS[group.verdict],
            "targets": [
                {"id": helped.targets[i].id, "pixels": helped.targets[i].pixels, "share": float(helped.each[i])}
                for i in order(helped)
            ],
        }
    return found


def order(helped: Help) -> list[int]:
    """Return the places of the generated pictures, the most helped first."""
    return [int(i) for i in np.argsort(-helped.each, kind="stable")]


def to_json(told: Sheet, date: str = "") -> bytes:
    """Return a report as JSON."""
    return report.to_json(document(told, date))


def to_csv(told: Sheet, date: str = "") -> bytes:
    """Return a line for each generated picture, the most helped first; each says where it comes from."""
    one = document(told, date)
    rows = one["help"]["targets"] if one["help"] else []
    tail = [" ".join(work["pixels"] for work in one["works"]), " ".join(map(str, told.members))]
    tail += [one["help"]["method"] if one["help"] else "", one["dataset"]["digest"], one["checkpoint"]["digest"]]
    tail += [one["date"], one["licence"]]
    first = ["target", "pixels", "share", "works", "training_pictures", "method"]
    columns = [*first, "dataset_digest", "checkpoint_digest", "date", "licence"]
    return spreadsheet.to_csv(columns, [[row["id"], row["pixels"], row["share"], *tail] for row in rows])


def to_html(told: Sheet, date: str = "") -> bytes:
    """Return a page to print or send, with the works, the training pictures beside them, and what they helped."""
    one, parts = document(told, date), []
    for work in told.works:
        shown = [(work.target.image, "The work", ["the work", work.target.caption])]
        shown += [_figure(match, told.dataset) for match in work.matches[:6]]
        parts.append(report.pictures(shown))
    body = report.section("The work and the training pictures closest to it", "Distances are of pixels.", *parts)
    if told.help is not None:
        shown = [
            (
                t.image,
                f"The picture of {t.called}",
                [t.caption or t.id, crediting.percent(float(told.help.each[i]))],
            )
            for i in order(told.help)[:HELPED]
            for t in [told.help.targets[i]]
        ]
        lead = "Each with the part of its own credit that the work has."
        body += report.section("The generated pictures that it helped most", lead, report.pictures(shown))
    features = told.provenance.get("feature_settings", {})
    facts = {
        "Licence": one["licence"],
        "Works": ", ".join(f"{work['name']} ({work['pixels']})" for work in one["works"]),
        "Training pictures": " ".join(f"#{i}" for i in told.members),
        "Training set": f"{one['dataset']['name']}, digest {one['dataset']['digest']}",
        "Checkpoint": f"{one['checkpoint']['name']}, digest {one['checkpoint']['digest']}",
        "Method": "" if told.help is None else told.help.label,
        "Features": ", ".join(f"{name} {value}" for name, value in sorted(features.items())),
        "Versions": ", ".join(f"{name} {value}" for name, value in one["versions"].items()),
        "Date": one["date"],
    }
    under = f"Training set {told.dataset.name}, model {told.checkpoint.name}, {one['date']}"
    return report.page("Is this work in the model?", under, one["sentences"], body, facts)


WRITERS: dict[str, Callable[[Sheet], bytes]] = {".html": to_html, ".csv": to_csv, ".json": to_json}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes a report into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "a report")


def measured(checked: left_out.Check) -> str:
    """Say what models that were trained without just these pictures have shown."""
    if not checked.groups:
        return "No model has been trained without it yet."
    (row,) = checked.groups
    told = (
        f"Trained without it, {counted(row.models, 'model')} {'denoises' if row.models == 1 else 'denoise'} "
        f"{counted(row.targets, 'generated picture')} with a loss that changes by {row.measured:+.5f} beside another "
        "training seed's alone"
    )
    if row.by_random is not None:
        told += f"; without as many random pictures it changes by {row.by_random:+.5f}"
    return f"{told}.".replace(" -", " −")


def _tried(dataset: Dataset, checkpoint: Checkpoint, members: Sequence[int]) -> list[str]:
    known = trials.listing(dataset, checkpoint)
    return [one.sentence for one in known if list(one.settings.removed) == list(members)][:1]


def _figure(match: Match, dataset: Dataset) -> tuple[np.ndarray, str, list[str]]:
    name, row = name_of(dataset, match.index), dataset.train.rows[match.index]
    lines = [name, f"distance {match.distance:.2f}", str(row.get("contributor") or ""), str(row.get("origin") or "")]
    return dataset.train.images[match.index], f"Training picture {name}", lines


def _facts(work: Work, dataset: Dataset) -> dict[str, Any]:
    return {
        "name": work.target.caption,
        "pixels": work.target.pixels,
        "sentence": standing(work, dataset),
        "in_the_set": list(work.standing),
        "ratio": work.copy.ratio,
        "p": work.copy.p,
        "closest": [
            _row(one.index, dataset) | {"distance": one.distance, "bits": one.bits, "mirrored": one.mirrored}
            for one in work.matches
        ],
    }


def _row(index: int, dataset: Dataset) -> dict[str, Any]:
    row = dataset.train.rows[index]
    named = {key: str(row.get(key) or "") for key in ("name", "label", "contributor")}
    return {"index": index, **named, "source": str(row.get("origin") or "")}
