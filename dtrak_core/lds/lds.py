"""LDS, the linear datamodeling score: do summed scores predict what training on a subset does? No torch here.

For subset S and target z (Park et al. 2023, definition 2.3; Zheng et al. 2024, section 3)

    predicted loss   g(z, S) = - sum over i in S of score(z, i)
    LDS(z)           = Spearman correlation over subsets of g(z, S_m) with the loss of z under models trained on S_m
    LDS              = mean over targets

A positive score says that the example lowers the loss, hence the minus. Losses are means over timesteps, noise and
training seeds; the noise is the same for every model, so that it does not blur their differences.

Two things say what an LDS can be: `noise_floor`, the LDS of a perfect attribution given the noise of retraining, and
`by_chance`, what a method's own predictions reach where subsets are permuted, so that they say nothing of the losses.
(Random scores give too narrow a band: real predictions are alike between targets, and level out less in the mean.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.errors import SettingsError
from dtrak_core.lds import bootstrap
from dtrak_core.statistics import permutations, ranks, scaled_ranks, spearman

LEAST_PAIRS = 8  # subsets with two seeds, for a noise floor; six leave it anywhere between nothing and all
LEAST = 3  # subsets, for a rank correlation
LEAST_SUBSETS = 8  # for an interval
LEAST_TARGETS = 6  # for an interval
LEVEL = 0.95  # of an interval
FLAT = 1e-6  # spread of drawn ranks below which they are equal but for rounding; two that differ have at least 1e-3
PERMUTATIONS = 10_000  # of subsets; all of them where there are not more


@dataclass(frozen=True)
class Chance:
    """The LDS of predictions that say nothing, whose mean is 0: standard deviation, central 95 %, and p.

    `p` is the share of permutations of the subsets whose LDS is at least the one found, which is counted as one.
    """

    std: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Lds:
    """LDS of one method: `per_target` (M,), their mean, its interval over subsets, None where there are too few."""

    per_target: np.ndarray
    mean: float
    low: float | None
    high: float | None
    subsets: int


@dataclass(frozen=True)
class Floor:
    """The LDS that a perfect attribution could reach, and its 95 % interval, which few retrained subsets leave wide."""

    value: float
    low: float
    high: float


def predicted(scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the predicted losses up to a constant, shape (S, M).

    Args:
        scores: Scores of M targets for N training examples, shape (M, N); positive: helps.
        masks: Which examples each of S subsets holds, bool, shape (S, N).

    Raises:
        SettingsError: If they are of different numbers of training examples.
    """
    if scores.shape[1] != masks.shape[1]:
        raise SettingsError(
            f"Scores are of {scores.shape[1]:,} training examples, the subsets of {masks.shape[1]:,}. "
            "Take both from one dataset."
        )
    return -(masks.astype(np.float64) @ scores.T.astype(np.float64))


def evaluate(scores: np.ndarray, masks: np.ndarray, losses: np.ndarray) -> Lds:
    """Return the LDS of scores, and the BCa interval of its mean by bootstrap over subsets.

    Targets are not resampled, as in the paper. Fewer than 8 subsets or 6 targets have no interval.

    Args:
        scores: Shape (M, N); positive: helps.
        masks: Shape (S, N), bool.
        losses: Loss of each target under the models of each subset, mean over training seeds, shape (S, M).

    Raises:
        SettingsError: If there are fewer than 3 subsets, or shapes do not agree.
    """
    return judge(predicted(scores, masks), losses)


def judge(guess: np.ndarray, losses: np.ndarray) -> Lds:
    """Return the LDS of predictions or their ranks, shape (S, M); see `evaluate`."""
    if guess.shape != losses.shape:
        raise SettingsError(
            f"Predictions have shape {guess.shape}, losses {losses.shape}. Give both for equal targets."
        )
    count = len(losses)
    if count < LEAST:
        raise SettingsError(f"{count} subsets are too few for a rank correlation. Train on at least {LEAST}.")
    each = spearman(guess, losses)
    low = high = None
    if count >= LEAST_SUBSETS and guess.shape[1] >= LEAST_TARGETS:
        x, y = ranks(guess), ranks(losses)
        found = bootstrap.interval(lambda weights: _of_weights(x, y, weights), count, LEVEL)
        # Where every resample gives one value, there is no interval around it.
        low, high = (float(each.mean()),) * 2 if found is None else found
    return Lds(each, float(each.mean()), low, high, count)


