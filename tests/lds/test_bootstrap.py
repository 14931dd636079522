"""Intervals by bootstrap against SciPy's, number for number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dtrak_core.lds import bootstrap


@pytest.mark.parametrize(("count", "level"), [(8, 0.95), (33, 0.8), (64, 0.95)])
def test_an_interval_is_scipys(count: int, level: float) -> None:
    values = np.random.default_rng(count).exponential(size=count) ** 2  # skewed: bias and acceleration count
    expected = stats.bootstrap(
        (values,), np.mean, batch=200, n_resamples=1000, confidence_level=level, rng=np.random.default_rng(0)
    ).confidence_interval
    found = bootstrap.interval(lambda weights: weights @ values, count, level)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_one_value_has_no_interval() -> None:
    assert bootstrap.interval(lambda weights: np.zeros(len(weights)), 9, 0.95) is None


def test_shares_count_what_was_drawn() -> None:
    found = bootstrap.weights_of(np.array([[0, 2, 2, 1], [3, 3, 3, 3]]), 5)
    np.testing.assert_allclose(found, [[0.25, 0.25, 0.5, 0, 0], [0, 0, 0, 1, 0]])
