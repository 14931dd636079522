"""Similarities of pictures, pixel by pixel or as another network sees them: they know nothing of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dtrak_core import store
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.feature_store import BLOCK_BYTES
from dtrak_core.methods import embeddings
from dtrak_core.methods.gradient_scores import divided
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Plan, Scores, scored
from dtrak_core.methods.settings import EmbeddingSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact


def pixel_score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return inner products or cosines of the pictures in [-1, 1]; nothing needs to be stored."""
    images = plan.dataset.train.images
    for target in plan.targets:
        if target.image.shape != images.shape[1:]:
            raise SettingsError(
                f"The target has shape {target.image.shape}, the training pictures "
                f"{images.shape[1:]}. Use a target of the dataset's size."
            )
    own = np.stack([target.image for target in plan.targets])
    return scored(plan, _similarity(images, own, plan.method.cosine, _unit_range), {"pixels_in": "[-1, 1]"})


def embedding_parts(plan: Plan) -> list[tuple[str, Settings]]:
    """Return kind and settings of the embeddings of the training set and of each target, all by the same weights."""
    return [("embeddings", one) for one in _settings(plan)]


def embedding_score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return inner products or cosines of stored embeddings."""
    of_train, of_targets = _stored(plan)
    train, own = _arrays(of_train, of_targets)
    facts = {"encoder": plan.method.embedding, "embeddings": of_train.key}
    facts |= {"encoder_weights": weights} if (weights := of_train.settings["weights"]) else {}
    return scored(plan, _similarity(train, own, plan.method.cosine, _as_they_are), facts)


def embedded(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored embeddings of the training set (N, D) and of the targets (M, D), not normalised.

    Raises:
        NotFoundError: If some are not stored.
    """
    return _arrays(*_stored(plan))


def embedded_set(plan: Plan) -> np.ndarray:
    """Return the stored embeddings of the training set alone, (N, D), not normalised.

    Raises:
        NotFoundError: If they are not stored.
    """
    return np.asarray(_stored(plan)[0].array("embeddings.npy"))


def _stored(plan: Plan) -> tuple[Artifact, list[Artifact]]:
    found = [store.find("embeddings", key_of("embeddings", one)) for one in _settings(plan)]
    if None in found:
        names = ["the training set", *(target.id for target in plan.targets)]
        raise NotFoundError(
            f"{plan.method.label}: {names[found.index(None)]} has no stored embeddings by the encoder's weights that "
            "are set up. Embed it first."
        )
    of_train, *of_targets = (one for one in found if one is not None)
    return of_train, of_targets


def _arrays(of_train: Artifact, of_targets: Sequence[Artifact]) -> tuple[np.ndarray, np.ndarray]:
    own = np.concatenate([np.asarray(one.array("embeddings.npy")) for one in of_targets])
    return np.asarray(of_train.array("embeddings.npy")), own


def embedding_compute(plan: Plan, on_progress: Progress) -> list[Artifact]:
    """Return the embeddings of the training set and of each target, computing those that are not stored."""
    assert plan.method.embedding is not None
    made = [
        embeddings.embed_dataset(plan.dataset, plan.method.embedding, lambda d, t: on_progress(d, t, "pictures", ""))
    ]
    return made + [embeddings.embed_target(plan.method.embedding, target.image) for target in plan.targets]


def encoder_lacking(method: Method) -> str:
    """Say why the method's encoder cannot be had on this machine, else nothing."""
    assert method.embedding is not None
    return embeddings.available(method.embedding)


def _settings(plan: Plan) -> list[EmbeddingSettings]:
    model, weights = plan.method.embedding, plan.encoder_weights
    assert model is not None
    known = embeddings.known_weights(model) if weights is None else weights
    pictures = (plan.dataset.digest, *(target.pixels for target in plan.targets))
    return [EmbeddingSettings(model=model, weights=known, pixels=pixels) for pixels in pictures]


def _similarity(
    train: np.ndarray, own: np.ndarray, cosine: bool, exact: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return inner products of targets (M, ...) with rows (N, ...), or their cosines, shape (M, N), float64.

    `exact` gives rows as float64: of so many at a time as `BLOCK_BYTES` hold, with two copies for their lengths.
    """
    ones = exact(own).reshape(len(own), -1)
    each = max(1, BLOCK_BYTES // (3 * 8 * ones.shape[1]))
    products, lengths = np.empty((len(own), len(train))), np.empty(len(train))
    for start in range(0, len(train), each):
        part = slice(start, start + each)
        rows = exact(train[part]).reshape(len(train[part]), -1)
        products[:, part], lengths[part] = ones @ rows.T, np.linalg.norm(rows, axis=1)
    return divided(products, np.outer(np.linalg.norm(ones, axis=1), lengths)) if cosine else products


def _as_they_are(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows, dtype=np.float64)


def _unit_range(images: np.ndarray) -> np.ndarray:
    """Return uint8 pictures in [-1, 1], float64."""
    exact = np.asarray(images, dtype=np.float64)
    exact /= 127.5
    exact -= 1
    return exact
