"""Whether works are in a training set, and what they helped to make, as numbers, sentences and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.api import explaining, showing
from dtrak_core.api.inputs import Wanted, chosen_checkpoint, chosen_dataset, chosen_targets, chosen_way, each_once
from dtrak_core.counterfactual import comparisons, work_sheet
from dtrak_core.counterfactual.copy_sheet import name_of
from dtrak_core.counterfactual.work_sheet import Sheet
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.files import expanded
from dtrak_core.methods import defaults, scores, set_credit, works
from dtrak_core.methods.methods import method_of
from dtrak_core.methods.works import Help, Work
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled


@dataclass(frozen=True, eq=False, repr=False)
class FoundWorks:
    """Works beside a training set: `sheet` holds all that belongs to them."""

    sheet: Sheet

    @property
    def works(self) -> tuple[Work, ...]:
        """Return each work with its closest training pictures, and those that are it (`standing`)."""
        return self.sheet.works

    @property
    def help(self) -> Help | None:
        """Return what they helped: `group` over all generated pictures, `each` its share of each; None for nothing."""
        return self.sheet.help

    @property
    def sentences(self) -> list[str]:
        """Return what is found, in words."""
        return work_sheet.sentences(self.sheet)

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return work_sheet.document(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write the report as a file, by its ending: .html to print or send, with pictures, .csv or .json.

        Raises:
            SettingsError: If it has another ending.
        """
        place = expanded(path)
        store.write_bytes(place, work_sheet.writer(place)(self.sheet))

    def __repr__(self) -> str:
        """Return in a line what was looked for."""
        return f"FoundWorks({counted(len(self.works), 'work')} in {self.sheet.dataset.name})"

    def _repr_html_(self) -> str:
        """Return sentences and the closest training pictures, for a notebook."""
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.sentences)
        images, rows = self.sheet.dataset.train.images, ""
        for one in self.works:
            rows += f"<div>{showing.picture(one.target.image, 'The work', 'the work')}"
            for match in one.matches[:6]:
                name = name_of(self.sheet.dataset, match.index)
                rows += showing.picture(images[match.index], name, f"{match.distance:.2f}")
            rows += "</div>"
        return f"<div><ul>{lines}</ul>{rows}</div>"


def find_work(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    work: Wanted | str | Path | Sequence[Any],
    pictures: int | Sequence[int] | None = None,
    targets: Wanted | Sequence[Wanted] | None = None,
    method: str = "d-trak",
    *,
    sampled: Sampled | None = None,
    engine: bool = False,
    progress: bool = True,
) -> FoundWorks:
    """Say whether works are among the training pictures, and which generated pictures they helped.

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name.
        work: The file of a picture, a picture of the dataset's size, or several of both.
        pictures: Training indices that are the works, or one; None takes those that equal one, or nearly so.
        targets: Generated pictures, as of `explain`; None takes all that the model drew as `sampled` says.
            One given several times counts once.
        method: Id of a method whose scores have a sign.
        sampled: How seeds are drawn; None is the model's own way.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset, checkpoint, file or target is not known.
        DataError: If a picture cannot be read.
        SettingsError: If the method squares its scores, or no picture is drawn.
    """
    of, one = chosen_dataset(dataset), method_of(method)
    by = chosen_checkpoint(checkpoint, of)
    if reason := set_credit.refusal(one) or scores.refusal(one, by.digest, None, of.digest):
        raise SettingsError(reason)
    how = chosen_way(sampled, of, by)
    listed: list[Any] = list(work) if isinstance(work, list | tuple) else [work]
    if not listed:
        raise SettingsError("No work was given. Give the file of a picture, or a picture.")
    own = []
    for each in listed:
        if isinstance(each, Path) or (isinstance(each, str) and Path(each).suffix):
            file = expanded(each)
            if not file.is_file():
                raise NotFoundError(f"'{each}' is no file. Give the path of a picture.")
            own.append(works.taken_in(of, file.read_bytes(), file.name))
        else:
            own += chosen_targets(each, of, by, how, engine, progress)
    members: Any = pictures if pictures is None or hasattr(pictures, "__iter__") else [pictures]
    told = work_sheet.sheet([works.find(of, by, each) for each in own], members, of, by)
    if not told.members:
        return FoundWorks(told)
    explained = each_once(targets, of, by, sampled, engine, progress)
    base = defaults.base_for(of.digest, by.digest, one, {})
    plan = scores.resolve(one, of, by.digest, explained, base)
    if plan.missing:
        explaining.compute(plan, base, engine, progress)
        plan = scores.resolve(one, of, by.digest, explained, base)
    stored = comparisons.listing(of, by.digest)
    return FoundWorks(work_sheet.sheet(told.works, told.members, of, by, plan, scores.score(plan), stored))