def _of_weights(guess: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean correlation over targets of fixed ranks (S, M) for resampled subsets, shape (B,).

    Ranks stay those of all subsets. Ranked anew, a subset that is drawn twice would share its rank with itself, which
    lowers every correlation, and near 1 leaves intervals that hold the truth less than half the time
    (docs/findings.md; benchmarks/intervals.py).

    Args:
        guess: Ranks of the predictions.
        losses: Ranks of the losses.
        weights: Share of each subset in a sample, shape (B, S).
    """
    x, y = guess - guess.mean(0), losses - losses.mean(0)
    first, second = weights @ x, weights @ y
    covariance = weights @ (x * y) - first * second
    norm = np.sqrt(((weights @ x**2) - first**2).clip(0) * ((weights @ y**2) - second**2).clip(0))
    correlations: np.ndarray = np.divide(covariance, norm, out=np.zeros_like(norm), where=norm > FLAT).mean(1)
    return correlations


def noise_floor(losses: np.ndarray) -> Floor | None:
    """Return the LDS that a perfect attribution could reach, given how much losses differ between training seeds.

    The Spearman correlation r of the losses of two single seeds, mean over targets and pairs, tells how much of one
    seed's ranking repeats; by Spearman and Brown, the mean of R seeds has reliability R r / (1 + (R - 1) r), and the
    truth correlates with it by the square root of that. (Taken of each target first, the root would be drawn down by
    the noise of r.)

    Its interval is that of r, taken through the same formula: r ± t s, s the standard error by leaving out one of the
    q subsets with two seeds at a time (jackknife), t Student's for q - 1 degrees of freedom. Over subsets, not
    targets: all targets of a subset share its models.

    Args:
        losses: Shape (S, R, M): subsets, training seeds, targets; NaN where a seed is not trained.

    Returns:
        None where fewer than `LEAST_PAIRS` subsets have two seeds, from which nothing can be told.
    """
    from scipy.special import stdtrit

    there = ~np.isnan(losses[:, :, 0])
    seeds = losses.shape[1]
    pairs = [(i, j) for i in range(seeds) for j in range(i) if (there[:, i] & there[:, j]).sum() >= LEAST_PAIRS]
    if not pairs:
        return None
    r, mean_seeds = _agreement(losses, pairs), float(there.sum(1).mean())
    repeated = np.flatnonzero(np.any([there[:, i] & there[:, j] for i, j in pairs], axis=0))
    without = np.array([_agreement(np.delete(losses, one, 0), pairs) for one in repeated])
    error = float(np.sqrt((len(repeated) - 1) * without.var()))
    reach = float(stdtrit(len(repeated) - 1, (1 + LEVEL) / 2)) * error
    return Floor(*(_attainable(one, mean_seeds) for one in (r, r - reach, r + reach)))


def _agreement(losses: np.ndarray, pairs: Sequence[tuple[int, int]]) -> float:
    """Return the correlation of the losses (S, R, M) of two seeds over the subsets that have both, mean over all."""
    found = []
    for i, j in pairs:
        both = ~np.isnan(losses[:, (i, j), 0]).any(1)
        found.append(spearman(losses[both, i], losses[both, j]))
    return float(np.mean(found))


def _attainable(r: float, seeds: float) -> float:
    """Return how the truth correlates with the mean of so many seeds, two of which correlate by r."""
    r = min(max(r, 0.0), 1.0)
    return math.sqrt(seeds * r / (1 + (seeds - 1) * r))


def by_chance(guess: np.ndarray, losses: np.ndarray) -> Chance:
    """Return what the LDS of predictions would be if they said nothing about which subset has which loss.

    Subsets are drawn independently of each other, so under that hypothesis each permutation π of them is as likely as
    the one found, and LDS(π) = mean over z of Spearman(g(z, S_π(s)), loss of z on S_s) is one draw. Targets are
    permuted together, as they share models. With ranks X, Y scaled to sum 0 and squared sum 1 over subsets,
    LDS(π) = 1/M Σ_s (X Yᵀ)_π(s)s.

    Args:
        guess: Predictions of M targets' losses, or their ranks, shape (S, M). They must not have been fitted on
            `losses`: such predictions change with the permutation (`datamodels.permuted`).
        losses: Shape (S, M).
    """
    x, y = (scaled_ranks(each) for each in (guess, losses))
    products, count = x @ y.T / guess.shape[1], len(guess)
    orders = permutations(count, math.factorial(count) <= PERMUTATIONS, PERMUTATIONS - 1)
    return of_permutations(products[orders, np.arange(count)].sum(1))


def of_permutations(values: np.ndarray) -> Chance:
    """Return what chance gives, from the LDS under each of some permutations, the first of which changes nothing."""
    low, high = np.quantile(values, (0.025, 0.975))
    reached = float((values >= values[0] - 1e-12).mean())
    return Chance(float(values.std()), float(low), float(high), reached)


def masks_of(subsets: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return which of `count` training examples each subset holds, bool, shape (S, N)."""
    masks = np.zeros((len(subsets), count), bool)
    for mask, chosen in zip(masks, subsets, strict=True):
        mask[chosen] = True
    return masks
