"""LoRA weights on the attention projections of a text-to-image model: attach, save, load (reference.md, 2.2).

The low-rank pair starts as the authors' does: A normal with standard deviation 1/rank, B zero. Files are those of
diffusers (`pytorch_lora_weights.safetensors`), so `StableDiffusionPipeline.load_lora_weights` opens ours, and what
other trainers made for the same base opens here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from dtrak_core import devices, latents, schedules, store
from dtrak_core.bases import Base
from dtrak_core.denoiser import Denoiser, tracked_parameters
from dtrak_core.errors import DataError, StoreError
from dtrak_core.model_files import LORA, config_of
from dtrak_core.settings import digest_of
from dtrak_core.text_side import TextSide
from dtrak_core.train_settings import LoraSettings

FILE = LORA
ADAPTER = "default"


def untrained(base: Base, settings: LoraSettings, dataset: str) -> Denoiser:
    """Return a base with fresh LoRA weights, which come from torch's global generator.

    Args:
        base: The frozen model.
        settings: Rank, scale, projections, dropout.
        dataset: Digest of the dataset, whose stored latents are taken.
    """
    unet = _unet(base)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale * settings.rank,  # type: ignore[arg-type]  # a float works: alpha / rank
        init_lora_weights="gaussian",
        target_modules=list(settings.targets),
    )
    unet.add_adapter(config, ADAPTER)
    for name, module in unet.named_modules():  # as the authors' code sets them
        if isinstance(module, nn.Dropout) and "attn" in name:
            module.p = settings.dropout
    return _ready(base, unet, dataset)


def load(base: Base, folder: Path, dataset: str) -> Denoiser:
    """Return a base with the LoRA weights of a folder, in eval mode.

    Raises:
        DataError: If the file is not LoRA weights of this base's denoiser.
    """
    unet = _unet(base)
    try:
        state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
            str(folder), weight_name=FILE, unet_config=unet.config, return_lora_metadata=True, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise DataError(f"'{folder.name}' holds no LoRA weights that diffusers knows ({_first(error)}).") from None
    if other := sorted({name.split(".")[0] for name in state} - {"unet"}):
        raise DataError(
            f"These LoRA weights also change {', '.join(other)}. Only those of the denoiser (unet) can be attributed."
        )
    try:
        StableDiffusionPipeline.load_lora_into_unet(
            state, network_alphas=alphas, unet=unet, adapter_name=ADAPTER, metadata=metadata
        )
    except (RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"The LoRA weights do not fit the base '{base.name}': {_first(error)}.") from None
    unet.set_adapter(ADAPTER)
    found = _ready(base, unet, dataset)
    if not tracked_parameters(found.unet):
        raise DataError(f"'{folder.name}' has no LoRA weights for the base '{base.name}'.")
    found.unet.eval()
    return found


def save(denoiser: Denoiser, folder: Path, dtype: torch.dtype) -> str:
    """Write the LoRA weights so that plain diffusers opens them; return their digest."""
    unet: Any = denoiser.unet
    state = {name: value.detach().to("cpu", dtype) for name, value in get_peft_model_state_dict(unet).items()}
    config = unet.peft_config[ADAPTER].to_dict()
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=state, weight_name=FILE, unet_lora_adapter_metadata=json.loads(json.dumps(plain))
    )
    store.write_bytes(folder / FILE, (folder / FILE).read_bytes())  # flushed, as all that is kept
    return weights_digest(state)


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return the digest of weights, by name, in their own number format."""
    parts: list[bytes | str] = []
    for name, value in sorted(state.items()):
        parts += [name, value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()]
    return digest_of(*parts)


def text_side(base: Base, dataset: str = "") -> TextSide:
    """Return a base's autoencoder and text encoder, with the stored latents of a dataset where there are some."""
    where = devices.device()
    dtype = devices.frozen_dtype(where)
    try:
        vae = AutoencoderKL.from_pretrained(base.folder, subfolder="vae", local_files_only=True)
        text = CLIPTextModel.from_pretrained(base.folder, subfolder="text_encoder", local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(base.folder, subfolder="tokenizer", local_files_only=True)
    except (OSError, ValueError) as error:
        raise StoreError(f"The base '{base.name}' cannot be read: {_first(error)}.") from None
    known, modes = latents.known(dataset, base.digest)
    for network in (vae, text):
        network.requires_grad_(False).eval().to(where, dtype)
    return TextSide(vae, tokenizer, text, known, modes)


def _unet(base: Base) -> UNet2DConditionModel:
    try:
        unet = UNet2DConditionModel.from_pretrained(base.folder, subfolder="unet", local_files_only=True)
    except (OSError, ValueError) as error:
        raise StoreError(f"The base '{base.name}' cannot be read: {_first(error)}.") from None
    unet.requires_grad_(False)
    return unet


def _ready(base: Base, unet: UNet2DConditionModel, dataset: str) -> Denoiser:
    where = devices.device()
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
        parameter.data = parameter.data.to(
            where, torch.float32 if parameter.requires_grad else devices.frozen_dtype(where)
        )
    file = base.folder / "scheduler" / "scheduler_config.json"
    schedule = schedules.read(config_of(file, base.folder, base.name), base.name)
    size = unet.config.sample_size
    return Denoiser(
        unet,
        schedule.betas.to(where),
        schedule.alphas_cumprod.to(where),
        1,
        (unet.config.in_channels, size, size),
        text_side(base, dataset),
        sampler=schedule.sampler,
        half=devices.frozen_dtype(where) == torch.bfloat16,
    )


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".: ")
