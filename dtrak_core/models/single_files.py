"""Stable Diffusion in a single file, as its authors and most web pages of models have it, made a diffusers pipeline.

Everything that a pipeline's configs say is read off the shapes of the weights, or is so in every Stable Diffusion 1.x
or 2.x. The side of the pictures is not among it and is asked for; nor is what a 2.x predicts, which the .yaml beside
its file says. diffusers renames the weights; nothing is asked of a hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from dtrak_core import program, store
from dtrak_core.errors import DataError
from dtrak_core.models import clip_words, weights
from dtrak_core.models.base_parts import UNREADABLE, first_line
from dtrak_core.settings import digest_of

FORMAT = "1"  # of what is made of a file; raised where the same file would become another model
RESOLUTION = 512  # pixels a side where nothing else is asked for: Stable Diffusion's own
UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT, OPEN_TEXT = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."  # of 1.x, of 2.x
GROUPS = 32  # of normalisation layers
HEADS, HEAD_WIDTH = 8, 64  # of attention: the denoiser of 1.x has 8, whatever their width; all else has heads this wide
BETAS = (0.00085, 0.012)
LORA = program.command("import-checkpoint --source FILE --base BASE --name NAME --dataset DATASET")
OTHERS = {  # what names of weights hold, what these weights are, and what to do
    "lora_": ("LoRA weights", f"Take them in for a base: {LORA}."),
    "control_model.": ("a ControlNet", "LoRA weights are trained on a whole text-to-image model; give such a one."),
    "conditioner.embedders.": ("Stable Diffusion XL", "Give its folder in diffusers' layout."),
    "joint_blocks.": ("Stable Diffusion 3", "Give its folder in diffusers' layout."),
    "double_blocks.": ("Flux", "Give its folder in diffusers' layout."),
    "down_blocks.": ("a single network in diffusers' layout", "Give the folder of its whole pipeline."),
}


def convert(file: Path, folder: Path, source: str, resolution: int) -> list[str]:
    """Write a single file's pipeline into a folder; return in words what its file left open.

    Args:
        file: .safetensors, or .ckpt that holds no code.
        folder: Where model_index.json and the parts are to lie.
        source: What the user calls the file.
        resolution: Side of the pictures in pixels.

    Raises:
        DataError: If the file is damaged, holds code or numbers that are not finite, or is no Stable Diffusion 1.x or
            2.x with all of its parts; the sentence says what it is.
    """
    held = weights.read_file(file, source)
    _refuse_others(held, source)
    newer = any(name.startswith(OPEN_TEXT) for name in held)
    prediction = _prediction(file, source, newer)
    unet, vae, text = (
        {name.removeprefix(begin): value for name, value in held.items() if name.startswith(begin)}
        for begin in (UNET, VAE, OPEN_TEXT if newer else TEXT)
    )
    try:
        _write_configs(folder, unet, vae, text, newer, resolution)
        parts: dict[str, Any] = {
            "unet": _opened(UNet2DConditionModel, folder, "unet", _named(UNET, unet)),
            "vae": _opened(AutoencoderKL, folder, "vae", _named(VAE, vae)),
            "text_encoder": _text_encoder(folder, text, newer),
        }
        for network, own in zip(parts.values(), (unet, vae, text), strict=True):
            if any(value.is_meta for value in network.parameters()):
                raise ValueError("an empty meta tensor is left")
            network.to(next(value.dtype for value in own.values() if value.is_floating_point()))
    except UNREADABLE as error:
        # Of a weight that the file lacks, diffusers leaves the place empty; moving it raises.
        why = "some are missing" if "meta tensor" in str(error) else first_line(error)
        raise DataError(
            f"The parts of '{source}' cannot be made of its weights: {why}. Get the file again, or give a folder in "
            "diffusers' layout."
        ) from None
    schedule = DDIMScheduler(
        beta_start=BETAS[0], beta_end=BETAS[1], beta_schedule="scaled_linear", trained_betas=_own_betas(held),
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction,
    )  # fmt: skip
    StableDiffusionPipeline(
        **parts, tokenizer=clip_words.whole("!" if newer else clip_words.END), scheduler=schedule,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    kind, predicts = "2.x" if newer else "1.x", "v" if prediction == "v_prediction" else "the noise"
    told = [f"made of {file.name}, taken for a Stable Diffusion {kind} of {resolution} pixels that predicts {predicts}"]
    if averaged := sum(name.startswith("model_ema.") for name in held):
        told.append(f"the {averaged} averaged weights (model_ema) of the file are left out")
    return told


def digest(file: Path, resolution: int) -> str:
    """Return the digest of the pipeline that `convert` makes of a file."""
    beside = file.with_suffix(".yaml")
    with file.open("rb") as opened:
        own = hashlib.file_digest(opened, "sha256").hexdigest()
    return digest_of("single-file", FORMAT, own, str(resolution), beside.read_bytes() if beside.is_file() else b"")


def _refuse_others(held: Collection[str], source: str) -> None:
    for part, (kind, todo) in OTHERS.items():
        if any(part in name for name in held):
            raise DataError(f"'{source}' holds {kind}. {todo}")
    needed = {"denoiser": ("diffusion_model.",), "autoencoder": (VAE,), "text encoder": (TEXT, OPEN_TEXT)}
    lacking = [what for what, parts in needed.items() if not any(part in name for name in held for part in parts)]
    if len(lacking) == len(needed):
        raise DataError(
            f"'{source}' holds no Stable Diffusion 1.x or 2.x: no name in it says so "
            f"({next(iter(held), 'it is empty')}). Give the file of a whole model, or a folder in diffusers' layout."
        )
    if lacking:
        raise DataError(f"'{source}' has no {' and no '.join(lacking)}. Give the file of a whole Stable Diffusion.")


def _prediction(file: Path, source: str, newer: bool) -> str:
    """Return what the denoiser predicts, by diffusers' name, as the .yaml of the same name says."""
    beside = file.with_suffix(".yaml")
    if beside.is_file():
        said = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", beside.read_text("utf-8", "replace"), re.MULTILINE)
        kind = said[1] if said else "eps"
        if kind not in ("eps", "v"):
            raise DataError(f"{beside.name} says parameterization '{kind}'; 'eps' or 'v' is needed. Correct it.")
        return "v_prediction" if kind == "v" else "epsilon"
    if newer:
        raise DataError(
            f"'{source}' is a Stable Diffusion 2.x, whose weights do not say whether they predict the noise or v. Put "
            f"the .yaml that was published with it beside it, called {beside.name}."
        )
    return "epsilon"


