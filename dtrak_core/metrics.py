"""Distances between a target and its counterfactual, and what several of them say together. No torch here.

    pixel l2    ||a - b||_2 over all numbers of the pictures in [-1, 1]   (reference.md, section 6)
    cosine      <u, v> / (||u|| ||v||) of two embeddings

A larger l2 and a smaller cosine mean that the removal changed the picture more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.errors import SettingsError

RESAMPLES = 2000
FEWEST = 6  # pairs below which no two-sided Wilcoxon test can fall under 0.05


@dataclass(frozen=True)
class Paired:
    """A removal against random removal of equal size, paired by target.

    `median_difference` is the median of ours - random, with its 95 % percentile bootstrap interval `low`, `high`
    over targets. `p_value` is of the two-sided Wilcoxon signed-rank test, None below six pairs. `effect` is the
    matched-pairs rank-biserial correlation, -1 to 1: the rank sum of positive differences minus that of negative
    ones, over both.
    """

    n: int
    median_difference: float
    low: float
    high: float
    p_value: float | None
    effect: float


def pixel_l2(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Euclidean distance of two uint8 pictures (H, W, 3), taken in [-1, 1].

    Raises:
        SettingsError: If their shapes differ.
    """
    if a.shape != b.shape:
        raise SettingsError(f"Pictures of shapes {a.shape} and {b.shape} have no distance. Give pictures of one size.")
    return float(np.linalg.norm((a.astype(np.float64) - b.astype(np.float64)) / 127.5))


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    """Return the cosine of two embeddings (D,), -1 to 1; 1 for equal ones."""
    a, b = np.asarray(u, np.float64), np.asarray(v, np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / lengths, -1.0, 1.0)) if lengths else 0.0


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the median of some values; the draws are always the same."""
    found = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.quantile(np.median(found[drawn], axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(ours: Sequence[float], random: Sequence[float]) -> Paired:
    """Compare distances of a removal with those of random removals, one pair a target.

    Raises:
        SettingsError: If there are no pairs, or not one random value for each of ours.
    """
    if len(ours) != len(random) or not len(ours):
        raise SettingsError(f"{len(ours)} and {len(random)} distances cannot be paired. Give one of each a target.")
    from scipy import stats

    difference = np.asarray(ours, np.float64) - np.asarray(random, np.float64)
    ranks = stats.rankdata(np.abs(difference[difference != 0]))
    signs = np.sign(difference[difference != 0])
    effect = float((ranks * signs).sum() / ranks.sum()) if len(ranks) else 0.0
    tested = len(difference) >= FEWEST and len(ranks) > 0
    p_value = float(stats.wilcoxon(difference).pvalue) if tested else None
    return Paired(len(difference), float(np.median(difference)), *interval(difference.tolist()), p_value, effect)
