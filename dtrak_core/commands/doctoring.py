"""The command that says which training pictures are suspicious, and what training without some of them does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import store
from dtrak_core.amounts import counted, numbers_of
from dtrak_core.commands import answers, credits, tables
from dtrak_core.commands.tables import Json
from dtrak_core.counterfactual import doctor_sheet, trials
from dtrak_core.counterfactual.settings import TrialSettings
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.jobs.question_jobs import SuspicionJob, TrialJob
from dtrak_core.methods import costs, suspicions
from dtrak_core.methods import doctor as doctors
from dtrak_core.methods.doctor import Check, Suspects
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint


def doctor(
    check: tuple[Check, ...] = (),
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    top: int = 20,
    without: Annotated[str, tyro.conf.arg(metavar="NUMBERS", help_behavior_hint="")] = "",
    without_first: Annotated[int, tyro.conf.arg(metavar="COUNT", help_behavior_hint="")] = 0,
    random_draws: int = 3,
    train_seeds: int = 1,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Say which training pictures are doubles, odd, least helpful or wrongly captioned. What is not stored is computed.

    Args:
        check: duplicates, look-alikes, self, unhelpful or captions; may be given several times (default: all that can
            be made of the model).
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        top: Pictures of each check.
        without: Train without these training pictures, like 3,17-19, and without as many random ones, and compare the
            loss over held-out pictures.
        without_first: The same without so many that the first check ranks first.
        random_draws: Random sets of as many pictures.
        train_seeds: Training seeds of every model; none is the original's.
        out: The answer as a file: .html to print or send, with pictures, .csv or .json.
    """
    write = None if out is None else doctor_sheet.writer(out)
    if top < 1:
        raise SettingsError(f"--top is {top}; give at least 1.")
    if without and without_first:
        raise SettingsError("--without and --without-first were both given. Give one of them.")
    chosen = answers.prepared(dataset)
    count = len(chosen.train.rows)
    if not 0 <= without_first < count:
        raise SettingsError(f"--without-first is {without_first}; give 1 to {count - 1:,}, or 0 for none.")
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    wanted = check or tuple(one for one in doctors.CHECKS if not doctors.refusal(one, chosen, weights))
    for one in wanted:
        if reason := doctors.refusal(one, chosen, weights):
            raise SettingsError(reason)
    found = [_computed(one, chosen, weights) for one in dict.fromkeys(wanted)]
    asked = None
    if without or without_first:
        if without_first > (ranked := len(found[0].order)):
            raise SettingsError(
                f"--without-first is {without_first:,}, but '{found[0].check}' ranks {counted(ranked, 'picture')}. "
                "Give no more."
            )
        named = numbers_of(without, "training pictures", count) if without else found[0].order[:without_first].tolist()
        asked = trials.settings_for(chosen, weights, named, random_draws, train_seeds)
        _try(asked, chosen, weights)
    told = doctor_sheet.sheet(found, chosen, weights, top, asked)
    if out is not None and write is not None:
        store.write_bytes(out, write(told))
    tables.say(doctor_sheet.document(told), json, _shown)


def _computed(check: Check, dataset: Dataset, checkpoint: Checkpoint) -> Suspects:
    """Return what a check says, having computed what it lacks."""
    if check == "captions" and suspicions.find(dataset, checkpoint) is None:
        costs.tell(suspicions.cost(dataset, checkpoint), "doubtful captions")
        answers.completed(SuspicionJob(settings=suspicions.settings_of(dataset, checkpoint)), "Doubtful captions")
    if (plan := doctors.plan_of(check, dataset, checkpoint)) is not None:
        credits.computed(plan, checkpoint)
    return doctors.find(check, dataset, checkpoint)


def _try(settings: TrialSettings, dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Have a trial done that is not stored yet."""
    label = f"Train without {counted(len(settings.removed), 'picture')}"
    if trials.find(settings) is None:
        costs.tell(trials.cost(dataset, checkpoint, settings), label.lower())
        answers.completed(TrialJob(settings=settings), label)


def _shown(document: dict[str, Any]) -> str:
    """Return sentences, then a table for each check."""
    parts = ["\n".join(document["sentences"])]
    for check, found in document["checks"].items():
        rows = [row | {"value": f"{row['value']:.3g}"} for row in found["pictures"]]
        columns = ("rank", "index", "value", "partner", "name", "contributor", "label")
        kept = [name for name in columns if any(row[name] not in ("", None) for row in rows)]
        parts.append(f"{check}: {found['about']} ({found['value']})\n{tables.table(rows, kept)}")
    return "\n\n".join(part for part in [*parts, document["licence"]] if part)
