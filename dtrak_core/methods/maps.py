"""A map of the training pictures: two numbers for each, so that pictures that are alike lie near each other.

    rows of the space   pixels as they are; embeddings and gradients of length 1, so that distances follow cosines
    PCA                 to 50 numbers, by sketches over blocks of rows (Halko, Martinsson, Tropp 2011, algorithm 4.4)
    t-SNE               to 2, with Barnes-Hut's trees (van der Maaten 2014), begun at the first two of PCA

How far the map can be believed, trustworthiness says (Venna, Kaski 2001): 1 where the nearest on the map are nearest in
the space, and about 0.5 where pictures are laid anywhere (`chance`, measured on the same places, shuffled). Near is
near; how far groups lie apart, and how large they are, means nothing. scikit-learn is imported when a map is computed.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TextIO, TypeAlias, get_args

import numpy as np
from pydantic import Field, model_validator

from dtrak_core import store
from dtrak_core.datasets import alike, catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features import feature_store
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import costs, defaults, embeddings, scores
from dtrak_core.methods.costs import Cost, Part
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.settings import EmbeddingModel, EmbeddingSettings
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import Progress
from dtrak_core.settings import Digest, Seed, Settings, build, key_of
from dtrak_core.store import Artifact

Space = Literal["lite0", "pixels", "d-trak"]
SPACES: tuple[Space, ...] = get_args(Space)
NAMES: dict[Space, str] = {"lite0": "EfficientNet-Lite0", "pixels": "Pixels", "d-trak": "D-TRAK's gradients"}
LIKE: dict[Space, str] = {  # what pictures that lie near each other are alike in
    "lite0": "look alike to EfficientNet-Lite0",
    "pixels": "have nearly equal pixels",
    "d-trak": "pull the model the same way",
}
KIND, XY, ROWS = "maps", "xy.npy", "rows.npy"
ENCODER: EmbeddingModel = "efficientnet-lite0"
METHOD = "d-trak"  # whose gradients
MOST = 50_000  # pictures on a map; of more, a random sample
JUDGED = 3_000  # pictures among which trustworthiness is counted
NEIGHBOURS = 10  # of each, that it looks at
DIMENSIONS, _BESIDE, _PASSES = 50, 10, 4  # numbers that PCA leaves; more that are sketched; how often
_AT_ONCE = 1024  # pictures that are held as numbers
_SECONDS = 0.012  # a picture on one core of 3,000; grows with the logarithm of their number
_STEP = re.compile(r"Iteration (\d+)")
_ITERATIONS = 1000
_Blocks: TypeAlias = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]  # places on the map, and rows of the space


class MapSettings(Settings):
    """Which pictures are laid out, by what, and how.

    `weights` is the digest of the encoder's, as of `EmbeddingSettings`; `features` are D-TRAK's, of `d-trak` alone.
    """

    dataset: Digest
    space: Space = "lite0"
    weights: str = Field(default="", exclude_if=lambda value: not value)
    features: FeatureSettings | None = Field(default=None, exclude_if=lambda value: value is None)
    perplexity: int = Field(default=30, ge=2, le=200)
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> MapSettings:
        if (self.space == "d-trak") != (self.features is not None):
            raise ValueError("features are given for a map by d-trak, and for no other")
        return self


@dataclass(frozen=True, eq=False)
class Map:
    """A map: places `xy` (n, 2) float32 of the training pictures `rows` (n,), ascending; all, up to 50,000.

    `trust` is the trustworthiness among `judged` of them with `neighbours` nearest each, `chance` that of a shuffled
    map; `perplexity` is what was used: t-SNE takes at most a third of the pictures.
    """

    settings: MapSettings
    xy: np.ndarray
    rows: np.ndarray
    trust: float
    chance: float
    judged: int
    neighbours: int
    perplexity: float

    @property
    def sentence(self) -> str:
        """Return what near means, and how far it can be believed."""
        sure = f"of {self.judged:,} pictures, " if self.judged < len(self.rows) else ""
        return (
            f"Pictures that {LIKE[self.settings.space]} lie near each other (trustworthiness {sure}{self.trust:.2f}; "
            f"a shuffled map has {self.chance:.2f}, a perfect one 1); how far groups lie apart means nothing."
        )


def refusal(space: Space, dataset: Dataset, checkpoint: Checkpoint | None) -> str:
    """Say why a map cannot be made; nothing where it can."""
    if space == "lite0":
        return embeddings.available(ENCODER)
    if space == "d-trak":
        if checkpoint is None:
            return "A map by D-TRAK's gradients is of a model, and none is chosen. Take another space, or train one."
        return scores.refusal(METHODS[METHOD], checkpoint.digest, None, dataset.digest)
    return ""


def plan_of(space: Space, dataset: Dataset, checkpoint: Checkpoint | None) -> Plan | None:
    """Return what has to be computed before the map's own job, None where that does it itself."""
    if space != "d-trak" or checkpoint is None:
        return None
    base = defaults.base_for(dataset.digest, checkpoint.digest, METHODS[METHOD], {})
    return scores.resolve(METHOD, dataset, checkpoint.digest, [], base)


