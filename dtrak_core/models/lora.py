"""LoRA weights on the attention projections of a text-to-image model: attach, save, load (Hu et al. 2022).

The low-rank pair starts as the authors' does: A normal with standard deviation 1/rank, B zero. Files are those of
diffusers (`pytorch_lora_weights.safetensors`), so `StableDiffusionPipeline.load_lora_weights` opens ours, and what
other trainers made for the same base opens here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_unet_state_dict_to_peft
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from dtrak_core import store
from dtrak_core.errors import DataError
from dtrak_core.models import base_parts, devices, lora_files
from dtrak_core.models.base_parts import UNREADABLE, first_line
from dtrak_core.models.bases import Base
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.model_files import LORA
from dtrak_core.models.settings import LoraSettings
from dtrak_core.settings import digest_of

FILE = LORA
ADAPTER = "default"


def untrained(base: Base, settings: LoraSettings, dataset: str) -> Denoiser:
    """Return a base with fresh LoRA weights, which come from torch's global generator.

    Args:
        base: The frozen model.
        settings: Rank, scale, projections, dropout.
        dataset: Digest of the dataset, whose stored latents are taken.
    """
    unet = base_parts.unet(base)
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
    """Return a base with the LoRA weights of a stored folder, in eval mode; see `opened`."""
    return opened(base, folder / FILE, folder.name, dataset)


def opened(base: Base, file: Path, source: str, dataset: str) -> Denoiser:
    """Return a base with the LoRA weights of a file, in eval mode.

    Args:
        base: The model that they were trained on.
        file: What one of many trainers wrote (`lora_files`).
        source: What the user calls it.
        dataset: Digest of the dataset, whose stored latents are taken.

    Raises:
        DataError: If the file is not LoRA weights of this base's denoiser, all of them.
    """
    unet = base_parts.unet(base)
    adapter = lora_files.read(file, source, unet.config)
    given = _given(adapter.state)
    _refuse_halves(given, {_other_factor(name) for name in given}, source)
    try:
        StableDiffusionPipeline.load_lora_into_unet(
            dict(adapter.state), network_alphas=adapter.alphas, unet=unet, adapter_name=ADAPTER,
            metadata=adapter.metadata,
        )  # fmt: skip
    except UNREADABLE as error:
        raise DataError(
            f"The LoRA weights of '{source}' do not fit the base '{base.name}': {_misfit(error)}. Give the base that "
            "they were trained on."
        ) from None
    taken = set(get_peft_model_state_dict(unet, adapter_name=ADAPTER))
    if lost := sorted(given - taken):  # of which diffusers only warns
        raise DataError(
            f"The LoRA weights of '{source}' do not fit the base '{base.name}': it has no place for {len(lost)} of "
            f"them, {lost[0]} first. Give the base that they were trained on."
        )
    _refuse_halves(given, taken, source)
    unet.set_adapter(ADAPTER)
    found = _ready(base, unet, dataset)
    found.network.eval()
    return found


def _given(state: Mapping[str, Tensor]) -> set[str]:
    """Return the names of a file's weights as the denoiser names its own."""
    given = {name.removeprefix("unet."): value for name, value in state.items()}
    return set(given if any("lora_A" in name for name in given) else convert_unet_state_dict_to_peft(given))


def _other_factor(name: str) -> str:
    pair = ("lora_A.weight", "lora_B.weight")
    return next((name.replace(a, b) for a, b in (pair, pair[::-1]) if name.endswith(a)), name)


def _refuse_halves(given: set[str], needed: set[str], source: str) -> None:
    if lacking := sorted(needed - given):
        raise DataError(
            f"The LoRA weights of '{source}' are not whole: {len(lacking)} are missing, {lacking[0]} first. Get the "
            "file again, or save it anew."
        )


def _misfit(error: BaseException) -> str:
    """Return the first weight of another shape that torch names, or the first line of what it says."""
    told = re.search(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)", str(error))
    if told is None:
        return first_line(error)
    name = told[1].replace(f".{ADAPTER}.", ".")
    return f"{name} is {told[2]} where {told[3]} is expected"


def save(denoiser: Denoiser, folder: Path, dtype: torch.dtype) -> str:
    """Write the LoRA weights so that plain diffusers opens them; return their digest."""
    unet: Any = denoiser.network
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


def _ready(base: Base, unet: UNet2DConditionModel, dataset: str) -> Denoiser:
    where, side = devices.device(), base_parts.text_side(base, dataset)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("lora_" in name)
        parameter.data = parameter.data.to(
            where, torch.float32 if parameter.requires_grad else devices.frozen_dtype(where)
        )
    schedule = base_parts.schedule(base)
    size = base.resolution // side.smaller
    return Denoiser(
        unet,
        schedule.process.to(where),
        1,
        (unet.config.in_channels, size, size),
        side,
        sampler=schedule.sampler,
        half=devices.frozen_dtype(where) == torch.bfloat16,
        call=base_parts.called,
    )
