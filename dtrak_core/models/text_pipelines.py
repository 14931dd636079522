"""Judge a diffusers folder as a text-to-image pipeline by its configs, before anything of it is loaded.

What is taken is a Stable Diffusion that is told a timestep and a caption and predicts the noise.
Whatever else the class `StableDiffusionPipeline` can hold is refused with what it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.models.model_files import DIFFUSERS, TRANSFORMERS, WeightFiles, config_of, find_weights, refuse_stand_in

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
STEMS = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}  # parts with weights, how files begin
AUTOENCODERS = {  # which setting lists the levels, each half as wide as the one before, and how many are usual
    "AutoencoderKL": ("block_out_channels", 1),
    "AutoencoderTiny": ("encoder_block_out_channels", 4),
}
SIDES = (8, 512)  # of pictures in pixels, as those of datasets
EXTRA_INPUTS = (  # settings of a UNet2DConditionModel with which it wants more than a timestep and a caption
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
)
# How Stable Diffusion's own pictures are drawn: what its scheduler says, beside what is so where one says nothing.
DRAWN = {
    "timestep_spacing": ("leading", "leading"),
    "steps_offset": (1, 0),
    "clip_sample": (False, True),
    "thresholding": (False, False),
    "rescale_betas_zero_snr": (False, False),
    "variance_type": ("fixed_small", "fixed_small"),
}


def judged(folder: Path, source: str) -> tuple[int, list[str]]:
    """Return the side of a pipeline's pictures in pixels, and in words what its files left open.

    Args:
        folder: A diffusers pipeline folder.
        source: What the user calls it.

    Raises:
        NotFoundError: If a part, a file of one, or its weights are missing; the sentence names it.
        DataError: If a file is damaged, or it is not a Stable Diffusion that predicts noise.
    """
    index = config_of(folder / "model_index.json", folder, source)
    if (kind := index.get("_class_name", "pipeline of unknown class")) != "StableDiffusionPipeline":
        raise DataError(f"'{source}' holds a {kind}. A text-to-image model of class StableDiffusionPipeline is needed.")
    for name in PARTS:
        if not (folder / name).is_dir():
            raise NotFoundError(f"'{source}' has no folder {name}/. Give a whole diffusers pipeline.")
    assumed = _judge_schedule(folder, index, source)
    unet, vae, text = (config_of(folder / part / "config.json", folder, source) for part in STEMS)
    _judge_networks(unet, vae, text, source)
    _judge_tokenizer(folder / "tokenizer", source)
    variants = {part: weights_of(folder, part, source).variant for part in STEMS}
    assumed += [
        f"{variant} weights of {part}, which has no plain ones" for part, variant in variants.items() if variant
    ]
    side = _side(unet, vae, source)
    if unet.get("sample_size") is None:
        assumed.append(f"unet/config.json has no sample_size: {side} pixels, as vae/config.json has")
    return side, assumed


def weights_of(folder: Path, part: str, source: str = "") -> WeightFiles:
    """Return which files of a pipeline hold a part's weights; the errors are those of `find_weights`."""
    return find_weights(folder / part, source or folder.name, STEMS[part])


