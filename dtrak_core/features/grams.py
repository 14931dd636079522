"""Gram matrices of stored features, and their eigendecomposition. Sums are in float64."""

from __future__ import annotations

import numpy as np

from dtrak_core.features import feature_store
from dtrak_core.progress import Progress
from dtrak_core.store import Artifact

BLOCK_BYTES = 2**28  # memory for one block of features in float64
NOISE = 1e-13  # eigenvalues below this share of the largest are rounding, not data


def gram_of(features: Artifact, form: str, on_progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return ΦΦᵀ ("dual"), summed over blocks of columns, or ΦᵀΦ, over blocks of rows, in float64; and |φ_i| (N,)."""
    rows, width = feature_store.shape(features)
    dual, norms = form == "dual", np.zeros(rows)
    total, side = (width, rows) if dual else (rows, width)
    summed, each = np.zeros((side, side)), max(1, BLOCK_BYTES // (8 * side))
    for start, part in feature_store.columns(features, each) if dual else feature_store.blocks(features, each):
        on_progress(start, total, "columns" if dual else "rows", "")
        exact = part.astype(np.float64)
        summed += exact @ exact.T if dual else exact.T @ exact
        if not dual:
            norms[start : start + len(part)] = np.linalg.norm(exact, axis=1)
    on_progress(total, total, "columns" if dual else "rows", "")
    return summed, np.sqrt(np.diag(summed)) if dual else norms


def left_of(features: Artifact, right: np.ndarray) -> np.ndarray:
    """Return U = Φ V S^(-1/2), shape (N, R), from V S^(-1/2), shape (K, R)."""
    found = np.empty((feature_store.shape(features)[0], right.shape[1]))
    for start, part in feature_store.blocks(features, max(1, BLOCK_BYTES // (8 * max(1, len(right))))):
        found[start : start + len(part)] = part.astype(np.float64) @ right
    return found


def decompose(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (R,), descending and positive, and eigenvectors (n, R) of a Gram matrix (n, n).

    A Gram matrix has no negative eigenvalues; those that rounding makes, and those that it
    hides, are left out: c has no part in their directions either.
    """
    from scipy import linalg

    values, vectors = linalg.eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
    eigenvalues = kept(values)
    return eigenvalues, vectors[:, len(values) - len(eigenvalues) :][:, ::-1]


def kept(values: np.ndarray) -> np.ndarray:
    """Return those of ascending eigenvalues that are not rounding, descending."""
    found: np.ndarray = values[values > NOISE * max(values[-1], 0)][::-1].copy()
    return found
