"""Attribution scores of one target, from what is stored. No torch, no new pass over the data.

Gradient methods multiply the stored products c = Φ φ(z) by the stored eigendecomposition
(kernel.py), so another damping costs two matrix-vector products. Positive scores are
proponents: with such an example in training, the target's loss is expected to be lower.
Sizes are comparable within one method and damping only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.feature_store import target_feature
from dtrak_core.kernel import Kernel, damped_scores, damping_for_rank, effective_rank, open_kernel
from dtrak_core.methods import Method, method_of
from dtrak_core.settings import EmbeddingSettings, FeatureSettings, Settings, TargetFeatureSettings, key_of
from dtrak_core.store import Artifact
from dtrak_core.targets import Target

Needed = tuple[str, str, Settings]  # kind, key and settings of an artifact


@dataclass(frozen=True)
class Scores:
    """Scores of all training examples for one target.

    `values` has shape (N,), float64, by training index. `damping` λ and `effective_rank`
    d(λ) are None where the method has none. `provenance` is plain JSON values.
    """

    method: str
    values: np.ndarray
    damping: float | None
    effective_rank: float | None
    provenance: Mapping[str, Any]


def attribution_scores(
    method: str,
    dataset: Dataset,
    checkpoint: str,
    target: Target,
    base: FeatureSettings | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
) -> Scores:
    """Score every training example for one target.

    Args:
        method: Id of a method, see `methods.METHODS`.
        dataset: The training pictures.
        checkpoint: Digest of the model's weights; similarities ignore it.
        target: The picture to explain.
        base: Timesteps, projection and the rest of the features; the method sets the model output.
            None takes the defaults.
        damping: λ, greater than 0. At most one of this and `rank_share` is given.
        rank_share: Effective rank over N, between 0 and 1. Neither: the method's default.

    Raises:
        NotFoundError: If something needed is not stored yet; the message names it.
        SettingsError: If a damping is given to a method that has none, or both are given.
    """
    chosen = method_of(method)
    if damping is not None and rank_share is not None:
        raise SettingsError(
            f"Damping {damping:g} and effective rank {rank_share:g} of N were both given. Give one of them."
        )
    if not chosen.damped and damping is not None:
        raise SettingsError(f"{chosen.label} has no damping, but {damping:g} was given. Leave it out.")
    if chosen.family == "gradient":
        return _gradient_scores(chosen, dataset, checkpoint, target, base, damping, rank_share)
    if chosen.family == "pixels":
        if target.image.shape != dataset.train.images.shape[1:]:
            raise SettingsError(
                f"The target has shape {target.image.shape}, the training pictures {dataset.train.images.shape[1:]}. "
                "Use a target of the dataset's size."
            )
        train, one = _unit_range(dataset.train.images), _unit_range(target.image[None])[0]
        facts: dict[str, Any] = {"pixels": "[-1, 1]"}
    else:
        stored, own = _embeddings(chosen, dataset, target)
        train, one = np.asarray(stored.array("embeddings.npy")), np.asarray(own.array("embeddings.npy"))
        facts = {"encoder": chosen.embedding, "embeddings": [stored.key, own.key]}
    values = _similarity(train, one, chosen.cosine)
    return Scores(chosen.id, values, None, None, _provenance(chosen, dataset, target) | facts)


def needed(
    method: str, dataset: Dataset, checkpoint: str, target: Target, base: FeatureSettings | None = None
) -> list[Needed]:
    """Return what has to be computed before this method can score this target: (kind, key, settings)."""
    chosen = method_of(method)
    if chosen.family == "pixels":
        return []
    if chosen.family == "embedding":
        if _embedding_pairs(chosen, dataset, target):
            return []
        parts: list[tuple[str, Settings]] = [
            ("embeddings", settings) for settings in _default_embeddings(chosen, dataset, target)
        ]
    else:
        features = feature_settings(chosen, dataset, checkpoint, base)
        parts = [("features", features)]
        if chosen.damped or chosen.cosine:
            parts.append(("kernels", features))
        parts.append(("target-features", _target_settings(features, target)))
    keyed = [(kind, key_of(kind, settings), settings) for kind, settings in parts]
    return [one for one in keyed if store.find(one[0], one[1]) is None]


def feature_settings(
    method: Method, dataset: Dataset, checkpoint: str, base: FeatureSettings | None = None
) -> FeatureSettings:
    """Return the feature settings of a gradient method: the base's, with the method's model output."""
    start = base or FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint)
    own = {"dataset": dataset.digest, "checkpoint": checkpoint, "model_output": method.model_output, "eta": 0.0}
    return FeatureSettings(**(start.model_dump() | own))


def _gradient_scores(
    method: Method,
    dataset: Dataset,
    checkpoint: str,
    target: Target,
    base: FeatureSettings | None,
    damping: float | None,
    rank_share: float | None,
) -> Scores:
    features = feature_settings(method, dataset, checkpoint, base)
    own = _stored("target-features", _target_settings(features, target), f"features of {target.id}")
    cross = np.asarray(own.array("cross.npy"), dtype=np.float64)
    if len(cross) != len(dataset.train.images):
        raise NotFoundError(
            f"The stored features are of {len(cross):,} pictures, the dataset has {len(dataset.train.images):,}. "
            "Compute them again."
        )
    facts = _provenance(method, dataset, target) | {
        "checkpoint": checkpoint,
        "features": key_of("features", features),
        "target_features": own.key,
        "feature_settings": features.model_dump(mode="json"),
    }
    if not method.damped and not method.cosine:
        return Scores(method.id, cross, None, None, facts)
    kernel = open_kernel(_stored("kernels", features, f"the kernel for {method.label}"))
    if method.cosine:
        length = float(np.linalg.norm(target_feature(own)))
        return Scores(method.id, _divided(cross, kernel.norms.astype(np.float64) * length), None, None, facts)
    used = _damping(method, kernel, len(cross), damping, rank_share)
    rank = effective_rank(kernel.eigenvalues, used)
    return Scores(
        method.id, damped_scores(kernel, cross, used), used, rank, facts | {"kernel": key_of("kernels", features)}
    )


def _damping(method: Method, kernel: Kernel, rows: int, damping: float | None, rank_share: float | None) -> float:
    if damping is not None:
        return damping
    share = method.rank_share if rank_share is None else rank_share
    assert share is not None  # every damped method has a default
    # A kernel of fewer directions than asked for gives as many as it has.
    return damping_for_rank(kernel.eigenvalues, min(share * rows, 0.999 * len(kernel.eigenvalues)))


def _target_settings(features: FeatureSettings, target: Target) -> TargetFeatureSettings:
    return TargetFeatureSettings(features=features, target=target.id, pixels=target.pixels)


def _stored(kind: str, settings: Settings, what: str) -> Artifact:
    found = store.find(kind, key_of(kind, settings))
    if found is None:
        raise NotFoundError(f"There is no stored {kind} artifact for {what}. Compute the attribution first.")
    return found


def _default_embeddings(method: Method, dataset: Dataset, target: Target) -> list[EmbeddingSettings]:
    assert method.embedding is not None
    return [EmbeddingSettings(model=method.embedding, pixels=pixels) for pixels in (dataset.digest, target.pixels)]


def _embedding_pairs(method: Method, dataset: Dataset, target: Target) -> list[tuple[Artifact, Artifact]]:
    """Return stored embeddings of (training set, target) made with the same weights, the newest last."""
    of_model = [a for a in store.listing("embeddings") if a.settings["model"] == method.embedding]
    own = {a.settings["weights"]: a for a in of_model if a.settings["pixels"] == target.pixels}
    sets = [a for a in of_model if a.settings["pixels"] == dataset.digest]
    return [(a, own[a.settings["weights"]]) for a in sets if a.settings["weights"] in own]


def _embeddings(method: Method, dataset: Dataset, target: Target) -> tuple[Artifact, Artifact]:
    pairs = _embedding_pairs(method, dataset, target)
    if not pairs:
        raise NotFoundError(
            f"{method.label}: {target.id} or the training set has no stored embeddings. Embed them first."
        )
    return pairs[-1]


def _similarity(train: np.ndarray, one: np.ndarray, cosine: bool) -> np.ndarray:
    """Return inner products of rows (N, ...) with one vector, or their cosines, shape (N,), float64."""
    rows, single = train.reshape(len(train), -1).astype(np.float64), one.reshape(-1).astype(np.float64)
    products: np.ndarray = rows @ single
    if not cosine:
        return products
    return _divided(products, np.linalg.norm(rows, axis=1) * np.linalg.norm(single))


def _divided(products: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return products / lengths, and 0 where a length is 0."""
    quotients: np.ndarray = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return quotients


def _unit_range(images: np.ndarray) -> np.ndarray:
    """Return uint8 pictures in [-1, 1], float64."""
    return np.asarray(images, dtype=np.float64) / 127.5 - 1


def _provenance(method: Method, dataset: Dataset, target: Target) -> dict[str, Any]:
    return {
        "method": method.id,
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "target": target.id,
        "pixels": target.pixels,
    }