def files(folder: Path) -> list[Path]:
    """Return the files that make a pipeline what it is, sorted: all of its parts.

    Left out are hidden files, and a .bin beside .safetensors: another copy of the same weights.
    """
    used = {path for part in STEMS for path in weights_of(folder, part).paths}
    found = sorted(path for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    return [path for path in found if path in used or not (path.suffix == ".bin" or path.name.startswith("."))]


def drawn_alike(folder: Path, source: str) -> bool:
    """Say whether a pipeline's scheduler and autoencoder are like Stable Diffusion's own.

    Before every scheduler was followed as diffusers does, pictures of the others came out differently. The errors are
    those of `config_of`.
    """
    schedule = config_of(folder / "scheduler" / "scheduler_config.json", folder, source)
    vae = config_of(folder / "vae" / "config.json", folder, source)
    told = {name: schedule.get(name) for name in DRAWN}
    alike = all((silent if told[name] is None else told[name]) == own for name, (own, silent) in DRAWN.items())
    return alike and vae.get("_class_name", "AutoencoderKL") == "AutoencoderKL"


def _judge_schedule(folder: Path, index: dict[str, Any], source: str) -> list[str]:
    from dtrak_core.models import schedules  # brings torch, which nothing else here needs

    if (named := (index.get("scheduler") or [None])[-1]) is not None:
        schedules.refuse_other(named, source)
    config = config_of(folder / "scheduler" / "scheduler_config.json", folder, source)
    schedule = schedules.read(config, source)
    if schedule.process.prediction != "noise":
        raise DataError(
            f"'{source}' predicts '{schedules.DIFFUSERS[schedule.process.prediction]}'. Only text-to-image models "
            "that predict the noise (prediction_type 'epsilon') can be used so far."
        )
    return list(schedule.assumed)


def _judge_networks(unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any], source: str) -> None:
    if (kind := unet.get("_class_name", "UNet2DConditionModel")) != "UNet2DConditionModel":
        raise DataError(f"The denoiser of '{source}' is a {kind}. A UNet2DConditionModel is needed.")
    if extra := [name for name in EXTRA_INPUTS if unet.get(name) is not None]:
        raise DataError(
            f"The denoiser of '{source}' wants more than a timestep and a caption: its {extra[0]} is "
            f"{unet[extra[0]]!r}, as in Stable Diffusion XL or distilled models. Give a Stable Diffusion 1.x or 2.x."
        )
    if (kind := vae.get("_class_name", "AutoencoderKL")) not in AUTOENCODERS:
        raise DataError(f"The autoencoder of '{source}' is a {kind}. One of {' or '.join(AUTOENCODERS)} is needed.")
    kind = (text.get("architectures") or ["CLIPTextModel"])[0]
    if kind not in ("CLIPTextModel", "CLIPModel"):
        raise DataError(f"The text encoder of '{source}' is a {kind}. A CLIPTextModel is needed.")
    planes, latent = (unet.get("in_channels", 4), unet.get("out_channels", 4)), vae.get("latent_channels", 4)
    if planes != (latent, latent):
        raise DataError(
            f"The denoiser of '{source}' takes {planes[0]} channels and gives {planes[1]}; its autoencoder's latents "
            f"have {latent}. Models that take a picture besides (inpainting, edits) cannot be used; give a plain one."
        )

    width, read = text.get("hidden_size"), unet.get("cross_attention_dim")
    if isinstance(width, int) and isinstance(read, int) and width != read:
        raise DataError(
            f"The text encoder of '{source}' gives {width} numbers a token, its denoiser reads {read}. The parts are "
            "of different models; give a whole one."
        )


def _judge_tokenizer(folder: Path, source: str) -> None:
    whole = [folder / "tokenizer.json"]
    needed = whole if whole[0].is_file() else [folder / "vocab.json", folder / "merges.txt"]
    for path in needed:
        if not path.is_file():
            raise NotFoundError(
                f"'{source}' has neither tokenizer/tokenizer.json nor tokenizer/{path.name}. Give a whole diffusers "
                "pipeline, with vocab.json and merges.txt of its tokenizer."
            )
        refuse_stand_in(path, f"tokenizer/{path.name}", source)


def _side(unet: dict[str, Any], vae: dict[str, Any], source: str) -> int:
    levels, usual = AUTOENCODERS[vae.get("_class_name", "AutoencoderKL")]
    smaller = int(2 ** (len(vae.get(levels, usual * [64])) - 1))
    latent = unet.get("sample_size")
    if latent is None:
        latent = vae.get("sample_size", 0) // smaller
    sides = set(latent) if isinstance(latent, list) else {latent}
    if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
        raise DataError(
            f"The denoiser of '{source}' draws latents of {latent}. Pictures here are square: give a model of square "
            "ones, with one number as sample_size in unet/config.json."
        )
    side = int(sides.pop()) * smaller
    if not SIDES[0] <= side <= SIDES[1]:
        raise DataError(
            f"'{source}' draws pictures of {side} pixels; {SIDES[0]} to {SIDES[1]} can be used. Write sample_size, "
            f"the side in pixels over {smaller}, into unet/config.json, or give a smaller model."
        )
    return side
