"""What a computation will cost, said before it is asked for: time on one core, and disk. No torch here.

Seconds of training, drawing and gradients come from what this machine has done before (speeds.py). The constants below
were measured on one core of a 2-core machine beside other work (`benchmarks/features.py`); where kernels and dense
projections were computed here, they are corrected by what those took. Projecting P parameters to K numbers costs

    sparse                  P additions a gradient
    gaussian, rademacher    P K random numbers for as many gradients as wait together (projected.py), and P K
                            multiplications and additions for each
"""

from __future__ import annotations

import functools
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dtrak_core import store
from dtrak_core.amounts import duration, size
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import feature_store
from dtrak_core.features.fader_layout import PARTS
from dtrak_core.features.kernel import LARGEST, SMALL
from dtrak_core.features.settings import FeatureSettings, ProjectionKind, TargetFeatureSettings, is_mixture, plain_draws
from dtrak_core.features.sketch import PASSES, RANK
from dtrak_core.methods import patches
from dtrak_core.methods.settings import EmbeddingSettings, InfluenceSettings, PatchSettings, influence_gradients
from dtrak_core.models import checkpoints, speeds
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.speeds import Speed

SPARSE_SECONDS = 1.5e-9  # a parameter and gradient
DRAWN_SECONDS: Mapping[ProjectionKind, float] = {"gaussian": 1.25e-8, "rademacher": 1.2e-9}  # a number of the matrix
PRODUCT_SECONDS = 2.5e-11  # a number of a dense matrix and gradient
PATCH_SECONDS = 1.2e-8  # a pair of patches
CURVATURE = 10  # gradients that a training picture's part of the curvature takes as long as: EK-FAC's two passes
EMBEDDING_SECONDS = 0.04  # a picture through an encoder on one core, where nothing better is known
FADER_GROUPS = 9  # of layers, each projected to its share alone; larger networks have more
KERNEL_SECONDS = 2e-10  # rows x rows x the larger of rows and width, where the kernel is decomposed
BAND_SECONDS = 2.7e-11  # an operation, where it is brought into a band
SKETCH_SECONDS = 2e-11  # an operation, where it is sketched
CONSTANT = Speed(1.0, 2.0, "by constants measured on one core")  # times what a constant says
BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Part:
    """A part of a cost: what is computed, its seconds on one core, how unsure they are, and how they are known."""

    name: str
    speed: Speed  # of the whole part

    @property
    def seconds(self) -> float:
        """Return the seconds of the part."""
        return self.speed.seconds


@dataclass(frozen=True)
class Cost:
    """What something costs: its parts, and bytes on disk."""

    parts: tuple[Part, ...] = ()
    disk: int = 0

    @property
    def seconds(self) -> float:
        """Return the seconds of all parts together."""
        return sum(part.seconds for part in self.parts)

    @property
    def projection(self) -> float:
        """Return those of them that are for projections."""
        return self.by_name.get("projection", 0.0)

    @property
    def by_name(self) -> dict[str, float]:
        """Return the seconds of each kind of part."""
        found: dict[str, float] = {}
        for part in self.parts:
            found[part.name] = found.get(part.name, 0.0) + part.seconds
        return found

    @property
    def between(self) -> tuple[float, float]:
        """Return the fewest and most seconds to be expected."""
        low = sum(part.seconds / part.speed.spread for part in self.parts)
        return low, sum(part.seconds * part.speed.spread for part in self.parts)

    def __add__(self, other: Cost) -> Cost:
        """Return what both cost together."""
        return Cost(self.parts + other.parts, self.disk + other.disk)


@dataclass(frozen=True)
class Here:
    """What an artifact costs by beside its settings: dataset, model, targets' sampling steps by digest of pixels."""

    dataset: Dataset
    checkpoint: Checkpoint
    steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        """Return the number of training pictures."""
        return len(self.dataset.train.rows)

    @property
    def parameters(self) -> int:
        """Return the number P of the network's parameters."""
        return int(self.checkpoint.run.manifest["parameters"])

    @functools.cached_property
    def gradient(self) -> Speed:
        """Return how long a gradient of one (picture, timestep) takes: looked up once, for however many artifacts."""
        return speeds.gradient(self.checkpoint)

    def learned(self, what: str) -> Speed:
        """Return how many times what the constants say kernels (`kernel`) or projections (`projection`) take here."""
        return self._factors[what]

    @functools.cached_property
    def _factors(self) -> dict[str, Speed]:
        return _learned(store.stamp(("features", "kernels", "checkpoints", "retrained")))


