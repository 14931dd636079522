"""Stable Diffusion in a single file, as its authors and most web pages of models have it, made a diffusers pipeline.

Everything that a pipeline's configs say is read off the shapes of the weights (single_file_configs.py), or is so in
every Stable Diffusion of a kind. The side of the pictures is not among it and is asked for; nor is what a 2.x predicts,
which the .yaml beside its file says. diffusers renames the weights; nothing is asked of a hub.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
from torch import Tensor

from dtrak_core import program, store
from dtrak_core.errors import DataError, first_line
from dtrak_core.models import clip_words, single_file_configs, weights
from dtrak_core.models.base_parts import UNREADABLE
from dtrak_core.settings import digest_of

FORMAT = "1"  # of what is made of a file; raised where the same file would become another model
RESOLUTION = 512  # pixels a side where nothing else is asked for
UNET, VAE = "model.diffusion_model.", "first_stage_model."
BETAS = (0.00085, 0.012)
LORA = program.command("import-checkpoint --source FILE --base BASE --name NAME --dataset DATASET")
OTHERS = {  # what names of weights hold, what these weights are, and what to do
    "lora_": ("LoRA weights", f"Take them in for a base: {LORA}."),
    "control_model.": ("a ControlNet", "LoRA weights are trained on a whole text-to-image model; give such a one."),
    "joint_blocks.": ("Stable Diffusion 3", "Give its folder in diffusers' layout."),
    "double_blocks.": ("Flux", "Give its folder in diffusers' layout."),
    "conditioner.embedders.0.model.": ("a refiner of Stable Diffusion XL", "Give the base model's file."),
    "down_blocks.": ("a single network in diffusers' layout", "Give the folder of its whole pipeline."),
}


@dataclass(frozen=True)
class Words:
    """A text encoder: its folder, how its weights' names begin, its class, whose code it is, what fills captions up."""

    part: str
    begin: str
    kind: str
    by_open_clip: bool = False
    layers_left_out: int = 0
    pad: str = clip_words.END

    @property
    def tokenizer(self) -> str:
        """Return the folder of its tokenizer."""
        return self.part.replace("text_encoder", "tokenizer")


@dataclass(frozen=True)
class Kind:
    """One kind of file: its text encoders, by which it is told from the others, and what is so in all of them."""

    name: str
    pipeline: str
    words: tuple[Words, ...]
    settings: Mapping[str, Any]  # of the pipeline
    scale: float = 0.18215  # of latents


ALONE = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
KINDS = (
    Kind(
        "Stable Diffusion 1.x",
        "StableDiffusionPipeline",
        (Words("text_encoder", "cond_stage_model.transformer.text_model.", "CLIPTextModel"),),
        ALONE,
    ),
    Kind(
        "Stable Diffusion 2.x",
        "StableDiffusionPipeline",
        (Words("text_encoder", "cond_stage_model.model.", "CLIPTextModel", True, 1, "!"),),
        ALONE,
    ),
    Kind(
        "Stable Diffusion XL",
        "StableDiffusionXLPipeline",
        (
            Words("text_encoder", "conditioner.embedders.0.transformer.text_model.", "CLIPTextModel"),
            Words("text_encoder_2", "conditioner.embedders.1.model.", "CLIPTextModelWithProjection", True, pad="!"),
        ),
        {"force_zeros_for_empty_prompt": True, "add_watermarker": False},
        0.13025,
    ),
)
OLDEST, NEWER, _ = KINDS


def convert(file: Path, folder: Path, source: str, resolution: int) -> list[str]:
    """Write a single file's pipeline into a folder; return in words what its file left open.

    Args:
        file: .safetensors, or .ckpt that holds no code.
        folder: Where model_index.json and the parts are to lie.
        source: What the user calls the file.
        resolution: Side of the pictures in pixels.

    Raises:
        DataError: If the file is damaged, holds code or numbers that are not finite, or is no Stable Diffusion of a
            known kind with all of its parts; the sentence says what it is.
    """
    held = {_renewed(name): value for name, value in weights.read_file(file, source).items()}
    kind = _kind_of(held, source)
    schedule = _schedule(file, held, source, kind)
    begins = {"unet": UNET, "vae": VAE} | {one.part: one.begin for one in kind.words}
    owned = {part: {n: v for n, v in held.items() if n.startswith(begin)} for part, begin in begins.items()}
    try:
        _write_configs(
            folder, {p: {n.removeprefix(begins[p]): v for n, v in own.items()} for p, own in owned.items()}, kind,
            resolution,
        )  # fmt: skip
        made: dict[str, Any] = {
            part: network.from_single_file(
                owned[part], config=str(folder), subfolder=part, torch_dtype=_format(owned[part]), local_files_only=True
            )
            for part, network in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL))
        }
        made |= {one.part: _text_encoder(folder, one, owned[one.part]) for one in kind.words}
        if any(value.is_meta for network in made.values() for value in network.parameters()):
            raise ValueError("an empty meta tensor is left")
    except UNREADABLE as error:
        # Of a weight that the file lacks, diffusers leaves the place empty; moving it raises.
        why = "some are missing" if "meta tensor" in str(error) else first_line(error)
        raise DataError(
            f"The parts of '{source}' cannot be made of its weights: {why}. Get the file again, or give a folder in "
            "diffusers' layout."
        ) from None
    made |= {one.tokenizer: clip_words.whole(one.pad) for one in kind.words}
    pipe = getattr(diffusers, kind.pipeline)(**made, scheduler=schedule, **kind.settings)
    pipe.save_pretrained(folder, safe_serialization=True)
    predicts = "v" if schedule.config.prediction_type == "v_prediction" else "the noise"
    told = [f"made of {file.name}, taken for a {kind.name} of {resolution} pixels that predicts {predicts}"]
    if averaged := sum(name.startswith("model_ema.") for name in held):
        told.append(f"the {averaged} averaged weights (model_ema) of the file are left out")
    return told


