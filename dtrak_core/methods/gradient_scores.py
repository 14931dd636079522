"""Scores of gradient methods, for many targets at once, from stored features and kernels. No torch.

    score(z, i) = φ(z)ᵀ A φ(x_i) w_i      A = (ΦᵀΦ + λ I)⁻¹, or the identity (Zheng et al. 2024)

with w_i by method, from the kernel ΦΦᵀ = U S Uᵀ:

    cosine               1 / (|φ(z)| |φ_i|)
    relative influence   1 / |A φ_i|,         |A φ_i|² = Σ_j U_ij² s_j / (s_j + λ)²
    renormalised         1 / |φ_i|
    DAS                  r_i / (1 - h_i),     h_i = Σ_j U_ij² s_j / (s_j + λ)     (leverage; Lin et al. 2025)

r_i is the root of the picture's own loss, mean over its draws (`features.compute_residuals`). The authors of DAS divide
each picture's errors by their own length first, which leaves only their shape over noise levels; from the derivation,
where r_i is the residual of a least-squares problem, the size belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.feature_store import target_feature
from dtrak_core.features.kernel import (
    Kernel,
    damped_scores,
    damping_for_rank,
    effective_rank,
    leverage,
    open_kernel,
    preconditioned,
)
from dtrak_core.features.settings import FeatureSettings, feature_target
from dtrak_core.methods.methods import Method
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact

RANK_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)  # effective rank over N, for curves
HALF_RANGE = 2.0**15  # stored halves are between this and its negative, far from where float16 loses small numbers
LEAST = 1e-6  # of 1 - leverage: a picture that alone decides its own fit would divide by zero


@dataclass(frozen=True)
class Scored:
    """Scores (M, N), float64; λ and effective rank of the last model, None where nothing is damped."""

    values: np.ndarray
    damping: float | None
    effective_rank: float | None


def of_training(method: Method, features: FeatureSettings) -> list[tuple[str, Settings]]:
    """Return kind and settings of what scores by one model are made of, beside what is of a target."""
    found: list[tuple[str, Settings]] = [("features", features)]
    if method.reads_kernel:
        found.append(("kernels", features))
    if method.residual:
        found.append(("residuals", features))
    return found


def of_target(method: Method, features: FeatureSettings, target: Target) -> tuple[str, Settings]:
    """Return kind and settings of what is of one target."""
    return "target-features", feature_target(features, target, method.side)


def score(
    method: Method,
    models: Sequence[FeatureSettings],
    targets: Sequence[Target],
    damping: float | None = None,
    rank_share: float | None = None,
) -> Scored:
    """Score every training example for every target: the mean over models (checkpoints, or members of an ensemble).

    Args:
        method: A gradient method.
        models: Feature settings, one for each model.
        targets: Those whose features are stored.
        damping: λ, or None.
        rank_share: Effective rank over N, or None; neither takes the method's own.

    Raises:
        NotFoundError: If something needed is not stored.
    """
    each = [_by_model(method, features, targets, damping, rank_share) for features in models]
    values = each[0].values if len(each) == 1 else np.mean([one.values for one in each], axis=0)
    return Scored(values, each[-1].damping, each[-1].effective_rank)


def _by_model(
    method: Method,
    features: FeatureSettings,
    targets: Sequence[Target],
    damping: float | None,
    rank_share: float | None,
) -> Scored:
    own = [_stored("target-features", feature_target(features, t, method.side), f"of {t.id}") for t in targets]
    cross = np.stack([np.asarray(one.array("cross.npy"), np.float64) for one in own])
    if not method.reads_kernel:
        return Scored(cross, None, None)
    kernel = open_kernel(_stored("kernels", features, f"for {method.label}"))
    if len(kernel.norms) != cross.shape[1]:
        raise NotFoundError(
            f"The stored kernel is of {len(kernel.norms):,} pictures, the features of {cross.shape[1]:,}. "
            "Compute them again."
        )
    lengths = np.array([np.linalg.norm(target_feature(one)) for one in own]) if method.cosine else np.empty(0)
    residuals = None
    if method.residual:
        residuals = np.asarray(_stored("residuals", features, f"for {method.label}").array("residuals.npy"), np.float64)
    return of_products(method, kernel, cross, lengths, damping, rank_share, residuals)


def of_products(
    method: Method,
    kernel: Kernel,
    cross: np.ndarray,
    lengths: np.ndarray,
    damping: float | None = None,
    rank_share: float | None = None,
    residuals: np.ndarray | None = None,
) -> Scored:
    """Return the scores (M, N) of a method that reads the kernel, from products c = Φ φ(z).

    Args:
        method: A gradient method.
        kernel: The training features' kernel.
        cross: c of each target, shape (M, N), float64.
        lengths: |φ(z)| of each target, shape (M,), for cosines alone.
        damping: λ, or None.
        rank_share: Effective rank over N, or None; neither takes the method's own.
        residuals: r (N,), for DAS alone.
    """
    if method.cosine:
        return Scored(divided(cross, np.outer(lengths, kernel.norms.astype(np.float64))), None, None)
    used = damping_of(method, kernel.spectrum, cross.shape[1], damping, rank_share)
    values = damped_scores(kernel, cross, used) * _weights(method, kernel, residuals, used)
    rank = effective_rank(kernel.spectrum, used)
    return Scored(np.square(values) if method.squared else values, used, rank)


def _weights(method: Method, kernel: Kernel, residuals: np.ndarray | None, damping: float) -> np.ndarray:
    """Return w (N,)."""
    ones = np.ones(len(kernel.norms))
    if residuals is not None:
        return divided(residuals, np.maximum(1 - leverage(kernel, damping), LEAST))
    if method.divided_by == "preconditioned":
        return divided(ones, np.sqrt(preconditioned(kernel, damping)))
    if method.divided_by == "feature":
        return divided(ones, kernel.norms.astype(np.float64))
    return ones


def damping_of(
    method: Method, eigenvalues: np.ndarray, count: int, damping: float | None = None, rank_share: float | None = None
) -> float:
    """Return λ: the one given, or that of the effective rank given, or that of the method's own.

    Raises:
        SettingsError: If both are given.
    """
    if damping is not None and rank_share is not None:
        raise SettingsError(
            f"Damping {damping:g} and effective rank {rank_share:g} of N were both given. Give one of them."
        )
    if damping is not None:
        return damping
    share = method.rank_share if rank_share is None else rank_share
    assert share is not None  # every damped method has a default
    # A kernel of fewer directions than asked for gives as many as it has.
    return damping_for_rank(eigenvalues, min(share * count, 0.999 * len(eigenvalues)))


def divided(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return products / lengths, and 0 where a length is 0."""
    quotients: np.ndarray = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return quotients


