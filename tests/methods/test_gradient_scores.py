"""Scores as they are stored for comparing rankings: what survives, and that what was stored before is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtrak_core import statistics, store
from dtrak_core.methods import agreement
from dtrak_core.methods.gradient_scores import read_scores, write_scores
from dtrak_core.settings import Settings
from dtrak_core.store import Artifact

RANDOM = np.random.default_rng(3)
HEAVY = RANDOM.standard_t(2, (6, 900))
SCORES = {
    "heavy tails": HEAVY,
    "squared": np.square(HEAVY),
    "cosines near 1": 0.97 + 0.02 * RANDOM.random((6, 900)),
    "large": 1e12 * HEAVY,
    "small": 1e-12 * np.square(HEAVY),
}


def published() -> Artifact:
    return store.publish("scores", "0" * 16, Settings())


@pytest.mark.parametrize("kind", SCORES)
def test_rankings_survive(kind: str, cache: Path) -> None:
    scores = SCORES[kind]
    write_scores(store.partial("scores", "0" * 16), "scores", scores)
    kept = read_scores(published(), "scores")
    assert statistics.spearman(scores.T, kept.T).min() > 0.9999
    assert agreement.overlap(scores, kept, 10).mean() >= 0.95
    np.testing.assert_allclose(kept, scores / np.abs(scores).max(1, keepdims=True), atol=1e-3)


def test_squared_scores_in_bytes_lose_ranks_and_are_still_read(cache: Path) -> None:
    scores = SCORES["squared"] / SCORES["squared"].max(1, keepdims=True)
    store.write_array(store.partial("scores", "0" * 16) / "scores.npy", np.rint(127 * scores).astype(np.int8))
    kept = read_scores(published(), "scores")
    np.testing.assert_allclose(kept, scores, atol=0.5 / 127 + 1e-6)
    assert statistics.spearman(scores.T, kept.T).max() < 0.98


def test_equal_scores_stay_equal(cache: Path) -> None:
    write_scores(store.partial("scores", "0" * 16), "scores", np.array([[0.3] * 5, [0.0] * 5]))
    np.testing.assert_allclose(read_scores(published(), "scores"), [[1.0] * 5, [0.0] * 5])
