"""Permutations and intervals of crossed comparisons: uniform and covering under the null, alert to an effect."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dtrak_core.counterfactual.crossed import RESAMPLES, beyond_random, by_block, permutation_p

ALONE = [[i] for i in range(6)]  # each model named for one target


def simulated(
    random: np.random.Generator, blocks: list[list[int]], controls: int, effect: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return what named models and random ones do to targets: of a target, of a model, and of chance alone."""
    targets = sum(map(len, blocks))
    common = random.normal(size=targets)
    rows = len(blocks) + controls
    values = common + random.normal(size=(rows, 1)) + random.normal(size=(rows, targets))
    for k, block in enumerate(blocks):
        values[k, block] += effect
    return values[: len(blocks)], values[len(blocks) :]


def test_p_is_the_share_of_permutations_by_the_definition() -> None:
    square = np.random.default_rng(0).normal(size=(6, 6))
    sums = [sum(square[order[b], b] for b in range(6)) for order in itertools.permutations(range(6))]
    assert permutation_p(square) == pytest.approx(np.mean(np.array(sums) >= np.trace(square) - 1e-9))


@pytest.mark.parametrize(("count", "least"), [(6, 1 / math.factorial(6)), (8, 1 / math.factorial(8)), (9, 1 / 10_001)])
def test_p_counts_the_order_as_it_is(count: int, least: float) -> None:
    assert permutation_p(np.eye(count)) == pytest.approx(least)
    assert permutation_p(-np.eye(count)) == 1
    assert permutation_p(np.zeros((count, count))) == 1


def test_drawn_permutations_agree_with_all_of_them_and_repeat() -> None:
    square = np.random.default_rng(1).normal(size=(8, 8)) + 0.4 * np.eye(8)
    exact = permutation_p(square)
    wide = np.zeros((9, 9))  # a ninth model and target that differ from nothing
    wide[:8, :8] = square
    assert exact is not None
    assert (drawn := permutation_p(wide)) == permutation_p(wide)
    every = np.array([order for order in itertools.permutations(range(9))], np.int8)
    all_of = np.mean(wide[every, np.arange(9)].mean(axis=1) >= np.trace(wide) / 9 - 1e-9)
    assert drawn == pytest.approx(all_of, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_below_six_there_is_no_p(count: int) -> None:
    assert permutation_p(np.eye(count)) is None


@pytest.mark.parametrize("blocks", [ALONE, [[0, 1, 2], [3], [4], [5], [6], [7, 8]]])
def test_under_the_null_p_is_uniform(blocks: list[list[int]]) -> None:
    random = np.random.default_rng(20)
    found = [permutation_p(by_block(simulated(random, blocks, 0)[0], blocks)) for _ in range(500)]
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_equal_removals_of_alike_targets_do_not_count_twice() -> None:
    """Targets that are all but one picture share a model: what chance does to one it does to the other."""
    random, blocks = np.random.default_rng(3), [[0, 1, 2, 3], [4], [5], [6], [7], [8]]
    found = []
    for _ in range(500):
        values, _ = simulated(random, blocks, 0)
        values[:, 1:4] = values[:, :1]
        found.append(permutation_p(by_block(values, blocks)))
    assert stats.kstest(found, "uniform").pvalue > 0.05


def test_a_planted_effect_is_found() -> None:
    random = np.random.default_rng(4)
    found = [permutation_p(by_block(simulated(random, ALONE, 0, effect=2)[0], ALONE)) for _ in range(100)]
    assert np.mean([p is not None and p < 0.05 for p in found]) > 0.95


@pytest.mark.parametrize(
    ("blocks", "controls", "effect"),
    [
        (ALONE, 1, 0.0),
        (ALONE, 2, 0.0),
        (ALONE, 2, 1.5),
        ([[0, 1, 2], [3], [4], [5], [6], [7]], 2, 0.0),
        ([list(range(8))], 8, 0.0),  # a contributor's removal is one model for all
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    blocks: list[list[int]], controls: int, effect: float
) -> None:
    random, held = np.random.default_rng(5), []
    for _ in range(120):
        values, others = simulated(random, blocks, controls, effect)
        found = beyond_random(values, blocks, [others] * len(blocks))
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= effect <= found.high)
    assert np.mean(held) > 0.9  # of 0.95: three standard errors of 120 below
    assert RESAMPLES >= 1000


def test_the_interval_leaves_zero_out_under_a_planted_effect() -> None:
    values, others = simulated(np.random.default_rng(6), [[i] for i in range(12)], 6, effect=4)
    found = beyond_random(values, [[i] for i in range(12)], [others] * 12)
    assert found.low is not None
    assert found.low > 0
    assert found.difference == pytest.approx(np.mean(np.diag(values) - others.mean(axis=0)))


def test_shared_controls_widen_the_interval() -> None:
    """A random model that moves all targets is one observation, not one a target."""
    random = np.random.default_rng(7)
    values, others = random.normal(size=(8, 8)), random.normal(size=(6, 8))
    blocks = [[i] for i in range(8)]
    narrow, wide = (beyond_random(values, blocks, [others + s * np.arange(6)[:, None]] * 8) for s in (0, 5))
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low is not None
    assert wide.high is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_each_model_is_compared_with_random_ones_of_its_size() -> None:
    random = np.random.default_rng(8)
    values, small, large = random.normal(size=(6, 6)), random.normal(size=(3, 6)), random.normal(9, 1, size=(3, 6))
    arms = [small, large, small, large, small, large]
    found = beyond_random(values, ALONE, arms)
    assert found.difference == pytest.approx(np.mean([values[k, k] - arms[k][:, k].mean() for k in range(6)]))


@pytest.mark.parametrize(
    ("blocks", "controls"), [([[0], [1], [2], [3], [4]], 9), ([list(range(8))], 5), ([[0, 1, 2], [3, 4, 5]], 1)]
)
def test_too_few_of_either_have_a_difference_but_no_interval(blocks: list[list[int]], controls: int) -> None:
    values, others = simulated(np.random.default_rng(9), blocks, controls)
    found = beyond_random(values, blocks, [others] * len(blocks))
    assert (found.low, found.high) == (None, None)
    own = np.mean([values[k, block].mean() - others[:, block].mean() for k, block in enumerate(blocks)])
    assert found.difference == pytest.approx(own)
