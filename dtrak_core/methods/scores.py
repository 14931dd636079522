"""Attribution scores, from what is stored. No torch, no new pass over the data.

Gradient methods multiply the stored products c = Φ φ(z) by the stored eigendecomposition
(kernel.py), so another damping costs two matrix-vector products. Positive scores are
proponents: with such an example in training, the target's loss is expected to be lower.
Sizes are comparable within one method and damping only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import embeddings, gradient_scores
from dtrak_core.methods.gradient_scores import divided
from dtrak_core.methods.methods import Method, method_of
from dtrak_core.methods.settings import EmbeddingSettings, InfluenceSettings, PatchSettings
from dtrak_core.models import checkpoints
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact
from dtrak_core.training import ensembles

Needed = tuple[str, str, Settings]  # kind, key and settings of an artifact


@dataclass(frozen=True)
class Scores:
    """Scores of all training examples for one target (N,), or for several (M, N).

    `values` is float64, by training index. `damping` λ and `effective_rank`
    d(λ) are None where the method has none. `provenance` is plain JSON values.
    """

    method: str
    values: np.ndarray
    damping: float | None
    effective_rank: float | None
    provenance: Mapping[str, Any]


def attribution_scores(
    method: str | Method,
    dataset: Dataset,
    checkpoint: str,
    target: Target,
    base: FeatureSettings | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
    encoder_weights: str | None = None,
) -> Scores:
    """Score every training example for one target; see `score_matrix`, of which this is one row."""
    found = score_matrix(method, dataset, checkpoint, [target], base, damping, rank_share, encoder_weights)
    own = {"target": target.id, "pixels": target.pixels}
    return replace(found, values=found.values[0], provenance={**found.provenance, **own})


def score_matrix(
    method: str | Method,
    dataset: Dataset,
    checkpoint: str,
    targets: Sequence[Target],
    base: FeatureSettings | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
    encoder_weights: str | None = None,
) -> Scores:
    """Score every training example for every target.

    Args:
        method: A method or its id, see `methods.METHODS`.
        dataset: The training pictures.
        checkpoint: Digest of the model's weights; similarities ignore it.
        targets: The pictures to explain.
        base: Timesteps, projection and the rest of the features; the method sets the model output.
            None takes the defaults.
        damping: λ, greater than 0. At most one of this and `rank_share` is given.
        rank_share: Effective rank over N, between 0 and 1. Neither: the method's default.
        encoder_weights: Digest of the weights of a similarity's encoder. None takes those that are set up here.

    Returns:
        Scores with values (M, N).

    Raises:
        NotFoundError: If something needed is not stored yet; the message names it.
        SettingsError: If a damping is given to a method that has none, or both are given.
    """
    chosen = method if isinstance(method, Method) else method_of(method)
    if not chosen.damped and damping is not None:
        raise SettingsError(f"{chosen.label} has no damping, but {damping:g} was given. Leave it out.")
    facts: dict[str, Any] = {"method": chosen.id, "dataset": dataset.name, "dataset_digest": dataset.digest}
    if chosen.family == "gradient":
        models = models_of(chosen, dataset.digest, checkpoint, base)
        found = gradient_scores.score(chosen, models, targets, damping, rank_share)
        if found.values.shape[1] != len(dataset.train.images):
            raise NotFoundError(
                f"The stored features are of {found.values.shape[1]:,} pictures, the dataset has "
                f"{len(dataset.train.images):,}. Compute them again."
            )
        facts |= {
            "checkpoint": checkpoint,
            "features": key_of("features", models[-1]),
            "kernel": key_of("kernels", models[-1]) if chosen.reads_kernel else None,
            "feature_settings": models[-1].model_dump(mode="json"),
        }
        return Scores(chosen.id, found.values, found.damping, found.effective_rank, facts)
    if chosen.family in ("patches", "influence"):
        rows = [_own_artifact(chosen, dataset, checkpoint, target) for target in targets]
        if None in rows:
            missing = targets[rows.index(None)].id
            raise NotFoundError(f"{chosen.label}: {missing} has no stored scores. Compute the attribution first.")
        values = np.stack([np.asarray(one.array("scores.npy"), np.float64) for one in rows if one is not None])
    elif chosen.family == "pixels":
        train = _unit_range(dataset.train.images)
        for target in targets:
            if target.image.shape != dataset.train.images.shape[1:]:
                raise SettingsError(
                    f"The target has shape {target.image.shape}, the training pictures "
                    f"{dataset.train.images.shape[1:]}. Use a target of the dataset's size."
                )
        own = np.stack([_unit_range(target.image) for target in targets])
        values = _similarity(train, own, chosen.cosine)
        facts["pixels_in"] = "[-1, 1]"
    else:
        of_train, *of_targets = _embeddings(chosen, dataset, targets, encoder_weights)
        train = np.asarray(of_train.array("embeddings.npy"))
        own = np.concatenate([np.asarray(one.array("embeddings.npy")) for one in of_targets])
        values = _similarity(train, own, chosen.cosine)
        facts |= {"encoder": chosen.embedding, "embeddings": of_train.key}
        facts |= {"encoder_weights": weights} if (weights := of_train.settings["weights"]) else {}
    return Scores(chosen.id, values, None, None, facts)


def needed(
    method: str | Method, dataset: Dataset, checkpoint: str, target: Target, base: FeatureSettings | None = None
) -> list[Needed]:
    """Return what has to be computed before this method can score this target: (kind, key, settings)."""
    chosen = method if isinstance(method, Method) else method_of(method)
    parts: list[tuple[str, Settings]] = []
    if chosen.family == "gradient":
        for features in models_of(chosen, dataset.digest, checkpoint, base):
            parts += gradient_scores.parts(chosen, features, target)
    elif chosen.family in ("patches", "influence"):
        parts = [own_settings(chosen, dataset, checkpoint, target)]
    elif chosen.family == "embedding":
        parts = [("embeddings", settings) for settings in _embedding_settings(chosen, dataset, [target])]
    keyed = [(kind, key_of(kind, settings), settings) for kind, settings in parts]
    return [one for one in keyed if store.find(one[0], one[1]) is None]


def refusal(method: Method, checkpoint: str, target: Target | None = None) -> str:
    """Return in a sentence why a method cannot be used for a checkpoint's pictures, or for this one; else nothing."""
    if method.generated_only and target is not None and not target.id.startswith("seed:"):
        return f"{method.label} follows how a picture was generated, and {target.id} was not. Choose a generated one."
    if method.family != "gradient":
        return ""
    try:
        if method.models:
            ensembles.members(checkpoint, method.models)
        elif method.shares != (100,):
            _kept(method, checkpoint)
    except (NotFoundError, SettingsError) as error:
        return str(error)
    return ""


