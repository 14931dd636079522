"""What models drew that were trained without a copied picture and all that nearly equal it. No torch here.

Read off comparisons that are stored already: each says what the same seed became in a model without some pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.counterfactual.comparisons import Comparison, is_of
from dtrak_core.counterfactual.entries import Entry
from dtrak_core.counterfactual.removals import FLOOR, RANDOM
from dtrak_core.datasets import alike
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods.copies import Copy
from dtrak_core.models.settings import DIFFUSION_STEPS


@dataclass(frozen=True, eq=False)
class Removed:
    """The same seed's pictures by models without the copied picture and its like (`without`), and by the controls.

    `random` are of models without as many other pictures as one of them, `floor` of models without none. Each is one
    model's, in however many comparisons and under however many methods that stands, and drew the whole picture. A
    distance is that of a picture to the nearest of the copied picture and its like, in pixels (copies.py), the mean
    over models; `after_random` weighs the random models of each size as `without` has models of that size. `before` is
    the generated picture's own. None where there is no such model, of one of the sizes for `after_random`.
    """

    without: tuple[Entry, ...]
    random: tuple[Entry, ...]
    floor: tuple[Entry, ...]
    before: float
    after: float | None
    after_random: float | None
    after_floor: float | None

    @property
    def sentence(self) -> str:
        """Say what it is."""
        if self.after is None:
            return "No model has been trained without it and its like yet."
        told = (
            f"Trained without it and its like, the same seed's picture lies {self.after:.2f} from it, and "
            f"{self.before:.2f} before ({counted(len(self.without), 'model')})"
        )
        if self.after_random is not None:
            told += f"; without as many random pictures {self.after_random:.2f}"
        if self.after_floor is not None:
            told += f"; with nothing removed and another training seed {self.after_floor:.2f}"
        return f"{told}."


def of(copy: Copy, dataset: Dataset, comparisons: Sequence[Comparison]) -> Removed:
    """Return what stored comparisons tell of a copy.

    Args:
        copy: A generated picture and what it is close to.
        dataset: The training set.
        comparisons: Finished ones of the checkpoint.
    """
    wanted, found = set(copy.alike), [e for one in comparisons for e in _entries(one, copy)]
    without = _models(e for e in found if wanted <= set(e.removed))
    sizes = [len(e.removed) for e in without]
    random = _models(e for e in found if e.method == RANDOM and wanted.isdisjoint(e.removed))
    floor = _models(e for e in found if e.method == FLOOR)
    likes = alike.reduced(dataset.train.images[list(copy.alike)])

    def away(image: np.ndarray) -> float:
        return float(np.sqrt(((likes - alike.reduced([image])) ** 2).mean(1)).min())

    def mean(entries: Sequence[Entry]) -> float | None:
        return float(np.mean([away(one.image) for one in entries])) if entries else None

    of_size = {size: mean([e for e in random if len(e.removed) == size]) for size in set(sizes)}
    controls = [value for size in sizes if (value := of_size[size]) is not None]
    by_random = float(np.mean(controls)) if sizes and len(controls) == len(sizes) else None
    random = tuple(e for e in random if len(e.removed) in of_size)
    return Removed(without, random, floor, away(copy.target.image), mean(without), by_random, mean(floor))


def _entries(comparison: Comparison, copy: Copy) -> list[Entry]:
    """Return a comparison's entries of this very picture, of models that drew all of it."""
    if comparison.settings.take_over < DIFFUSION_STEPS or not is_of(comparison.settings, copy.target):
        return []
    return [one for one in comparison.entries if one.target == copy.target.id]


def _models(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the first entry of each model; without its training seed, draws tell models apart."""
    found: dict[tuple[tuple[int, ...], int | None, int], Entry] = {}
    for entry in entries:
        found.setdefault((entry.removed, entry.train_seed, entry.draw if entry.train_seed is None else 0), entry)
    return tuple(found.values())
