"""Kernels too large to be decomposed whole: their leading directions, and exact solutions, in passes over Φ on disk.

Neither Φ (N, K) nor a Gram matrix is held in memory: features come in blocks of rows. Where several workers can read
them, each a part (passes.py), they come as a `Product`.

    leading   a randomised Nyström approximation of A = ΦᵀΦ from two passes: with Ω (K, r) orthonormal, spanning AΩ₀ of
              a random Ω₀, and Y = AΩ,
              A ≈ Y (ΩᵀY)⁻¹ Yᵀ = V S Vᵀ   (Tropp, Yurtsever, Udell, Cevher 2017, algorithm 3)
              S and V follow from r x r matrices: with ΩᵀY = L Lᵀ and L⁻¹ YᵀY L⁻ᵀ = W S Wᵀ, V = Y L⁻ᵀ W S^(-1/2)
    solve     (A + λI) x = b by conjugate gradients, one pass an iteration, preconditioned by a sketch:
              P⁻¹ v = V (s_r + λ)(S + λ)⁻¹ Vᵀ v + (v - V Vᵀ v)   (Frangella, Tropp, Udell 2023, equation 1.3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.progress import Progress

RANK = 1024
PASSES = 2  # with one pass alone, directions that barely rise above the rest come out wrong (docs/scale.md)
SEED = 0
TOLERANCE = 1e-5
MOST = 200  # iterations
Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]
Product = Callable[[np.ndarray, Callable[[int], None]], np.ndarray]  # ΦᵀΦ V of V (K, m), telling rows done


@dataclass(frozen=True)
class Sketch:
    """Leading eigenvalues S (r,) float64, descending, and eigenvectors V (K, r) float32 of ΦᵀΦ."""

    values: np.ndarray
    vectors: np.ndarray


def product_of(blocks: Blocks) -> Product:
    """Return what multiplies with ΦᵀΦ in one pass over the blocks of Φ, in float32."""

    def product(v: np.ndarray, on_rows: Callable[[int], None]) -> np.ndarray:
        found = np.zeros(v.shape, np.float32)
        for start, part in blocks():
            on_rows(start)
            found += part.T @ (part @ v)
        return found

    return product


def leading(
    blocks: Blocks, rows: int, width: int, on_progress: Progress, rank: int = RANK, *, product: Product | None = None
) -> Sketch:
    """Return a sketch of ΦᵀΦ in `PASSES` passes.

    Args:
        blocks: Gives Φ block by block: (first row, features (n, K) float32).
        rows: N.
        width: K.
        on_progress: Called with the rows done, of N in each pass.
        rank: Directions to find, at most min(N, K); fewer are returned where the features have fewer.
        product: What does the passes, if not this process block by block.

    Raises:
        DataError: If a feature is not finite.
    """
    from scipy import linalg

    rank = min(rank, rows, width)
    test = np.random.default_rng(SEED).standard_normal((width, rank), dtype=np.float32)
    multiplied = product or product_of(blocks)
    for turn in range(PASSES):

        def done(count: int, before: int = turn * rows) -> None:
            on_progress(before + count, PASSES * rows, "rows", "Leading directions")

        if turn or PASSES == 1:  # random columns span as well what they would orthonormal
            test = _orthonormal(test)
        found = multiplied(test, done)
        finite(found, "features")
        if turn < PASSES - 1:
            test = found
    # A little more of the identity than rounding, so that the small matrix has a root; it is taken off at the end.
    shift = float(np.sqrt(width) * np.finfo(np.float32).eps * np.linalg.norm(found))
    if shift == 0:  # features of zeros have no directions
        return Sketch(np.zeros(0), np.zeros((width, 0), np.float32))
    found += np.float32(shift) * test
    exact, small = found.astype(np.float64), (test.T @ found).astype(np.float64)
    root = np.linalg.cholesky((small + small.T) / 2)
    inner = linalg.solve_triangular(root, exact.T @ exact, lower=True)
    inner = linalg.solve_triangular(root, inner.T, lower=True)
    lengths, turned = np.linalg.eigh((inner + inner.T) / 2)
    kept = lengths > 2 * shift  # what rounding makes is no direction
    right = linalg.solve_triangular(root, turned[:, kept][:, ::-1], lower=True, trans=1)
    values = lengths[kept][::-1]
    return Sketch(values - shift, (exact @ (right / np.sqrt(values))).astype(np.float32))


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (K, r) float32 of what columns (K, n) span, but for directions that are rounding."""
    exact = columns.astype(np.float64)
    lengths, turned = np.linalg.eigh(exact.T @ exact)
    kept = lengths > len(columns) * np.finfo(np.float64).eps * max(lengths[-1], 0)
    found: np.ndarray = (exact @ (turned[:, kept] / np.sqrt(lengths[kept]))).astype(np.float32)
    return found