def models_of(
    method: Method, dataset: str, checkpoint: str, base: FeatureSettings | None = None
) -> list[FeatureSettings]:
    """Return the feature settings of each model that a gradient method looks at, in the order of training.

    Dataset and checkpoint are named by their digests.

    Raises:
        NotFoundError: If the run has not kept the checkpoints that the method compares, or a member of an ensemble
            is not trained yet.
    """
    wanted = feature_settings(method, dataset, checkpoint, base)
    if method.models:
        members = ensembles.members(checkpoint, method.models, dataset)
        return [FeatureSettings(**wanted.model_dump() | {"checkpoint": digest}) for digest in members]
    if method.shares == (100,):
        return [wanted]
    kept = _kept(method, checkpoint)
    return [FeatureSettings(**wanted.model_dump() | {"checkpoint": kept[share]}) for share in method.shares]


def _kept(method: Method, checkpoint: str) -> dict[int, str]:
    """Return the digests of a run's checkpoints by share, or raise NotFoundError where one that is compared lacks."""
    kept = {one.share: one.digest for one in checkpoints.of_run(checkpoints.by_digest(checkpoint).run)}
    lacking = [share for share in method.shares if share not in kept]
    if lacking:
        raise NotFoundError(
            f"{method.label} compares checkpoints at {', '.join(f'{s} %' for s in method.shares)} of the training; "
            f"this run has none at {', '.join(f'{s} %' for s in lacking)}. Choose a model that was trained here, for "
            "at least 4 steps."
        )
    return kept


def feature_settings(
    method: Method, dataset: str, checkpoint: str, base: FeatureSettings | None = None
) -> FeatureSettings:
    """Return the feature settings of a gradient method: the base's, with the method's function and normalisation."""
    start = base or FeatureSettings(dataset=dataset, checkpoint=checkpoint)
    own = {
        "dataset": dataset,
        "checkpoint": checkpoint,
        "model_output": method.model_output,
        "eta": method.eta,
        "normalise": method.normalise,
    }
    return FeatureSettings(**(start.model_dump() | own))


def own_settings(method: Method, dataset: Dataset, checkpoint: str, target: Target) -> tuple[str, Settings]:
    """Return kind and settings of the artifact that holds a target's scores by a method without features."""
    if method.family == "patches":
        return "patches", PatchSettings(dataset=dataset.digest, target=target.id, pixels=target.pixels)
    where = {"dataset": dataset.digest, "checkpoint": checkpoint}
    return "ekfac", InfluenceSettings(**where, target=target.id, pixels=target.pixels)


def _own_artifact(method: Method, dataset: Dataset, checkpoint: str, target: Target) -> Artifact | None:
    kind, settings = own_settings(method, dataset, checkpoint, target)
    return store.find(kind, key_of(kind, settings))


def _embedding_settings(
    method: Method, dataset: Dataset, targets: Sequence[Target], weights: str | None = None
) -> list[EmbeddingSettings]:
    """Return the settings of the embeddings of the training set and of each target, all by the same weights."""
    assert method.embedding is not None
    known = embeddings.known_weights(method.embedding) if weights is None else weights
    pictures = (dataset.digest, *(target.pixels for target in targets))
    return [EmbeddingSettings(model=method.embedding, weights=known, pixels=pixels) for pixels in pictures]


def _embeddings(method: Method, dataset: Dataset, targets: Sequence[Target], weights: str | None) -> list[Artifact]:
    wanted = _embedding_settings(method, dataset, targets, weights)
    found = [store.find("embeddings", key_of("embeddings", one)) for one in wanted]
    if None in found:
        names = ["the training set", *(target.id for target in targets)]
        raise NotFoundError(
            f"{method.label}: {names[found.index(None)]} has no stored embeddings by the encoder's weights that are "
            "set up. Embed it first."
        )
    return [one for one in found if one is not None]


def _similarity(train: np.ndarray, own: np.ndarray, cosine: bool) -> np.ndarray:
    """Return inner products of targets (M, ...) with rows (N, ...), or their cosines, shape (M, N), float64."""
    rows, ones = (x.reshape(len(x), -1).astype(np.float64) for x in (train, own))
    products: np.ndarray = ones @ rows.T
    if not cosine:
        return products
    return divided(products, np.outer(np.linalg.norm(ones, axis=1), np.linalg.norm(rows, axis=1)))


def _unit_range(images: np.ndarray) -> np.ndarray:
    """Return uint8 pictures in [-1, 1], float64."""
    return np.asarray(images, dtype=np.float64) / 127.5 - 1
