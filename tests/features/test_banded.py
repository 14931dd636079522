"""Kernels too large for an eigendecomposition: brought into a band, against direct float64 solutions and both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_kernel import direct, features_of, stored
from threadpoolctl import threadpool_limits

from dtrak_core.features import banded, kernel
from dtrak_core.progress import quiet

SHARES = (1e-6, 1e-3, 1.0, 1e3)  # λ over the mean eigenvalue


@pytest.fixture(autouse=True)
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALL", 4)
    monkeypatch.setattr(banded, "WIDTH", 6)
    monkeypatch.setattr(banded, "STRIPE", 16)
    monkeypatch.setattr(banded, "PICTURES", 25)


def opened(rows: np.ndarray) -> kernel.Kernel:
    artifact = kernel.compute_kernel(stored(rows), quiet)
    assert "band.npy" in artifact.manifest["files"]
    return kernel.open_kernel(artifact)


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13, 48, 61])
def test_a_band_has_the_matrix_in_it(count: int) -> None:
    root = np.random.default_rng(count).normal(size=(count, count))
    gram = root @ root.T
    with threadpool_limits(1 + count % 2, user_api="blas"):  # stripes on two threads, or one after the other
        band, turns = banded.reduce(gram.copy(), quiet)
    whole = sum(np.diag(band[below, : count - below], -below) for below in range(min(7, count)))
    whole = whole + np.tril(whole, -1).T
    turned = banded.orthogonal(count, turns)
    np.testing.assert_allclose(turned @ turned.T, np.eye(count), atol=1e-13)
    np.testing.assert_allclose(turned @ whole @ turned.T, gram, atol=1e-12 * np.abs(gram).max())
    np.testing.assert_allclose(banded.turned(root.copy(), turns), root @ turned, atol=1e-12 * np.abs(root).max())
    found = banded.solve(banded.factor(*banded.blocks(band), 0.3), turned.T @ root)
    np.testing.assert_allclose(turned @ found, np.linalg.solve(gram + 0.3 * np.eye(count), root), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("n", "k", "equal", "common"),
    [(60, 100, False, 30.0), (100, 45, False, 0.0), (50, 50, True, 0.0), (90, 40, True, 30.0)],
)
def test_all_that_methods_take_equals_a_direct_solution(
    cache: Path, n: int, k: int, equal: bool, common: float
) -> None:
    rows, z = features_of(n, k, common)
    if equal:
        rows[7], rows[9], rows[:, 3] = rows[5], 0, rows[:, 2]
    found = opened(rows)
    phi = rows.astype(np.float64)
    held = kernel.in_memory(phi)
    rank = np.linalg.matrix_rank(phi)
    assert len(found.eigenvalues) == rank
    np.testing.assert_allclose(found.eigenvalues, (np.linalg.svd(phi)[1] ** 2)[:rank], rtol=1e-8)
    for share in SHARES:
        damping = share * float((phi**2).sum()) / n
        solution = np.linalg.solve(phi.T @ phi + damping * np.eye(k), phi.T).T
        for one in (found, held):
            expected = direct(rows, z, damping)
            cross = phi @ z.astype(np.float64)
            scores = kernel.damped_scores(one, np.stack([cross, -cross]), damping)
            np.testing.assert_allclose(scores, [expected, -expected], atol=1e-6 * np.abs(expected).max())
            np.testing.assert_allclose(kernel.damped_scores(one, cross, damping), scores[0], atol=1e-9)
            lever = np.einsum("nk,nk->n", solution, phi)
            np.testing.assert_allclose(kernel.leverage(one, damping), lever, rtol=1e-6, atol=1e-9)
            lengths = np.square(solution).sum(1)
            np.testing.assert_allclose(kernel.preconditioned(one, damping), lengths, rtol=1e-6, atol=1e-9 / damping)
            assert kernel.effective_rank(one.spectrum, damping) == pytest.approx(lever.sum(), rel=1e-6)


@pytest.mark.parametrize(("n", "k"), [(60, 90), (90, 40)])
def test_what_lies_outside_the_features_does_not_count(
    cache: Path, n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an eigendecomposition: products stored in float32 have a part that no feature has."""
    rows, _ = features_of(n, k)
    rows[7] = rows[5]
    exact, cross = rows.astype(np.float64), np.random.default_rng(0).normal(size=(3, n))
    here = kernel.in_memory(exact)
    monkeypatch.setattr(kernel, "SMALL", 10_000)
    there = kernel.in_memory(exact)
    assert here.banded is not None
    assert there.banded is None
    for damping in (1e-4, 1.0, 1e-12, 1e-300):
        if damping < 1e-4:  # which would raise what is left of that part above all else
            cross = cross @ exact @ exact.T
        # So small a damping raises the rounding of c itself.
        close = 1e-6 if damping >= 1e-4 else 1e-2
        for taken in (kernel.leverage, kernel.preconditioned, lambda one, d, c=cross: kernel.damped_scores(one, c, d)):
            expected = taken(there, damping)
            np.testing.assert_allclose(taken(here, damping), expected, atol=close * np.abs(expected).max())


@pytest.mark.parametrize(("n", "k"), [(60, 90), (90, 40)])
def test_a_spectrum_that_fades_into_rounding_is_solved_as_well_as_by_an_eigendecomposition(
    n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, side = np.random.default_rng(1), min(n, k)
    rows = random.normal(size=(n, side)) * 10.0 ** -np.linspace(0, 9, side) @ random.normal(size=(side, k))
    found, target = kernel.in_memory(rows), random.normal(size=k)
    monkeypatch.setattr(kernel, "SMALL", 10_000)
    decomposed = kernel.in_memory(rows)
    for damping in (10.0, 1e-3, 1e-8, 1e-300):
        ours, theirs = (kernel.damped_scores(one, rows @ target, damping) for one in (found, decomposed))
        assert np.isfinite([ours, kernel.leverage(found, damping), kernel.preconditioned(found, damping)]).all()
        if damping > 1e-6:
            expected = rows @ np.linalg.solve(rows.T @ rows + damping * np.eye(k), target)
            assert np.abs(ours - expected).max() <= np.abs(theirs - expected).max()


def test_features_of_zeros_score_nothing(cache: Path) -> None:
    nothing = opened(np.zeros((30, 9), np.float32))
    np.testing.assert_array_equal(kernel.damped_scores(nothing, np.zeros((2, 30)), 1.0), np.zeros((2, 30)))
    np.testing.assert_array_equal(kernel.leverage(nothing, 1.0), np.zeros(30))
    np.testing.assert_array_equal(kernel.preconditioned(nothing, 1.0), np.zeros(30))