CostOf: TypeAlias = Callable[[Here, Sequence[Any]], Cost]  # of artifacts of these settings, computed together


def each(of: Callable[[Here, Any], Cost]) -> CostOf:
    """Return what artifacts cost together of which each is computed for itself."""
    return lambda here, several: sum((of(here, one) for one in several), Cost())


def of_embeddings(here: Here, settings: EmbeddingSettings) -> Cost:
    """Return what embedding the training set, or one target, costs."""
    pictures = here.pictures if settings.pixels == here.dataset.digest else 1
    return _constant("embeddings", pictures * EMBEDDING_SECONDS, pictures * 1280 * 4)


def of_patches(here: Here, settings: PatchSettings) -> Cost:
    """Return what comparing a target's patches with those of all training pictures costs."""
    seconds = here.pictures * patch_seconds(*here.dataset.train.images.shape[1:3])
    return _constant("patches", seconds, 8 * here.pictures)


def of_influence(here: Here, several: Sequence[InfluenceSettings]) -> Cost:
    """Return what the scores of targets by EK-FAC cost, which share the curvature and passes over the training set."""
    gradients = 0
    for (_, steps), count in Counter((one.checkpoint, one.num_timesteps) for one in several).items():
        gradients += here.pictures * CURVATURE + influence_gradients(here.pictures, count, steps, here.parameters)
    return Cost((Part("influence", here.gradient.times(gradients)),), 8 * here.pictures * len(several))


def of_features(here: Here, settings: FeatureSettings) -> Cost:
    """Return what the features of the training set cost."""
    disk = here.pictures * _width(here, settings) * BYTES[settings.storage]
    return _projected(here, settings, 0 if is_mixture(settings) else here.pictures, settings.num_timesteps, disk)


def of_target_features(here: Here, settings: TargetFeatureSettings) -> Cost:
    """Return what the features of a target cost, and its products with those of the training set."""
    disk = 4 * _width(here, settings.features) + 8 * here.pictures
    usual = Sampled().sampling_steps
    draws = here.steps.get(settings.pixels, usual) if settings.trajectory else settings.features.num_timesteps
    mixed = is_mixture(settings.features) and settings.target_output is None and not settings.trajectory
    return _projected(here, settings.features, 0 if mixed else settings.noise_seeds, draws, disk)


