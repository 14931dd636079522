"""A Gram matrix as Q B Qᵀ with B of a narrow band, which serves every damping without an eigendecomposition.

Reflections of `WIDTH` columns at a time turn a Gram matrix A (n, n) into a band (Bischof, Lang, Sun 2000, algorithm 1):

    B = Qᵀ A Q      Q = H_1 H_2 ...      H = I - V T Vᵀ      (compact WY form; Schreiber, Van Loan 1989)

in 4/3 n³ operations that are all products of matrices, where an eigendecomposition spends half of its own on products
with single vectors, which wait for memory. (A + λ I)⁻¹ = Q (B + λ I)⁻¹ Qᵀ then takes n WIDTH² operations for a λ, and
4 n WIDTH for each vector. With L Lᵀ = B + λ I, features Φ (N, K) and c = Φ φ(z), in the kernel's two forms (kernel.py):

                               A = ΦΦᵀ ("dual"), R = Q         A = ΦᵀΦ ("primal"), R = Φ Q
    scores   Φ (ΦᵀΦ + λ)⁻¹ φ   R (B + λ)⁻¹ Rᵀ c                R (B + λ)⁻¹ B⁻¹ Rᵀ c
    leverage h_i               1 - λ |L⁻¹ r_i|²                |L⁻¹ r_i|²
    |(ΦᵀΦ + λ)⁻¹ φ_i|²         |L⁻¹ r_i|² - λ |(B + λ)⁻¹ r_i|²  |(B + λ)⁻¹ r_i|²

R and B are kept in float64: B has no leading directions that could be held apart from the others. Scores need some
vectors times R alone, for which the reflections serve; R itself may be made later (directions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from dtrak_core.features.factors import Factor, backward, blocks, factor, forward, solve
from dtrak_core.features.grams import NOISE
from dtrak_core.features.side_by_side import SideBySide, side_by_side, stripes
from dtrak_core.progress import Progress

__all__ = ["Banded", "Factor", "Reflections", "Rows", "banded", "blocks", "damped_scores", "eigenvalues", "factor"]
__all__ += ["forward", "held", "leverage", "orthogonal", "preconditioned", "reduce", "solve", "turned", "turned_back"]
WIDTH = 48
PICTURES = 512  # that are solved for together
TARGETS = 32  # the same
STRIPE = 512  # rows that are worked on together, so that they stay in the processor's cache
TOGETHER = 8  # panels of WIDTH columns, beyond which their reflections change the rest in one product


class Reflections(NamedTuple):
    """Vᵀ (w, n - start) and T (w, w) of I - V T Vᵀ, which turns the rows from `start` on."""

    start: int
    v: np.ndarray
    t: np.ndarray


@dataclass(frozen=True)
class Rows:
    """R (N, n): `inward` gives c R (M, n) of c (M, N), `outward` y Rᵀ (M, N) of y (M, n), `whole` R itself."""

    inward: Callable[[np.ndarray], np.ndarray]
    outward: Callable[[np.ndarray], np.ndarray]
    whole: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Banded:
    """R, and B in blocks on the diagonal, (J, w, w), and below it, (J - 1, w, w).

    Below `least` eigenvalues are rounding, and a smaller damping has no root: it counts as `least`. `between` lies
    above those that are rounding and well below all others; 0 where it is not needed.
    """

    rows: Rows
    diagonal: np.ndarray
    below: np.ndarray
    primal: bool
    between: float
    least: float


def banded(rows: Rows, count: int, band: np.ndarray, primal: bool, eigenvalues: np.ndarray) -> Banded:
    """Return R of `count` rows and B as they are solved with; `eigenvalues` are those of B that are not rounding."""
    between, least = 0.0, NOISE * float(eigenvalues.max(initial=0))
    if len(eigenvalues) and (primal or len(eigenvalues) < count):
        between = max(least, float(np.sqrt(np.finfo(np.float64).eps * eigenvalues[0] * eigenvalues[-1])))
    return Banded(rows, *blocks(band), primal, between, least)


def held(rows: np.ndarray) -> Rows:
    """Return R that is held whole."""
    return Rows(lambda cross: cross @ rows, lambda solved: solved @ rows.T, lambda: rows)


def reduce(gram: np.ndarray, on_progress: Progress) -> tuple[np.ndarray, list[Reflections]]:
    """Return B as its diagonal and the `WIDTH` below it, (WIDTH + 1, n), and Q; the Gram matrix is used up.

    What the reflections of `TOGETHER` panels change beyond those is changed at once (Dongarra, Sorensen, Hammarling
    1989): until then, A stands for A - X Vᵀ - V Xᵀ. V and X are held as rows, of which products come out quicker.

    Args:
        gram: A, shape (n, n), float64, symmetric; only its lower triangle is read.
        on_progress: Called with the columns done.
    """
    with side_by_side() as each:
        return _reduce(gram, on_progress, each)


def _reduce(gram: np.ndarray, on_progress: Progress, each: SideBySide) -> tuple[np.ndarray, list[Reflections]]:
    count, found = len(gram), list[Reflections]()
    end, done = max(count - WIDTH - 1, 0), 0
    while done < end:
        first, held = done + WIDTH, 0
        v, x = (np.zeros((TOGETHER * WIDTH, count - first)) for _ in range(2))
        t = np.zeros((len(v), len(v)))
        for place in range(done, min(done + TOGETHER * WIDTH, end), WIDTH):
            on_progress(place, count, "columns", "Kernel")
            start, old_v, old_x = place + WIDTH, v[:held], x[:held]
            if held:
                here, beside = slice(place - first, None), slice(place - first, start - first)
                gram[place:, place:start] -= old_v[:, here].T @ old_x[:, beside] + old_x[:, here].T @ old_v[:, beside]
            one, own = _reflections(gram[start:, place:start])
            old_v, old_x, new = old_v[:, start - first :], old_x[:, start - first :], slice(held, held + len(one))
            met = one @ old_v.T
            product = own.T @ (_times(one, gram[start:, start:], each) - one @ old_x.T @ old_v - met @ old_x)
            v[new, start - first :] = one
            x[new, start - first :] = product - 0.5 * (own.T @ (one @ product.T)).T @ one
            t[:held, new], t[new, new] = -t[:held, :held] @ met.T @ own, own
            held += len(one)
        done = start
        found.append(Reflections(first, v[:held], t[:held, :held]))
        _change(gram[done:, done:], v[:held, done - first :], x[:held, done - first :], each)
    band = np.zeros((WIDTH + 1, count))
    for below in range(min(WIDTH + 1, count)):
        band[below, : count - below] = np.diagonal(gram, -below)
    return band, found


def _reflections(panel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Vᵀ and T that make a panel (m, w) upper triangular, and leave it so."""
    from scipy import linalg

    (packed, scales), upper = linalg.qr(np.asfortranarray(panel), mode="raw", overwrite_a=True, check_finite=False)
    v = np.ascontiguousarray(np.tril(packed[:, : len(scales)], -1).T)
    np.fill_diagonal(v, 1)
    v[scales == 0] = 0  # nothing to turn
    panel[:] = 0
    panel[: len(upper)] = upper
    inverse = np.triu(v @ v.T, 1) + np.diag(1 / np.where(scales == 0, 1, scales))
    return v, np.ascontiguousarray(linalg.solve_triangular(inverse, np.eye(len(scales)), check_finite=False))


