"""Frozen settings of every stage, and the keys they give.

A key names a stored artifact: it is the SHA-256 of the settings' canonical JSON,
with the digests of the inputs and the format number of the kind of artifact. Equal work
has an equal key, so that it is done once, whoever asks (design.md, section 6).

Settings say *what* is computed. How it is run (batch sizes, threads, device) changes
no number beyond rounding and is therefore not a setting.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dtrak_core.errors import SettingsError

# Raised when the numbers that a kind of artifact holds would come out differently.
FORMATS: Mapping[str, int] = {
    "datasets": 1,
    "checkpoints": 1,
    "names": 1,
    "probes": 1,
    "samples": 1,
    "features": 1,
    "kernels": 1,
    "target-features": 1,
    "embeddings": 1,
    "uploads": 1,
    "retrained": 1,
    "outcomes": 1,
    "comparisons": 1,
    "subset-losses": 1,
    "residuals": 1,
    "patches": 1,
    "predictions": 1,
    "scores": 1,
    "repeats": 1,
    "certainties": 1,
    "turned": 1,
    "ekfac": 1,
    "bases": 1,
    "latents": 1,
}

DIFFUSION_STEPS = 1000  # length of the noise schedule in every setting of the paper
LONGEST_TYPED = 400  # characters of a prompt that a user types


def even_grid(num_timesteps: int) -> int:
    """Return the number of timesteps if they divide the noise schedule evenly, or raise ValueError."""
    if DIFFUSION_STEPS % num_timesteps:
        raise ValueError(
            f"num_timesteps {num_timesteps} does not divide {DIFFUSION_STEPS}; "
            "choose 1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500 or 1000"
        )
    return num_timesteps


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
EvenGrid = Annotated[int, Field(ge=1, le=DIFFUSION_STEPS), AfterValidator(even_grid)]
Prompt = Annotated[str, Field(min_length=1)]  # a caption may be of any length
DatasetKind = Literal[
    "openmoji-people", "openmoji-roles", "cifar2", "cifar10", "celeba", "artbench2", "artbench5", "folder", "npz"
]
ModelOutput = Literal[
    "loss", "squared-output", "elbo", "mean-output", "l1-norm", "l2-norm", "linf-norm", "interpolated"
]
ProjectionKind = Literal["sparse", "gaussian", "rademacher", "none"]
EmbeddingModel = Literal["clip-vit-b-32", "efficientnet-lite0"]
SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetSettings(Settings):
    """Which pictures, at which size.

    `name` is what the user calls the dataset; for what is read from files (sources.py), `source_digest` is
    the digest of their contents, so that the same pictures are stored once, and others never taken for them.
    """

    kind: DatasetKind = "openmoji-people"
    resolution: int = Field(default=16, ge=8, le=512)
    name: str = Field(default="openmoji-people", pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")
    source_digest: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")
    on_broken: Literal["refuse", "skip"] = "refuse"


class ImportSettings(Settings):
    """A checkpoint made elsewhere: a diffusers DDPM folder or hub id, or LoRA weights of `base`, by its digest.

    `identity` is the digest of weights, network, schedule and sampler (checkpoints.py); of LoRA weights the base and
    the file's own digest say as much.
    """

    source: str
    weights_digest: Digest
    dataset: Digest
    base: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)
    identity: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)


class Sampled(Settings):
    """How pictures are generated from seeds: part of all settings that need them.

    `prompts` and `guidance` are for text-to-image models alone: seeds take the prompts in turn, each for
    `seeds_a_prompt` seeds (reference.md, section 1: blocks of 500 on ArtBench-2, of 200 on ArtBench-5).
    """

    sampler: Literal["ddim", "ddpm"] = "ddim"
    sampling_steps: int = Field(default=50, ge=1, le=DIFFUSION_STEPS)
    eta: float = Field(default=0.0, ge=0, le=1)
    prompts: tuple[Prompt, ...] = Field(default=(), exclude_if=lambda value: not value)
    seeds_a_prompt: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    guidance: float = Field(default=7.5, ge=1, le=100, exclude_if=lambda value: value == 7.5)

    def drawing(self) -> dict[str, Any]:
        """Return these values alone, whatever settings they are part of."""
        return {name: getattr(self, name) for name in Sampled.model_fields}

    def prompt_of(self, seed: int) -> str:
        """Return the prompt of a seed, empty where there are none."""
        return self.prompts[seed // self.seeds_a_prompt % len(self.prompts)] if self.prompts else ""


class SampleSettings(Sampled):
    """One generated picture: checkpoint, sampler, seed."""

    checkpoint: Digest
    seed: Seed = 0


class FeatureSettings(Settings):
    """Everything that a gradient feature depends on (paper, section 3; reference.md, section 3).

    `num_timesteps` K draws a picture: uniform takes 0, 1000/K, ...; cumulative 0..K-1.
    `eta` is used by `interpolated` alone: 1 is the loss (TRAK), 0 the squared output (D-TRAK).
    `proj_dim` is ignored by `none`. `storage` int8 keeps one float32 scale a row. `normalise` timestep divides each
    draw's gradient by its length before the mean. `parts` faders keeps layers and noise levels apart (faders.py).

    Fields that came later are left out of the JSON at their default, so that what was stored before keeps its key.
    """

    dataset: Digest
    checkpoint: Digest
    model_output: ModelOutput = "squared-output"
    eta: float = Field(default=0.0, ge=0, le=1)
    timestep_strategy: Literal["uniform", "cumulative"] = "uniform"
    num_timesteps: int = Field(default=10, ge=1, le=DIFFUSION_STEPS)
    noise_seed: Seed = 0
    projection: ProjectionKind = "sparse"
    proj_dim: int = Field(default=4096, ge=1, le=2**20)
    proj_seed: Seed = 42
    storage: Literal["float32", "float16", "int8"] = "float32"
    normalise: Literal["none", "timestep"] = Field(default="none", exclude_if=lambda value: value == "none")
    parts: Literal["whole", "faders"] = Field(default="whole", exclude_if=lambda value: value == "whole")

    @model_validator(mode="after")
    def _check(self) -> FeatureSettings:
        if self.timestep_strategy == "uniform":
            even_grid(self.num_timesteps)
        if self.model_output != "interpolated" and self.eta != 0:
            raise ValueError(
                f"eta {self.eta:g} has no meaning for '{self.model_output}'; leave it 0 or choose 'interpolated'"
            )
        return self


def ends_of(settings: FeatureSettings) -> list[FeatureSettings]:
    """Return the settings of both ends of an interpolation: squared output (η = 0), loss (η = 1)."""
    ends: tuple[ModelOutput, ...] = ("squared-output", "loss")
    return [FeatureSettings(**settings.model_dump() | {"model_output": end, "eta": 0.0}) for end in ends]


class TargetSide(Settings):
    """What may differ on the target's side: the model output function, and where its draws are taken.

    `target_output` None takes the training side's function. `trajectory` takes them along the sampling of a
    generated target (Journey TRAK) instead of around its picture.
    """

    target_output: ModelOutput | None = Field(default=None, exclude_if=lambda value: value is None)
    target_eta: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda value: value == 0)
    trajectory: bool = Field(default=False, exclude_if=lambda value: not value)


class TargetFeatureSettings(TargetSide):
    """Feature of one target sample under the same settings as the training features, but for `TargetSide`.

    `target` is the sample id (`seed:3`, `held-out:7`, `train:12`, `upload:<digest>`) and
    `pixels` the digest of its picture, so that a seed under another sampler is another target.
    """

    features: FeatureSettings
    target: str = Field(pattern=r"^(seed|held-out|train|upload):[0-9a-f]+$")
    pixels: Digest


class EmbeddingSettings(Settings):
    """Embeddings of a whole training set, or of one target by its pixel digest.

    `weights` is the digest of the encoder's weights, empty for those of EfficientNet-Lite0 that ship.
    """

    model: EmbeddingModel
    weights: str = ""
    pixels: Digest


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: equal settings give equal text."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(*parts: bytes | str) -> str:
    """Return 16 hex digits of the SHA-256 of the parts, each preceded by its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def format_of(kind: str, settings: Mapping[str, Any]) -> int:
    """Return the format number of an artifact of this kind and these settings (as JSON values).

    It is that of the kind, and 1 more where pictures lean on a sampler that was mended.
    """
    if kind not in FORMATS:
        raise SettingsError(f"'{kind}' is not a kind of artifact. Kinds: {', '.join(FORMATS)}.")
    return FORMATS[kind] + _redrawn(settings)


