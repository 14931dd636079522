"""Near-copies with all that belongs to them, in sentences and as a file: JSON, CSV, a page to print. No torch here."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted, ranges_of
from dtrak_core.counterfactual import copy_removals
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.copy_removals import Removed
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import copies, crediting, report, spreadsheet
from dtrak_core.methods.copies import Copies, Copy
from dtrak_core.models.checkpoints import Checkpoint

SHOWN = 40  # pairs of the page
UNIT = {"pixels": "root mean square difference of pixels in [-1, 1], at most 32 a side"}
EMBEDDED = "Euclidean distance of embeddings of length 1"


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures by how close they lie to a training picture, with what removing that did: `removed`, one for each."""

    copies: Copies
    removed: tuple[Removed, ...]
    dataset: Dataset
    checkpoint: Checkpoint


def sheet(found: Copies, dataset: Dataset, checkpoint: Checkpoint, comparisons: Sequence[Comparison]) -> Sheet:
    """Return copies with what the checkpoint's finished comparisons tell of them."""
    return Sheet(found, tuple(copy_removals.of(one, dataset, comparisons) for one in found.found), dataset, checkpoint)


def sentences(told: Sheet, quoted: Callable[[str], str] = str) -> list[str]:
    """Return what it says; names of training pictures are `quoted`."""
    found, first = told.copies, told.copies.found[0]
    count, held_out = counted(len(found.found), "picture"), len(found.reference)
    where = f"in {copies.NAMES[found.space]}" if found.space != "pixels" else "in pixels"
    if not held_out:
        lines = ["No held-out picture can say how small ρ is by chance, so there is no p: compare the pairs by eye."]
    elif few := too_few(held_out):
        lines = [f"{few} Compare the pairs by eye."]
    else:
        close, expected = len(found.close), found.expected
        by_chance = f"{expected:.1f}" if expected >= 1 else f"{expected:.2g}"
        lines = [
            f"{close:,} of {count} {'lies' if 1 in (close, len(found.found)) else 'lie'} closer to one training "
            f"picture than held-out pictures do (p at most 0.05, {where}); by chance {by_chance} would."
        ]
    extra = f", which has {counted(len(first.alike) - 1, 'near-duplicate')}" if len(first.alike) > 1 else ""
    name = quoted(name_of(told.dataset, first.nearest))
    lines.append(f"Closest is {first.target.called}, to {name}{extra}: {words(first)}.")
    return lines


def too_few(held_out: int) -> str:
    """Say that no p over this many held-out pictures, at least 1, can be 0.05; nothing where it can."""
    least = 1 / (1 + held_out)
    if least <= copies.LEVEL:
        return ""
    told = counted(held_out, "held-out picture")
    return f"{told} cannot tell a copy from chance at p = 0.05: the smallest p is {least:.2f}."


def as_close(p: float, held_out: int) -> str:
    """Say what p counts: how many of the held-out pictures lie as close to a training picture."""
    many = round(p * (1 + held_out)) - 1
    lie = "lies as close to its own" if many == 1 else "lie as close to theirs"
    return f"{many:,} of {counted(held_out, 'held-out picture')} {lie} (p = {p:.2g})"


def words(copy: Copy) -> str:
    """Return a copy's numbers."""
    return f"ρ = {copy.ratio:.2f}" + ("" if copy.p is None else f", p = {copy.p:.2g}")


def name_of(dataset: Dataset, index: int) -> str:
    """Return what a training picture is called: its number, and its name or label."""
    row = dataset.train.rows[index]
    return f"#{index} {row.get('name') or row.get('label') or ''}".strip()


def protocol(told: Sheet) -> str:
    """Say what the numbers are of."""
    found, held_out = told.copies, len(told.copies.reference)
    near = min(copies.NEIGHBOURS, found.distinct)
    p = (
        f"; p: of {counted(held_out, 'held-out picture')}, unlike any training picture, one more than those whose ρ is "
        f"as small, over {held_out + 1:,}"
    )
    return (
        f"ρ: distance to the nearest training picture over half the mean distance to the {near} nearest "
        f"of {found.distinct:,} different ones (Carlini et al. 2023){p * bool(held_out)}. "
        f"Distance: {UNIT.get(found.space, EMBEDDED)}."
    )