def of_kernel(here: Here, settings: FeatureSettings) -> Cost:
    """Return what the kernel of features costs."""
    count, width = here.pictures, _width(here, settings)
    about, side = kernel_seconds(count, width), min(count, width)
    kept = count * (side if side <= LARGEST else RANK) * (4 if settings.storage == "float32" else 2)
    if SMALL < side <= LARGEST:  # directions and half a square of reflections
        kept = 8 * side * (count + side // 2)
    return Cost((Part("kernel", here.learned("kernel").times(about)),), kept)


def kernel_seconds(rows: int, width: int) -> float:
    """Return what constants say of the kernel of N rows of K numbers: decomposed, in a band, or sketched."""
    side = min(rows, width)
    if side > LARGEST:
        return SKETCH_SECONDS * rows * width * RANK * (4 * PASSES + 2)
    if side <= SMALL:
        return KERNEL_SECONDS * rows * rows * max(width, rows)
    return BAND_SECONDS * rows * side * (2 * width + 3 * side)


def of_residuals(here: Here, settings: FeatureSettings) -> Cost:
    """Return what measuring how well the model knows each training picture costs: forward passes alone."""
    passes = here.pictures * settings.num_timesteps / 3
    return Cost((Part("losses", here.gradient.times(passes)),), 4 * here.pictures)


def _projected(here: Here, features: FeatureSettings, pictures: int, draws: int, disk: int) -> Cost:
    projection = projection_seconds(features, here.parameters, pictures)
    dense = here.learned("projection") if features.projection in DRAWN_SECONDS else CONSTANT
    computed = Part("features", here.gradient.times(pictures * draws * plain_draws(features)))
    return Cost((computed, Part("projection", dense.times(projection))), disk)


def _width(here: Here, features: FeatureSettings) -> int:
    whole = here.parameters if features.projection == "none" else features.proj_dim
    return whole * (PARTS if features.parts == "faders" else 1)


def training(checkpoint: Checkpoint, picture_steps: float) -> Cost:
    """Return what training a model like this one on so many pictures, counted once an epoch, costs."""
    return Cost((Part("training", speeds.training(checkpoint).times(picture_steps)),))


def drawing(checkpoint: Checkpoint, pictures: int, sampled: Sampled) -> Cost:
    """Return what it costs to draw pictures."""
    passes = pictures * speeds.passes(sampled, checkpoint.base)
    return Cost((Part("drawing", speeds.forward(checkpoint).times(passes)),), 1000 * pictures)


def losses(checkpoint: Checkpoint, passes: int) -> Cost:
    """Return what it costs to measure losses, each of one (picture, timestep, noise)."""
    return Cost((Part("losses", speeds.forward(checkpoint).times(passes)),))


def embedding(pictures: int) -> Cost:
    """Return what it costs to pass pictures through an encoder once, of which nothing is kept."""
    return _constant("embeddings", pictures * EMBEDDING_SECONDS, 0)


def sentence(cost: Cost, start: float = 0.0) -> str:
    """Return a cost in words: a range, its parts where there are several, disk, and how it is known.

    Args:
        cost: The cost.
        start: Seconds until a worker stands ready.
    """
    low, high = (duration(seconds + start) for seconds in cost.between)
    parts = [f"{name} {duration(seconds)}" for name, seconds in cost.by_name.items() if seconds >= 0.5]
    told = f" ({', '.join(parts)})" if len(parts) > 1 else ""
    surest = max(cost.parts, key=lambda part: part.seconds).speed.source if cost.parts else speeds.HERE
    return f"about {low if low == high else f'{low} to {high}'}{told}, {size(cost.disk)} on disk; {surest}"


def tell(cost: Cost, what: str) -> None:
    """Say on stderr what is going to be computed and what that costs; nothing where all of it is stored."""
    if cost.parts:
        print(f"To compute for {what}: {sentence(cost)}.", file=sys.stderr)


def _constant(name: str, seconds: float, disk: int) -> Cost:
    return Cost((Part(name, CONSTANT.times(seconds)),), disk)


@functools.lru_cache(maxsize=4)
def _learned(stamp: tuple[str, ...]) -> dict[str, Speed]:
    """Return how many times what the constants say kernels and dense projections took here, the newest of them."""
    ratios: dict[str, list[float]] = {"kernel": [], "projection": []}
    known = {one.digest: one for one in checkpoints.listing()}
    for artifact in store.listing("kernels"):
        about = kernel_seconds(artifact.manifest["rows"], artifact.settings["proj_dim"])
        if not artifact.shipped and about > 0.05 and artifact.settings["projection"] != "none":
            ratios["kernel"].append(artifact.manifest["seconds"] / about)
    for artifact in store.listing("features"):
        made, checkpoint = artifact.manifest, known.get(artifact.settings["checkpoint"])
        own = not artifact.shipped and artifact.settings["projection"] in DRAWN_SECONDS
        if own and checkpoint is not None and not is_mixture(features := FeatureSettings(**artifact.settings)):
            about = projection_seconds(features, made["parameters"], made["rows"])
            rest = made["seconds"] - made["gradients"] * plain_draws(features) * speeds.gradient(checkpoint).seconds
            ratios["projection"].append(max(rest, 0.1 * made["seconds"]) / about)
    return {name: _ratio(found[-speeds.RECENT :]) for name, found in ratios.items()}


def _ratio(found: Sequence[float]) -> Speed:
    if not found:
        return CONSTANT
    middle = statistics.median(found)
    return Speed(middle, max(1.25, max(found) / middle, middle / min(found)), speeds.HERE)


def projection_seconds(features: FeatureSettings, parameters: int, pictures: int) -> float:
    """Return what projecting the gradients of so many pictures costs beside computing them, on one core."""
    parts = PARTS if features.parts == "faders" else 1
    if features.projection == "none":
        return 0.0
    if features.projection == "sparse":
        return SPARSE_SECONDS * parameters * parts * pictures
    matrix = parameters * min(features.proj_dim, parameters) / (FADER_GROUPS if parts > 1 else 1)
    together = min(feature_store.shard_rows(pictures), feature_store.gradients_kept(4 * parts * parameters))
    shards = math.ceil(pictures / together)
    return matrix * (DRAWN_SECONDS[features.projection] * shards + PRODUCT_SECONDS * parts * pictures)


def patch_seconds(height: int, width: int) -> float:
    """Return what comparing all patches of one target with all of one training picture of this size costs."""
    return PATCH_SECONDS * sum(count**2 for count in patches.counts(height, width))
