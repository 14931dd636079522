"""Passes over features by several workers: the numbers of one process, and nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_kernel import stored
from test_sketch import blocks_of, decaying

from dtrak_core.errors import DataError
from dtrak_core.features import kernel, passes, sketch
from dtrak_core.features.passes import Piece, Workers
from dtrak_core.progress import quiet


def workers(count: int, folder: Path, done: list[Piece]) -> Workers:
    def work(pieces: Sequence[Piece]) -> None:
        for piece in reversed(pieces):  # whoever is ready first
            passes.carry_out(piece, quiet)
        done.extend(pieces)

    return Workers(count, folder, work)


@pytest.mark.parametrize("count", [2, 3])
def test_products_and_solutions_are_those_of_one_process(cache: Path, count: int) -> None:
    phi, targets, done = decaying(150, 90), decaying(5, 90, seed=1), []
    features = stored(phi)
    known = sketch.leading(blocks_of(phi), 150, 90, quiet, rank=40)
    alone, passed = sketch.solve(blocks_of(phi), targets, 0.5, known, quiet)
    with passes.spread(workers(count, cache / "seen", done)):
        product = passes.product(features)
        again = sketch.leading(blocks_of(phi), 150, 90, quiet, 40, product=product)
        np.testing.assert_allclose(again.values, known.values, rtol=1e-3)
        found, needed = sketch.solve(blocks_of(phi), targets, 0.5, again, quiet, product=product)
    np.testing.assert_allclose(found, alone, atol=1e-4 * np.abs(alone).max())
    assert abs(needed - passed) <= 1
    assert len(done) == (sketch.PASSES + needed) * 2 * count
    assert sorted({row for piece in done for row in range(piece.first, piece.end)}) == list(range(150))
    assert list((cache / "seen").iterdir()) == []


def test_a_kernel_of_several_workers_is_that_of_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phi, done = decaying(150, 90), []
    cross = (decaying(5, 90, seed=3) @ phi.T).astype(np.float64)
    monkeypatch.setattr(kernel, "LARGEST", 50)
    monkeypatch.setattr(sketch.leading, "__defaults__", (60,))
    alone = kernel.open_kernel(kernel.compute_kernel(stored(phi), quiet))
    monkeypatch.setenv("STUDIO_CACHE", str(cache / "again"))
    with passes.spread(workers(2, cache / "seen", done)):
        made = kernel.compute_kernel(stored(phi), quiet)
    kernel._opened.cache_clear()
    found = kernel.open_kernel(made)
    assert [piece.gram for piece in done] == [True] * 8 + [False] * 4
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, rtol=1e-4)
    np.testing.assert_allclose(found.norms, alone.norms, rtol=1e-6)
    assert found.tail == pytest.approx(alone.tail, rel=1e-3)
    one, other = (kernel.damped_scores(each, cross, 0.5) for each in (alone, found))
    np.testing.assert_allclose(other, one, atol=1e-3 * np.abs(one).max())


def test_products_that_overflow_are_said_by_a_worker_too(cache: Path) -> None:
    phi = 1e30 * decaying(40, 20)
    product = passes.spread(workers(2, cache / "seen", []))
    with pytest.raises(DataError, match="The features hold"), np.errstate(over="ignore"), product:
        sketch.leading(blocks_of(phi), 40, 20, quiet, 10, product=passes.product(stored(phi)))
