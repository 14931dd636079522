"""Distances and the interval of a median against independent computations."""

from __future__ import annotations

import numpy as np
import pytest

from dtrak_core.counterfactual.distances import cosine, pixel_l2
from dtrak_core.errors import SettingsError
from dtrak_core.statistics import interval


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
    found = interval(values)
    assert found is not None
    assert found[0] < np.median(values) < found[1]
    assert interval(values) == found


def test_below_six_values_there_is_no_interval() -> None:
    assert interval([1.0]) is None
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) is not None
