"""The kernel against direct float64 solutions, in its dual and primal form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrak_core import store
from dtrak_core.errors import SettingsError
from dtrak_core.features import feature_store, kernel
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

DAMPINGS = [1e-3, 0.5, 30.0, 1e6]


def stored(rows: np.ndarray, storage: str = "float32") -> Artifact:
    settings = FeatureSettings(
        dataset="0" * 16, checkpoint="1" * 16, proj_dim=rows.shape[1], noise_seed=len(rows), storage=storage
    )  # type: ignore[arg-type]
    key = key_of("features", settings)
    folder = store.partial("features", key)
    for number, start in enumerate(range(0, len(rows), 16)):
        feature_store.write_shard(folder, number, rows[start : start + 16], settings.storage)
    return store.publish("features", key, settings, rows=len(rows), width=rows.shape[1])


def opened(rows: np.ndarray, storage: str = "float32") -> tuple[kernel.Kernel, Artifact]:
    artifact = kernel.compute_kernel(stored(rows, storage), quiet)
    return kernel.open_kernel(artifact), artifact


def direct(rows: np.ndarray, feature: np.ndarray, damping: float) -> np.ndarray:
    """The definition: Φ (ΦᵀΦ + λ I)⁻¹ φ(z), by one linear solve."""
    phi, z = rows.astype(np.float64), feature.astype(np.float64)
    return phi @ np.linalg.solve(phi.T @ phi + damping * np.eye(phi.shape[1]), z)


def features_of(n: int, k: int, common: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(n + k)
    rows = random.normal(size=(n, k)) + common * random.normal(size=k)
    return rows.astype(np.float32), (random.normal(size=k) + common).astype(np.float32)


@pytest.mark.parametrize(("n", "k", "form"), [(40, 90, "dual"), (70, 30, "primal"), (50, 50, "dual"), (12, 40, "dual")])
@pytest.mark.parametrize("damping", DAMPINGS)
def test_scores_equal_a_direct_solution(cache: Path, n: int, k: int, form: str, damping: float) -> None:
    rows, z = features_of(n, k)
    found, artifact = opened(rows)
    assert artifact.manifest["form"] == form
    cross = rows.astype(np.float64) @ z
    expected = direct(rows, z, damping)
    scores = kernel.damped_scores(found, cross, damping)
    np.testing.assert_allclose(scores, expected, atol=2e-6 * np.abs(expected).max())
    several = kernel.damped_scores(found, np.stack([cross, -2 * cross]), damping)
    # Each at its own scale, since one product and several are rounded differently.
    np.testing.assert_allclose(several / [[1], [-2]], [scores, scores], atol=1e-6 * np.abs(scores).max())


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_dominating_direction_does_not_drown_the_others(cache: Path, storage: str) -> None:
    """As the squared output's kernel: nearly all in the mean gradient, the answer in the rest."""
    rows, z = features_of(60, 100, common=30.0)
    found, _ = opened(rows, storage)
    assert found.eigenvalues[0] / found.eigenvalues.sum() > 0.98
    read = rows if storage == "float32" else feature_store.dequantise(*feature_store.quantise(rows, "float16"))
    damping = float(np.median(found.eigenvalues))
    expected = direct(read, z, damping)
    scores = kernel.damped_scores(found, read.astype(np.float64) @ z, damping)
    limit = 1e-5 if storage == "float32" else 2e-3
    np.testing.assert_allclose(scores, expected, atol=limit * np.abs(expected).max())


@pytest.mark.parametrize(("n", "k"), [(40, 90), (70, 30)])
def test_eigenvalues_leverage_and_effective_rank(cache: Path, n: int, k: int) -> None:
    rows, _ = features_of(n, k)
    found, _ = opened(rows)
    phi = rows.astype(np.float64)
    np.testing.assert_allclose(found.norms, np.linalg.norm(phi, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.svd(phi, compute_uv=False) ** 2, rtol=1e-9)
    hat = phi @ np.linalg.solve(phi.T @ phi + 3.0 * np.eye(k), phi.T)
    np.testing.assert_allclose(kernel.leverage(found, 3.0), np.diag(hat), rtol=1e-5)
    assert kernel.effective_rank(found.eigenvalues, 3.0) == pytest.approx(np.trace(hat), rel=1e-9)


def test_duplicates_and_empty_rows_do_no_harm(cache: Path) -> None:
    rows, z = features_of(30, 50)
    rows[7], rows[8] = rows[3], 0
    found, artifact = opened(rows)
    assert artifact.manifest["rank"] == 28
    assert (found.eigenvalues > 0).all()
    scores = kernel.damped_scores(found, rows.astype(np.float64) @ z, 0.1)
    np.testing.assert_allclose(scores, direct(rows, z, 0.1), atol=1e-6)
    assert scores[8] == pytest.approx(0, abs=1e-9)
    nothing, _ = opened(np.zeros((5, 9), dtype=np.float32))
    np.testing.assert_array_equal(kernel.damped_scores(nothing, np.zeros(5), 1.0), np.zeros(5))


@pytest.mark.parametrize("damping", DAMPINGS)
def test_a_target_equal_to_a_training_row_ranks_it_first(cache: Path, damping: float) -> None:
    rows, _ = features_of(50, 300)
    found, _ = opened(rows)
    rows[20] = rows[4]
    twice = kernel.open_kernel(kernel.compute_kernel(stored(np.concatenate([rows, rows[:1]])), quiet))
    for i in (0, 17, 49):
        scores = kernel.damped_scores(found, features_of(50, 300)[0].astype(np.float64) @ rows[i], damping)
        assert scores.argmax() == i
    cross = np.concatenate([rows, rows[:1]]).astype(np.float64) @ rows[4]
    assert set(np.argsort(-kernel.damped_scores(twice, cross, damping))[:2]) == {4, 20}


@given(
    st.lists(st.floats(1e-6, 1e12), min_size=2, max_size=40),
    st.floats(0.001, 0.999),
    st.floats(1e-8, 1e8),
)
def test_a_damping_is_found_for_every_rank(eigenvalues: list[float], share: float, scale: float) -> None:
    values = np.array(eigenvalues)
    damping = kernel.damping_for_rank(values, share * len(values))
    assert kernel.effective_rank(values, damping) == pytest.approx(share * len(values), rel=1e-6)
    scaled = kernel.damping_for_rank(values * scale, share * len(values))
    assert scaled == pytest.approx(damping * scale, rel=1e-4)


def test_ranks_and_dampings_that_cannot_be_are_refused(cache: Path) -> None:
    values = np.array([3.0, 2.0, 0.0])
    for rank in (0.0, -1.0, 2.0, 5.0):
        with pytest.raises(SettingsError, match=f"{rank:g}"):
            kernel.damping_for_rank(values, rank)
    with pytest.raises(SettingsError, match="features of all training pictures are 0"):
        kernel.damping_for_rank(np.empty(0), 0.0)
    found, _ = opened(features_of(12, 40)[0])
    for damping in (0.0, -1.0, float("nan")):
        with pytest.raises(SettingsError, match="Damping"):
            kernel.damped_scores(found, np.ones(12), damping)


def test_a_kernel_is_computed_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = stored(features_of(12, 40)[0])
    first = kernel.compute_kernel(artifact, quiet)
    monkeypatch.setattr(kernel, "gram_of", None)
    assert kernel.compute_kernel(artifact, quiet).path == first.path
