"""Pictures that are equal by pixels, as they are trained on: found, counted, joined into families. No torch here.

Pictures that differ as files may be equal once they are resized. An equal pair of training pictures is one picture for
the model, so both belong to one family; an equal pair across the splits is a leak: what is held out was trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LOOKED_AT = 32  # pixels a side that are compared first: few pictures are read whole


@dataclass(frozen=True)
class Equal:
    """What equals what in a dataset.

    `train` (N,) and `held_out` (M,) give each picture's class: the number of the first picture that equals it, training
    pictures counted first. `leaked` are the held-out pictures, by index, that equal a training picture.
    """

    train: np.ndarray
    held_out: np.ndarray
    leaked: tuple[int, ...]

    @property
    def distinct(self) -> int:
        """Return the number of different training pictures."""
        return len(np.unique(self.train))

    @property
    def copies(self) -> int:
        """Return how many training pictures equal an earlier one."""
        return len(self.train) - self.distinct


def between(train: np.ndarray, held_out: np.ndarray) -> Equal:
    """Compare all pictures of two splits, shapes (N, H, W, 3) and (M, H, W, 3), uint8."""
    first = classes([*train, *held_out])
    own, other = first[: len(train)], first[len(train) :]
    return Equal(own, other, tuple(np.flatnonzero(other < len(train)).tolist()))


def told(equal: Equal, papers: bool, drawn: bool = True) -> list[str]:
    """Say which pictures are equal by pixels: a sentence on training pictures, one on held-out ones, or none.

    `papers` says that the split is the paper's, which is kept as it is; `drawn` that pictures were to be held out, and
    that none is only where no draw could take one.
    """
    said = []
    if equal.copies:
        repeated = int((np.unique(equal.train, return_counts=True)[1] > 1).sum())
        said.append(
            f"{equal.distinct:,} of {len(equal.train):,} training pictures differ by pixels: {repeated:,} "
            f"{'stands' if repeated == 1 else 'stand'} there more than once. Equal pictures count as one family."
        )
    if drawn and not len(equal.held_out):
        said.append("No picture is held out: each is there more often than one in ten, and equal ones stay together.")
    if equal.leaked:
        one = len(equal.leaked) == 1
        kept = (
            f"The split is the paper's own and kept as it is, so its held-out LDS counts {'it' if one else 'them'} too."
            if papers
            else f"A held-out LDS leaves {'it' if one else 'them'} out."
        )
        said.append(
            f"{len(equal.leaked):,} of {len(equal.held_out):,} held-out pictures {'is a' if one else 'are'} training "
            f"{'picture' if one else 'pictures'} too, by pixels. {kept}"
        )
    return said


def classes(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return for each picture the number of the first one that equals it by shape and pixels, shape (N,), int64."""
    found = np.arange(len(images))
    for alike in _grouped(range(len(images)), lambda i: _sparse(images[i])):
        for same in _grouped(alike, lambda i: np.ascontiguousarray(images[i]).tobytes()):
            found[same] = same[0]
    return found


def families(rows: Sequence[Mapping[str, Any]], equal: np.ndarray) -> list[str]:
    """Return the family of each picture, those of equal pictures joined into one.

    Args:
        rows: Facts of each picture, `family` among them; empty where it has none.
        equal: The class of each picture, see `classes`.

    Returns:
        The name that the first named picture of a joined family has; one of its own where none has a name; empty for a
        picture that has neither a family nor an equal.
    """
    names = [str(row.get("family", "")) for row in rows]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    together = [
        *_grouped(range(len(rows)), lambda i: int(equal[i])),
        *_grouped([i for i, name in enumerate(names) if name], lambda i: names[i]),
    ]
    for members in together:
        for member in members[1:]:
            one, other = sorted((root(members[0]), root(member)))
            parent[other] = one
    called: dict[int, str] = {}
    for i, name in enumerate(names):
        if name:
            called.setdefault(root(i), name)
    size = np.bincount([root(i) for i in range(len(rows))], minlength=len(rows))
    return [called.get(root(i), f"equal to {root(i)}" if size[root(i)] > 1 else "") for i in range(len(rows))]


def drawn(order: Sequence[int] | np.ndarray, equal: np.ndarray, count: int) -> np.ndarray:
    """Take pictures in an order, equal ones together, until there are `count`.

    Equal pictures of which not all fit any more are passed over, so that fewer may be taken.

    Args:
        order: All pictures, each once, shape (N,).
        equal: The class of each picture, see `classes`.
        count: How many to take.

    Returns:
        Pictures in the order taken; without equal ones, the first `count` of `order`.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i in order:
        members[int(equal[i])].append(int(i))
    taken: list[int] = []
    for each in members.values():
        if len(taken) + len(each) <= count:
            taken += each
    return np.array(taken, np.int64)


def _sparse(image: np.ndarray) -> Hashable:
    step = max(1, max(image.shape[:2]) // LOOKED_AT)
    return image.shape, hash(np.ascontiguousarray(image[::step, ::step]).tobytes())


def _grouped(numbers: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the numbers of equal keys together, each in order; those that are alone are left out."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for number in numbers:
        found[key(number)].append(number)
    return [same for same in found.values() if len(same) > 1]