def write_scores(folder: Path, name: str, scores: np.ndarray) -> None:
    """Write scores (M, N), each row divided by its largest size, for comparing rankings: 16 bits a number.

    `name`.npy holds float16 distances to the row's median, over the largest of them, and `name`-places.npy (M, 2)
    float32 that median and that largest distance. So order survives where scores lie close to each other: near 0, where
    squares are, or near 1, where cosines are. With the demo's methods, squared or not, each target's Spearman
    correlation with the scores themselves is above 0.9999, and of the first ten 99 % stay. (As bytes, which were stored
    before and are still read, it was 0.85 to 0.97 for squared scores of D-TRAK, and of the first ten by raw pixels 93 %
    stayed.)
    """
    values = divided(scores, np.broadcast_to(np.abs(scores).max(1, keepdims=True), scores.shape))
    middle = np.median(values, axis=1, keepdims=True)
    widest = np.abs(values - middle).max(1, keepdims=True)
    halves = HALF_RANGE * divided(values - middle, np.broadcast_to(widest, values.shape))
    store.write_array(folder / f"{name}.npy", halves.astype(np.float16))
    store.write_array(folder / f"{name}-places.npy", np.concatenate([middle, widest], axis=1).astype(np.float32))


def read_scores(artifact: Artifact, name: str) -> np.ndarray:
    """Return scores (M, N) from `write_scores` or from the bytes of before, float32, of size 1 at most."""
    stored = artifact.array(f"{name}.npy")
    if stored.dtype == np.int8:
        return np.asarray(stored, np.float32) / 127
    middle, widest = np.asarray(artifact.array(f"{name}-places.npy")).T[..., None]
    scores: np.ndarray = middle + widest * (np.asarray(stored, np.float32) / HALF_RANGE)
    return scores


def _stored(kind: str, settings: Settings, what: str) -> Artifact:
    found = store.find(kind, key_of(kind, settings))
    if found is None:
        raise NotFoundError(f"There is no stored {kind} artifact {what}. Compute the attribution first.")
    return found
