"""Draws: timesteps as the paper's, noise a function of seed, sample and draw alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrak_core.errors import SettingsError
from dtrak_core.features import draws

SHAPE = (12, 8, 8)


def test_timesteps_are_the_papers() -> None:
    assert draws.timesteps("uniform", 10).tolist() == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]
    assert draws.timesteps("uniform", 100).tolist() == list(range(0, 1000, 10))
    assert draws.timesteps("uniform", 1000).tolist() == list(range(1000))
    assert draws.timesteps("cumulative", 3).tolist() == [0, 1, 2]
    assert draws.timesteps("uniform", 1).tolist() == [0]


def test_low_timesteps_are_the_middles_of_the_lowest_fifth() -> None:
    assert draws.timesteps("low", 1).tolist() == [100]
    assert draws.timesteps("low", 4).tolist() == [25, 75, 125, 175]
    assert draws.timesteps("low", 200).tolist() == list(range(200))
    assert draws.timesteps("low", 2, 40).tolist() == [2, 6]


def test_timesteps_are_spread_over_a_schedule_of_any_length() -> None:
    assert draws.timesteps("uniform", 10, 4000).tolist() == list(range(0, 4000, 400))
    assert draws.timesteps("uniform", 8, 37).tolist() == [0, 4, 9, 13, 18, 23, 27, 32]  # i * 37 / 8, rounded down
    assert draws.timesteps("cumulative", 20, 20).tolist() == list(range(20))
    for strategy in ("uniform", "cumulative"):
        with pytest.raises(SettingsError, match="50 timesteps cannot be drawn from a noise schedule of 40"):
            draws.timesteps(strategy, 50, 40)


@pytest.mark.parametrize(("strategy", "count"), [("uniform", 3), ("uniform", 0), ("cumulative", 1001), ("low", 201)])
def test_timesteps_that_cannot_be_are_refused(strategy: str, count: int) -> None:
    with pytest.raises(SettingsError, match=str(count)):
        draws.timesteps(strategy, count)  # type: ignore[arg-type]


def test_noise_is_the_same_on_every_machine() -> None:
    """Pinned: if numpy ever changes its stream, stored features would silently mix."""
    found = draws.noise(0, "train:17", [100], (2, 2))
    expected = [[[-0.1840, 0.7700], [-0.1876, 0.5910]]]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.dtype == np.float32


@given(st.lists(st.integers(0, 999), min_size=1, max_size=8), st.integers(0, 2**31 - 1))
def test_noise_of_a_draw_does_not_depend_on_the_others(numbers: list[int], seed: int) -> None:
    together = draws.noise(seed, "seed:3", numbers, (3, 2))
    for row, number in zip(together, numbers, strict=True):
        np.testing.assert_array_equal(row, draws.noise(seed, "seed:3", [number], (3, 2))[0])


def test_noise_differs_by_seed_sample_and_draw() -> None:
    base = draws.noise(0, "train:1", [0], SHAPE)
    for other in (
        draws.noise(1, "train:1", [0], SHAPE),
        draws.noise(0, "train:11", [0], SHAPE),
        draws.noise(0, "held-out:1", [0], SHAPE),
        draws.noise(0, "train:1", [1], SHAPE),
    ):
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.15


def test_noise_is_standard_normal() -> None:
    values = draws.noise(5, "train:0", range(100), SHAPE).ravel()
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values**4).mean() - 3) < 0.15
