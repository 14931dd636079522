"""Sets of pictures to remove: drawn at random, whole groups, or all of a contributor's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError
from dtrak_core.methods.results import Row


def random_set(count: int, size: int, draw: int) -> tuple[int, ...]:
    """Return `size` of `count` training indices, drawn at random: the same for the same draw number."""
    drawn = np.random.Generator(np.random.PCG64(draw)).choice(count, size, replace=False)
    return ascending(drawn)


def grouped(order: np.ndarray, size: int, rows: Sequence[Row], group: str) -> tuple[int, ...]:
    """Return whole groups of the best-ranked pictures, in the order of their best, until `size` are reached.

    Args:
        order: The training indices that may be removed, from the highest score to the lowest, shape (N,).
        size: Number of pictures asked for; the last group may exceed it.
        rows: Facts of each training picture.
        group: The fact that groups them: family, contributor or label. Pictures without it stand alone.
    """
    members: dict[str, list[int]] = {}
    names = {i: str(rows[i].get(group) or f"alone {i}") for i in sorted(order.tolist())}
    for index, name in names.items():
        members.setdefault(name, []).append(index)
    taken: list[int] = []
    for name in dict.fromkeys(names[i] for i in order.tolist()):
        if len(taken) >= size:
            break
        taken += members[name]
    return ascending(taken)


def pictures_of(name: str, dataset: Dataset, learned: np.ndarray) -> tuple[int, ...]:
    """Return the training indices of a contributor's pictures."""
    found = [i for i in learned.tolist() if dataset.train.rows[i].get("contributor") == name]
    if not found:
        raise NotFoundError(f"No training picture is by '{name}'. Take a contributor's name as the dataset has it.")
    return tuple(found)


def ascending(indices: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    """Return indices as a removal set has them: plain numbers, each above the one before."""
    return tuple(sorted(int(i) for i in indices))
