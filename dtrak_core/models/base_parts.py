"""Open the parts of a text-to-image base: denoiser, autoencoder, tokenizer, text encoder, schedule.

Each is opened by diffusers' or transformers' own class from whatever files the folder has: plain, sharded, .bin, or a
variant like fp16 where there is nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from dtrak_core.errors import DataError, StoreError
from dtrak_core.models import devices, latents, schedules, text_pipelines, weights
from dtrak_core.models.bases import Base
from dtrak_core.models.condition import Condition
from dtrak_core.models.model_files import config_of
from dtrak_core.models.schedules import Schedule
from dtrak_core.models.text_side import TextSide

UNREADABLE = (  # what diffusers, transformers and peft raise
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError,
)  # fmt: skip


def prove(base: Base, source: str) -> None:
    """Open every part of a base, and send one picture through all of them, so that nothing can fail at first use.

    Args:
        base: What is to be taken in.
        source: What the user calls its folder.

    Raises:
        DataError: If weights are damaged, hold code or numbers that are not finite, or the parts do not work together.
        StoreError: If a part cannot be opened.
    """
    for part in text_pipelines.STEMS:
        weights.read(text_pipelines.weights_of(base.folder, part, source), f"{source}/{part}")
    timing = schedule(base)
    process, first = timing.process, timing.sampler.timesteps(10, timing.process.steps)[0]
    if process.prediction == "noise" and not process.a[first] > 0:
        raise DataError(
            f"'{source}' draws from a timestep at which nothing of the picture is left (rescale_betas_zero_snr with "
            f"timestep_spacing '{timing.sampler.spacing}'), where a predicted noise says nothing. Correct its "
            "scheduler_config.json."
        )
    where, network, side = devices.device(), unet(base), text_side(base)
    network.eval().to(where, side.vae.dtype)
    picture = np.zeros((1, base.resolution, base.resolution, 3), np.uint8)
    tokens, known = len(side.tokenizer), int(side.text_encoder.config.vocab_size)
    if tokens > known:
        raise DataError(
            f"The tokenizer of '{source}' has {tokens:,} tokens, its text encoder knows {known:,}. Give the "
            "tokenizer that belongs to it."
        )
    try:
        with torch.no_grad():
            x = side.encode(picture).to(where, side.vae.dtype)
            told = side.conditions(["a picture"]).like(x)
            half_way = process.times[process.steps // 2 :][:1].to(where)
            made = side.decode(called(network, x, half_way, told).float())
    except UNREADABLE as error:
        raise DataError(
            f"The parts of '{source}' do not work together ({first_line(error)}). Give a whole Stable "
            "Diffusion pipeline that diffusers can draw with."
        ) from None
    if made.shape != picture.shape:
        raise DataError(
            f"The autoencoder of '{source}' makes pictures of {made.shape[1]} pixels from latents that its "
            f"denoiser draws, not {base.resolution}. Correct sample_size in unet/config.json."
        )


def called(network: nn.Module, x_t: Tensor, time: Tensor, told: Condition) -> Tensor:
    """Call a Stable Diffusion's denoiser."""
    output: Tensor = network(x_t, time, encoder_hidden_states=told["hidden"], return_dict=False)[0]
    return output


def unet(base: Base) -> UNet2DConditionModel:
    """Return a base's denoiser, its weights frozen, as they are stored."""
    network: UNet2DConditionModel = _opened(UNet2DConditionModel, base, "unet")
    network.requires_grad_(False)
    return network


def text_side(base: Base, dataset: str = "") -> TextSide:
    """Return a base's autoencoder and text encoder, with the stored latents of a dataset where there are some."""
    config = config_of(base.folder / "vae" / "config.json", base.folder, base.name)
    kind = AutoencoderTiny if config.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    vae, text = _opened(kind, base, "vae"), _opened(CLIPTextModel, base, "text_encoder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(base.folder / "tokenizer", local_files_only=True)
    except UNREADABLE as error:
        raise StoreError(
            f"The tokenizer of the base '{base.name}' cannot be read: {first_line(error)}. Get its files again."
        ) from None
    known, modes = latents.known(dataset, base.digest)
    for network in (vae, text):
        freeze(network)
    return TextSide(vae, tokenizer, text, known, modes)


def freeze(network: Any) -> None:
    """Bring a network that is only asked to the device, in the format of frozen weights, without gradients."""
    where = devices.device()
    network.requires_grad_(False).eval().to(where, devices.frozen_dtype(where))


def schedule(base: Base) -> Schedule:
    """Return a base's schedule, of its own scheduler's config with the two values that its pipeline sets.

    Whatever the config says, `StableDiffusionPipeline` begins one timestep later and clips no latents.
    """
    config = config_of(base.folder / "scheduler" / "scheduler_config.json", base.folder, base.name)
    return schedules.read(config | {"steps_offset": 1, "clip_sample": False}, base.name)


def _opened(kind: Any, base: Base, part: str) -> Any:
    """Open a part's network from its files. No weight may be missing, since diffusers would draw it at random."""
    files = text_pipelines.weights_of(base.folder, part)
    own: dict[str, Any] = {"variant": files.variant or None, "use_safetensors": files.paths[0].suffix == ".safetensors"}
    try:
        network, info = kind.from_pretrained(base.folder / part, local_files_only=True, output_loading_info=True, **own)
    except UNREADABLE as error:
        raise StoreError(
            f"The {part} of the base '{base.name}' cannot be read: {first_line(error)}. Get its files again."
        ) from None
    if missing := sorted(info["missing_keys"]):
        raise DataError(
            f"The weights in {part}/ of the base '{base.name}' lack {len(missing)} that config.json asks for, "
            f"{missing[0]} first. Give the files that belong together."
        )
    return network


def first_line(error: BaseException) -> str:
    """Return the first line of an error of others, without the point at its end."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".: ")
