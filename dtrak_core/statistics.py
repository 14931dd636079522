"""Statistics that several measures share: rank correlation, permutations, the interval of a median. No torch here."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
FEWEST = 6  # targets or models below which there is no interval and no p-value


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of the median of some values, None below six of them.

    The draws are always the same.
    """
    if len(values) < FEWEST:
        return None
    found = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.quantile(np.median(found[drawn], axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the Spearman correlation over the first axis of two arrays (S, M), shape (M,); ties share their rank.

    It is 0 where one of them is constant: what does not vary predicts nothing.
    """
    found: np.ndarray = (scaled_ranks(a) * scaled_ranks(b)).sum(0)
    return found


def scaled_ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks over the first axis with sum 0 and squared sum 1, or all 0 where values are constant."""
    centred = ranks(values)
    centred -= centred.mean(0)
    norm = np.sqrt((centred**2).sum(0))
    found: np.ndarray = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1 over the first axis, the same shape, float64; ties share their mean, NaN makes all NaN.

    As `scipy.stats.rankdata`, whose import takes seconds.
    """
    columns = values.reshape(len(values), -1).T  # each series lies in a row of its own
    order = np.argsort(columns, axis=1, kind="stable")
    ascending = np.take_along_axis(columns, order, 1)
    first = np.ones(ascending.shape, bool)  # of those that are equal
    first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    group = np.cumsum(first.ravel()) - 1
    sizes = np.bincount(group)
    means = (np.cumsum(sizes) - (sizes - 1) / 2)[group].reshape(first.shape)
    found = np.empty(columns.shape)
    np.put_along_axis(found, order, means - len(values) * np.arange(len(columns))[:, None], 1)
    if columns.dtype.kind == "f":
        found[np.isnan(columns).any(1)] = np.nan
    return np.ascontiguousarray(found.T).reshape(values.shape)


@functools.lru_cache(maxsize=8)
def permutations(count: int, every: bool, drawn: int) -> np.ndarray:
    """Return permutations of 0 .. count - 1, one a row, the order as it is first.

    Args:
        count: Numbers that are permuted.
        every: Whether all are wanted.
        drawn: Else how many are drawn beside the first, always the same.
    """
    if every:
        return np.array(list(itertools.permutations(range(count))))
    found = np.random.default_rng(0).permuted(np.tile(np.arange(count), (drawn, 1)), axis=1)
    return np.concatenate([np.arange(count)[None], found])
