"""Judge a diffusers folder as a text-to-image pipeline by its configs, before anything of it is loaded.

What is taken is a model of one of the families (text_families.py), told a time and a caption. Whatever else a pipeline
of such a class can hold is refused with what it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtrak_core.errors import DataError, NotFoundError, SettingsError, first_line
from dtrak_core.models import class_names, text_families
from dtrak_core.models.model_files import WeightFiles, config_of, find_weights, refuse_stand_in
from dtrak_core.models.text_families import UNET, Encoder, Family

AUTOENCODERS = {  # which setting lists the levels, each half as wide as the one before, and how many are usual
    "AutoencoderKL": ("block_out_channels", 1),
    "AutoencoderTiny": ("encoder_block_out_channels", 4),
    "AutoencoderDC": ("encoder_block_out_channels", 6),
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


def judged(folder: Path, source: str, side: int = 0) -> tuple[int, list[str]]:
    """Return the side of a pipeline's pictures in pixels, and in words what its files left open.

    Args:
        folder: A diffusers pipeline folder.
        source: What the user calls it.
        side: Of pictures at another size than the model's own; 0 takes its own.

    Raises:
        NotFoundError: If a part, a file of one, or its weights are missing; the sentence names it.
        DataError: If a file is damaged, a config has a value that cannot be used, or it is of no known family.
        SettingsError: If it cannot draw pictures of this size.
    """
    with _usable(source):
        return _judged(folder, source, side)


def own_side(folder: Path, source: str) -> int:
    """Return the side in pixels of the pictures that a pipeline draws by itself.

    Raises:
        DataError: If they are not square, or the autoencoder is of no known class.
    """
    with _usable(source):
        family = text_families.of(folder, source)
        network, vae = (config_of(folder / part / "config.json", folder, source) for part in (family.part, "vae"))
        latent = network.get("sample_size")
        _judge_autoencoder(vae, source)
        if latent is None:
            told = family.side or vae.get("sample_size") or 0
            latent = [one // smaller(vae) for one in told] if isinstance(told, list) else told // smaller(vae)
        sides = set(latent) if isinstance(latent, list) else {latent}
        if len(sides) != 1 or not all(isinstance(side, int) for side in sides):
            raise DataError(
                f"The denoiser of '{source}' draws latents of {latent}. Pictures here are square: give a model of "
                f"square ones, with one number as sample_size in {family.part}/config.json."
            )
        return int(sides.pop()) * smaller(vae)


def weights_of(folder: Path, part: str, source: str = "") -> WeightFiles:
    """Return which files of a pipeline hold a part's weights; the errors are those of `find_weights`."""
    called = source or folder.name
    return find_weights(folder / part, called, text_families.of(folder, called).stems[part])


def files(folder: Path) -> list[Path]:
    """Return the files that make a pipeline what it is, sorted: all of its parts.

    Left out are hidden files, and a .bin beside .safetensors: another copy of the same weights.
    """
    family = text_families.of(folder, folder.name)
    used = {path for part in family.stems for path in weights_of(folder, part).paths}
    found = sorted(path for part in family.parts for path in (folder / part).rglob("*") if path.is_file())
    told = config_of(index := folder / "model_index.json", folder, folder.name).get("force_zeros_for_empty_prompt")
    if family.by_class or told is False:  # which names its classes there, or tells an empty caption as others
        found.append(index)
        used.add(index)
    return [path for path in found if path in used or not (path.suffix == ".bin" or path.name.startswith("."))]


def scheduler_of(folder: Path, source: str) -> dict[str, Any]:
    """Return the config of a pipeline's scheduler; the errors are those of `config_of`."""
    return config_of(folder / "scheduler" / "scheduler_config.json", folder, source)


def drawn_alike(folder: Path, source: str) -> bool:
    """Say whether a pipeline's scheduler and autoencoder are like Stable Diffusion's own.

    Before every scheduler was followed as diffusers does, pictures of the others came out differently. The errors are
    those of `config_of`.
    """
    schedule = scheduler_of(folder, source)
    vae = config_of(folder / "vae" / "config.json", folder, source)
    told = {name: schedule.get(name) for name in DRAWN}
    alike = all((silent if told[name] is None else told[name]) == own for name, (own, silent) in DRAWN.items())
    return alike and vae.get("_class_name", "AutoencoderKL") == "AutoencoderKL"


