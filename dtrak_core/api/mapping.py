"""A map of the training pictures, as places and as files."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.api import explaining
from dtrak_core.api.inputs import chosen_checkpoint, chosen_dataset
from dtrak_core.api.working import done
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.files import expanded
from dtrak_core.jobs.question_jobs import MapJob
from dtrak_core.methods import map_sheet, maps
from dtrak_core.methods.map_sheet import Sheet
from dtrak_core.methods.maps import Space
from dtrak_core.models.checkpoints import Checkpoint


@dataclass(frozen=True, eq=False, repr=False)
class PictureMap:
    """Where each training picture lies: `sheet` holds all that belongs to the map."""

    sheet: Sheet

    @property
    def xy(self) -> np.ndarray:
        """Return the places (n, 2), float32, of the training pictures `rows`, in [-1, 1]."""
        return self.sheet.map.xy

    @property
    def rows(self) -> np.ndarray:
        """Return the training indices (n,), ascending: all, but for sets of more than 50,000."""
        return self.sheet.map.rows

    @property
    def trustworthiness(self) -> float:
        """Return how far near on the map is near in the space: 1 always, about 0.5 by chance."""
        return self.sheet.map.trust

    @property
    def sentence(self) -> str:
        """Return what near means, and how far it can be believed."""
        return self.sheet.map.sentence

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return map_sheet.document(self.sheet)

    def save(self, path: str | Path) -> None:
        """Write the map as a file, by its ending: .html to print or send, .csv or .json.

        Raises:
            SettingsError: If it has another ending.
        """
        place = expanded(path)
        store.write_bytes(place, map_sheet.writer(place)(self.sheet))

    def __repr__(self) -> str:
        """Return in a line what the map is of."""
        return f"PictureMap({self.sheet.dataset.name}: {len(self.rows):,} pictures by {self.sheet.map.settings.space})"

    def _repr_html_(self) -> str:
        """Return the map for a notebook, coloured by the first fact that the pictures have."""
        fact = next(iter(map_sheet.facts_of(self.sheet.dataset)), None)
        drawn = map_sheet.drawn(self.sheet.map, self.sheet.dataset, fact)
        return f'<div style="max-width:640px">{drawn}<p>{escape(self.sentence)}</p></div>'


def picture_map(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str | None = None,
    by: Space = "lite0",
    *,
    perplexity: int = 30,
    seed: int = 0,
    engine: bool = False,
    progress: bool = True,
) -> PictureMap:
    """Lay out the training pictures in two dimensions, those that are alike near each other (t-SNE).

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name, whose gradients "d-trak" compares; the others need none.
        by: What alike means: "lite0", embeddings of EfficientNet-Lite0; "pixels"; "d-trak".
        perplexity: How many neighbours each picture minds, 2 to 200.
        seed: Seed of the layout.
        engine: Whether the engine computes.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset or checkpoint is not known.
        SettingsError: If there is no such space, or the map cannot be made.
    """
    if by not in maps.SPACES:
        raise SettingsError(f"'{by}' is no space. Take one of {', '.join(maps.SPACES)}.")
    of = chosen_dataset(dataset)
    model = None if checkpoint is None else chosen_checkpoint(checkpoint, of)
    settings = maps.settings_of(by, of, model, perplexity, seed)
    if (plan := maps.plan_of(by, of, model)) is not None and plan.missing and maps.find(settings) is None:
        explaining.compute(plan, plan.features, engine, progress)
    (made,) = done(MapJob(settings=settings), f"Map of {of.name}", engine, progress)
    return PictureMap(map_sheet.Sheet(maps.opened(made), of))
