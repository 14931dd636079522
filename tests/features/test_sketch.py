"""Kernels that are too large to be decomposed whole, against float64 solutions of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg, stats
from test_kernel import stored

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.features import kernel, sketch
from dtrak_core.progress import quiet


def decaying(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Return features whose spectrum falls as those of real gradients do."""
    random = np.random.default_rng(seed)
    made = random.standard_normal((rows, width)) @ np.diag(np.arange(1, width + 1) ** -0.7)
    return (made @ linalg.qr(random.standard_normal((width, width)))[0]).astype(np.float32)


def blocks_of(rows: np.ndarray, height: int = 33) -> sketch.Blocks:
    def each() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(rows), height):
            yield start, rows[start : start + height]

    return each


@pytest.mark.parametrize(("rows", "width"), [(150, 90), (90, 150)])
def test_a_sketch_of_full_rank_is_the_decomposition(rows: int, width: int) -> None:
    phi = decaying(rows, width)
    found = sketch.leading(blocks_of(phi), rows, width, quiet, rank=400)
    exact = np.linalg.eigvalsh(phi.astype(np.float64).T @ phi)[::-1][: len(found.values)]
    np.testing.assert_allclose(found.values, exact, rtol=2e-3, atol=1e-3 * exact[0])
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(len(found.values)), atol=1e-4)


@pytest.mark.parametrize("damping", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("rank", [5, 40])
def test_a_solution_is_that_of_float64_whatever_the_sketch(damping: float, rank: int) -> None:
    phi, targets = decaying(200, 120), decaying(6, 120, seed=1)
    known = sketch.leading(blocks_of(phi), 200, 120, quiet, rank=rank)
    found, passes = sketch.solve(blocks_of(phi), targets, damping, known, quiet)
    gram = phi.astype(np.float64).T @ phi + damping * np.eye(120)
    exact = linalg.solve(gram, targets.astype(np.float64).T, assume_a="pos").T
    assert np.abs(found - exact).max() < 2e-4 * np.abs(exact).max()
    assert passes < sketch.MOST
    again, _ = sketch.solve(blocks_of(phi, 7), targets, damping, known, quiet)
    np.testing.assert_allclose(again, found, atol=2e-4 * np.abs(exact).max())


def test_a_target_of_zeros_has_the_solution_zero_and_disturbs_no_other() -> None:
    phi, targets = decaying(200, 120), decaying(4, 120, seed=1)
    targets[1], targets[3] = 0, 1e3 * phi[0]
    known = sketch.leading(blocks_of(phi), 200, 120, quiet, rank=40)
    found, _ = sketch.solve(blocks_of(phi), targets, 3.0, known, quiet)
    assert not found[1].any()
    exact = np.linalg.solve(phi.astype(np.float64).T @ phi + 3.0 * np.eye(120), targets.astype(np.float64).T).T
    for mine, true in zip(found, exact, strict=True):
        assert np.abs(mine - true).max() <= 2e-4 * np.abs(true).max()
    nothing, passes = sketch.solve(blocks_of(phi), np.zeros((2, 120)), 3.0, known, quiet)
    assert not nothing.any()
    assert passes == 0


def test_features_of_zeros_have_no_directions_and_rows_of_zeros_no_part_in_any() -> None:
    empty = np.zeros((30, 20), np.float32)
    known = sketch.leading(blocks_of(empty), 30, 20, quiet)
    assert known.values.shape == (0,)
    targets = decaying(2, 20)
    np.testing.assert_allclose(sketch.solve(blocks_of(empty), targets, 2.0, known, quiet)[0], targets / 2, rtol=1e-5)
    phi = decaying(40, 20)
    phi[::2] = 0
    some = sketch.leading(blocks_of(phi), 40, 20, quiet)
    found, _ = sketch.solve(blocks_of(phi), targets, 2.0, some, quiet)
    exact = np.linalg.solve(phi.astype(np.float64).T @ phi + 2.0 * np.eye(20), targets.astype(np.float64).T).T
    np.testing.assert_allclose(found, exact, atol=2e-4 * np.abs(exact).max())


def test_what_cannot_be_solved_is_said() -> None:
    phi, targets = decaying(50, 30), decaying(2, 30, seed=1)
    known = sketch.leading(blocks_of(phi), 50, 30, quiet)
    for damping in (0.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="must be greater than 0"):
            sketch.solve(blocks_of(phi), targets, damping, known, quiet)
    for wrong in (np.nan, np.inf):
        broken = phi.copy()
        broken[7, 3] = wrong
        with pytest.raises(DataError, match="The features hold numbers that are not finite"):
            sketch.leading(blocks_of(broken), 50, 30, quiet)
        with pytest.raises(DataError, match="The features hold"):
            sketch.solve(blocks_of(broken), targets, 1.0, known, quiet)
        with pytest.raises(DataError, match="The targets' features hold"):
            sketch.solve(blocks_of(phi), broken[7:8], 1.0, known, quiet)


def test_a_better_sketch_needs_fewer_passes() -> None:
    phi, targets = decaying(200, 120), decaying(4, 120, seed=1)
    passes = []
    for rank in (2, 20, 80):
        known = sketch.leading(blocks_of(phi), 200, 120, quiet, rank=rank)
        passes.append(sketch.solve(blocks_of(phi), targets, 0.5, known, quiet)[1])
    assert passes[0] > passes[1] > passes[2]


def test_the_top_is_found_block_by_block() -> None:
    phi, solutions = decaying(130, 40), decaying(3, 40, seed=2)
    indices, scores = sketch.top(blocks_of(phi, 17), solutions, 9)
    whole = solutions @ phi.T
    np.testing.assert_array_equal(indices, np.argsort(-whole, axis=1, kind="stable")[:, :9])
    np.testing.assert_allclose(scores, np.sort(whole, axis=1)[:, ::-1][:, :9], rtol=1e-5)


@pytest.mark.parametrize(("rows", "width"), [(150, 90), (90, 150)])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_sketched_kernel_ranks_as_the_whole_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch, rows: int, width: int, share: float
) -> None:
    phi, targets = decaying(rows, width), decaying(5, width, seed=3)
    cross = (targets @ phi.T).astype(np.float64)
    whole = kernel.open_kernel(kernel.compute_kernel(stored(phi), quiet))
    damping = kernel.damping_for_rank(whole.spectrum, share * min(rows, width))
    exact, lever = kernel.damped_scores(whole, cross, damping), kernel.leverage(whole, damping)
    monkeypatch.setattr(kernel, "LARGEST", 50)
    monkeypatch.setattr(sketch.leading, "__defaults__", (60,))
    monkeypatch.setenv("STUDIO_CACHE", str(cache / "again"))
    made = kernel.compute_kernel(stored(phi), quiet)
    assert made.manifest["form"] == "sketch"
    kernel._opened.cache_clear()
    opened = kernel.open_kernel(made)
    assert opened.spectrum.sum() == pytest.approx(np.square(phi, dtype=np.float64).sum(), rel=1e-3)
    assert len(opened.spectrum) == min(rows, width)
    near = kernel.damped_scores(opened, cross, damping)
    assert min(stats.spearmanr(a, b).statistic for a, b in zip(near, exact, strict=True)) > 0.99
    assert kernel.effective_rank(opened.spectrum, damping) == pytest.approx(share * min(rows, width), rel=0.1)
    found = kernel.leverage(opened, damping)
    assert stats.spearmanr(found, lever).statistic > 0.9
    assert found.sum() == pytest.approx(lever.sum(), rel=0.1)
