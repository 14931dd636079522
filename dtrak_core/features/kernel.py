"""The damped kernel of training features, for every damping from one decomposition.

With features Φ (N, K) and a target's products c = Φ φ(z), the scores of D-TRAK and TRAK are

    Φ (ΦᵀΦ + λ I)⁻¹ φ(z)  =  (ΦΦᵀ + λ I)⁻¹ c  =  U (S + λ)⁻¹ Uᵀ c          (shape (N,))

with ΦΦᵀ = U S Uᵀ (the left: Park et al. 2023; the right: push-through identity). Where N ≤ K the decomposition is of
ΦΦᵀ ("dual"); otherwise of ΦᵀΦ = V S Vᵀ, and U = Φ V S^(-1/2) ("primal"). From U and S also

    leverage         h_i(λ) = Σ_j U²_ij s_j / (s_j + λ)
    effective rank   d(λ)   = Σ_j s_j / (s_j + λ)     between 0 and the rank: how many directions count

A larger kernel is not decomposed but brought into a narrow band (banded.py), which is sooner done; S is that of the
band, and scores and leverages follow from it more exactly.

λ has the units of the kernel's diagonal, so it means nothing by itself; d(λ) means the same for
any model, model output function and projection. Sums and decompositions are in float64.

Of the squared output's kernel one direction holds most (92 % measured), so rounding U would drown
the others in it. The first `LEADING` directions are therefore stored in float64 and taken out of
c before it meets the rest, which are stored in float32 (float16 where the features are compact).
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.errors import SettingsError
from dtrak_core.features import banded, directions, feature_store, passes, sketch
from dtrak_core.features.banded import Banded
from dtrak_core.features.grams import decompose, gram_of, kept, left_of
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.progress import Progress, quiet
from dtrak_core.settings import build, key_of
from dtrak_core.store import Artifact

LEADING = 16
SMALL = 4096  # side of a Gram matrix up to which an eigendecomposition costs no more than a band and its dampings
LARGEST = 12_288  # side of a Gram matrix that is held whole: above it float64 takes more than 1.2 GB, twice


@dataclass(frozen=True)
class Kernel:
    """An opened kernel: S (R,) descending, U in two parts (N, L) float64 and (N, R - L) float32, |φ_i| (N,).

    A sketched kernel (sketch.py) knows its leading directions alone; the `others` directions beyond them are taken to
    have the eigenvalue `tail` each, their mean. A `banded` one has S alone; U is empty.
    """

    eigenvalues: np.ndarray
    leading: np.ndarray
    rest: np.ndarray
    norms: np.ndarray
    tail: float = 0.0
    others: int = 0
    banded: Banded | None = None

    @property
    def spectrum(self) -> np.ndarray:
        """Return all eigenvalues, those beyond a sketch by their mean."""
        return np.concatenate([self.eigenvalues, np.full(self.others, self.tail)]) if self.others else self.eigenvalues


def compute_kernel(features: Artifact, on_progress: Progress) -> Artifact:
    """Return the kernel of stored features, computing it if it is not stored.

    Returns:
        Artifact of kind `kernels`, under the features' own settings: eigenvalues.npy (R,) float64 and norms.npy (N,)
        float32; leading.npy (N, ≤ 16) float64 and eigenvectors.npy (N, R - 16), or of a banded one band.npy
        (w + 1, n), float64, and its reflections (directions.py); facts form, rows, rank, seconds, and of a sketch tail
        and others.
    """
    settings = build(FeatureSettings, **features.settings)
    key = key_of("kernels", settings)
    with store.computing("kernels", key, on_progress) as found:
        return found or _decomposed(features, settings, key, on_progress)


def _decomposed(features: Artifact, settings: FeatureSettings, key: str, on_progress: Progress) -> Artifact:
    started = time.perf_counter()
    rows, width = feature_store.shape(features)
    if min(rows, width) > LARGEST:
        return _sketched(features, settings, key, on_progress)
    form = "dual" if rows <= width else "primal"
    gram, norms = gram_of(features, form, on_progress)
    folder = store.partial("kernels", key)
    if len(gram) > SMALL:
        band, turns = banded.reduce(gram, on_progress)
        del gram
        eigenvalues = kept(banded.eigenvalues(band))
        directions.keep(folder, turns)
        store.write_array(folder / "band.npy", band)
    else:
        eigenvalues, vectors = decompose(gram)
        if form == "primal":
            vectors = left_of(features, vectors / np.sqrt(eigenvalues))
        compact = np.float32 if settings.storage == "float32" else np.float16
        store.write_array(folder / "leading.npy", np.ascontiguousarray(vectors[:, :LEADING]))
        store.write_array(folder / "eigenvectors.npy", np.ascontiguousarray(vectors[:, LEADING:], dtype=compact))
    store.write_array(folder / "eigenvalues.npy", eigenvalues)
    store.write_array(folder / "norms.npy", norms.astype(np.float32))
    seconds = round(time.perf_counter() - started, 2)
    return store.publish("kernels", key, settings, form=form, rows=rows, rank=len(eigenvalues), seconds=seconds)


def in_memory(rows: np.ndarray) -> Kernel:
    """Return the kernel of features that are held, Φ (N, K) float64, with all of U in float64."""
    norms, none = np.linalg.norm(rows, axis=1), np.empty((len(rows), 0))
    primal = len(rows) > rows.shape[1]
    gram = rows.T @ rows if primal else rows @ rows.T
    if len(gram) > SMALL:
        band, turns = banded.reduce(gram, quiet)
        del gram
        eigenvalues = kept(banded.eigenvalues(band))
        turned = banded.turned(rows.copy(), turns) if primal else banded.orthogonal(len(rows), turns)
        found = banded.banded(banded.held(turned), len(rows), band, primal, eigenvalues)
        return Kernel(eigenvalues, none, none, norms, banded=found)
    eigenvalues, vectors = decompose(gram)
    return Kernel(eigenvalues, rows @ (vectors / np.sqrt(eigenvalues)) if primal else vectors, none, norms)


def open_kernel(artifact: Artifact) -> Kernel:
    """Open a stored kernel. The last few opened stay in memory."""
    return _opened(artifact.path, artifact.key)


def damped_scores(kernel: Kernel, cross: np.ndarray, damping: float) -> np.ndarray:
    """Return U (S + λ)⁻¹ Uᵀ c, float64, for one target's c (N,) or several, (M, N).

    Raises:
        SettingsError: If λ is not positive.
    """
    if not damping > 0:
        raise SettingsError(f"Damping {damping:g} cannot be used: it must be greater than 0.")
    if not len(kernel.eigenvalues):
        return np.zeros(cross.shape)
    if kernel.banded is not None:
        return banded.damped_scores(kernel.banded, cross, damping)
    inverse = 1 / (kernel.eigenvalues + damping)
    count = kernel.leading.shape[1]
    first = cross @ kernel.leading
    left = cross - first @ kernel.leading.T
    # Scaled to 1, so that float32 neither overflows nor loses small ones.
    lengths = scale = np.abs(left).max(initial=0) or 1.0
    others = ((left / scale).astype(np.float32) @ kernel.rest).astype(np.float64) * (scale * inverse[count:])
    scale = np.abs(others).max(initial=0) or 1.0
    scores = (kernel.rest @ (others / scale).astype(np.float32).T).T.astype(np.float64) * scale
    together: np.ndarray = (first * inverse[:count]) @ kernel.leading.T + scores
    if kernel.others:
        inside = (kernel.rest @ ((left / lengths).astype(np.float32) @ kernel.rest).T).T * lengths
        together += (left - inside) / (kernel.tail + damping)
    return together


def squared_sums(kernel: Kernel, weights: np.ndarray) -> np.ndarray:
    """Return Σ_j U_ij² w_j for every example, shape (N,), float64, of a decomposed kernel.

    Args:
        kernel: One that is not banded.
        weights: w, one for each of the `spectrum`.
    """
    count, known = kernel.leading.shape[1], len(kernel.eigenvalues)
    found: np.ndarray = (
        kernel.leading**2 @ weights[:count] + np.square(kernel.rest, dtype=np.float64) @ weights[count:known]
    )
    if kernel.others:
        # What of example i lies beyond the known directions is the rest of its length.
        inside = squared_sums(replace(kernel, others=0), kernel.eigenvalues)
        beyond = np.maximum(kernel.norms.astype(np.float64) ** 2 - inside, 0) / max(kernel.tail, 1e-300)
        found += beyond * weights[known]
    return found


def effective_rank(eigenvalues: np.ndarray, damping: float) -> float:
    """Return d(λ) = Σ s / (s + λ): about how many directions the damped kernel uses."""
    return float((eigenvalues / (eigenvalues + damping)).sum())


def damping_for_rank(eigenvalues: np.ndarray, rank: float) -> float:
    """Return the λ whose effective rank is `rank`, to 10 digits, by halving in log λ.

    Raises:
        SettingsError: If the rank is not between 0 and the number of positive eigenvalues, or there are none.
    """
    positive = eigenvalues[eigenvalues > 0]
    if not len(positive):
        raise SettingsError(
            "The features of all training pictures are 0, so there is nothing to rank by. Choose another model output "
            "function, turn up other layers or noise levels, or train the model first."
        )
    if not 0 < rank < len(positive):
        raise SettingsError(
            f"An effective rank of {rank:g} cannot be reached with {len(positive)} directions. "
            f"Choose more than 0 and less than {len(positive)}."
        )
    low, high = np.log(positive.min()) - 40, np.log(positive.sum()) + 40
    for _ in range(60):
        middle = (low + high) / 2
        if effective_rank(positive, float(np.exp(middle))) > rank:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def leverage(kernel: Kernel, damping: float) -> np.ndarray:
    """Return h_i(λ), shape (N,), between 0 and 1: how much example i's feature explains itself."""
    if kernel.banded is not None and len(kernel.eigenvalues):
        return banded.leverage(kernel.banded, damping)
    return squared_sums(kernel, kernel.spectrum / (kernel.spectrum + damping))


