"""Near-copies of training pictures among generated ones, and how sure that is (Carlini et al. 2023). No torch here.

    ρ(z) = d(z, nearest) / (½ · mean of d(z, the 50 nearest))

is small where a picture lies much closer to one training picture than to the rest of its neighbourhood. Neighbours are
counted once for all that are equal or nearly so (alike.py): else a picture that stands in the set 64 times would be
its own neighbourhood, and never look copied. How small is small, held-out pictures say, which no model has seen:

    p(z) = (1 + held-out pictures with ρ at most ρ(z)) / (1 + held-out pictures)

over those of them that nearly equal no training picture and no other held-out one. d is the root mean square
difference of pixels in [-1, 1], or the Euclidean distance of embeddings of length 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.datasets import alike
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import scores, similarities
from dtrak_core.methods.plans import Plan
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target, of_split

Space = Literal["pixels", "lite0", "clip"]
SPACES: tuple[Space, ...] = get_args(Space)
NAMES: dict[Space, str] = {"pixels": "Pixels", "lite0": "EfficientNet-Lite0", "clip": "CLIP"}
METHODS: dict[Space, str] = {"lite0": "lite0-cosine", "clip": "clip-cosine"}  # whose embeddings they are
NEIGHBOURS = 50
FEWEST_NEIGHBOURS = 3
LEVEL = 0.05
_PRODUCTS = 2e10  # of numbers, over which no more held-out pictures are taken than `_LEAST`: about 2 s on one core
_LEAST, _MOST = 99, 500  # held-out pictures that p is counted over
_AT_ONCE = 2**24  # distances that are held


@dataclass(frozen=True, eq=False)
class Copy:
    """How close a picture lies to its nearest training picture.

    `nearest` is its training index, `alike` are that and all that nearly equal it, ascending; `distance` is d, `ratio`
    ρ. `p` is None where no held-out picture can say.
    """

    target: Target
    nearest: int
    distance: float
    ratio: float
    p: float | None
    alike: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Copies:
    """Pictures by ρ, smallest first, with what p is counted over: ρ of held-out pictures, ascending.

    `pictures` counts the training pictures that the model learned from, `distinct` those of them that differ.
    """

    space: Space
    found: tuple[Copy, ...]
    reference: np.ndarray
    pictures: int
    distinct: int

    @property
    def close(self) -> tuple[Copy, ...]:
        """Return those whose p is at most 0.05."""
        return tuple(one for one in self.found if one.p is not None and one.p <= LEVEL)

    @property
    def expected(self) -> float:
        """Return how many pictures that copy nothing would be `close` by chance."""
        allowed = np.floor(LEVEL * (1 + len(self.reference)))
        return float(len(self.found) * allowed / (1 + len(self.reference)))


def plan_of(space: Space, dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target]) -> Plan | None:
    """Return what embeddings of these pictures and of the held-out ones need, None for pixels, which need nothing."""
    if space == "pixels":
        return None
    return scores.resolve(METHODS[space], dataset, checkpoint.digest, [*chosen, *reference_of(dataset)])


def find(space: Space, dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target]) -> Copies:
    """Return how close each picture lies to its nearest training picture.

    Args:
        space: Pixels, or an encoder whose embeddings of all that are compared are stored (`plan_of`).
        dataset: The training set.
        checkpoint: The model: only what it has learned from can have been copied.
        chosen: The pictures.

    Raises:
        NotFoundError: If embeddings are not stored.
        SettingsError: If there is no picture, or the training pictures are too few to have a neighbourhood.
    """
    if not chosen:
        raise SettingsError("There is no picture to look at. Draw some, or name some.")
    held_out, learned = reference_of(dataset), checkpoints.learned(checkpoint)
    kept = np.arange(len(dataset.train.rows)) if learned is None else np.unique(np.asarray(learned, int))
    train, own = _vectors(space, dataset, checkpoint, [*chosen, *held_out])
    same = alike.of_dataset(dataset)[0]
    found = nearest(own, train[kept], same[kept])
    ratio, distance = found.ratio[: len(chosen)], found.distance[: len(chosen)]
    reference = np.sort(found.ratio[len(chosen) :])
    copies = []
    for place in np.argsort(ratio, kind="stable").tolist():
        index = int(kept[found.index[place]])
        members = tuple(kept[same[kept] == same[index]].tolist())
        p = p_of(float(ratio[place]), reference)
        copies.append(Copy(chosen[place], index, float(distance[place]), float(ratio[place]), p, members))
    return Copies(space, tuple(copies), reference, len(kept), len(np.unique(same[kept])))


def p_of(ratio: float, reference: np.ndarray) -> float | None:
    """Return (1 + how many of the ascending reference are at most this) / (1 + all of it); None without any."""
    if not len(reference):
        return None
    return float(1 + np.searchsorted(reference, ratio, side="right")) / (1 + len(reference))


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of each picture the place of the nearest row, its distance, and ρ, (M,) each."""

    index: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray


