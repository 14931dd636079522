"""Denoisers: build untrained ones, save them in diffusers' layout, load them.

Of pixels: a diffusers UNet2DModel with the DDPM's linear betas 1e-4 .. 0.02 over 1,000 steps (Ho et al. 2020), here.
Of latents: LoRA weights on a text-to-image model (lora.py), whose libraries take seconds to import, so only where one
is opened. Everything else in the core (training, sampling, features) speaks to either through `Denoiser`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dtrak_core import store
from dtrak_core.errors import DataError, NotFoundError, SettingsError, first_line
from dtrak_core.models import bases, class_names, devices, schedules, weights
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.class_names import Classes
from dtrak_core.models.denoiser import Denoiser, by_class
from dtrak_core.models.schedules import PAPERS, Schedule
from dtrak_core.models.settings import LoraSettings, ModelSettings
from dtrak_core.models.unets import UNet2DModel
from dtrak_core.settings import digest_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
KNOWN = frozenset(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}  # settings of a network


def build_unet(model: ModelSettings, resolution: int) -> UNet2DModel:
    """Make an untrained network. Weights come from torch's global generator; seed it first.

    Raises:
        SettingsError: If the picture cannot be halved as often as the network has levels.
    """
    halvings = model.fold * 2 ** (len(model.channels) - 1)
    if resolution % halvings:
        raise SettingsError(
            f"Resolution {resolution} cannot be folded by {model.fold} and halved {len(model.channels) - 1} times. "
            f"Choose a multiple of {halvings}."
        )
    down = ["AttnDownBlock2D" if attended else "DownBlock2D" for attended in model.attention]
    up = ["AttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(model.attention)]
    unet = UNet2DModel(
        sample_size=resolution // model.fold,
        in_channels=model.planes,
        out_channels=model.planes,
        block_out_channels=model.channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=model.layers_per_block,
        add_attention=model.mid_attention,
        attention_head_dim=model.head_dim,
        # Without it, current diffusers drops the mid attention's norm under scale_shift; the paper's version had it.
        attn_norm_num_groups=model.norm_groups,
        norm_num_groups=model.norm_groups,
        norm_eps=model.norm_eps,
        dropout=model.dropout,
        resnet_time_scale_shift=model.time_scale_shift,
        downsample_padding=model.downsample_padding,
        flip_sin_to_cos=model.flip_sin_to_cos,
        freq_shift=model.freq_shift,
        num_class_embeds=len(model.classes) + bool(model.class_dropout) if model.classes else None,
    )
    for module in unet.modules():  # the paper's code sets all of them, those of the attention too
        if isinstance(module, nn.Dropout):
            module.p = model.dropout
    return unet


def untrained(model: ModelSettings | LoraSettings, resolution: int, seed: int, dataset: str) -> Denoiser:
    """Return an untrained network of these settings; all of its random weights come from the seed.

    Args:
        model: A network of pixels, or LoRA weights.
        resolution: Side of the pictures.
        seed: Seed of the weights.
        dataset: Digest of the dataset, whose latents may be stored.

    Raises:
        SettingsError: If pictures of this size do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, LoraSettings):
            from dtrak_core.models import lora

            base = bases.by_digest(model.base)
            if reason := bases.unfit(base, resolution):
                raise SettingsError(reason)
            return lora.untrained(base, model, dataset)
        unet = build_unet(model, resolution)
        plain = denoiser_of(unet, model.fold, schedules.default(model.prediction), classes=model.classes)
        return replace(plain, half=model.precision == "bfloat16")


def save_weights(denoiser: Denoiser, folder: Path, dtype: torch.dtype) -> str:
    """Write a network's trained weights in diffusers' layout; return their digest.

    Equal weights that predict something else than noise, or that know classes by other names, are another model.
    """
    if denoiser.text is not None:
        from dtrak_core.models import lora

        return lora.save(denoiser, folder, dtype)
    assert isinstance(denoiser.network, UNet2DModel)
    predicted = denoiser.process.prediction
    names = denoiser.classes.names if denoiser.classes else ()
    digest = save_pipeline(denoiser.network, folder, dtype, schedules.default(predicted), names)
    digest = digest if predicted == "noise" else digest_of("predicts", schedules.DIFFUSERS[predicted], digest)
    return digest_of("classes", *names, digest) if names else digest


def denoiser_of(
    unet: UNet2DModel,
    fold: int,
    schedule: Schedule = PAPERS,
    source: str = "the network",
    classes: Sequence[str] = (),
) -> Denoiser:
    """Pair a network with a schedule. The caller sets the network's mode.

    `classes` are the names of what a class-conditional network is told, by number.
    """
    where = devices.device()
    nn.Module.to(unet, where)  # diffusers' own looks for quantised weights, for which it imports transformers and peft
    size, sampler = unet.config.sample_size, schedule.sampler
    height, width = (size, size) if isinstance(size, int) else size
    shape, process = (unet.config.in_channels, height, width), schedule.process.to(where)
    if sampler.flow is not None:
        sampler = replace(sampler, flow=replace(sampler.flow, positions=height * width))
    if sampler.variance.startswith("learned") and unet.config.out_channels == unet.config.in_channels:
        raise DataError(
            f"The scheduler of '{source}' takes the variance from the network (variance_type '{sampler.variance}'), "
            "which puts out the picture's channels alone. Correct its scheduler_config.json."
        )
    if unet.config.time_embedding_type == "learned":  # a table of whole timesteps
        learned = int(unet.config.num_train_timesteps or 0)
        if process.prediction == "flow" or learned < process.steps:
            raise DataError(
                f"The network of '{source}' knows {learned} timesteps by heart (time_embedding_type 'learned'), its "
                f"scheduler has {'noise levels between them' if process.prediction == 'flow' else process.steps}. Give "
                "the scheduler that it was trained with."
            )
    if not classes:
        return Denoiser(unet, process, fold, shape, sampler=sampler)
    known = Classes(tuple(classes), numbers_of(unet.config) == len(classes) + 1)
    return Denoiser(unet, process, fold, shape, sampler=sampler, call=by_class, classes=known)


