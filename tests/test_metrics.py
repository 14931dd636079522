"""Distances and paired statistics against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dtrak_core.errors import SettingsError
from dtrak_core.metrics import cosine, interval, paired, pixel_l2


def test_pixel_l2_is_taken_in_minus_one_to_one() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert pixel_l2(black, white) == pytest.approx(2 * np.sqrt(48))
    assert pixel_l2(white, white) == 0.0
    one = black.copy()
    one[0, 0, 0] = 1
    assert pixel_l2(black, one) == pytest.approx(1 / 127.5)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(SettingsError, match="shapes"):
        pixel_l2(np.zeros((4, 4, 3), np.uint8), np.zeros((8, 8, 3), np.uint8))


def test_cosine() -> None:
    assert cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5))
    assert cosine(np.array([2.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx(1.0)
    assert cosine(np.zeros(2), np.ones(2)) == 0.0


def test_interval_holds_the_median_and_repeats() -> None:
    values = np.random.default_rng(1).normal(3, 1, 41).tolist()
    low, high = interval(values)
    assert low < np.median(values) < high
    assert interval(values) == (low, high)
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_paired_equals_scipy_and_the_definition_of_the_effect() -> None:
    random = np.random.default_rng(2)
    ours, other = random.normal(1.0, 1, 12), random.normal(0, 1, 12)
    found = paired(ours.tolist(), other.tolist())
    assert found.p_value == pytest.approx(stats.wilcoxon(ours, other).pvalue)
    ranks = np.abs(ours - other).argsort().argsort() + 1
    up, down = ranks[ours > other].sum(), ranks[ours < other].sum()
    assert found.effect == pytest.approx((up - down) / (up + down))
    assert found.median_difference == pytest.approx(np.median(ours - other))


@pytest.mark.parametrize(("n", "tested"), [(5, False), (6, True)])
def test_few_pairs_give_no_p_value(n: int, tested: bool) -> None:
    found = paired([float(i + 1) for i in range(n)], [0.0] * n)
    assert (found.p_value is not None) == tested
    assert found.effect == 1.0


def test_nothing_to_pair_is_refused() -> None:
    with pytest.raises(SettingsError, match="paired"):
        paired([], [])
