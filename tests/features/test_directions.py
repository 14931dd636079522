"""R of a kernel in a band: not made for a first ranking, made for leverages, and never that of another kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_kernel import direct, features_of, stored

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.features import banded, directions, kernel
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import AttributeJob
from dtrak_core.methods import scores
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import of_split
from dtrak_core.progress import quiet


@pytest.fixture(autouse=True)
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALL", 4)
    monkeypatch.setattr(banded, "WIDTH", 6)


def made() -> list[str]:
    return [one.key for one in store.listing("directions")]


@pytest.mark.parametrize(("n", "k"), [(60, 90), (90, 40)])
def test_a_first_ranking_waits_for_no_directions_and_leverages_make_them_once(cache: Path, n: int, k: int) -> None:
    rows, z = features_of(n, k)
    artifact = kernel.compute_kernel(stored(rows), quiet)
    found = kernel.open_kernel(artifact)
    phi = rows.astype(np.float64)
    cross, expected = phi @ z.astype(np.float64), direct(rows, z, 3.0)
    np.testing.assert_allclose(kernel.damped_scores(found, cross, 3.0), expected, atol=1e-8 * np.abs(expected).max())
    assert made() == []
    leverage = np.diag(phi @ np.linalg.solve(phi.T @ phi + 3.0 * np.eye(k), phi.T))
    np.testing.assert_allclose(kernel.leverage(found, 3.0), leverage, rtol=1e-8)
    (key,) = made()
    scored = kernel.damped_scores(found, np.stack([cross, -cross]), 3.0)  # from what is stored now
    np.testing.assert_allclose(scored, [expected, -expected], atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(kernel.leverage(found, 3.0), leverage, rtol=1e-8)
    assert [one.key for one in directions.compute(artifact, quiet)] == made() == [key]


def test_directions_of_another_kernel_are_not_taken(cache: Path) -> None:
    """Equal features may be brought into a band by other reflections, to which old directions do not lead."""
    rows, _ = features_of(60, 90)
    first = kernel.compute_kernel(stored(rows), quiet)
    expected = kernel.leverage(kernel.open_kernel(first), 3.0)
    store.delete("kernels", first.key)
    kernel._opened.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banded, "WIDTH", 5)
        second = kernel.compute_kernel(stored(rows), quiet)
    assert second.key == first.key
    np.testing.assert_allclose(kernel.leverage(kernel.open_kernel(second), 3.0), expected, rtol=1e-8)
    assert len(made()) == 2


@pytest.mark.parametrize(("n", "k"), [(60, 90), (90, 40)])
def test_a_kernel_that_holds_its_directions_opens_as_before(cache: Path, n: int, k: int) -> None:
    rows, z = features_of(n, k)
    now = kernel.compute_kernel(stored(rows), quiet)
    cross = rows.astype(np.float64) @ z.astype(np.float64)
    found = kernel.open_kernel(now)
    scored, leverage = kernel.damped_scores(found, cross, 3.0), kernel.leverage(found, 3.0)
    (whole,) = directions.compute(now, quiet)
    files = {name: np.array(now.array(name)) for name in ("band.npy", "eigenvalues.npy", "norms.npy")}
    files |= {directions.WHOLE: np.array(whole.array(directions.WHOLE))}
    settings, facts = FeatureSettings(**now.settings), {name: now.manifest[name] for name in ("form", "rows", "rank")}
    store.delete("kernels", now.key)
    store.delete("directions", whole.key)
    kernel._opened.cache_clear()
    folder = store.partial("kernels", now.key)
    for name, values in files.items():
        store.write_array(folder / name, values)
    before = kernel.open_kernel(store.publish("kernels", now.key, settings, **facts))
    np.testing.assert_allclose(kernel.damped_scores(before, cross, 3.0), scored, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(kernel.leverage(before, 3.0), leverage, rtol=1e-9)
    assert directions.compute(store.get("kernels", now.key), quiet) == made() == []


def test_jobs_make_directions_after_the_first_answer_or_before_one_that_reads_them(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = of_split(pictures.held_out, "held-out", 3)
    order: list[str] = []
    real = store.publish
    monkeypatch.setattr(
        store, "publish", lambda kind, *given, **facts: order.append(kind) or real(kind, *given, **facts)
    )
    base = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=256)
    for method, last in (("d-trak", ["target-features", "directions"]), ("das", ["residuals", "target-features"])):
        order.clear()
        plan = scores.resolve(method, pictures, checkpoint.digest, [target], base)
        assert plan.features is not None
        work.run(AttributeJob(features=(plan.features,), targets=(target.id,)), quiet)
        assert order[-2:] == last
        assert order.count("directions") == 1
        assert np.isfinite(scores.score(plan).values).all()