def settings_of(
    space: Space, dataset: Dataset, checkpoint: Checkpoint | None, perplexity: int = 30, seed: int = 0
) -> MapSettings:
    """Return the settings of a map.

    Raises:
        SettingsError: If it cannot be made.
    """
    if reason := refusal(space, dataset, checkpoint):
        raise SettingsError(reason)
    plan = plan_of(space, dataset, checkpoint)
    return build(
        MapSettings,
        dataset=dataset.digest,
        space=space,
        weights=embeddings.known_weights(ENCODER) if space == "lite0" else "",
        features=None if plan is None else plan.features,
        perplexity=perplexity,
        seed=seed,
    )


def find(settings: MapSettings) -> Map | None:
    """Return a stored map, None where it was not computed."""
    artifact = store.find(KIND, key_of(KIND, settings))
    return None if artifact is None else opened(artifact)


def opened(artifact: Artifact) -> Map:
    """Return the map that an artifact holds."""
    told: dict[str, Any] = {
        name: artifact.manifest[name] for name in ("trust", "chance", "judged", "neighbours", "perplexity")
    }
    return Map(MapSettings(**artifact.settings), artifact.array(XY), artifact.array(ROWS), **told)


def cost(dataset: Dataset, settings: MapSettings) -> Cost:
    """Return what the map's own job costs."""
    count = min(len(dataset.train.rows), MOST)
    laid = Part("map", costs.CONSTANT.times(_SECONDS * count * max(0.2, np.log10(count) - 2.5)))
    found = Cost((laid,), 12 * count)
    if settings.space != "lite0":
        return found
    known = EmbeddingSettings(model=ENCODER, weights=settings.weights, pixels=dataset.digest)
    there = store.find("embeddings", key_of("embeddings", known)) is not None
    return found if there else costs.embedding(len(dataset.train.rows)) + found


def compute(settings: MapSettings, on_progress: Progress) -> Artifact:
    """Lay out a training set and store the map.

    Returns:
        Artifact of kind `maps`: xy.npy (n, 2) float32, rows.npy (n,) int32; facts trust, chance, judged, neighbours,
        perplexity.

    Raises:
        NotFoundError: If the dataset, or the features of a map by D-TRAK's gradients, are not stored.
    """
    dataset, key = catalogue.by_digest(settings.dataset), key_of(KIND, settings)
    with store.computing(KIND, key, on_progress) as found:
        if found is not None:
            return found
        count = len(dataset.train.rows)
        random = np.random.default_rng([settings.seed, count])
        rows = np.arange(count) if count <= MOST else np.sort(random.choice(count, MOST, replace=False))
        blocks = _blocks(dataset, settings, rows, on_progress)
        xy, perplexity = _laid(_reduced(blocks, len(rows), random, on_progress), settings, on_progress)
        facts = {"perplexity": perplexity, **_judged(blocks, xy, random)}
        store.write_array(store.partial(KIND, key) / XY, xy)
        store.write_array(store.partial(KIND, key) / ROWS, rows.astype(np.int32))
        return store.publish(KIND, key, settings, **facts)


