"""Suspicious training pictures, and what training without some of them does, as numbers and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.api import explaining, showing
from dtrak_core.api.inputs import chosen_checkpoint, chosen_dataset, chosen_names, whole_number, whole_numbers
from dtrak_core.api.working import done
from dtrak_core.counterfactual import doctor_sheet, trials
from dtrak_core.counterfactual.copy_sheet import name_of
from dtrak_core.counterfactual.doctor_sheet import Sheet
from dtrak_core.counterfactual.trials import Trial
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.files import expanded
from dtrak_core.jobs.question_jobs import SuspicionJob, TrialJob
from dtrak_core.methods import doctor as doctors
from dtrak_core.methods import suspicions
from dtrak_core.methods.doctor import Check, Suspects
from dtrak_core.models.checkpoints import Checkpoint

SHOWN = 16  # pictures of a check in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Training pictures by each check: `sheet` holds all that belongs to them."""

    sheet: Sheet

    @property
    def checks(self) -> Mapping[Check, Suspects]:
        """Return each check's values (N,), and the training indices in its order."""
        return {one.check: one for one in self.sheet.suspects}

    @property
    def sentences(self) -> list[str]:
        """Return what each check has found first, in words."""
        return [doctor_sheet.sentence(one, self.sheet.dataset) for one in self.sheet.suspects]

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return doctor_sheet.document(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write the answer as a file, by its ending: .html to print or send, with pictures, .csv or .json.

        Raises:
            SettingsError: If it has another ending.
        """
        place = expanded(path)
        store.write_bytes(place, doctor_sheet.writer(place)(self.sheet))

    def __repr__(self) -> str:
        """Return in a line what was checked."""
        return f"Diagnosis({self.sheet.dataset.name}: {', '.join(self.checks)})"

    def _repr_html_(self) -> str:
        """Return each check's first pictures, for a notebook."""
        dataset, parts = self.sheet.dataset, []
        for one in self.sheet.suspects:
            shown = ""
            for index in one.order[:SHOWN].tolist():
                name = name_of(dataset, index)
                shown += showing.picture(dataset.train.images[index], name, doctor_sheet.value_of(one, index))
            parts.append(f"<p>{escape(doctor_sheet.sentence(one, dataset))}</p>{shown}")
        return f"<div>{''.join(parts)}</div>"


def doctor(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    checks: Check | Sequence[Check] | None = None,
    *,
    top: int = doctor_sheet.TOP,
    engine: bool = False,
    progress: bool = True,
) -> Diagnosis:
    """Rank the training pictures by what may be wrong with them, the most suspicious first.

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name.
        checks: "duplicates", "look-alikes", "self", "unhelpful", "captions", or several (`methods.doctor` says
            what each measures); None makes all that can be made of the model.
        top: Pictures of each check in files.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset or checkpoint is not known.
        SettingsError: If there is no such check, or it cannot be made of this model, or `top` is less than 1.
    """
    of = chosen_dataset(dataset)
    by = chosen_checkpoint(checkpoint, of)
    if whole_number(top, "top") < 1:
        raise SettingsError(f"top is {top}; give at least 1.")
    given = () if checks is None else chosen_names(checks, "checks")
    if unknown := [one for one in given if one not in doctors.CHECKS]:
        raise SettingsError(f"'{unknown[0]}' is no check. Take some of {', '.join(doctors.CHECKS)}.")
    named: Any = given  # all of them are checks
    wanted: tuple[Check, ...] = named or tuple(one for one in doctors.CHECKS if not doctors.refusal(one, of, by))
    for one in wanted:
        if reason := doctors.refusal(one, of, by):
            raise SettingsError(reason)
        if one == "captions" and suspicions.find(of, by) is None:
            done(SuspicionJob(settings=suspicions.settings_of(of, by)), "Doubtful captions", engine, progress)
        if (plan := doctors.plan_of(one, of, by)) is not None and plan.missing:
            explaining.compute(plan, plan.features, engine, progress)
    return Diagnosis(doctor_sheet.sheet([doctors.find(one, of, by) for one in wanted], of, by, top))


def trial(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    removed: int | Sequence[int],
    *,
    random_draws: int = 3,
    train_seeds: int = 1,
    engine: bool = False,
    progress: bool = True,
) -> Trial:
    """Train without some pictures, and without as many random ones; compare the mean loss over held-out pictures.

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name; it was trained here.
        removed: Training indices, or one.
        random_draws: Random sets of as many pictures; p is 1 / (1 + random_draws) at best.
        train_seeds: Training seeds of every model; none is the original's.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Returns:
        Losses `nothing`, `these` and `random`, `p` and `sentence`.

    Raises:
        NotFoundError: If a dataset or checkpoint is not known.
        SettingsError: If these cannot be removed, or no held-out picture is unlike all training pictures.
    """
    of = chosen_dataset(dataset)
    by = chosen_checkpoint(checkpoint, of)
    settings = trials.settings_for(of, by, whole_numbers(removed, "removed"), random_draws, train_seeds)
    done(TrialJob(settings=settings), "Train without some pictures", engine, progress)
    found = trials.find(settings)
    if found is None:
        raise NotFoundError("The losses are not stored any more. Ask again.")
    return found
