"""Open the parts of a text-to-image base: denoiser, autoencoder, tokenizers, text encoders, schedule.

Each is opened by diffusers' or transformers' own class from whatever files the folder has: plain, sharded, .bin, or a
variant like fp16 where there is nothing else.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import LabelEmbedding

from dtrak_core.errors import DataError, StoreError, first_line
from dtrak_core.models import (
    captions,
    class_names,
    devices,
    latents,
    quantised,
    schedules,
    text_families,
    text_pipelines,
    weights,
)  # fmt: skip
from dtrak_core.models.bases import Base
from dtrak_core.models.class_names import Classes
from dtrak_core.models.denoiser import Condition
from dtrak_core.models.model_files import WeightFiles, config_of, header
from dtrak_core.models.schedules import Schedule
from dtrak_core.models.settings import Frozen
from dtrak_core.models.text_families import Family
from dtrak_core.models.text_side import TextSide

LARGE = 1_500_000_000  # numbers of a network whose memory is saved: bfloat16 everywhere, activations taken twice
UNREADABLE = (  # what diffusers, transformers and peft raise
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError,
)  # fmt: skip
CLIPPING = ("DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler")


def prove(base: Base, source: str) -> None:
    """Open every part of a base, and send one picture through all of them, so that nothing can fail at first use.

    Args:
        base: What is to be taken in.
        source: What the user calls its folder.

    Raises:
        DataError: If weights are damaged, hold code or numbers that are not finite, or the parts do not work together.
        StoreError: If a part cannot be opened.
    """
    family = text_families.of(base.folder, source)
    for part in family.stems:
        for file in text_pipelines.weights_of(base.folder, part, source).paths:  # one by one: they may be large
            weights.read_file(file, f"{source}/{part}")
    timing = schedule(base)
    process, first = timing.process, timing.sampler.timesteps(10, timing.process.steps)[0]
    if process.prediction == "noise" and not process.a[first] > 0:
        raise DataError(
            f"'{source}' draws from a timestep at which nothing of the picture is left (rescale_betas_zero_snr with "
            f"timestep_spacing '{timing.sampler.spacing}'), where a predicted noise says nothing. Correct its "
            "scheduler_config.json."
        )
    where, side = devices.device(), text_side(base, storing=False)
    picture = np.zeros((1, base.resolution, base.resolution, 3), np.uint8)
    for encoder in family.encoders:
        tokens = len(getattr(side.words, encoder.tokenizer))
        known = int(getattr(side.words, encoder.part).config.vocab_size)
        if tokens > known:
            raise DataError(
                f"The {encoder.tokenizer} of '{source}' has {tokens:,} tokens, its text encoder knows {known:,}. Give "
                "the tokenizer that belongs to it."
            )
    try:
        with torch.no_grad():
            x, known_class = side.encode(picture), classes(base)
            told = Condition(side.conditions([known_class.names[0] if known_class else "a picture"]))
            side = text_side(base, storing=False)  # the encoders go before the denoiser comes
            network = denoiser(base).eval().to(where)
            x = x.to(where, network.dtype)
            told, half_way = told.like(x), process.times[process.steps // 2 :][:1].to(where)
            made = side.decode(family.call(network, x, half_way, told.tensors)[:, : x.shape[1]].float())
    except UNREADABLE as error:
        raise DataError(
            f"The parts of '{source}' do not work together ({first_line(error)}). Give a whole pipeline that diffusers "
            "can draw with."
        ) from None
    if made.shape != picture.shape:
        raise DataError(
            f"The autoencoder of '{source}' makes pictures of {made.shape[1]} pixels from latents that its "
            f"denoiser draws, not {base.resolution}. Correct sample_size in {family.part}/config.json."
        )


def denoiser(base: Base, form: Frozen = "stored") -> Any:
    """Return a base's denoiser, its weights frozen, in the number format of frozen weights, or in 8 or 4 bits."""
    family = text_families.of(base.folder, base.name)
    kind = getattr(diffusers, family.network)
    network = _opened(kind, base, family.part)
    if form != "stored":
        quantised.quantise(network, form, devices.device())
    network.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, LabelEmbedding):  # classes are left out by training here, at random of its own
            module.dropout_prob = 0.0
    if not issubclass(kind, PeftAdapterMixin):  # lend it the ways that diffusers' other networks have with LoRA weights
        network.__class__ = type(kind.__name__, (kind, PeftAdapterMixin), {})
    return network