def solve(
    blocks: Blocks,
    targets: np.ndarray,
    damping: float,
    known: Sketch,
    on_progress: Progress,
    *,
    product: Product | None = None,
) -> tuple[np.ndarray, int]:
    """Return (ΦᵀΦ + λI)⁻¹ φ(z) of M targets (M, K), float32, and the iterations that it took.

    A target of zeros has the solution zero, and one that is solved before the others stays as it is.

    Args:
        blocks: Gives Φ block by block.
        targets: φ(z), shape (M, K).
        damping: λ, greater than 0.
        known: A sketch of ΦᵀΦ.
        on_progress: Called with the iterations done.
        product: What does the passes, if not this process block by block.

    Raises:
        SettingsError: If λ is not positive.
        DataError: If a target's or a training picture's feature is not finite.
    """
    if not damping > 0:
        raise SettingsError(f"Damping {damping:g} cannot be used: it must be greater than 0.")
    finite(targets, "targets' features")
    least = float(known.values[-1]) if len(known.values) else 0.0
    factors = ((least + damping) / (known.values + damping) - 1).astype(np.float32)

    def preconditioned(v: np.ndarray) -> np.ndarray:
        found: np.ndarray = v + ((v @ known.vectors) * factors) @ known.vectors.T
        return found

    b = targets.astype(np.float32)
    x, r, multiplied = np.zeros_like(b), b.copy(), product or product_of(blocks)
    z = preconditioned(r)
    p, rz = z.copy(), np.einsum("mk,mk->m", r, z, dtype=np.float64)
    goal = TOLERANCE * np.linalg.norm(b, axis=1)
    for step in range(MOST):
        if (np.linalg.norm(r, axis=1) <= goal).all():
            return x, step

        def done(_count: int, step: int = step) -> None:
            on_progress(step, MOST, "passes", "Solving")

        q = np.float32(damping) * p + multiplied(p.T, done).T
        finite(q, "features")
        alpha = _ratio(rz, np.einsum("mk,mk->m", p, q, dtype=np.float64))
        x += alpha * p
        r -= alpha * q
        z = preconditioned(r)
        before, rz = rz, np.einsum("mk,mk->m", r, z, dtype=np.float64)
        p = z + _ratio(rz, before) * p
    return x, MOST


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below of each target, shape (M, 1), float32; 0 where nothing is left to solve."""
    found: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return found.astype(np.float32)[:, None]


def finite(numbers: np.ndarray, what: str) -> None:
    """Raise DataError where numbers of these features, named by `what`, are not finite."""
    if not np.isfinite(numbers).all():
        raise DataError(
            f"The {what} hold numbers that are not finite, so nothing can be solved for. Look at the model's weights "
            "for such numbers, and compute the features again."
        )


def top(blocks: Blocks, solutions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest scores Φ x of M targets, (M, count) each: training indices and scores, one pass, no (M, N)."""
    found = np.zeros((len(solutions), 0), np.int64), np.zeros((len(solutions), 0), np.float32)
    for start, part in blocks():
        scores = solutions @ part.T
        indices = np.broadcast_to(np.arange(start, start + len(part)), scores.shape)
        all_of = np.concatenate([found[0], indices], 1), np.concatenate([found[1], scores], 1)
        kept = np.argsort(-all_of[1], axis=1, kind="stable")[:, :count]
        found = np.take_along_axis(all_of[0], kept, 1), np.take_along_axis(all_of[1], kept, 1)
    return found