def told(file: Path, names: Collection[str], source: str) -> tuple[str, str]:
    """Return which kind a file is, and what it predicts, in words, by the names of its weights.

    Raises:
        DataError: If it is none of `KINDS`, lacks a part, or does not say what it predicts.
    """
    held = {_renewed(name) for name in names}
    kind = _kind_of(held, source)
    return kind.name, "v" if _prediction(file, held, source, kind) == "v_prediction" else "the noise"


def digest(file: Path, resolution: int) -> str:
    """Return the digest of the pipeline that `convert` makes of a file."""
    beside = file.with_suffix(".yaml")
    with file.open("rb") as opened:
        own = hashlib.file_digest(opened, "sha256").hexdigest()
    return digest_of("single-file", FORMAT, own, str(resolution), beside.read_bytes() if beside.is_file() else b"")


def _renewed(name: str) -> str:
    """Return a weight's name as most files have it: some leave out what transformers once called the text model."""
    before = r"^(cond_stage_model|conditioner\.embedders\.0)\.transformer\.(?!text_model\.)"
    return re.sub(before, r"\1.transformer.text_model.", name)


def _kind_of(held: Collection[str], source: str) -> Kind:
    for part, (what, todo) in OTHERS.items():
        if any(part in name for name in held):
            raise DataError(f"'{source}' holds {what}. {todo}")
    known = ", ".join(kind.name for kind in KINDS)
    has_words = [kind for kind in KINDS if any(name.startswith(kind.words[0].begin) for name in held)]
    found = {"denoiser": any("diffusion_model." in name for name in held), "autoencoder": any(VAE in n for n in held)}
    lacking = [part for part, there in (found | {"text encoder": bool(has_words)}).items() if not there]
    if len(lacking) == 3:
        raise DataError(
            f"'{source}' holds none of these: {known}. No name in it says so ({next(iter(held), 'it is empty')}). Give "
            "the file of a whole model, or a folder in diffusers' layout."
        )
    if lacking:
        raise DataError(f"'{source}' has no {' and no '.join(lacking)}. Give the file of a whole Stable Diffusion.")
    return has_words[0]


def _schedule(file: Path, held: Mapping[str, Tensor], source: str, kind: Kind) -> DDIMScheduler:
    predicted = _prediction(file, held, source, kind)
    return DDIMScheduler(
        beta_start=BETAS[0], beta_end=BETAS[1], beta_schedule="scaled_linear", trained_betas=_own_betas(held),
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=predicted,
        rescale_betas_zero_snr="ztsnr" in held,
    )  # fmt: skip


def _prediction(file: Path, held: Collection[str], source: str, kind: Kind) -> str:
    """Return what the denoiser predicts, by diffusers' name: as the .yaml of the same name says, or the file itself."""
    beside = file.with_suffix(".yaml")
    if beside.is_file():
        said = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", beside.read_text("utf-8", "replace"), re.MULTILINE)
        told = said[1] if said else "eps"
        if told not in ("eps", "v"):
            raise DataError(f"{beside.name} says parameterization '{told}'; 'eps' or 'v' is needed. Correct it.")
        return "v_prediction" if told == "v" else "epsilon"
    if "v_pred" in held:  # a mark that some trainers leave
        return "v_prediction"
    if kind is NEWER:
        raise DataError(
            f"'{source}' is a {kind.name}, whose weights do not say whether they predict the noise or v. Put the .yaml "
            f"that was published with it beside it, called {beside.name}."
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


def _write_configs(folder: Path, held: Mapping[str, Mapping[str, Tensor]], kind: Kind, resolution: int) -> None:
    pooled = 0
    for one in kind.words:
        text = single_file_configs.of_text(held[one.part], one.by_open_clip, one.layers_left_out)
        text.architectures = [one.kind]
        text.save_pretrained(folder / one.part)
        pooled = int(text.projection_dim or 0) if one.kind.endswith("WithProjection") else 0
    vae = single_file_configs.of_vae(held["vae"], resolution, kind.scale)
    smaller = 2 ** (len(vae["block_out_channels"]) - 1)
    unet = single_file_configs.of_unet(held["unet"], kind is not OLDEST, pooled)
    store.write_json(folder / "vae" / "config.json", vae)
    store.write_json(folder / "unet" / "config.json", unet | {"sample_size": resolution // smaller})


def _text_encoder(folder: Path, words: Words, held: Mapping[str, Tensor]) -> Any:
    kind = getattr(transformers, words.kind)
    kept = dict(held)
    if words.layers_left_out:
        first = kind.config_class.from_pretrained(folder / words.part, local_files_only=True).num_hidden_layers
        block = f"{words.begin}transformer.resblocks.{first}."
        kept = {name: value for name, value in held.items() if not name.startswith(block)}
    return create_diffusers_clip_model_from_ldm(
        kind, kept, words.part, str(folder), torch_dtype=_format(held), local_files_only=True
    )


def _format(held: Mapping[str, Tensor]) -> torch.dtype:
    """Return the number format of a part, its file's own: in a wider one it would not lie in memory beside the file."""
    own = next(value.dtype for value in held.values() if value.is_floating_point())
    return own if own.itemsize > 1 else torch.float16  # those of 8 bits cannot be computed with
