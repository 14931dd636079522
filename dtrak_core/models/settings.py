"""Settings of models: what is trained and how, what is taken in from elsewhere, and how pictures are drawn."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from dtrak_core.errors import SettingsError
from dtrak_core.settings import Digest, Seed, Settings

Prediction = Literal["noise", "sample", "v", "flow"]
Precision = Literal["float32", "bfloat16"]
Frozen = Literal["stored", "int8", "nf4"]
PREDICTIONS: dict[str, Prediction] = {
    "epsilon": "noise",
    "sample": "sample",
    "v_prediction": "v",
    "flow_prediction": "flow",
}  # by diffusers' names

DIFFUSION_STEPS = 1000  # length of the noise schedule in every setting of the paper, and of nearly every model
LONGEST_TYPED = 400  # characters of a prompt that a user types


def even_grid(num_timesteps: int) -> int:
    """Return the number of timesteps if they divide the noise schedule evenly, or raise ValueError."""
    if DIFFUSION_STEPS % num_timesteps:
        raise ValueError(
            f"num_timesteps {num_timesteps} does not divide {DIFFUSION_STEPS}; "
            "choose 1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500 or 1000"
        )
    return num_timesteps


EvenGrid = Annotated[int, Field(ge=1, le=DIFFUSION_STEPS), AfterValidator(even_grid)]
Prompt = Annotated[str, Field(min_length=1)]  # a caption may be of any length


class ImportSettings(Settings):
    """A checkpoint made elsewhere: a diffusers DDPM folder or hub id, or LoRA weights of `base`, by its digest.

    `identity` is the digest of weights, network, schedule and sampler (checkpoints.py); of LoRA weights the base and
    the file's own digest say as much. `frozen` is as in LoraSettings.
    """

    source: str
    weights_digest: Digest
    dataset: Digest
    base: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)
    identity: str = Field(default="", pattern=r"^([0-9a-f]{16})?$", exclude_if=lambda value: not value)
    frozen: Frozen = Field(default="stored", exclude_if=lambda value: value == "stored")


class Sampled(Settings):
    """How pictures are generated from seeds: part of all settings that need them.

    `prompts` and `guidance` are for text-to-image models, whose prompts they are, and class-conditional ones, whose
    classes they name: seeds take the prompts in turn, each for `seeds_a_prompt` seeds (Zheng et al. 2024: blocks of 500
    on ArtBench-2, of 200 on ArtBench-5).
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

    def with_unsaid(self, own: Sampled) -> Sampled:
        """Return these settings with a model's own steps and guidance where they were not said."""
        unsaid = {"sampling_steps", "guidance"} - self.model_fields_set
        return self.model_copy(update={name: getattr(own, name) for name in unsaid})

    def prompt_of(self, seed: int) -> str:
        """Return the prompt of a seed, empty where there are none."""
        return self.prompts[seed // self.seeds_a_prompt % len(self.prompts)] if self.prompts else ""


def refuse_drawing(prediction: Prediction, length: int, sampled: Sampled) -> None:
    """Refuse a way of drawing that a model does not have.

    Args:
        prediction: What its network predicts.
        length: The timesteps of its noise schedule.
        sampled: How it is to draw.

    Raises:
        SettingsError: If a flow is to be drawn with fresh noise, or a sampler has more steps than there are timesteps.
    """
    if prediction != "flow":
        if sampled.sampling_steps > length:
            raise SettingsError(
                f"{sampled.sampling_steps} sampling steps are more than this model's noise schedule has timesteps. "
                f"Choose 1 to {length}."
            )
    elif sampled.sampler == "ddpm" or sampled.eta > 0:
        way = "the sampler 'ddpm'" if sampled.sampler == "ddpm" else f"eta {sampled.eta:g}"
        raise SettingsError(
            f"This model predicts flow and is drawn without fresh noise, by Euler's steps; {way} adds some. Choose the "
            "sampler 'ddim' with eta 0, which for such models means Euler's steps."
        )


class SampleSettings(Sampled):
    """One generated picture: checkpoint, sampler, seed."""

    checkpoint: Digest
    seed: Seed = 0


class ModelSettings(Settings):
    """Architecture of a pixel-space denoiser: a diffusers UNet2DModel, possibly folded.

    `fold` f moves each f x f block of pixels into channels (pixel unshuffle) before the
    network, so a 16x16 RGB picture is seen as 12 channels at 8x8. `prediction` is what the
    network puts out: the noise, the clean picture (sample), v or flow (process.py). With `classes`, names by number, it
    is told each picture's label, of which the share `class_dropout` is left out in training, so that drawing can be
    guided (Ho and Salimans 2022). A `grey` one sees one colour instead of three.
    """

    fold: Literal[1, 2, 4] = 2
    channels: tuple[int, ...] = (64, 64)
    attention: tuple[bool, ...] = (False, False)
    layers_per_block: int = Field(default=1, ge=1, le=4)
    mid_attention: bool = False
    head_dim: int | None = None
    norm_groups: int = Field(default=8, ge=1)
    norm_eps: float = Field(default=1e-5, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    time_scale_shift: Literal["default", "scale_shift"] = "default"
    downsample_padding: Literal[0, 1] = 1
    flip_sin_to_cos: bool = True
    freq_shift: Literal[0, 1] = 0
    prediction: Prediction = Field(default="noise", exclude_if=lambda value: value == "noise")
    classes: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    class_dropout: float = Field(default=0.1, ge=0, lt=1, exclude_if=lambda value: value == 0.1)
    grey: bool = Field(default=False, exclude_if=lambda value: not value)
    precision: Precision = Field(default="float32", exclude_if=lambda value: value == "float32")

    @property
    def left_out(self) -> float:
        """Return the share of pictures that training tells nothing of."""
        return self.class_dropout

    @property
    def planes(self) -> int:
        """Return how many channels the network takes and gives."""
        return (1 if self.grey else 3) * self.fold**2

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if len(self.channels) != len(self.attention):
            raise ValueError(
                f"channels has {len(self.channels)} levels, attention {len(self.attention)}; give one of each a level"
            )
        bad = [c for c in self.channels if c % self.norm_groups]
        if bad:
            raise ValueError(f"channels {bad} cannot be divided into norm_groups={self.norm_groups}")
        if len(set(self.classes)) < len(self.classes) or not all(self.classes):
            raise ValueError("classes must be names, each once")
        return self


Layer = Literal[
    # Projections of attention, in all families' transformers.
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    # The other layers of a U-Net's blocks.
    "conv1", "conv2", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
]  # fmt: skip


Layers = Literal["attention", "all"]  # which of them LoRA weights go to, by a base's family


class LoraSettings(Settings):
    """LoRA weights on layers of a frozen text-to-image model, its attention or all (Hu et al. 2022; Zheng et al. 2024).

    Each layer W gets W + `scale` B A with A (rank x in) and B (out x rank); a convolution's A is one of its size, its B
    one of a single pixel. `base` is the digest of the frozen model (bases.py), whose family says which projections its
    attention has. `caption_dropout` is the share of captions replaced by the empty prompt in training. In `precision`
    products in the denoiser are taken, and its frozen weights held; those of the linear layers in its blocks in 8 or 4
    bits, where `frozen` says so (quantised.py).
    """

    base: Digest
    rank: int = Field(default=128, ge=1, le=1024)
    scale: float = Field(default=1.0, gt=0, le=100)
    targets: tuple[Layer, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    caption_dropout: float = Field(default=0.1, ge=0, lt=1)
    precision: Precision = Field(default="float32", exclude_if=lambda value: value == "float32")
    frozen: Frozen = Field(default="stored", exclude_if=lambda value: value == "stored")

    @property
    def fold(self) -> int:
        """Return 1: latents are not folded."""
        return 1

    @property
    def left_out(self) -> float:
        """Return the share of pictures that training tells nothing of."""
        return self.caption_dropout

    @model_validator(mode="after")
    def _check(self) -> LoraSettings:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets {list(self.targets)} must name at least one kind of layer, each once")
        return self


class TrainSettings(Settings):
    """One training run: model, data, schedule, seed.

    `indices` None means the whole training set; otherwise the training indices used.
    Epochs, not steps, are held fixed when the set shrinks, as the paper does.
    """

    dataset: Digest
    model: ModelSettings | LoraSettings = ModelSettings()
    indices: tuple[int, ...] | None = None
    train_seed: Seed = 42
    epochs: int = Field(default=150, ge=1, le=100_000)
    batch_size: int = Field(default=32, ge=1, le=4096)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=1e-6, ge=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    flip: bool = False
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    weights_dtype: Literal["float32", "float16"] = "float32"

    def steps(self, num_pictures: int) -> int:
        """Return the optimiser steps on a set of so many pictures, of which `indices` are taken, or all.

        They are epochs x ceil(pictures taken / batch size).
        """
        taken = num_pictures if self.indices is None else len(set(self.indices))
        return self.epochs * math.ceil(taken / self.batch_size)


class ProbeSettings(Settings):
    """What a training probe measures: seconds a picture-step of this network at this size, for the `number`th time."""

    model: ModelSettings | LoraSettings
    resolution: int
    batch_size: int
    number: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)