def text_side(base: Base, dataset: str = "", storing: bool = True) -> TextSide:
    """Return a base's autoencoder and text encoders, with the stored latents of a dataset where there are some.

    `storing` says whether what captions tell is stored.
    """
    family = text_families.of(base.folder, base.name)
    given = config_of(base.folder / "vae" / "config.json", base.folder, base.name)
    kind = getattr(diffusers, given.get("_class_name", "AutoencoderKL"))
    silent = {name: value.default for name, value in inspect.signature(kind.__init__).parameters.items()}
    known, modes = latents.known(dataset, base.digest)
    return TextSide(
        family,
        base.resolution,
        silent | given,
        lambda: frozen(_opened(kind, base, "vae")),
        lambda: _words(base, family),
        known,
        modes,
        captions.Stored(base.digest) if storing and not family.by_class else None,
    )


def classes(base: Base) -> Classes | None:
    """Return the classes of a base that is told some, and none besides; None of those that are told captions."""
    if not text_families.of(base.folder, base.name).by_class:
        return None
    index = config_of(base.folder / "model_index.json", base.folder, base.name)
    return Classes(class_names.of_files(index, base.name), null=True)


def _words(base: Base, family: Family) -> Any:
    """Return the pipeline of a family with its tokenizers and text encoders, and nothing else; or its classes."""
    if (known := classes(base)) is not None:
        return known
    kind = getattr(diffusers, family.pipeline)
    wanted = inspect.signature(kind.__init__).parameters
    index = config_of(base.folder / "model_index.json", base.folder, base.name)
    parts: dict[str, Any] = {name: None for name, one in wanted.items() if one.default is inspect.Parameter.empty}
    parts |= {name: value for name, value in index.items() if name in wanted and not isinstance(value, list)}
    parts |= {name: False for name in ("requires_safety_checker", "add_watermarker") if name in wanted}
    del parts["self"]
    for encoder in family.encoders:
        parts[encoder.part] = frozen(_opened(getattr(transformers, encoder.classes[0]), base, encoder.part))
        try:
            tokenizer = getattr(transformers, encoder.tokenized).from_pretrained(
                base.folder / encoder.tokenizer, local_files_only=True
            )
        except UNREADABLE as error:
            raise StoreError(
                f"The {encoder.tokenizer} of the base '{base.name}' cannot be read: {first_line(error)}. Get its files "
                "again."
            ) from None
        parts[encoder.tokenizer] = tokenizer
    pipe = kind(**parts)
    config = config_of(base.folder / family.part / "config.json", base.folder, base.name)
    pipe.__dict__[family.part] = SimpleNamespace(config=SimpleNamespace(**config))  # whose widths encoders ask for
    return pipe


def frozen(network: Any) -> Any:
    """Bring a network that is only asked to the device, in the format of its frozen weights, without gradients."""
    where = devices.device()
    return network.requires_grad_(False).eval().to(where, frozen_dtype(network, where))


def frozen_dtype(network: Any, where: torch.device) -> torch.dtype:
    """Return the number format of a network's frozen weights: bfloat16 of a large one, else that of the device."""
    return torch.bfloat16 if network.dtype == torch.bfloat16 else devices.frozen_dtype(where)


def schedule(base: Base) -> Schedule:
    """Return a base's schedule, of its own scheduler's config with the values that its pipeline sets.

    Whatever the config says, a Stable Diffusion's begins one timestep later and clips no latents. What is drawn by
    other schedulers than DDPM and DDIM is not clipped unless its config says so. A flow's levels may depend on the size
    of the pictures.
    """
    config = text_pipelines.scheduler_of(base.folder, base.name)
    unclipped = {} if config.get("_class_name") in CLIPPING else {"clip_sample": False}
    family = text_families.of(base.folder, base.name)
    found = schedules.read(unclipped | config | dict(family.fixed), base.name)
    if found.sampler.flow is None:
        return found
    vae = config_of(base.folder / "vae" / "config.json", base.folder, base.name)
    places = (base.resolution // (text_pipelines.smaller(vae) * family.patch)) ** 2
    return replace(
        found, sampler=replace(found.sampler, flow=replace(found.sampler.flow, positions=places, evenly=family.evenly))
    )


def _opened(kind: Any, base: Base, part: str) -> Any:
    """Open a part's network from its files. No weight may be missing, since diffusers would draw it at random."""
    files = text_pipelines.weights_of(base.folder, part)
    own: dict[str, Any] = {"variant": files.variant or None, "use_safetensors": files.paths[0].suffix == ".safetensors"}
    name = "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype"
    own[name] = torch.bfloat16 if _numbers(files) > LARGE else torch.float32  # fresh LoRA weights come in this format
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


def _numbers(files: WeightFiles) -> int:
    """Return how many numbers safetensors files hold, by their heads; 0 of others."""
    heads = [header(path) for path in files.paths if path.suffix == ".safetensors"]
    return sum(math.prod(facts.get("shape", [0])) for head in heads for facts in head.values())