def nearest(own: np.ndarray, rows: np.ndarray, same: np.ndarray) -> Nearest:
    """Return the nearest row of each picture, and ρ over rows of which those of one class count once.

    Args:
        own: Pictures or embeddings, (M, D).
        rows: Those of training pictures, (N, D).
        same: Class of each row, (N,): of several, the nearest counts.

    Raises:
        SettingsError: If the rows have fewer than three classes.
    """
    classes, which = np.unique(same, return_inverse=True)
    if len(classes) < FEWEST_NEIGHBOURS:
        raise SettingsError(
            f"The model has learned from {counted(len(classes), 'different picture')}; at least {FEWEST_NEIGHBOURS} "
            "are needed to say what lies near."
        )
    order = np.argsort(which, kind="stable")
    begins, count = np.searchsorted(which[order], np.arange(len(classes))), min(NEIGHBOURS, len(classes))
    rows = np.asarray(rows, np.float32)
    lengths = np.einsum("nd,nd->n", rows, rows)
    index, distance, ratio = np.empty(len(own), int), np.empty(len(own)), np.empty(len(own))
    step = max(1, _AT_ONCE // len(rows))
    for start in range(0, len(own), step):
        part = np.asarray(own[start : start + step], np.float32)
        squares = lengths - 2 * (part @ rows.T)  # but for the picture's own length
        of_class = np.minimum.reduceat(squares[:, order], begins, axis=1)
        near = np.argpartition(of_class, count - 1, axis=1)[:, :count]
        for place, (picture, closest) in enumerate(zip(part, near, strict=True)):
            # Once more, by differences: those of equal pictures are 0 only so.
            members = order[np.isin(which[order], closest)]
            exact = np.sqrt(np.mean((rows[members].astype(np.float64) - picture) ** 2, axis=1))
            best = np.full(len(classes), np.inf)
            np.minimum.at(best, which[members], exact)
            mean, least = float(best[closest].mean()), int(np.argmin(exact))
            index[start + place], distance[start + place] = members[least], exact[least]
            ratio[start + place] = exact[least] / (0.5 * mean) if mean else 0.0
    return Nearest(index, distance, ratio)


def reference_of(dataset: Dataset) -> list[Target]:
    """Return the held-out pictures that p is counted over: none nearly equals a training picture or another one."""
    return [
        of_split(dataset.held_out, "held-out", i) for i in _reference(dataset.key, dataset.digest, alike.Held(dataset))
    ]


def no_reference(dataset: Dataset) -> str:
    """Say why `reference_of` has no picture, as the beginning of a sentence; nothing where it has some."""
    if reference_of(dataset):
        return ""
    if dataset.held_out.rows:
        return f"Each held-out picture of '{dataset.name}' nearly equals a training picture"
    return f"No picture of '{dataset.name}' is held out"


@functools.lru_cache(maxsize=8)
def _reference(_key: str, _digest: str, held: alike.Held) -> tuple[int, ...]:
    dataset = held.dataset
    train, own = alike.of_dataset(dataset)
    fresh = [i for i, one in enumerate(own.tolist()) if one == len(train) + i]  # the first of its class
    side = min(alike.SIDE, dataset.settings.resolution)
    most = int(np.clip(_PRODUCTS / (6 * side * side * max(1, len(train))), _LEAST, _MOST))
    if len(fresh) > most:
        fresh = sorted(np.random.default_rng(0).choice(fresh, most, replace=False).tolist())
    return tuple(fresh)


def _vectors(
    space: Space, dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target]
) -> tuple[np.ndarray, np.ndarray]:
    """Return training pictures (N, D) and these ones (M, D) as they are compared."""
    if space == "pixels":
        return pixels_of(dataset), alike.reduced([one.image for one in chosen])
    plan = scores.resolve(METHODS[space], dataset, checkpoint.digest, chosen)
    train, own = similarities.embedded(plan)
    both = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (train, own)]
    return both[0] * np.sqrt(train.shape[1]), both[1] * np.sqrt(train.shape[1])  # means of squares become sums


def pixels_of(dataset: Dataset) -> np.ndarray:
    """Return the training pictures as they are compared by pixels, (N, D) float32."""
    return _pixels(dataset.key, dataset.digest, alike.Held(dataset))


@functools.lru_cache(maxsize=2)
def _pixels(_key: str, _digest: str, held: alike.Held) -> np.ndarray:
    return alike.reduced(held.dataset.train.images)