def preconditioned(kernel: Kernel, damping: float) -> np.ndarray:
    """Return |(ΦᵀΦ + λ I)⁻¹ φ_i|² = Σ_j U_ij² s_j / (s_j + λ)², shape (N,)."""
    if kernel.banded is not None and len(kernel.eigenvalues):
        return banded.preconditioned(kernel.banded, damping)
    return squared_sums(kernel, kernel.spectrum / (kernel.spectrum + damping) ** 2)


def _sketched(features: Artifact, settings: FeatureSettings, key: str, on_progress: Progress) -> Artifact:
    """Publish the leading directions of a kernel too large to be decomposed whole, without holding Φ or U in memory."""
    started, (rows, width) = time.perf_counter(), feature_store.shape(features)
    blocks, product = partial(feature_store.blocks, features), passes.product(features)
    found = sketch.leading(blocks, rows, width, on_progress, product=product)
    compact = np.float32 if settings.storage == "float32" else np.float16
    folder, norms, rank = store.partial("kernels", key), np.empty(rows), len(found.values)
    first, rest = np.empty((rows, min(LEADING, rank))), np.empty((rows, max(rank - LEADING, 0)), compact)
    right = (found.vectors / np.sqrt(found.values)).astype(np.float32)
    for start, left, lengths in passes.rows_times(features, right, on_progress):
        here = slice(start, start + len(left))
        first[here], rest[here], norms[here] = left[:, :LEADING], left[:, LEADING:], lengths
    others = min(rows, width) - rank
    facts = {"tail": max(float(np.square(norms).sum() - found.values.sum()), 0.0) / max(others, 1), "others": others}
    store.write_array(folder / "eigenvalues.npy", found.values)
    store.write_array(folder / "leading.npy", first)
    store.write_array(folder / "eigenvectors.npy", rest)
    store.write_array(folder / "norms.npy", norms.astype(np.float32))
    seconds = round(time.perf_counter() - started, 2)
    return store.publish("kernels", key, settings, form="sketch", rows=rows, rank=rank, seconds=seconds, **facts)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, key: str) -> Kernel:
    artifact = store.get("kernels", key)
    eigenvalues, norms = (np.asarray(artifact.array(f"{name}.npy")) for name in ("eigenvalues", "norms"))
    if "band.npy" in artifact.manifest["files"]:
        primal, none = artifact.manifest["form"] == "primal", np.empty((len(norms), 0))
        band = np.asarray(artifact.array("band.npy"))
        found = banded.banded(directions.of_kernel(artifact), len(norms), band, primal, eigenvalues)
        return Kernel(eigenvalues, none, none, norms, banded=found)
    rest = artifact.array("eigenvectors.npy")
    if rest.dtype == np.float16:  # products in float16 are slow and too coarse
        rest = rest.astype(np.float32)
    return Kernel(
        eigenvalues,
        np.asarray(artifact.array("leading.npy")),
        rest,
        norms,
        artifact.manifest.get("tail", 0.0),
        artifact.manifest.get("others", 0),
    )
