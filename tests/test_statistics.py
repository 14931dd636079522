"""Ranks against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dtrak_core import statistics


@pytest.mark.parametrize("shape", [(1,), (7,), (30, 1), (12, 5), (6, 2, 3)])
def test_ranks_are_scipys(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(shape))
    for values in (random.normal(size=shape), random.integers(0, 3, shape), np.zeros(shape)):
        np.testing.assert_array_equal(statistics.ranks(values), stats.rankdata(values, axis=0))
    broken = random.normal(size=(9, 3))
    broken[4, 1] = np.nan
    np.testing.assert_array_equal(statistics.ranks(broken), stats.rankdata(broken, axis=0))
