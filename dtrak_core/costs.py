"""What a computation will cost, said before it is asked for: time on one core, and disk. No torch here.

Seconds come from what was measured for this model, or are told from its training; the constants below were measured on
one core of a 2-core machine beside other work (`benchmarks/features.py`). Projecting P parameters to K numbers costs

    sparse                  P additions a gradient
    gaussian, rademacher    P K random numbers for as many gradients as wait together (projected.py), and P K
                            multiplications and additions for each
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtrak_core import feature_store, patches, store
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.fader_layout import PARTS
from dtrak_core.score_settings import InfluenceSettings, PatchSettings
from dtrak_core.scores import Needed
from dtrak_core.settings import EmbeddingSettings, FeatureSettings, ProjectionKind, TargetFeatureSettings
from dtrak_core.tables import duration, size

FEATURE_OVER_TRAINING = 1.15  # cost of a gradient of one (picture, timestep) over a training step per picture
SPARSE_SECONDS = 1.5e-9  # a parameter and gradient
DRAWN_SECONDS: Mapping[ProjectionKind, float] = {"gaussian": 1.25e-8, "rademacher": 1.2e-9}  # a number of the matrix
PRODUCT_SECONDS = 2.5e-11  # a number of a dense matrix and gradient
PATCH_SECONDS = 1.2e-8  # a pair of patches
CURVATURE = 1.2  # EK-FAC: its two passes over the training set beside the gradients
EMBEDDING_SECONDS = 0.04  # a picture through an encoder on one core, where nothing better is known
FADER_GROUPS = 9  # of layers, each projected to its share alone; larger networks have more
BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """Seconds in all (None where nothing was ever measured), those of them for projections, and bytes on disk."""

    seconds: float | None
    projection: float
    disk: int


def estimate(dataset: Dataset, checkpoint: Checkpoint, parts: Sequence[Needed]) -> Cost:
    """Return what it costs to compute artifacts that are missing (`scores.needed`); each is counted once."""
    count, each = len(dataset.train.rows), gradient_seconds(checkpoint)
    seconds, projecting, disk, known = 0.0, 0.0, 0, True
    for kind, settings in {(kind, key): (kind, settings) for kind, key, settings in parts}.values():
        if isinstance(settings, EmbeddingSettings):
            pictures = count if settings.pixels == dataset.digest else 1
            seconds += pictures * EMBEDDING_SECONDS
            disk += pictures * 1280 * 4
        elif isinstance(settings, PatchSettings):
            seconds += count * patch_seconds(*dataset.train.images.shape[1:3])
            disk += 8 * count
        elif isinstance(settings, InfluenceSettings):
            known &= each is not None
            seconds += (count + 1) * CURVATURE * settings.num_timesteps * (each or 0)
            disk += 8 * count
        elif isinstance(settings, FeatureSettings | TargetFeatureSettings):
            features = settings if isinstance(settings, FeatureSettings) else settings.features
            width = features.proj_dim * (PARTS if features.parts == "faders" else 1)
            if kind == "kernels":
                seconds += 2e-9 * count * count * max(width, count) / 10
                disk += count * min(count, width) * (4 if features.storage == "float32" else 2)
                continue
            known &= each is not None
            pictures = 1 if kind == "target-features" else count
            if kind == "residuals":  # forward passes alone
                seconds += pictures * features.num_timesteps * (each or 0) / 3
                disk += 4 * count
                continue
            projection = projection_seconds(features, checkpoint.run.manifest["parameters"], pictures)
            seconds += pictures * features.num_timesteps * (each or 0) + projection
            projecting += projection
            disk += count * width * BYTES[features.storage] if kind == "features" else 4 * width + 8 * count
    return Cost(seconds if known else None, projecting, disk)


def sentence(cost: Cost, start: float = 0.0) -> str:
    """Return a cost in words; `start` is seconds until a worker stands ready."""
    if cost.seconds is None:
        return f"time not known yet, {size(cost.disk)} on disk"
    share = f", {duration(cost.projection)} of it for the projection" if cost.projection > 0.05 * cost.seconds else ""
    return f"about {duration(cost.seconds + start)}{share}, {size(cost.disk)} on disk"


def projection_seconds(features: FeatureSettings, parameters: int, pictures: int) -> float:
    """Return what projecting the gradients of so many pictures costs beside computing them, on one core."""
    parts = PARTS if features.parts == "faders" else 1
    if features.projection == "none":
        return 0.0
    if features.projection == "sparse":
        return SPARSE_SECONDS * parameters * parts * pictures
    matrix = parameters * min(features.proj_dim, parameters) / (FADER_GROUPS if parts > 1 else 1)
    together = min(feature_store.SHARD, feature_store.gradients_kept(4 * parts * parameters))
    shards = math.ceil(pictures / together)
    return matrix * (DRAWN_SECONDS[features.projection] * shards + PRODUCT_SECONDS * parts * pictures)


def patch_seconds(height: int, width: int) -> float:
    """Return what comparing all patches of one target with all of one training picture of this size costs."""
    return PATCH_SECONDS * sum(count**2 for count in patches.counts(height, width))


def gradient_seconds(checkpoint: Checkpoint) -> float | None:
    """Return what the gradient of one (picture, timestep) costs: measured for this model, or told from its training.

    Features of a dense projection do not tell: most of their time is the projection's.
    """
    found = [
        artifact.manifest
        for artifact in store.listing("features")
        if artifact.settings["checkpoint"] == checkpoint.digest
        and artifact.settings["projection"] not in DRAWN_SECONDS
        and artifact.manifest.get("gradients")
    ]
    if found:
        return float(found[-1]["seconds"]) / float(found[-1]["gradients"])
    step = checkpoint.seconds_per_picture_step
    return None if step is None else FEATURE_OVER_TRAINING * step