def _blocks(dataset: Dataset, settings: MapSettings, rows: np.ndarray, on_progress: Progress) -> _Blocks:
    """Return what yields the space's rows (b, D) float32 of these pictures, block by block, with their places."""

    def all_of() -> Iterator[tuple[int, np.ndarray]]:
        starts = range(0, len(dataset.train.rows), _AT_ONCE)
        if settings.space == "pixels":
            return ((start, alike.reduced(dataset.train.images[start : start + _AT_ONCE])) for start in starts)
        if settings.features is not None:
            artifact = store.find("features", key_of("features", settings.features))
            if artifact is None:
                raise NotFoundError(
                    "The model's gradients of the training pictures are not stored. Compute them first."
                )
            return feature_store.blocks(artifact, _AT_ONCE)
        embeddings.refuse_other(ENCODER, settings.weights)
        made = embeddings.embed_dataset(dataset, ENCODER, lambda d, t: on_progress(d, t, "pictures", "Embeddings"))
        whole = made.array(embeddings.FILE)
        return ((start, np.asarray(whole[start : start + _AT_ONCE], np.float32)) for start in starts)

    def wanted() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start, block in all_of():
            first, last = np.searchsorted(rows, [start, start + len(block)])
            kept = block[rows[first:last] - start]
            if settings.space != "pixels":
                kept = kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
            yield np.arange(first, last), kept

    return wanted


def _reduced(blocks: _Blocks, count: int, random: np.random.Generator, on_progress: Progress) -> np.ndarray:
    """Return the first principal components (n, ≤ 50) of the rows."""
    mean = sum(block.sum(0, dtype=np.float64) for _, block in blocks()) / count
    side = min(DIMENSIONS + _BESIDE, count, len(mean))
    directions, left = random.standard_normal((len(mean), side)), np.zeros((count, side))
    for done in range(_PASSES):
        on_progress(done, _PASSES, "passes", "Principal components")
        for places, block in blocks():
            left[places] = (block - mean) @ directions
        left = np.linalg.qr(left)[0]
        directions = np.zeros_like(directions)
        for places, block in blocks():
            directions += (block - mean).T @ left[places]
    turned, lengths, _ = np.linalg.svd(directions.T, full_matrices=False)
    found: np.ndarray = left @ turned[:, :DIMENSIONS] * lengths[:DIMENSIONS]
    largest = found[np.abs(found).argmax(0), np.arange(found.shape[1])]
    return found * np.where(largest < 0, -1.0, 1.0)  # either sign is as good: one is chosen


def _laid(reduced: np.ndarray, settings: MapSettings, on_progress: Progress) -> tuple[np.ndarray, float]:
    """Return places (n, 2) by t-SNE, and the perplexity that it took."""
    from sklearn.manifold import TSNE

    perplexity = min(float(settings.perplexity), (len(reduced) - 1) / 3)
    on_progress(0, _ITERATIONS, "steps", "Laying out the map")
    begin: Literal["pca", "random"] = "pca" if np.std(reduced[:, 0]) > 1e-9 else "random"  # where all are equal
    wanted = TSNE(2, perplexity=perplexity, init=begin, random_state=settings.seed, max_iter=_ITERATIONS, verbose=2)
    with contextlib.redirect_stdout(_Steps(on_progress, sys.stdout)):
        found = np.asarray(wanted.fit_transform(reduced.astype(np.float32)), np.float32)
    found -= found.mean(0)
    return found / max(float(np.abs(found).max()), 1e-12), perplexity


class _Steps(io.TextIOBase):
    """Where t-SNE prints every 50 steps how far it is, which it tells nobody otherwise; other lines go on."""

    def __init__(self, on_progress: Progress, before: TextIO) -> None:
        self._on_progress, self._before = on_progress, before

    def write(self, text: str) -> int:
        if said := _STEP.search(text):
            self._on_progress(int(said[1]), _ITERATIONS, "steps", "Laying out the map")
        elif not text.startswith("[t-SNE]") and text != "\n":
            self._before.write(text)
        return len(text)


def _judged(blocks: _Blocks, xy: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Return how far a map can be believed, and what a shuffled one gets, by all numbers of the space."""
    from sklearn.manifold import trustworthiness

    count = len(xy)
    chosen = np.arange(count) if count <= JUDGED else np.sort(random.choice(count, JUDGED, replace=False))
    rows = np.concatenate([block[np.isin(places, chosen)] for places, block in blocks()])
    near = min(NEIGHBOURS, (len(rows) - 1) // 2)
    own = xy[chosen]
    trust, chance = (
        float(trustworthiness(rows, one, n_neighbors=near)) for one in (own, own[random.permutation(len(own))])
    )
    return {"trust": trust, "chance": chance, "judged": len(rows), "neighbours": near}