def document(told: Sheet, date: str = "") -> dict[str, Any]:
    """Return a sheet as plain JSON values; the date is today's where none is given."""
    found, dataset, checkpoint = told.copies, told.dataset, told.checkpoint
    return {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sentences": sentences(told),
        "protocol": protocol(told),
        "licence": crediting.terms(dataset),
        "dataset": {"name": dataset.name, "digest": dataset.digest, "pictures": found.pictures},
        "different_pictures": found.distinct,
        "checkpoint": {"name": checkpoint.name, "digest": checkpoint.digest},
        "space": found.space,
        "held_out": len(found.reference),
        "close": len(found.close),
        "close_by_chance": found.expected,
        "pictures": [_facts(one, gone, dataset) for one, gone in zip(found.found, told.removed, strict=True)],
        "versions": store.versions(),
    }


def to_json(told: Sheet, date: str = "") -> bytes:
    """Return a sheet as JSON."""
    return report.to_json(document(told, date))


def to_csv(told: Sheet, date: str = "") -> bytes:
    """Return a line for each picture, the closest first; each says where it comes from."""
    one = document(told, date)
    columns = ["target", "pixels", "nearest", "name", "contributor", "source", "distance", "ratio", "p"]
    tail = {
        "space": one["space"],
        "held_out": one["held_out"],
        "dataset": one["dataset"]["name"],
        "dataset_digest": one["dataset"]["digest"],
        "checkpoint": one["checkpoint"]["name"],
        "checkpoint_digest": one["checkpoint"]["digest"],
        "date": one["date"],
        "licence": one["licence"],
    }
    lines = [
        [*(row[name] for name in columns), ranges_of(row["near_duplicates"]), row["removed"], *tail.values()]
        for row in one["pictures"]
    ]
    return spreadsheet.to_csv([*columns, "near_duplicates", "removed", *tail], lines)


def to_html(told: Sheet, date: str = "") -> bytes:
    """Return a page to print or send, with the pairs side by side."""
    one, found = document(told, date), told.copies.found[:SHOWN]
    pairs = []
    for copy, gone in zip(found, told.removed, strict=False):
        named = name_of(told.dataset, copy.nearest)
        shown = [(copy.target.image, f"The picture of {copy.target.called}", [copy.target.caption, words(copy)])]
        row = told.dataset.train.rows[copy.nearest]
        lines = [named, str(row.get("contributor") or ""), str(row.get("origin") or "")]
        shown.append((told.dataset.train.images[copy.nearest], f"Training picture {named}", lines))
        shown += [(e.image, f"{copy.target.called} without it", ["without it"]) for e in gone.without[:2]]
        said = f"<p><small>{gone.sentence}</small></p>" if gone.without else ""
        pairs.append(f"<section>{report.pictures(shown)}{said}</section>")
    left = f" The first {SHOWN} of {len(told.copies.found):,}." if len(told.copies.found) > SHOWN else ""
    body = report.section("Pairs", f"Each generated picture beside its nearest training picture.{left}", *pairs)
    facts = {
        "Licence": one["licence"],
        "Training set": f"{one['dataset']['name']}, digest {one['dataset']['digest']}",
        "Checkpoint": f"{one['checkpoint']['name']}, digest {one['checkpoint']['digest']}",
        "Measured": one["protocol"],
        "Generated pictures": " ".join(f"{row['target']} ({row['pixels']})" for row in one["pictures"]),
        "Versions": ", ".join(f"{name} {value}" for name, value in one["versions"].items()),
        "Date": one["date"],
    }
    title = f"Near-copies among {counted(len(told.copies.found), 'picture')} by {told.checkpoint.name}"
    return report.page(title, f"Training set {told.dataset.name}, {one['date']}", one["sentences"], body, facts)


WRITERS: dict[str, Callable[[Sheet], bytes]] = {".html": to_html, ".csv": to_csv, ".json": to_json}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes a sheet into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "copies")


def _facts(copy: Copy, gone: Removed, dataset: Dataset) -> dict[str, Any]:
    row = dataset.train.rows[copy.nearest]
    return {
        "target": copy.target.id,
        "pixels": copy.target.pixels,
        "nearest": copy.nearest,
        "name": str(row.get("name") or row.get("label") or ""),
        "contributor": str(row.get("contributor") or ""),
        "source": str(row.get("origin") or ""),
        "distance": copy.distance,
        "ratio": copy.ratio,
        "p": copy.p,
        "near_duplicates": [i for i in copy.alike if i != copy.nearest],
        "removed": gone.sentence,
        "distances": {
            "before": gone.before,
            "without": gone.after,
            "random": gone.after_random,
            "floor": gone.after_floor,
        },
    }
