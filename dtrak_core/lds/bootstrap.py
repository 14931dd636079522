"""Intervals of a mean by bootstrap, bias-corrected and accelerated (BCa; Efron 1987). No SciPy statistics, no torch.

They are those of `scipy.stats.bootstrap` with the same generator, number for number. Its import takes seconds, which a
page would wait for, and here a statistic is told how often each case was drawn, so that one set of draws serves all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
BATCH = 200  # drawn at once, as the stored findings were


def weights_of(drawn: np.ndarray, count: int) -> np.ndarray:
    """Return the share that each of `count` cases has in samples of their numbers (B, S), shape (B, count)."""
    places = drawn + count * np.arange(len(drawn))[:, None]
    found: np.ndarray = np.bincount(places.ravel(), minlength=count * len(drawn)).reshape(-1, count) / drawn.shape[1]
    return found


@functools.lru_cache(maxsize=8)
def resampled(count: int) -> np.ndarray:
    """Return the shares of `count` cases in each of `RESAMPLES` samples with replacement, always the same."""
    random = np.random.default_rng(0)
    drawn = [random.integers(0, count, (min(BATCH, RESAMPLES - start), count)) for start in range(0, RESAMPLES, BATCH)]
    found = weights_of(np.concatenate(drawn), count)
    found.setflags(write=False)
    return found


def interval(statistic: Callable[[np.ndarray], np.ndarray], count: int, level: float) -> tuple[float, float] | None:
    """Return the BCa interval of a statistic of `count` cases, None where all samples give one value.

    Args:
        statistic: Given the shares of the cases in B samples (B, count), returns its value for each, shape (B,).
        count: Number of cases.
        level: That of the interval, 0 to 1.
    """
    from scipy.special import ndtr, ndtri

    values, found = statistic(resampled(count)), statistic(np.full((1, count), 1 / count))[0]
    if np.ptp(values) == 0:
        return None
    without = statistic((1 - np.eye(count)) / (count - 1))
    bias = ndtri(((values < found).mean() + (values <= found).mean()) / 2)
    rest = (count - 1) * (without.mean() - without)
    spread = (rest**2).sum() / count**2
    acceleration = (rest**3).sum() / count**3 / (6 * spread**1.5) if spread > 0 else np.nan
    ends = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    shares = ndtr(bias + ends / (1 - acceleration * ends))
    if not np.isfinite(shares).all():
        return None
    low, high = np.percentile(values, 100 * shares)
    return float(low), float(high)
