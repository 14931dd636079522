"""Find and read LoRA weights made elsewhere, whatever trainer wrote them, for a Stable Diffusion's denoiser.

Read are diffusers' own files, old and new, kohya's, and PEFT's adapter_model.safetensors with its adapter_config.json.
What else can be told by its names (LoHa, LoKr, weights of a text encoder, of a transformer) is refused by what it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from torch import Tensor

from dtrak_core import program
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.models import weights
from dtrak_core.models.base_parts import UNREADABLE, first_line
from dtrak_core.models.model_files import LORA as FILE
from dtrak_core.models.model_files import config_of

PEFT, PEFT_CONFIG = "base_model.model.", "adapter_config.json"
ENDINGS = (".safetensors", ".bin", ".pt")
USUAL = (FILE, "adapter_model.safetensors", "pytorch_lora_weights.bin", "adapter_model.bin")
DENOISER = {"conv_in", "time_embedding", "down_blocks", "mid_block", "up_blocks", "conv_out"}  # parts with weights
OTHER_KINDS = {  # what names of weights hold, and what these weights are
    "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "boft_": "BOFT", "on_input": "IA3", "ia3_": "IA3",
    "dora_scale": "kohya's DoRA", "vera_": "VeRA", "lora_mid": "CP-decomposed LoRA",
}  # fmt: skip
OTHER_NETWORKS = {
    "text_encoder": "the text encoder",
    "text_encoder_2": "a second text encoder, as in Stable Diffusion XL",
    "text_model": "a text encoder",
    "transformer": "a transformer, as in Flux or Stable Diffusion 3",
    "vae": "the autoencoder",
}


@dataclass(frozen=True)
class Adapter:
    """LoRA weights as diffusers takes them: by name, alphas of kohya's files, the config that others note."""

    state: Mapping[str, Tensor]
    alphas: Mapping[str, float] | None
    metadata: Mapping[str, Any] | None


def choose(folder: Path, source: str) -> Path:
    """Return the file of a folder that holds its LoRA weights.

    Raises:
        NotFoundError: If there is none, or several and none has a usual name; the sentence says which there are.
    """
    if (folder / "model_index.json").is_file():
        raise DataError(
            f"'{source}' is a whole pipeline, not LoRA weights. Leave out --base to take in a DDPM, or take a "
            f"text-to-image model in with: {program.command('base')}."
        )
    held = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
    for name in USUAL:
        if folder / name in held:
            return folder / name
    plain = [path for path in held if path.suffix == ".safetensors"] or held
    if len(plain) == 1:
        return plain[0]
    if not plain:
        raise NotFoundError(
            f"'{source}' holds 0 .safetensors files. Give a folder with LoRA weights ({FILE}), or their file."
        )
    names = ", ".join(path.name for path in plain[:6]) + (", ..." if len(plain) > 6 else "")
    raise NotFoundError(
        f"'{source}' holds {len(plain)} .safetensors files and none is {FILE}: {names}. Give the file that is meant, "
        f"for example {source}/{plain[0].name}."
    )


def read(file: Path, source: str, unet_config: Mapping[str, Any]) -> Adapter:
    """Return the weights of a file for a denoiser.

    Args:
        file: A file as `choose` finds it.
        source: What the user calls it.
        unet_config: The config of the base's denoiser, by which block numbers of kohya's files are understood.

    Raises:
        NotFoundError: If PEFT's config is missing beside PEFT's weights.
        DataError: If the file is damaged, a stand-in, holds code, numbers that are not finite, or no LoRA weights of a
            denoiser alone.
    """
    _refuse_other_kinds(weights.read_file(file, source), source)
    try:
        state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(
            str(file.parent),
            weight_name=file.name,
            unet_config=unet_config,
            return_lora_metadata=True,
            local_files_only=True,
        )
    except UNREADABLE as error:
        raise DataError(f"'{source}' holds no LoRA weights that diffusers knows ({first_line(error)}).") from None
    if any(name.startswith(PEFT) for name in state):
        state = {f"unet.{name.removeprefix(PEFT)}": value for name, value in state.items()}
        metadata = {f"unet.{name}": value for name, value in _peft_config(file, source).items()}
    elif {name.split(".")[0] for name in state} <= DENOISER:  # as diffusers wrote them before mid-2023
        state = {f"unet.{name}": value for name, value in state.items()}
    _refuse_other_networks(state, source)
    return Adapter(state, alphas, metadata)


def _refuse_other_kinds(names: Collection[str], source: str) -> None:
    for part, kind in OTHER_KINDS.items():
        if any(part in name for name in names):
            raise DataError(
                f"'{source}' holds {kind} weights. LoRA weights alone can be attributed, of PEFT, diffusers or kohya: "
                "train such ones, or convert these."
            )
    if not any("lora" in name for name in names):
        raise DataError(
            f"'{source}' holds no LoRA weights: no name in it says so ({next(iter(names), 'it is empty')}). Give the "
            f"file that a LoRA training wrote, like {FILE}."
        )


def _refuse_other_networks(state: Mapping[str, Tensor], source: str) -> None:
    others = sorted({name.split(".")[0] for name in state} - {"unet"})
    if not others:
        return
    also = "also " if any(name.startswith("unet.") for name in state) else ""
    told = OTHER_NETWORKS.get(others[0], others[0])
    raise DataError(
        f"The LoRA weights of '{source}' {also}change {others[0]}"
        f"{f' ({told})' if told != others[0] else ''}. Only those of a Stable Diffusion's denoiser (unet) can be "
        "attributed: give weights that were trained for it alone."
    )


def _peft_config(file: Path, source: str) -> dict[str, Any]:
    """Return the settings beside PEFT's weights, without those that only say where the weights came from."""
    path = file.with_name(PEFT_CONFIG)
    if not path.is_file():
        raise NotFoundError(
            f"'{source}' holds weights of PEFT, whose scale stands in {PEFT_CONFIG}, and there is none beside them. "
            "Give the whole folder that save_pretrained wrote."
        )
    config = config_of(path, file.parent, source)
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise DataError(f"'{source}' holds {kind} weights. LoRA weights alone can be attributed: train such ones.")
    known = {one.name for one in dataclasses.fields(LoraConfig)} - {"auto_mapping", "base_model_name_or_path"}
    return {name: value for name, value in config.items() if name in known}
