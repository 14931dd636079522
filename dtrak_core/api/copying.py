"""Near-copies of training pictures among generated ones, as numbers, sentences and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.api import explaining, showing
from dtrak_core.api.inputs import Wanted, chosen_checkpoint, chosen_dataset, each_once
from dtrak_core.counterfactual import comparisons, copy_sheet
from dtrak_core.counterfactual.copy_sheet import Sheet
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.files import expanded
from dtrak_core.methods import copies as near_copies
from dtrak_core.methods.copies import Copy, Space
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled

SHOWN = 12  # pairs in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class NearCopies:
    """Pictures by how close they lie to a training picture: `sheet` holds all that belongs to them."""

    sheet: Sheet

    @property
    def found(self) -> tuple[Copy, ...]:
        """Return the pictures, the closest first: target, nearest, distance, ratio (ρ), p, alike."""
        return self.sheet.copies.found

    @property
    def sentences(self) -> list[str]:
        """Return what is found, in words."""
        return copy_sheet.sentences(self.sheet)

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return copy_sheet.document(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write the pairs as a file, by its ending: .html to print or send, with pictures, .csv or .json.

        Raises:
            SettingsError: If it has another ending.
        """
        place = expanded(path)
        store.write_bytes(place, copy_sheet.writer(place)(self.sheet))

    def __repr__(self) -> str:
        """Return in a line what was looked at."""
        return f"NearCopies({counted(len(self.found), 'picture')} by {self.sheet.checkpoint.name})"

    def _repr_html_(self) -> str:
        """Return sentences and the closest pairs, for a notebook."""
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.sentences)
        pairs = ""
        for one in self.found[:SHOWN]:
            named = copy_sheet.name_of(self.sheet.dataset, one.nearest)
            image = self.sheet.dataset.train.images[one.nearest]
            own = showing.picture(one.target.image, f"The picture of {one.target.called}", copy_sheet.words(one))
            pairs += f"<span>{own}{showing.picture(image, f'Training picture {named}', named)}</span>"
        return f"<div><ul>{lines}</ul>{pairs}<br><small>{escape(copy_sheet.protocol(self.sheet))}</small></div>"


def copies(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    targets: Wanted | Sequence[Wanted] | None = None,
    space: Space = "pixels",
    *,
    sampled: Sampled | None = None,
    engine: bool = False,
    progress: bool = True,
) -> NearCopies:
    """Say how close pictures lie to a training picture, and how often pictures do that no model has seen.

        ρ(z) = d(z, nearest) / (½ · mean of d(z, the 50 nearest))        (Carlini et al. 2023)
        p(z) = (1 + held-out pictures with ρ at most ρ(z)) / (1 + held-out pictures)

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name.
        targets: Seeds, ids or pictures, as of `explain`; None takes all pictures that the model drew as `sampled` says.
            One given several times counts once.
        space: "pixels", or embeddings of "lite0" or "clip".
        sampled: How seeds are drawn; None is the model's own way.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset, checkpoint or target is not known.
        SettingsError: If none is drawn, or a setting cannot work.
    """
    of = chosen_dataset(dataset)
    model = chosen_checkpoint(checkpoint, of)
    if space not in near_copies.SPACES:
        raise SettingsError(f"'{space}' is no space. Take one of {', '.join(near_copies.SPACES)}.")
    wanted = each_once(targets, of, model, sampled, engine, progress)
    if (plan := near_copies.plan_of(space, of, model, wanted)) is not None and plan.missing:
        explaining.compute(plan, None, engine, progress)
    found = near_copies.find(space, of, model, wanted)
    return NearCopies(copy_sheet.sheet(found, of, model, comparisons.listing(of, model.digest)))