def _own_betas(held: Mapping[str, Tensor]) -> list[float] | None:
    """Return the betas that the file notes; None where they are Stable Diffusion's, or not noted."""
    if "betas" not in held:
        return None
    own = held["betas"].double()
    usual = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, 1000, dtype=torch.float64).square()
    same = own.shape == usual.shape and torch.allclose(own, usual, rtol=1e-2)  # noted in half precision, maybe
    return None if same else [float(beta) for beta in own]


def _write_configs(
    folder: Path,
    unet: Mapping[str, Tensor],
    vae: Mapping[str, Tensor],
    text: Mapping[str, Tensor],
    newer: bool,
    resolution: int,
) -> None:
    coder = _vae_config(vae, resolution)
    smaller = 2 ** (len(coder["block_out_channels"]) - 1)
    store.write_json(folder / "vae" / "config.json", coder)
    store.write_json(
        folder / "unet" / "config.json", _unet_config(unet, newer) | {"sample_size": resolution // smaller}
    )
    _text_config(text, newer).save_pretrained(folder / "text_encoder")


def _unet_config(held: Mapping[str, Tensor], newer: bool) -> dict[str, Any]:
    """Read the levels off the denoiser's first half, where a convolution `op` leads from each to the next."""
    widths: list[list[int]] = [[]]
    attended = [False]
    number = 1
    while any(name.startswith(f"input_blocks.{number}.") for name in held):
        if f"input_blocks.{number}.0.op.weight" in held:
            widths.append([])
            attended.append(False)
        else:
            widths[-1].append(len(held[f"input_blocks.{number}.0.in_layers.2.weight"]))
            attended[-1] |= any(name.startswith(f"input_blocks.{number}.1.") for name in held)
        number += 1
    channels = [level[0] for level in widths]
    read = next(value.shape[1] for name, value in held.items() if name.endswith("attn2.to_k.weight"))
    flat = next(value.dim() == 2 for name, value in held.items() if name.endswith(".proj_in.weight"))
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": held["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(held["out.2.weight"]),
        "block_out_channels": channels,
        "layers_per_block": len(widths[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attended],
        "up_block_types": ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attended)],
        "cross_attention_dim": read,
        "attention_head_dim": [_heads(width) for width in channels] if newer else HEADS,
        "use_linear_projection": flat,
        "norm_num_groups": GROUPS,
    }


