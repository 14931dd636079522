"""Settings of features: everything that a gradient feature depends on, and the keys of features to be."""

from __future__ import annotations

import functools
from typing import Literal

from pydantic import Field, model_validator

from dtrak_core import store
from dtrak_core.errors import SettingsError
from dtrak_core.models.settings import DIFFUSION_STEPS, Sampled, SampleSettings, even_grid
from dtrak_core.models.targets import Target
from dtrak_core.settings import Digest, Seed, Settings

ModelOutput = Literal[
    "loss",
    "squared-output",
    "elbo",
    "mean-output",
    "l1-norm",
    "l2-norm",
    "linf-norm",
    "interpolated",
    "squared-noise",
    "squared-clean",
    "mean-noise",
    "mean-clean",
]
SPOKEN: dict[ModelOutput, str] = {  # what the gradient is of, in a sentence
    "loss": "the training loss",
    "squared-output": "the squared size of the model's output",
    "elbo": "the loss of the variational bound",
    "mean-output": "the mean of the model's output",
    "l1-norm": "the L1 norm of the model's output",
    "l2-norm": "the L2 norm of the model's output",
    "linf-norm": "the largest entry of the model's output",
    "interpolated": "a mixture of squared output and training loss",
    "squared-noise": "the squared size of the noise that the output means",
    "squared-clean": "the squared size of the clean picture that the output means",
    "mean-noise": "the mean of the noise that the output means",
    "mean-clean": "the mean of the clean picture that the output means",
}
Weighting = Literal["alike", "training"]
ProjectionKind = Literal["sparse", "gaussian", "rademacher", "none"]
MOST_SEEDS = 8
ALONE = 4  # times as long a draw takes whose gradient is made alone, to be divided by its length


class FeatureSettings(Settings):
    """Everything that a gradient feature depends on (Zheng et al. 2024, section 3).

    `num_timesteps` K draws a picture: uniform takes 0, T/K, ... of T timesteps (1000); cumulative 0..K-1; low the
    middles of K equal parts of the lowest fifth.
    `eta` is used by `interpolated` alone: 1 is the loss (TRAK), 0 the squared output (D-TRAK).
    `proj_dim` is ignored by `none`. `storage` float16 keeps a float32 scale for each row, int8 one for each column of a
    shard (feature_store.py). `normalise` timestep divides each draw's gradient by its length before the mean.
    `weighting` training multiplies each draw with the weight that its timestep has in the training. `parts` faders
    keeps layers and noise levels apart (faders.py).

    Fields that came later are left out of the JSON at their default, so that what was stored before keeps its key.
    """

    dataset: Digest
    checkpoint: Digest
    model_output: ModelOutput = "squared-output"
    eta: float = Field(default=0.0, ge=0, le=1)
    timestep_strategy: Literal["uniform", "cumulative", "low"] = "uniform"
    num_timesteps: int = Field(default=10, ge=1, le=DIFFUSION_STEPS)
    noise_seed: Seed = 0
    projection: ProjectionKind = "sparse"
    proj_dim: int = Field(default=4096, ge=1, le=2**20)
    proj_seed: Seed = 42
    storage: Literal["float32", "float16", "int8"] = "float32"
    normalise: Literal["none", "timestep"] = Field(default="none", exclude_if=lambda value: value == "none")
    weighting: Weighting = Field(default="alike", exclude_if=lambda value: value == "alike")
    parts: Literal["whole", "faders"] = Field(default="whole", exclude_if=lambda value: value == "whole")

    @model_validator(mode="after")
    def _check(self) -> FeatureSettings:
        if self.timestep_strategy == "uniform":
            even_grid(self.num_timesteps)
        if self.timestep_strategy == "low" and self.num_timesteps > DIFFUSION_STEPS // 5:
            raise ValueError(
                f"num_timesteps {self.num_timesteps} is more than the lowest fifth of {DIFFUSION_STEPS} holds; choose "
                f"at most {DIFFUSION_STEPS // 5}, or timestep_strategy 'uniform'"
            )
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


def is_mixture(features: FeatureSettings, side: TargetSide = TargetSide()) -> bool:  # noqa: B008 - frozen
    """Say whether a feature is the sum of those of both ends of an interpolation, and takes no gradient of its own."""
    return features.model_output == "interpolated" and features.normalise == "none" and side == TargetSide()