def _times(rows: np.ndarray, gram: np.ndarray, each: SideBySide) -> np.ndarray:
    """Return rows (w, m) times A (m, m), of which the lower triangle is read."""

    def of_stripe(here: slice) -> np.ndarray:  # as rows and as columns of A
        stripe, found = gram[here, : here.stop], np.empty((len(rows), here.stop))
        beside, inner = stripe[:, : here.start], np.tril(stripe[:, here.start :])
        np.matmul(rows[:, here], beside, out=found[:, : here.start])
        found[:, here] = rows[:, : here.start] @ beside.T + rows[:, here] @ (inner + np.tril(inner, -1).T)
        return found

    total = np.zeros_like(rows)
    for found in each(of_stripe, stripes(len(gram), STRIPE)):
        total[:, : found.shape[1]] += found
    return total


def _change(gram: np.ndarray, v: np.ndarray, x: np.ndarray, each: SideBySide) -> None:
    """Replace the lower triangle of A (m, m) by that of A - X Vᵀ - V Xᵀ."""
    left, right = np.concatenate([x, v]), np.concatenate([v, x])

    def change(here: slice) -> None:
        gram[here, : here.stop] -= left[:, here].T @ right[:, : here.stop]

    each(change, stripes(len(gram), STRIPE))


def orthogonal(count: int, turns: list[Reflections]) -> np.ndarray:
    """Return Q (n, n), built from its end, where it is still the identity but for a corner: 4/3 n³ operations."""
    found = np.eye(count)

    def change(here: slice, corner: np.ndarray, one: Reflections) -> None:
        part = corner[:, here]
        part -= one.v.T @ (one.t @ (one.v @ part))

    with side_by_side() as each:
        for one in reversed(turns):
            corner = found[one.start :, one.start :]
            each(partial(change, corner=corner, one=one), stripes(len(corner), STRIPE))
    return found


