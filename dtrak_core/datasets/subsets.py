"""The paper's random draws of training pictures, index for index (its authors' notebooks 00_EDA.ipynb).

Every draw of theirs is one call of scikit-learn's `train_test_split`: stratified by label where the set has classes,
plain where it has none. Both come out the same here without its import, which would take a page seconds. Of a
permutation by numpy's legacy generator the first entries are the plain test part, the next the training part; a
stratified draw shares its size among the classes by largest remainder, and permutes each class, then what was taken.

Subset k of a purpose is drawn with seed 42 + 2k (lds-val), 298 + 2k (lds-test) or
554 + 2k (retrain): the authors' seed counts twice. Of lds-val the paper uses the first 64.

Pictures that are equal by pixels are drawn one by one, as the paper's are, so a half may hold one of two equal ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dtrak_core.errors import SettingsError

Purpose = Literal["lds-val", "lds-test", "retrain"]
FIRST_SEED: dict[Purpose, int] = {"lds-val": 42, "lds-test": 298, "retrain": 554}
DRAWN: dict[Purpose, int] = {"lds-val": 256, "lds-test": 256, "retrain": 1024}


def draw(count: int, size: int, seed: int, labels: Sequence[str] | Sequence[int] | None = None) -> np.ndarray:
    """Draw `size` of `count` positions as the paper draws training parts.

    Args:
        count: Number of pictures, N.
        size: How many to draw; all N gives 0 .. N-1 in order, as the paper takes them.
        seed: Seed of the draw.
        labels: One label a picture to draw the same share of each class; None for a plain draw.

    Returns:
        Positions in the order drawn, shape (size,), int64.

    Raises:
        SettingsError: If the size does not fit the count, or a class is too small to be drawn from.
    """
    if not 1 <= size <= count:
        raise SettingsError(f"{size} of {count} pictures cannot be drawn. Choose 1 to {count}.")
    if size == count:
        return np.arange(count)
    if labels is None:
        return split(count, count - size, seed)[0]
    if len(labels) != count:
        raise SettingsError(f"{len(labels)} labels were given for {count} pictures. Give one for each.")
    return _stratified(size, seed, np.asarray(labels))


def _stratified(size: int, seed: int, labels: np.ndarray) -> np.ndarray:
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rest = len(labels) - size
    if counts.min() < 2 or min(size, rest) < len(counts):
        raise SettingsError(
            f"A stratified draw of {size} of {len(labels)} is not possible: each of the {len(counts)} classes needs "
            "two pictures, and one on either side. Draw another size, or take labels with more pictures each."
        )
    random = np.random.RandomState(seed)
    taken = _shared_out(counts, size, random)
    _shared_out(counts - taken, rest, random)  # what is left out is shared likewise, with numbers of the same generator
    members = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])
    drawn = [own[random.permutation(len(own))][:some] for own, some in zip(members, taken, strict=True)]
    found: np.ndarray = random.permutation(np.concatenate(drawn))
    return found


def _shared_out(counts: np.ndarray, total: int, random: np.random.RandomState) -> np.ndarray:
    """Share a total among classes in proportion to their counts; those of equal remainders are drawn by lot."""
    exact = counts / counts.sum() * total
    found = np.floor(exact)
    lacking, remainders = int(total - found.sum()), exact - found
    for value in np.unique(remainders)[::-1]:
        if lacking:
            (equal,) = np.nonzero(remainders == value)
            chosen = random.choice(equal, min(len(equal), lacking), replace=False)
            found[chosen] += 1
            lacking -= len(chosen)
    shared: np.ndarray = found.astype(np.int64)
    return shared


def split(count: int, test_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Part `count` positions plainly into training and test part, as the paper's targets are drawn.

    Returns:
        Positions of the training part, shape (count - test_size,), and of the test part,
        shape (test_size,), each in the order drawn, int64.
    """
    order = np.random.RandomState(seed).permutation(count)
    return order[test_size:], order[:test_size]


def seed_of(purpose: Purpose, number: int) -> int:
    """Return the seed of subset `number` of a purpose.

    Raises:
        SettingsError: If the paper drew no subset of this number.
    """
    if not 0 <= number < DRAWN[purpose]:
        raise SettingsError(
            f"There is no subset {number} of '{purpose}'. Its numbers run from 0 to {DRAWN[purpose] - 1}."
        )
    return FIRST_SEED[purpose] + 2 * number


def subset(
    purpose: Purpose,
    number: int,
    count: int,
    labels: Sequence[str] | Sequence[int] | None = None,
    share: float = 0.5,
) -> np.ndarray:
    """Draw random subset `number` of a training set, with the paper's seed.

    Args:
        purpose: What the subset is for: each purpose has its own seeds.
        number: Number of the subset, from 0.
        count: Number of training pictures, N.
        labels: One label a picture for a stratified draw; None for a plain one.
        share: Part of the training set that is drawn, rounded down.

    Returns:
        Training indices in the order drawn, shape (int(share N),), int64.
    """
    return draw(count, int(share * count), seed_of(purpose, number), labels)


def random_part(
    purpose: Purpose,
    number: int,
    labels: Sequence[str] | Sequence[int],
    share: float,
    among: Sequence[int] | None = None,
) -> np.ndarray:
    """Return a subset's training indices in order: the paper's draw, stratified where each label is on two pictures.

    Args:
        purpose: What the subset is for.
        number: Number of the subset, from 0.
        labels: One label a picture of the whole training set.
        share: Part that is drawn, rounded down.
        among: Training indices that it is drawn from, those that a model has learned from; None for all.
    """
    if among is not None:
        pool = np.unique(among)
        found: np.ndarray = pool[random_part(purpose, number, [labels[i] for i in pool.tolist()], share)]
        return found
    _, counts = np.unique(labels, return_counts=True)
    stratified = len(counts) > 1 and counts.min() >= 2
    return np.sort(subset(purpose, number, len(labels), labels if stratified else None, share))


def complement(count: int, removed: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the training indices that stay when some are removed, in order, int64.

    Raises:
        SettingsError: If an index lies outside the set or is named twice.
    """
    gone = np.asarray(removed, np.int64)
    outside = gone[(gone < 0) | (gone >= count)]
    if len(outside):
        raise SettingsError(f"Training example {outside[0]} cannot be removed: there are 0 to {count - 1}.")
    if len(np.unique(gone)) != len(gone):
        raise SettingsError("A training example is named twice among those to remove. Name each once.")
    stays = np.ones(count, bool)
    stays[gone] = False
    return np.flatnonzero(stays)