class TargetFeatureSettings(TargetSide):
    """Feature of one target sample under the same settings as the training features, but for `TargetSide`.

    `target` is the sample id (`seed:3`, `held-out:7`, `train:12`, `upload:<digest>`) and
    `pixels` the digest of its picture, so that a seed under another sampler is another target. It is the mean over
    `noise_seeds` noises at each timestep, those of the training features' seed and of the seeds after it. Of a training
    picture they are `drawn_anew`, so that it shares none with its own training feature; before 2026-11-28 it did.
    """

    features: FeatureSettings
    noise_seeds: int = Field(default=1, ge=1, le=MOST_SEEDS, exclude_if=lambda value: value == 1)
    target: str = Field(pattern=r"^(seed|held-out|train|upload):[0-9a-f]+$")
    pixels: Digest
    drawn_anew: bool = Field(default=False, exclude_if=lambda value: not value)


def feature_target(features: FeatureSettings, target: Target, side: TargetSide) -> TargetFeatureSettings:
    """Return the settings under which a target's feature is stored."""
    seeds = 1 if side.trajectory else noise_seeds(features)
    shared = {"features": features, "noise_seeds": seeds, "drawn_anew": drawn_anew(target.id)}
    return TargetFeatureSettings(target=target.id, pixels=target.pixels, **shared, **side.model_dump())


def drawn_anew(target_id: str) -> bool:
    """Say whether a target is a training picture, whose noise is another than that of its training feature."""
    return target_id.startswith("train:")


def target_name(target_id: str) -> str:
    """Return what a target's noise is named by: its id, but for a training picture, which is drawn for anew.

    Noise that a training picture as a target shared with its own training feature would be in the product of these
    two and in no other, and make what it says of itself several times too large.
    """
    return f"target/{target_id}" if drawn_anew(target_id) else target_id


def target_gradients(settings: TargetFeatureSettings, target: Target) -> int:
    """Return how many gradients a target's feature takes: one a step of its sampling, or a timestep and noise."""
    if settings.trajectory:
        return trajectory_of(target).sampling_steps
    return settings.features.num_timesteps * settings.noise_seeds


def no_trajectory(target: str, sampled: Sampled) -> str:
    """Say of a target's id and drawing why Journey TRAK cannot follow how it was generated; nothing if it can."""
    if target.startswith("seed:") and sampled.sampler == "ddim":
        return ""
    return f"'{target}' has no DDIM trajectory. Choose a picture that the model generated by DDIM."


def trajectory_of(target: Target) -> SampleSettings:
    """Return the sampling that Journey TRAK follows a target along.

    Raises:
        SettingsError: If the target was not generated by DDIM.
    """
    if reason := no_trajectory(target.id, target.sampled):
        raise SettingsError(reason)
    return SampleSettings(**target.row["settings"])


def plain_draws(features: FeatureSettings) -> int:
    """Return how many plain draws one draw of these features takes as long as."""
    return ALONE if features.normalise == "timestep" else 1


def noise_seeds(features: FeatureSettings) -> int:
    """Return over how many noises a target's feature is averaged: 1, 2, 4 or 8.

    More draws of the target cost M gradients, not N, and raise the LDS (docs/findings.md). So many are taken as its
    model's run notes to fit a second or so; runs of before note none, and keep what is stored. A dense projection
    is drawn anew for each feature, which costs more than its draws.
    """
    if features.projection in ("gaussian", "rademacher"):
        return 1
    most = target_draws(features.checkpoint) // (plain_draws(features) * features.num_timesteps)
    return 2 ** min(most.bit_length() - 1, MOST_SEEDS.bit_length() - 1) if most else 1


def target_draws(checkpoint: str) -> int:
    """Return how many draws of a target a second or so holds, as a model's run notes; 0 where it notes nothing.

    Such runs have the digests of their checkpoints in their manifests.
    """
    return _noted(store.stamp(("checkpoints", "retrained"))).get(checkpoint, 0)


@functools.lru_cache(maxsize=2)
def _noted(_stamp: tuple[str, ...]) -> dict[str, int]:
    # A run counts by its own note, whatever another one that came to the same weights notes.
    runs = [*store.listing("retrained"), *store.listing("checkpoints")]
    return {step["digest"]: run.manifest.get("target_draws", 0) for run in runs for step in run.manifest["steps"]}


def nth_seed(features: FeatureSettings, number: int) -> FeatureSettings:
    """Return the settings of a target's feature under its `number`th noise."""
    if number == 0:
        return features
    return FeatureSettings(**features.model_dump() | {"noise_seed": (features.noise_seed + number) % 2**31})


def own_side(features: FeatureSettings, side: TargetSide) -> FeatureSettings:
    """Return the settings that the target's own feature is made with."""
    if side.target_output is None:
        return features
    changed = {"model_output": side.target_output, "eta": side.target_eta}
    return FeatureSettings(**features.model_dump() | changed)


def in_parts(features: FeatureSettings) -> FeatureSettings:
    """Return the settings of the same features in parts."""
    return FeatureSettings(**features.model_dump() | {"parts": "faders"})