@contextlib.contextmanager
def _usable(source: str) -> Iterator[None]:
    """Say in words that a config holds a value that no model of its family can have: a word for a number, say."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        told = first_line(error)
        raise DataError(
            f"A config of '{source}' has a value that cannot be used ({told}). Get its files again."
        ) from None


def _judged(folder: Path, source: str, side: int) -> tuple[int, list[str]]:
    family = text_families.of(folder, source)
    for name in family.parts:
        if not (folder / name).is_dir():
            raise NotFoundError(f"'{source}' has no folder {name}/. Give a whole diffusers pipeline.")
    index = config_of(folder / "model_index.json", folder, source)
    assumed = _judge_schedule(family, folder, index, source)
    configs = {part: config_of(folder / part / "config.json", folder, source) for part in family.stems}
    _judge_networks(family, configs, source)
    if family.by_class:
        _judge_classes(class_names.of_files(index, source), configs[family.part], source)
    for encoder in family.encoders:
        _judge_tokenizer(folder / encoder.tokenizer, encoder, source)
    variants = {part: weights_of(folder, part, source).variant for part in family.stems}
    assumed += [
        f"{variant} weights of {part}, which has no plain ones" for part, variant in variants.items() if variant
    ]
    if (folder / f"{family.part}_ema").is_dir():
        assumed.append(f"weights are those of {family.part}/; its averaged ones ({family.part}_ema/) are left out")
    network, vae = configs[family.part], configs["vae"]
    own = own_side(folder, source)
    if side:
        _judge_side(family, network, vae, source, side)
    elif not SIDES[0] <= own <= SIDES[1]:
        raise DataError(
            f"'{source}' draws pictures of {own} pixels; {SIDES[0]} to {SIDES[1]} can be used. Take it in at a size of "
            f"these, with --resolution {SIDES[1]} say."
        )
    elif network.get("sample_size") is None and not family.side:
        assumed.append(f"{family.part}/config.json has no sample_size: {own} pixels, as vae/config.json has")
    return side or own, assumed


def _judge_schedule(family: Family, folder: Path, index: dict[str, Any], source: str) -> list[str]:
    from dtrak_core.models import schedules  # brings torch, which nothing else here needs

    if (named := (index.get("scheduler") or [None])[-1]) is not None:
        schedules.refuse_other(named, source)
    config = scheduler_of(folder, source)
    schedule = schedules.read(config, source)
    predicts = schedule.process.prediction
    if (predicts == "flow") != family.flows:
        wanted = "flow_prediction" if family.flows else "epsilon, sample or v_prediction"
        raise DataError(
            f"'{source}' predicts '{schedules.DIFFUSERS[predicts]}', as its scheduler says; a {family.name} predicts "
            f"{wanted}. Give a whole pipeline as its makers publish it."
        )
    return list(schedule.assumed)


def _judge_networks(family: Family, configs: Mapping[str, dict[str, Any]], source: str) -> None:
    network, vae = configs[family.part], configs["vae"]
    if (kind := network.get("_class_name", family.network)) not in (family.network, *family.also):
        raise DataError(f"The denoiser of '{source}' is a {kind}. A {family.network} is needed.")
    if extra := [name for name in EXTRA_INPUTS if name not in family.extra and network.get(name) is not None]:
        raise DataError(
            f"The denoiser of '{source}' wants more than a timestep and a caption: its {extra[0]} is "
            f"{network[extra[0]]!r}, as in distilled models or those of another class. Give a plain {family.name}."
        )
    _judge_autoencoder(vae, source)
    for encoder in family.encoders:
        kind = (configs[encoder.part].get("architectures") or encoder.classes)[0]
        if kind not in encoder.classes:
            raise DataError(f"The {encoder.part} of '{source}' is a {kind}. A {encoder.classes[0]} is needed.")
    latent = vae.get("latent_channels", 4) * family.packed
    taken = network.get("in_channels", latent)
    given = network.get("out_channels") or taken
    variance = given == 2 * taken and family.part == "transformer"  # which is left out
    if taken != latent or not (given == latent or variance):
        raise DataError(
            f"The denoiser of '{source}' takes {taken} channels and gives {given}; its autoencoder's latents have "
            f"{latent}. Models that take a picture besides (inpainting, edits) cannot be used; give a plain one."
        )
    widths = [int(configs[one.part].get("hidden_size") or 0) for one in family.encoders]
    read = network.get("cross_attention_dim")
    if family.network == UNET and all(widths) and isinstance(read, int) and sum(widths) != read:
        raise DataError(
            f"The text encoder of '{source}' gives {sum(widths)} numbers a token, its denoiser reads {read}. The parts "
            "are of different models; give a whole one."
        )


def _judge_autoencoder(vae: Mapping[str, Any], source: str) -> None:
    if (kind := vae.get("_class_name", "AutoencoderKL")) not in AUTOENCODERS:
        raise DataError(f"The autoencoder of '{source}' is a {kind}. One of {' or '.join(AUTOENCODERS)} is needed.")


def _judge_classes(names: tuple[str, ...], network: Mapping[str, Any], source: str) -> None:
    count = network.get("num_embeds_ada_norm", 1000)
    if len(names) != count:
        told = f"names {len(names)}" if names else "names none"
        raise DataError(
            f"The denoiser of '{source}' knows {count} classes, its model_index.json {told}. Write them there by "
            'number, as "id2label": {"0": "cat", "1": "dog"}.'
        )


def _judge_tokenizer(folder: Path, encoder: Encoder, source: str) -> None:
    whole = [folder / name for name in ("tokenizer.json", "spiece.model", "tokenizer.model")]
    bare = [folder / "vocab.json", folder / "merges.txt"]
    needed = [path for path in whole if path.is_file()] or (bare if encoder.tokenized == "CLIPTokenizer" else whole[:1])
    for path in needed:
        if not path.is_file():
            raise NotFoundError(
                f"'{source}' has neither {folder.name}/tokenizer.json nor {folder.name}/{path.name}. Give a whole "
                "diffusers pipeline, with the files of its tokenizer."
            )
        refuse_stand_in(path, f"{folder.name}/{path.name}", source)


def smaller(vae: Mapping[str, Any]) -> int:
    """Return how many times as wide as its latents an autoencoder's pictures are, from its config."""
    levels, usual = AUTOENCODERS[vae.get("_class_name", "AutoencoderKL")]
    return int(2 ** (len(vae.get(levels, usual * [64])) - 1))


def _judge_side(family: Family, network: Mapping[str, Any], vae: Mapping[str, Any], source: str, side: int) -> None:
    """Refuse a size that the model cannot draw."""
    halvings = len(network.get("block_out_channels", [0])) - 1 if family.network == UNET else 0
    multiple = smaller(vae) * max(family.patch, 2**halvings)
    if side % multiple or not SIDES[0] <= side <= SIDES[1]:
        raise SettingsError(
            f"'{source}' cannot draw pictures of {side} pixels. Choose a multiple of {multiple} between {SIDES[0]} "
            f"and {SIDES[1]}."
        )
