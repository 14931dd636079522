"""Projections: the matrix they are, the inner products they keep, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtrak_core.errors import SettingsError
from dtrak_core.features import projection
from dtrak_core.features.projection import Projector, project

RANDOM = ["sparse", "gaussian", "rademacher"]


def matrix_of(projector: Projector) -> np.ndarray:
    """The matrix itself, (K, P): the projections of the unit vectors."""
    return project(projector, torch.eye(projector.num_parameters, dtype=torch.float64)).numpy().T


def test_a_sparse_column_holds_one_sign_and_rows_are_balanced() -> None:
    matrix = matrix_of(Projector("sparse", 32, 42, 1000))
    assert (np.count_nonzero(matrix, axis=0) == 1).all()
    assert set(np.unique(matrix)) == {-1.0, 0.0, 1.0}
    in_row = np.count_nonzero(matrix, axis=1)
    assert in_row.min() >= 1000 // 32
    assert in_row.max() <= 1000 // 32 + 1
    assert abs(matrix.sum()) < 4 * 1000**0.5


def test_dense_entries_have_the_stated_law() -> None:
    gaussian = matrix_of(Projector("gaussian", 64, 42, 700)) * 8
    assert abs(gaussian.mean()) < 0.02
    assert abs(gaussian.std() - 1) < 0.02
    assert abs((gaussian**4).mean() - 3) < 0.2
    rademacher = matrix_of(Projector("rademacher", 64, 42, 700)) * 8
    np.testing.assert_allclose(np.abs(rademacher), 1, rtol=1e-6)
    assert abs(rademacher.mean()) < 0.02


@pytest.mark.parametrize("kind", RANDOM)
def test_inner_products_are_kept_on_average_with_the_stated_variance(kind: str) -> None:
    random = np.random.default_rng(0)
    g = random.normal(size=300) * np.geomspace(1, 0.01, 300)
    h = 0.5 * g + 0.3 * random.normal(size=300)
    pair = torch.from_numpy(np.stack([g, h]))
    width, found = 32, []
    for seed in range(600):
        p = project(Projector(kind, width, seed, 300), pair).numpy()  # type: ignore[arg-type]
        found.append(p[0] @ p[1])
    variance = (g @ g * (h @ h) + (g @ h) ** 2) / width
    assert np.mean(found) == pytest.approx(g @ h, abs=4 * (variance / 600) ** 0.5)
    assert np.var(found) < 1.25 * variance
    # A projection that forgot its scale or drew too few numbers would show here.
    assert np.var(found) > 0.4 * variance


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sparse", [-8.0, 10.0, 4.0, -4.0]),
        ("gaussian", [-6.0993, 2.6248, 0.4652, -8.5928]),
        ("rademacher", [2.0, -4.0, -11.0, 2.0]),
    ],
)
def test_the_matrix_is_the_same_on_every_machine(kind: str, expected: list[float]) -> None:
    found = project(Projector(kind, 4, 42, 8), torch.arange(1.0, 9.0)[None])  # type: ignore[arg-type]
    np.testing.assert_allclose(found[0], expected, atol=1e-3)


@pytest.mark.parametrize("kind", RANDOM)
def test_seeds_differ(kind: str) -> None:
    first, second = (matrix_of(Projector(kind, 16, seed, 400)) for seed in (1, 2))  # type: ignore[arg-type]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.06


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RANDOM), st.integers(1, 60), st.integers(0, 600), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_rows_are_projected_alone_and_linearly(kind: str, width: int, more: int, rows: int, seed: int) -> None:
    projector = Projector(kind, width, seed, width + more)  # type: ignore[arg-type]
    gradients = torch.randn(rows, width + more, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = project(projector, gradients)
    assert together.shape == (rows, width)
    for row in range(rows):
        torch.testing.assert_close(together[row : row + 1], project(projector, gradients[row : row + 1]))
    torch.testing.assert_close(project(projector, gradients.sum(0, keepdim=True)), together.sum(0, keepdim=True))


def test_a_sparse_projection_to_p_numbers_keeps_inner_products_exactly() -> None:
    gradients = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = project(Projector("sparse", 50, 7, 50), gradients)
    torch.testing.assert_close(found @ found.T, gradients @ gradients.T)


def test_none_keeps_the_gradient() -> None:
    gradients = torch.randn(2, 9)
    projector = Projector("none", 4096, 42, 9)
    assert projector.width == 9
    assert project(projector, gradients) is gradients


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"5,000 .* 3,210"):
        Projector("sparse", 5000, 42, 3210)
    with pytest.raises(SettingsError, match="10 numbers"):
        project(Projector("sparse", 4, 42, 8), torch.zeros(1, 10))


@pytest.mark.parametrize(("count", "width"), [(1000, 32), (96, 32), (5, 5), (9, 4), (64 * 7 * 3 + 1, 7)])
def test_what_a_gpu_reads_at_once_is_the_same_sparse_projection(count: int, width: int) -> None:
    sparse = Projector("sparse", width, 42, count)
    gradients = torch.from_numpy(np.random.default_rng(0).standard_normal((3, count)))
    shifts = torch.tensor(projection._sparse_shifts(sparse))
    signs = projection._sparse_signs(42, count, gradients.device)
    torch.testing.assert_close(
        projection._gathered(gradients, signs, shifts, width), project(sparse, gradients), rtol=1e-12, atol=1e-12
    )