def _redrawn(settings: Mapping[str, Any]) -> bool:
    """Say whether settings, or a part of them, draw pictures of prompts with fresh noise.

    Their last step lacked its noise once: diffusers adds it at timestep 1, where Stable Diffusion's schedules end.
    """
    noisy = settings.get("sampler") == "ddpm" or ("sampler" in settings and settings.get("eta", 0) > 0)
    parts = (one for one in settings.values() if isinstance(one, Mapping))
    return bool(noisy and settings.get("prompts")) or any(map(_redrawn, parts))


def key_of(kind: str, settings: Settings) -> str:
    """Return the key under which an artifact of this kind and these settings is stored."""
    number = format_of(kind, settings.model_dump(mode="json"))
    return digest_of(kind, str(number), canonical_json(settings))


def build(cls: type[SettingsT], **values: Any) -> SettingsT:
    """Make settings from a form's or file's values, with errors as sentences.

    Raises:
        SettingsError: One sentence for each value that is refused, with the value.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise SettingsError(sentences(error)) from None


def sentences(error: ValidationError) -> str:
    """Turn pydantic's findings into sentences that name field, value and what was expected."""
    found = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if not field:
            found.append(f"{text}.")
        elif item["type"] == "extra_forbidden":
            found.append(f"Setting '{field}' does not exist; remove it.")
        elif item["type"] == "missing":
            found.append(f"Setting '{field}' is missing; give it.")
        else:
            found.append(f"Setting '{field}' is {item['input']!r}: {text[0].lower()}{text[1:]}.")
    return " ".join(found)