def turned(rows: np.ndarray, turns: list[Reflections]) -> np.ndarray:
    """Return rows (m, n) times Q, in their place."""

    return _reflected(rows, [(one.start, one.v, one.t.T) for one in turns])


def turned_back(rows: np.ndarray, turns: list[Reflections]) -> np.ndarray:
    """Return rows (m, n) times Qᵀ, in their place."""
    return _reflected(rows, list(reversed(turns)))


def _reflected(rows: np.ndarray, turns: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Replace rows by rows (I - V Tᵀ Vᵀ) for each (start, Vᵀ, T), which is Hᵀ; of T's transposed it is H."""

    def turn(here: slice) -> None:
        for start, v, t in turns:
            part = rows[here, start:]
            part -= (t @ (v @ part.T)).T @ v

    with side_by_side() as each:
        each(turn, stripes(len(rows), STRIPE))
    return rows


def eigenvalues(band: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of B, ascending."""
    from scipy import linalg

    values: np.ndarray = linalg.eig_banded(band, lower=True, eigvals_only=True)
    return values


def damped_scores(kernel: Banded, cross: np.ndarray, damping: float) -> np.ndarray:
    """Return Φ (ΦᵀΦ + λ)⁻¹ φ(z), float64, for one target's c (N,) or several, (M, N).

    Of c only what lies in the directions of the kernel counts, as in an eigendecomposition without those of rounding:
    with a μ between the two, μ² (B + μ)⁻² leaves those of rounding and, but for (μ / s)², nothing else.
    """
    inside = kernel.rows.inward(np.atleast_2d(cross)).T
    root = _root(kernel, damping)
    rounding = _root(kernel, kernel.between) if kernel.between else None

    def solved(here: slice) -> np.ndarray:
        columns = inside[:, here]
        if rounding is not None and kernel.primal:
            once = solve(rounding, columns)
            columns = once + kernel.between * solve(rounding, once)  # B⁻¹, but for (μ / s)²
        elif rounding is not None:
            for _ in range(2):  # once leaves a millionth of them, which a small λ would raise
                columns = columns - kernel.between**2 * solve(rounding, solve(rounding, columns))
        return solve(root, columns)

    with side_by_side() as each:
        found = np.concatenate(each(solved, stripes(inside.shape[1], TARGETS)), axis=1)
    return kernel.rows.outward(found.T).reshape(cross.shape)


def leverage(kernel: Banded, damping: float) -> np.ndarray:
    """Return h_i(λ), shape (N,)."""
    rows, root = kernel.rows.whole(), _root(kernel, damping)

    def lengths(here: slice) -> np.ndarray:
        return _squares(forward(root, rows[here].T))

    with side_by_side() as each:
        found: np.ndarray = np.concatenate(each(lengths, stripes(len(rows), PICTURES)))
    return found if kernel.primal else np.maximum(1 - max(damping, kernel.least) * found, 0)


def preconditioned(kernel: Banded, damping: float) -> np.ndarray:
    """Return |(ΦᵀΦ + λ)⁻¹ φ_i|², shape (N,)."""
    rows, root = kernel.rows.whole(), _root(kernel, damping)
    rounding = _root(kernel, kernel.between) if kernel.between and not kernel.primal else None

    def lengths(here: slice) -> np.ndarray:
        columns = rows[here].T
        if rounding is not None:  # equal pictures have a part there, which a small λ would raise
            columns = columns - kernel.between**2 * solve(rounding, solve(rounding, columns))
        half = forward(root, columns)
        first, second = 0.0 if kernel.primal else _squares(half), _squares(backward(root, half))
        return second if kernel.primal else np.maximum(first - max(damping, kernel.least) * second, 0)

    with side_by_side() as each:
        return np.array(np.concatenate(each(lengths, stripes(len(rows), PICTURES))))


def _root(kernel: Banded, damping: float) -> Factor:
    return factor(kernel.diagonal, kernel.below, max(damping, kernel.least))


def _squares(columns: np.ndarray) -> np.ndarray:
    """Return the squared length of each column of blocks (J, w, M), or of columns (n, M)."""
    flat = columns.reshape(-1, columns.shape[-1])
    found: np.ndarray = np.einsum("nm,nm->m", flat, flat)
    return found
