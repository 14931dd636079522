"""Agreement of methods, hubs and their removal, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dtrak_core.methods import agreement


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_overlap_and_correlation_are_those_of_each_target(seed: int, top: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(3, 20)), random.normal(size=(3, 20))
    found, shared = agreement.rank_correlation(first, second), agreement.overlap(first, second, top)
    for a, b, correlation, part in zip(first, second, found, shared, strict=True):
        assert correlation == pytest.approx(stats.spearmanr(a, b).statistic)
        assert part == len(set(np.argsort(-a)[:top]) & set(np.argsort(-b)[:top])) / top
    np.testing.assert_allclose(agreement.overlap(first, first, top), 1)


@pytest.mark.parametrize(("count", "top"), [(1, 1), (8, 4), (9, 4), (19, 9), (20, 10), (5000, 10)])
def test_first_pictures_are_never_all(count: int, top: int) -> None:
    assert agreement.top_of(count) == top


def test_hubs_are_counted_and_taken_off() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(30, 50))
    scores[:, 7] += 5  # stands in every list
    counts = agreement.hubs(scores, 4)
    assert counts[7] == 30
    assert counts.sum() == 30 * 4
    clean = agreement.specific(scores)
    np.testing.assert_allclose(clean.mean(0), 0, atol=1e-12)
    assert agreement.hubs(clean, 4)[7] < 10
    np.testing.assert_allclose(agreement.specific(scores * random.uniform(1, 9, (30, 1))), clean, atol=1e-9)


def test_pictures_on_which_two_methods_differ_most() -> None:
    first = np.tile(np.arange(10.0), (4, 1))
    second = first.copy()
    second[:, [2, 9]] = second[:, [9, 2]]
    above, below = agreement.disagreement(first, second, 1)
    assert (above.tolist(), below.tolist()) == ([9], [2])
