"""What the doctor says of a training set, as sentences and as a file: JSON, CSV, a page to print. No torch here."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual import trials
from dtrak_core.counterfactual.copy_sheet import name_of
from dtrak_core.counterfactual.settings import TrialSettings
from dtrak_core.counterfactual.trials import Trial
from dtrak_core.datasets import alike
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, doctor, report, spreadsheet
from dtrak_core.methods.doctor import Suspects
from dtrak_core.models.checkpoints import Checkpoint

TOP = 24  # pictures of each check on the page
LISTED = 20  # trials that are told of


@dataclass(frozen=True, eq=False)
class Sheet:
    """Checks of a training set with the trials that removed some of it; `top` pictures of each check are written."""

    suspects: tuple[Suspects, ...]
    trials: tuple[Trial, ...]
    dataset: Dataset
    checkpoint: Checkpoint
    top: int = TOP


def sentence(found: Suspects, dataset: Dataset) -> str:
    """Return what a check has found first, in words."""
    if not len(found.order):
        return "It says nothing of any picture."
    first = int(found.order[0])
    pair = "" if found.partner is None else f" (with {name_of(dataset, int(found.partner[first]))})"
    lead = f"{doctor.ABOUT[found.check].title}: first {name_of(dataset, first)}{pair}, {value_of(found, first)}"
    if found.check == "duplicates":
        same = alike.of_dataset(dataset)[0]
        extra = len(same) - len(set(same.tolist()))
        return (
            f"{counted(extra, 'training picture')} {'is' if extra == 1 else 'are'} nearly equal to another one. {lead}."
        )
    if found.check == "captions":
        above = int((found.values[found.order] > 0).sum())
        better = f"{counted(above, 'picture')} of {len(found.order):,} {'denoises' if above == 1 else 'denoise'} better"
        return f"{better} by other captions. {lead}."
    return f"{lead}."


def value_of(found: Suspects, index: int) -> str:
    """Return what a check measured of a picture, in words."""
    return f"{doctor.ABOUT[found.check].value} {found.values[index]:.3g}".replace(" -", " −")


def document(told: Sheet, date: str = "") -> dict[str, Any]:
    """Return a sheet as plain JSON values; the date is today's where none is given."""
    dataset, checkpoint = told.dataset, told.checkpoint
    return {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sentences": [*(sentence(one, dataset) for one in told.suspects), *(one.sentence for one in told.trials)],
        "licence": crediting.terms(dataset),
        "dataset": {"name": dataset.name, "digest": dataset.digest, "pictures": len(dataset.train.rows)},
        "checkpoint": {"name": checkpoint.name, "digest": checkpoint.digest},
        "checks": {
            one.check: {
                "about": doctor.ABOUT[one.check].sentence,
                "value": doctor.ABOUT[one.check].value,
                "ranked": len(one.order),
                "pictures": [_facts(one, rank, dataset) for rank in range(min(told.top, len(one.order)))],
                "facts": dict(one.facts),
            }
            for one in told.suspects
        },
        "trials": [trials.document(one) for one in told.trials],
        "versions": store.versions(),
    }


def to_json(told: Sheet, date: str = "") -> bytes:
    """Return a sheet as JSON."""
    return report.to_json(document(told, date))


def to_csv(told: Sheet, date: str = "") -> bytes:
    """Return a line for each check and picture; each says where it comes from."""
    one = document(told, date)
    columns = ["rank", "index", "name", "label", "contributor", "value", "partner"]
    tail = [one["dataset"]["name"], one["dataset"]["digest"], one["checkpoint"]["name"], one["checkpoint"]["digest"]]
    lines = [
        [check, *(row[name] for name in columns), *tail, one["date"], one["licence"]]
        for check, found in one["checks"].items()
        for row in found["pictures"]
    ]
    last = ["dataset", "dataset_digest", "checkpoint", "checkpoint_digest", "date", "licence"]
    return spreadsheet.to_csv(["check", *columns, *last], lines)


def to_html(told: Sheet, date: str = "") -> bytes:
    """Return a page to print or send, with the pictures that each check ranks first."""
    one, parts = document(told, date), []
    for found in told.suspects:
        shown = []
        for index in found.order[: told.top].tolist():
            row, name = told.dataset.train.rows[index], name_of(told.dataset, index)
            lines = [name, value_of(found, index), str(row.get("contributor") or "")]
            shown.append((told.dataset.train.images[index], f"Training picture {name}", lines))
            if found.partner is not None and found.partner[index] >= 0:
                other = int(found.partner[index])
                named = name_of(told.dataset, other)
                shown.append((told.dataset.train.images[other], f"Training picture {named}", ["beside it", named]))
        about = doctor.ABOUT[found.check]
        parts.append(report.section(about.title, about.sentence, report.pictures(shown)))
    facts = {
        "Licence": one["licence"],
        "Training set": f"{one['dataset']['name']}, digest {one['dataset']['digest']}",
        "Checkpoint": f"{one['checkpoint']['name']}, digest {one['checkpoint']['digest']}",
        **{
            doctor.ABOUT[each.check].title: ", ".join(f"{name} {value}" for name, value in each.facts.items())
            for each in told.suspects
        },
        "Versions": ", ".join(f"{name} {value}" for name, value in one["versions"].items()),
        "Date": one["date"],
    }
    title = f"The training pictures of {told.dataset.name}"
    return report.page(title, f"Model {told.checkpoint.name}, {one['date']}", one["sentences"], "".join(parts), facts)


WRITERS: dict[str, Callable[[Sheet], bytes]] = {".html": to_html, ".csv": to_csv, ".json": to_json}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes a sheet into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "a report")


def sheet(
    suspects: Sequence[Suspects],
    dataset: Dataset,
    checkpoint: Checkpoint,
    top: int = TOP,
    asked: TrialSettings | None = None,
) -> Sheet:
    """Return checks with the model's stored trials, the newest first, but for the one that is asked for now."""
    known = sorted(trials.listing(dataset, checkpoint), key=lambda one: one.settings != asked)
    return Sheet(tuple(suspects), tuple(known[:LISTED]), dataset, checkpoint, top)


def _facts(found: Suspects, rank: int, dataset: Dataset) -> dict[str, Any]:
    index = int(found.order[rank])
    row = dataset.train.rows[index]
    partner = None if found.partner is None or found.partner[index] < 0 else int(found.partner[index])
    named = {key: str(row.get(key) or "") for key in ("name", "label", "contributor")}
    return {"rank": rank + 1, "index": index, **named, "value": float(found.values[index]), "partner": partner}
