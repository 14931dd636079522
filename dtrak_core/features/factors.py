"""Factors L Lᵀ = B + λ I of a band in blocks of its width w, and solutions with them: n w² and 4 n w a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Factor:
    """L Lᵀ = B + λ I in blocks: the inverse of each on the diagonal, (J, w, w), and those below, (J - 1, w, w)."""

    inverses: np.ndarray
    below: np.ndarray


def blocks(band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks of B on the diagonal (J, w, w) and below it (J - 1, w, w); the last is filled up with ones."""
    width, count = band.shape[0] - 1, -(-band.shape[1] // (band.shape[0] - 1))
    whole = np.zeros((count, 2 * width, width))  # block columns: what lies beside and below the diagonal
    columns = np.arange(band.shape[1])
    for below, values in enumerate(band):
        whole[columns // width, columns % width + below, columns % width] = values
    diagonal = whole[:, :width] + np.tril(whole[:, :width], -1).swapaxes(1, 2)
    spare = np.arange(band.shape[1] - (count - 1) * width, width)
    diagonal[-1, spare, spare] = 1
    return diagonal, np.ascontiguousarray(whole[:-1, width:])


def factor(diagonal: np.ndarray, below: np.ndarray, damping: float) -> Factor:
    """Return L of L Lᵀ = B + λ I from the blocks of B."""
    from scipy import linalg

    identity = np.eye(diagonal.shape[1])
    inverses, under = np.empty_like(diagonal), np.empty_like(below)
    left = diagonal[0] + damping * identity
    for number in range(len(diagonal)):
        root = np.linalg.cholesky(left)
        inverses[number] = linalg.solve_triangular(root, identity, lower=True, check_finite=False)
        if number < len(below):
            under[number] = below[number] @ inverses[number].T
            left = diagonal[number + 1] + damping * identity - under[number] @ under[number].T
    return Factor(inverses, under)


def forward(root: Factor, columns: np.ndarray) -> np.ndarray:
    """Return L⁻¹ of columns (n, M), filled up to whole blocks (J, w, M)."""
    count, width, _ = root.inverses.shape
    found = np.zeros((count * width, columns.shape[1]))
    found[: len(columns)] = columns
    found = found.reshape(count, width, -1)
    for number in range(count):
        if number:
            found[number] -= root.below[number - 1] @ found[number - 1]
        found[number] = root.inverses[number] @ found[number]
    return found


def solve(root: Factor, columns: np.ndarray) -> np.ndarray:
    """Return (B + λ I)⁻¹ of columns (n, M), shape (n, M)."""
    return backward(root, forward(root, columns))[: len(columns)]


def backward(root: Factor, found: np.ndarray) -> np.ndarray:
    """Return L⁻ᵀ of blocks (J, w, M), in their place, as columns (J w, M)."""
    for number in reversed(range(len(found))):
        if number < len(root.below):
            found[number] -= root.below[number].T @ found[number + 1]
        found[number] = root.inverses[number].T @ found[number]
    return found.reshape(-1, found.shape[2])
