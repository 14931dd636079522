"""What a crossed comparison says, where every model has drawn every target. No torch here.

A model is one observation: it was trained once, however many targets it drew and whatever number of them it was
named for. Values are such that larger means changed more (docs/design.md, "Statistics").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.statistics import FEWEST, permutations

EXACT = 8  # models up to which every permutation is gone through
PERMUTATIONS = 10_000  # drawn above that
RESAMPLES = 5_000
CHANCE = 0.05  # how often an interval leaves out what there is


@dataclass(frozen=True)
class Beyond:
    """How much more the named removals change their targets than random ones; no interval where `low` is None.

    `low` and `high` are the ends of the 95 % interval. Of as many intervals as there are measures one leaves out what
    there is sooner than by 0.05; of as many from `least` to `most`, one of all does by 0.05 (Bonferroni).
    """

    difference: float
    low: float | None = None
    high: float | None = None
    least: float | None = None
    most: float | None = None


def by_block(values: np.ndarray, blocks: Sequence[Sequence[int]]) -> np.ndarray:
    """Return B[k, b], the mean of what model k does to the targets that model b was named for, shape (K, K).

    Args:
        values: What each model does to each target, shape (K, M).
        blocks: For each model the columns of the targets that it was named for, shape (K,) of lists; together they
            are all M. Equal removal sets are one model, named for several targets.
    """
    return np.stack([values[:, list(block)].mean(axis=1) for block in blocks], axis=1)


def permutation_p(square: np.ndarray) -> float | None:
    """Say whether the models change the targets that they were named for more than the other models do.

        T = (1/K) sum over b of B[b, b]
        p = share of the permutations π of the models with (1/K) sum over b of B[π(b), b] >= T

    If what a model leaves out matters no more to its own targets than to others, models are exchangeable and p is
    uniform, whatever targets and models have in common. The order as it is counts, so that p is at least 1/K!. All
    permutations are gone through up to K = EXACT; above, PERMUTATIONS of them that are always the same.

    Args:
        square: B of `by_block`, shape (K, K).

    Returns:
        p, one-sided: 0 < p <= 1; None below six models.
    """
    count = len(square)
    if count < FEWEST:
        return None
    means = square[permutations(count, count <= EXACT, PERMUTATIONS), np.arange(count)].mean(axis=1)
    own = means[0]  # the order as it is comes first
    return float(np.mean(means >= own - 1e-9 * np.abs(square).max()))


def beyond_random(
    values: np.ndarray, blocks: Sequence[Sequence[int]], random: Sequence[np.ndarray], measures: int = 1
) -> Beyond:
    """Return by how much models change the targets that they were named for more than random models do.

        difference = (1/K) sum over k of mean over z named for k of D[k, z],
        D[k, z] = values[k, z] - mean over c of random[k][c, z]

    The interval is a two-way bootstrap of the residuals. A model moves all targets alike by some amount: that
    of model k is the mean of D[k, z] over the targets that it was not named for, that of a random model its mean over
    targets, each less the mean of its arm. What is left of D at the targets' own models is the targets' part. Targets
    are resampled, and so is the amount of every model, once for all targets that it drew or stands beside. Residuals
    are stretched by sqrt(n / (n - 1)) and the percentiles taken further out, as far as Student's t is from the normal,
    as few are resampled (Hesterberg, The American Statistician 69, 2015, section 5.4).

    Args:
        values: What each model does to each target, shape (K, M).
        blocks: As in `by_block`.
        random: For each model what the random models of its size do, shape (K,) of arrays (C, M); models of one size
            give the same array object.
        measures: In how many measures the removals are judged.

    Returns:
        The difference with its intervals, at 95 % and at 1 - 0.05 / measures. They are None below six targets, and
        where fewer than five degrees of freedom say how far models lie apart (one model named for all targets beside
        five random ones, say).
    """
    from scipy.special import ndtr, stdtrit  # not scipy.stats, whose import takes most of a second

    count, targets = values.shape
    against = values - np.stack([arm.mean(axis=0) for arm in random])
    own = np.array([against[k, list(block)].mean() for k, block in enumerate(blocks)])
    difference = float(own.mean())
    arms = list({id(arm): arm for arm in random}.values())
    elsewhere = _elsewhere(against, blocks)
    amounts = [*([elsewhere] if count > 1 else []), *(arm.mean(axis=1) for arm in arms)]
    known = sum(len(each) - 1 for each in amounts)
    if targets < FEWEST or known < FEWEST - 1:
        return Beyond(difference)
    pool = np.concatenate([_spread(each) for each in amounts if len(each) > 1])
    rest, weights = np.empty(targets), np.empty(targets)
    for k, block in enumerate(blocks):
        rest[list(block)], weights[list(block)] = against[k, list(block)] - elsewhere[k], 1 / (count * len(block))
    shares = [np.full(count, 1 / count)]
    shares += [np.full(len(arm), sum(each is arm for each in random) / count / len(arm)) for arm in arms]
    generator = np.random.default_rng(0)
    share = np.concatenate(shares)
    moved = pool[generator.integers(len(pool), size=(RESAMPLES, len(share)))] @ share
    drawn = generator.multinomial(targets, np.full(targets, 1 / targets), size=RESAMPLES) * weights
    centred = (rest - rest @ weights) * np.sqrt(targets / (targets - 1))
    moved += drawn @ centred / drawn.sum(axis=1)
    tails = [ndtr(stdtrit(min(targets - 1, known), chance / 2)) for chance in (CHANCE, CHANCE / measures)]
    ends = difference + np.quantile(moved, [end for tail in tails for end in (tail, 1 - tail)])
    return Beyond(difference, *map(float, ends))


def _elsewhere(against: np.ndarray, blocks: Sequence[Sequence[int]]) -> np.ndarray:
    """Return each model's mean over the targets that it was not named for, 0 where there are none, shape (K,)."""
    others = np.ones_like(against, bool)
    for k, block in enumerate(blocks):
        others[k, list(block)] = False
    means: np.ndarray = (against * others).sum(axis=1) / others.sum(axis=1).clip(1)
    return means


def _spread(amounts: np.ndarray) -> np.ndarray:
    """Return values less their mean, stretched to the spread that they estimate."""
    spread: np.ndarray = (amounts - amounts.mean()) * np.sqrt(len(amounts) / (len(amounts) - 1))
    return spread
