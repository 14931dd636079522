"""What can be asked of a worker: one settings class for each kind of job, and the key each job has.

A job names its inputs by digest, so that equal work has an equal key, whoever asks.
Options of execution (how many pictures at once) change no number and are in no key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from dtrak_core.counterfactual.settings import CounterfactualSettings, EncoderWeights
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import JobError, NotFoundError, SettingsError
from dtrak_core.features.settings import FeatureSettings, TargetSide, ends_of
from dtrak_core.jobs import incoming
from dtrak_core.jobs.question_jobs import MapJob, SuspicionJob, TrialJob
from dtrak_core.lds.recipes import Recipe, method_for
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import scores
from dtrak_core.methods.families import FAMILIES
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models.settings import Frozen, LoraSettings, ModelSettings, Sampled, TrainSettings
from dtrak_core.models.targets import TargetId
from dtrak_core.settings import Digest, Name, Seed, Settings, canonical_json, digest_of, key_of

EXECUTION = {"pictures_per_batch", "clip_file"}  # fields that say how, not what
# The file that CLIP's weights are taken from where the job is asked for, empty for the hub's, None where no one said.
ClipFile = Annotated[str | None, Field(exclude_if=lambda value: value is None)]


class DatasetJob(Settings):
    """Prepare a dataset; `source` is the folder or file of one's own pictures, empty for the others."""

    kind: Literal["dataset"] = "dataset"
    dataset: DatasetSettings
    source: str = ""


class TrainJob(Settings):
    """Train a model and call the run `name`."""

    kind: Literal["train"] = "train"
    train: TrainSettings
    name: Name


class ImportJob(Settings):
    """Bring in a diffusers checkpoint, or LoRA weights of `base`, from a folder or the hub, as one of `dataset`.

    `frozen` says whether the linear layers under LoRA weights lie in 8 or 4 bits.
    """

    kind: Literal["import"] = "import"
    source: str = Field(min_length=1)
    dataset: Digest
    base: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)
    name: Name
    frozen: Frozen = Field(default="stored", exclude_if=lambda value: value == "stored")

    @model_validator(mode="after")
    def _check(self) -> ImportJob:
        if self.frozen != "stored" and not self.base:
            raise ValueError(
                f"frozen {self.frozen} is for LoRA weights, which come with their base; name it, or leave frozen out"
            )
        return self


class BaseJob(Settings):
    """Take in a text-to-image model, from a folder, the hub or a single file, that LoRA weights can be trained on."""

    kind: Literal["base"] = "base"
    source: str = Field(min_length=1)
    name: Name
    resolution: int = Field(default=0, ge=0, exclude_if=lambda value: not value)  # 0 is the model's own


class LookJob(Settings):
    """Say what a model is before it is taken in; `state` is that of its files (`recognising.state_of`)."""

    kind: Literal["look"] = "look"
    source: str = Field(min_length=1)
    state: Digest


class ProbeJob(Settings):
    """Measure what training on one picture costs here, before the user decides; `number` is 0 for the first time."""

    kind: Literal["probe"] = "probe"
    model: ModelSettings | LoraSettings
    resolution: int = Field(ge=8, le=512)
    batch_size: int = Field(ge=1, le=4096)
    number: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)


class SampleJob(Sampled):
    """Generate one picture for each seed."""

    kind: Literal["sample"] = "sample"
    checkpoint: Digest
    seeds: tuple[Seed, ...] = Field(min_length=1)
    pictures_per_batch: int = Field(default=16, ge=1, le=4096)


class AttributeJob(Sampled, TargetSide):
    """Compute all that scores of these targets need: training features, kernel, target features.

    Target samples that were never generated are generated first. Several feature settings
    (of several model output functions or checkpoints) are worked through one after the other.
    `pictures_per_batch` 0 lets the machine choose. `pictures_of` names the checkpoint that generates the targets where
    features are of other checkpoints too. `undamped` are the places in `features` of those whose kernel nobody reads.
    """

    kind: Literal["attribute"] = "attribute"
    pictures_of: Digest | None = Field(default=None, exclude_if=lambda value: value is None)
    features: tuple[FeatureSettings, ...] = Field(min_length=1)
    undamped: tuple[int, ...] = Field(default=(), exclude_if=lambda value: not value)
    targets: tuple[TargetId, ...] = ()
    pictures_per_batch: int = Field(default=0, ge=0, le=65_536)


class BenchmarkJob(Settings):
    """Compute what these recipes predict for the models of an LDS, with the features and models that they need.

    `encoder_weights` are the digests of the weights of the encoders of similarities (encoders.py).
    """

    kind: Literal["benchmark"] = "benchmark"
    settings: LdsSettings
    recipes: tuple[Recipe, ...] = Field(min_length=1)
    keep_scores: bool = False
    encoder_weights: EncoderWeights = Field(default=(), exclude_if=lambda value: not value)
    clip_file: ClipFile = None