def _vae_config(held: Mapping[str, Tensor], resolution: int) -> dict[str, Any]:
    channels: list[int] = []
    while f"encoder.down.{len(channels)}.block.0.conv1.weight" in held:
        channels.append(len(held[f"encoder.down.{len(channels)}.block.0.conv1.weight"]))
    layers = sum(name.startswith("encoder.down.0.block.") and name.endswith(".conv1.weight") for name in held)
    return {
        "_class_name": "AutoencoderKL",
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": held["decoder.conv_in.weight"].shape[1],
        "norm_num_groups": GROUPS,
        "sample_size": resolution,
        "scaling_factor": 0.18215,
    }


def _text_config(held: Mapping[str, Tensor], newer: bool) -> CLIPTextConfig:
    """Return the text encoder's settings; of 2.x without its last layer, which Stable Diffusion does not ask."""
    blocks = "transformer.resblocks." if newer else "encoder.layers."
    layers = len({name.removeprefix(blocks).split(".")[0] for name in held if name.startswith(blocks)})
    embeddings = held["token_embedding.weight" if newer else "embeddings.token_embedding.weight"]
    places = held["positional_embedding" if newer else "embeddings.position_embedding.weight"]
    inner = held[f"{blocks}0.mlp.{'c_fc' if newer else 'fc1'}.weight"]
    return CLIPTextConfig(
        vocab_size=embeddings.shape[0],
        hidden_size=embeddings.shape[1],
        intermediate_size=inner.shape[0],
        projection_dim=embeddings.shape[1],
        num_hidden_layers=layers - 1 if newer else layers,
        num_attention_heads=_heads(embeddings.shape[1]),
        max_position_embeddings=places.shape[0],
        hidden_act="gelu" if newer else "quick_gelu",
        architectures=["CLIPTextModel"],
    )


def _heads(width: int) -> int:
    return max(1, width // HEAD_WIDTH)


def _named(begin: str, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {begin + name: value for name, value in held.items()}


def _opened(kind: Any, folder: Path, part: str, held: dict[str, Tensor]) -> Any:
    return kind.from_single_file(held, config=str(folder), subfolder=part, local_files_only=True)


def _text_encoder(folder: Path, held: Mapping[str, Tensor], newer: bool) -> CLIPTextModel:
    last = CLIPTextConfig.from_pretrained(folder / "text_encoder", local_files_only=True).num_hidden_layers
    kept = {name: value for name, value in held.items() if not name.startswith(f"transformer.resblocks.{last}.")}
    found: CLIPTextModel = create_diffusers_clip_model_from_ldm(
        CLIPTextModel, _named(OPEN_TEXT if newer else TEXT, kept), "text_encoder", str(folder), local_files_only=True
    )
    return found