def numbers_of(config: Mapping[str, Any]) -> int | None:
    """Return how many classes a network's config tells apart, one for none of them too; None where it takes any number.

    That is so for networks without classes, and for those that embed a class as they do a timestep.
    """
    return None if config.get("class_embed_type") else config.get("num_class_embeds")


def save_pipeline(
    unet: UNet2DModel,
    folder: Path,
    dtype: torch.dtype,
    schedule: Schedule = PAPERS,
    classes: Sequence[str] = (),
) -> str:
    """Write network and schedule so that `DDPMPipeline.from_pretrained(folder)` opens them.

    A folded network is opened there in its folded form: its pictures have 3 fold^2 channels. Of a flow, for which
    diffusers has no such pipeline, the folders of network and scheduler are written alone.

    Returns:
        Digest of the weights as written.
    """
    stored = {name: value.detach().to("cpu", dtype).contiguous() for name, value in unet.state_dict().items()}
    store.write_bytes(folder / "unet" / WEIGHTS, save(stored, metadata={"format": "pt"}))
    config: dict[str, Any] = json.loads(unet.to_json_string()) | class_names.stored(classes)
    store.write_json(folder / "unet" / "config.json", config)
    store.write_json(folder / "scheduler" / "scheduler_config.json", schedule.config)
    if schedule.config["_class_name"] == "DDPMScheduler":
        index = {
            "_class_name": "DDPMPipeline",
            "_diffusers_version": config["_diffusers_version"],
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
        }
        store.write_json(folder / "model_index.json", index)
    return weights_digest(unet, dtype)


def weights_digest(unet: nn.Module, dtype: torch.dtype = torch.float32) -> str:
    """Return the digest of all weights, by name, as stored in `dtype`."""
    return weights.digest({name: value.detach().to("cpu", dtype) for name, value in unet.state_dict().items()})


def load_denoiser(checkpoint: Checkpoint) -> Denoiser:
    """Open a stored checkpoint: weights in float32, eval mode, gradients on, products in its training's precision.

    Raises:
        NotFoundError: If LoRA weights lack their base, or the weights do not ship.
        StoreError: If the weights are damaged.
        DataError: If the files are not a DDPM, or LoRA weights of their base.
    """
    if checkpoint.left_out:
        raise NotFoundError(
            f"The weights of '{checkpoint.name}' do not ship, only what was computed with them. Train a model of your "
            "own, which keeps its weights on the way, and ask about that."
        )
    relative = checkpoint.folder.relative_to(checkpoint.run.path).as_posix()
    trained = checkpoint.run.settings.get("model", checkpoint.run.settings)  # of an import they are its own
    precision, form = trained.get("precision", "float32"), trained.get("frozen", "stored")
    if checkpoint.base:
        from dtrak_core.models import lora

        file = checkpoint.run.file(f"{relative}/{lora.FILE}")
        return lora.load(bases.by_digest(checkpoint.base), file.parent, checkpoint.dataset, precision, form)
    file = checkpoint.run.file(f"{relative}/unet/{WEIGHTS}")
    config = json.loads(checkpoint.run.file(f"{relative}/unet/config.json").read_bytes())
    timing = json.loads(checkpoint.run.file(f"{relative}/scheduler/scheduler_config.json").read_bytes())
    found, schedule = weights.read_file(file, checkpoint.name), schedules.read(timing, checkpoint.name)
    plain = assemble(config, found, schedule, checkpoint.fold, checkpoint.name, checkpoint.classes)
    return replace(plain, half=precision == "bfloat16")


def unet_of(config: Mapping[str, Any], source: str) -> UNet2DModel:
    """Return the untrained network of a diffusers UNet2DModel's config; what it leaves out is diffusers' own.

    Raises:
        DataError: If it cannot be built, or takes or gives more than a picture at a timestep.
    """
    given = {name: value for name, value in config.items() if name in KNOWN}
    try:
        unet: UNet2DModel = UNet2DModel(**given)
    except (TypeError, ValueError, LookupError, RuntimeError, AttributeError, ArithmeticError, NameError) as error:
        told = first_line(error)
        raise DataError(f"The network that config.json of '{source}' describes cannot be built: {told}.") from None
    own = unet.config
    if own.class_embed_type == "identity":
        raise DataError(
            f"'{source}' is told an embedding of its own making for each picture (class_embed_type 'identity'). Only "
            "networks that are told a class's number can be opened."
        )
    if own.time_embedding_type == "fourier":
        raise DataError(
            f"'{source}' is a score model of an SDE (time_embedding_type 'fourier'): its noise levels are no DDPM's. "
            "Only DDPMs and flows can be opened."
        )
    if own.out_channels not in (own.in_channels, 2 * own.in_channels):
        raise DataError(
            f"The network of '{source}' has {own.in_channels} input and {own.out_channels} output channels. "
            "Only networks that put out as many channels as they take, or twice as many for a variance, can be opened."
        )
    return unet


def assemble(
    config: Mapping[str, Any],
    found: Mapping[str, Tensor],
    schedule: Schedule,
    fold: int,
    source: str = "the checkpoint",
    classes: Sequence[str] = (),
) -> Denoiser:
    """Make a denoiser from a diffusers UNet2DModel config, its weights and its schedule, in eval mode."""
    unet = unet_of(config, source)
    weights.fit(unet, found, source)
    return denoiser_of(unet.eval(), fold, schedule, source, classes)