class ScoreJob(Sampled):
    """Compute the scores of targets by methods that keep no features, like patches and EK-FAC."""

    kind: Literal["score"] = "score"
    methods: tuple[str, ...] = Field(min_length=1)
    dataset: Digest
    checkpoint: Digest
    targets: tuple[TargetId, ...] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        able = [name for name, one in METHODS.items() if FAMILIES[one.family].job == "scores"]
        if unknown := [name for name in methods if name not in able]:
            raise ValueError(f"'{unknown[0]}' is no method that keeps no features; give some of {', '.join(able)}")
        return methods


class EmbedJob(Sampled):
    """Embed a training set, and targets of one of its checkpoints, by a network that is not ours.

    `weights` is the digest of its weights (`EmbeddingSettings.weights`).
    """

    kind: Literal["embed"] = "embed"
    model: EmbeddingModel
    weights: str = Field(default="", exclude_if=lambda value: not value)
    clip_file: ClipFile = None
    dataset: Digest
    checkpoint: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    targets: tuple[TargetId, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> EmbedJob:
        if not self.checkpoint and any(target.startswith("seed:") for target in self.targets):
            raise ValueError("targets that are generated need the checkpoint that generates them; name it")
        return self


class FaderJob(Sampled):
    """Rank for a target with layers and noise levels turned up or down; without layers, learn their weights."""

    kind: Literal["fader"] = "fader"
    features: FeatureSettings
    target: TargetId
    layers: tuple[float, ...] = ()
    bands: tuple[float, ...] = ()


class CounterfactualJob(Settings):
    """Compute a comparison of removals with all it needs, and call it `name`."""

    kind: Literal["counterfactual"] = "counterfactual"
    settings: CounterfactualSettings
    clip_file: ClipFile = None
    name: Name = "comparison"


class LdsJob(Settings):
    """Train the models of an LDS and measure the targets' losses under each."""

    kind: Literal["lds"] = "lds"
    settings: LdsSettings


Job: TypeAlias = (
    DatasetJob
    | TrainJob
    | ImportJob
    | BaseJob
    | LookJob
    | ProbeJob
    | SampleJob
    | AttributeJob
    | ScoreJob
    | BenchmarkJob
    | EmbedJob
    | FaderJob
    | CounterfactualJob
    | LdsJob
    | SuspicionJob
    | TrialJob
    | MapJob
)
_ADAPTER: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def key_of_job(job: Job) -> str:
    """Return the key of a job: a digest of what it computes, 16 hex digits."""
    named = {"name"} if isinstance(job, CounterfactualJob) else set()  # a comparison is the same under any name
    return digest_of("job", canonical_json(job.model_dump(mode="json", exclude=EXECUTION | named)))


def read_job(values: Any) -> Job:
    """Return the job that was written as these JSON values.

    Raises:
        JobError: If it is not as this version of the app writes one.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError:
        raise JobError("This job was asked for by another version of the app. Ask for it again.") from None


def inputs(job: Job) -> set[str]:
    """Return the digests and keys of stored things that a job reads or goes on with, so that none is deleted."""
    match job:
        case DatasetJob():
            return {key_of("datasets", job.dataset), incoming.key_of(job.source)} - {""}
        case TrainJob():
            return {job.train.dataset, key_of("checkpoints", job.train)}
        case ImportJob():
            return {job.dataset, incoming.key_of(job.source)} - {""}
        case BaseJob() | LookJob():
            return {incoming.key_of(job.source)} - {""}
        case ProbeJob():
            return set()
        case SampleJob():
            return {job.checkpoint}
        case EmbedJob():
            return {job.dataset, job.checkpoint}
        case CounterfactualJob():
            found = {job.settings.dataset, job.settings.checkpoint, key_of("comparisons", job.settings)}
            return found | _feature_keys(job.settings.features)
        case FaderJob():
            return {job.features.dataset, job.features.checkpoint} | _feature_keys((job.features,))
        case ScoreJob():
            return {job.dataset, job.checkpoint}
        case BenchmarkJob():
            features = tuple(f for recipe in job.recipes for f in _of_recipe(recipe, job.settings.dataset))
            return {job.settings.dataset, job.settings.checkpoint} | _feature_keys(features)
        case LdsJob() | SuspicionJob() | TrialJob():
            return {job.settings.dataset, job.settings.checkpoint}
        case MapJob():
            own = () if job.settings.features is None else (job.settings.features,)
            return {job.settings.dataset, *(one.checkpoint for one in own)} | _feature_keys(own)
        case AttributeJob():
            found = {name for features in job.features for name in (features.dataset, features.checkpoint)}
            found |= {job.pictures_of} if job.pictures_of is not None else set()
            return found | _feature_keys(job.features)


def _of_recipe(recipe: Recipe, dataset: str) -> list[FeatureSettings]:
    """Return all features that a recipe reads: of each model, and of both ends of an interpolation."""
    if recipe.features is None:
        return []
    try:
        found = scores.models_of(method_for(recipe), dataset, recipe.features.checkpoint, recipe.features)
    except (NotFoundError, SettingsError):  # of models that are not trained yet, or of a run that was deleted
        return []
    return found + [end for one in found if one.model_output == "interpolated" for end in ends_of(one)]


def _feature_keys(chosen: tuple[FeatureSettings, ...]) -> set[str]:
    return {key_of(kind, features) for features in chosen for kind in ("features", "kernels")}
