"""What a folder of diffusers holds, judged by its JSON files: taken for a DDPM of pixels, or refused by its class.

Layouts: a pipeline (model_index.json, unet/, scheduler/, or all in one folder, as old ones are), a network's folder
alone, a checkpoint of a training (checkpoint-500/ with unet/ and unet_ema/). A folder without a scheduler of its own
has that of the pipeline it lies in, up to two folders above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core import program
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.models import class_names, schedules
from dtrak_core.models.model_files import WeightFiles, config_of, find_weights
from dtrak_core.models.schedules import Schedule

INDEX = "model_index.json"
SCHEDULES = ("scheduler/scheduler_config.json", "scheduler_config.json")
PIXELS = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
TEXT = f"Take it in as a base for LoRA weights: {program.command('base FOLDER --name NAME')}."
OTHERS = {  # what names of pipelines hold, what they are, and what to do
    "StableDiffusion": ("a text-to-image model", TEXT),
    "LDM": ("a latent diffusion model, which draws in an autoencoder's latents, not in pixels", ""),
    "LatentDiffusion": ("a latent diffusion model, which draws in an autoencoder's latents, not in pixels", ""),
    "ScoreSde": ("a score model of an SDE, whose noise levels are no DDPM's", ""),
    "KarrasVe": ("a score model of an SDE, whose noise levels are no DDPM's", ""),
    "Consistency": ("a consistency model, which draws in one step", ""),
    "DiT": ("a class-conditional transformer in an autoencoder's latents", TEXT),
}
NEEDED = "A DDPM of pixels (DDPMPipeline or DDIMPipeline with a UNet2DModel) is needed so far."


@dataclass(frozen=True)
class Layout:
    """A network's config and weights, its schedule, the names of its classes by number where it has them.

    `assumed` says in words what the folder left open.
    """

    config: dict[str, Any]
    weights: WeightFiles
    schedule: Schedule
    assumed: tuple[str, ...]
    classes: tuple[str, ...] = ()


def judge(folder: Path, source: str) -> Layout:
    """Return what a folder holds of a DDPM of pixels; no weights are read.

    Args:
        folder: What the user gave, or the hub's copy.
        source: What the user calls it.

    Raises:
        NotFoundError: If a part is missing.
        DataError: If it is another kind of model; the sentence says which, and what to do.
    """
    place = _place_of(folder)
    if place != folder:
        source = f"{place.name}/{folder.resolve().relative_to(place).as_posix()}"
    index = config_of(place / INDEX, place, source) if (place / INDEX).is_file() else {}
    _refuse_pipeline(index, source)
    network, assumed = _network(folder)
    inner = sorted(path.parent.name for path in folder.glob("checkpoint-*/unet*"))
    if inner and not (network / "config.json").is_file():
        raise NotFoundError(f"'{source}' has no network of its own. Give one of its checkpoints, {inner[-1]} say.")
    config = config_of(network / "config.json", folder, source)
    kind = config.get("_class_name")
    if kind is None and "block_out_channels" in config:
        assumed.append("its config.json names no class: a UNet2DModel")
    elif kind != "UNet2DModel":
        hint = f" {TEXT}" if kind == "UNet2DConditionModel" else ""
        raise DataError(f"'{source}' holds a {kind or 'network of unknown class'}. {NEEDED}{hint}")
    found = next((place / name for name in SCHEDULES if (place / name).is_file()), None)
    schedule = schedules.read({} if found is None else config_of(found, place, source), source)
    if found is None:
        assumed.append("no scheduler found: the DDPM's, linear betas from 0.0001 to 0.02 over 1,000 steps")
    elif place != folder:
        assumed.append(f"its scheduler is that of '{place.name}', the folder it lies in")
    assumed += schedule.assumed
    weights = find_weights(network, source)
    if weights.variant:
        assumed.append(f"weights are those of the variant {weights.variant}, {weights.paths[0].name}")
    named = class_names.of_files(index, source) or class_names.of_files(config, source)
    return Layout(config, weights, schedule, tuple(assumed), named)


def _place_of(folder: Path) -> Path:
    """Return the folder of the pipeline: the given one, or one above it that has what it lacks."""
    full = folder.resolve()
    for place in (full, *full.parents[:2]):
        if (place / INDEX).is_file() or any((place / name).is_file() for name in SCHEDULES):
            return folder if place == full else place
    return folder


def _refuse_pipeline(index: Mapping[str, Any], source: str) -> None:
    name = str(index.get("_class_name", PIXELS[0]))
    parts = {part: value[1] for part, value in index.items() if isinstance(value, list) and len(value) == 2}
    coders = [str(one) for one in parts.values() if one and ("Autoencoder" in str(one) or "VQ" in str(one))]
    about, todo = next((told for begin, told in OTHERS.items() if begin in name), ("", ""))
    if not about and coders:
        about = f"a latent diffusion model with a {coders[0]}, not one of pixels"
    if about or name not in PIXELS:
        raise DataError(f"'{source}' is of class {name}{f': {about}' if about else ''}. {todo or NEEDED}")
    if parts.get("unet", "UNet2DModel") != "UNet2DModel":
        raise DataError(f"'{source}' is of class {name}, with a {parts['unet']}. {NEEDED}")
    if parts.get("scheduler"):
        schedules.refuse_other(str(parts["scheduler"]), source)


def _network(folder: Path) -> tuple[Path, list[str]]:
    """Return the folder of the network, and what was assumed in choosing it."""
    plain, averaged = folder / "unet", folder / "unet_ema"
    if not (averaged / "config.json").is_file():
        return (plain if plain.is_dir() else folder), []
    if (folder / INDEX).is_file() and plain.is_dir():  # a pipeline is drawn by its unet/
        return plain, ["weights are those of unet/; give its unet_ema/ for the averaged ones"]
    return averaged, ["weights are the averaged ones of unet_ema/; give its unet/ for the others"]


def sides(config: Mapping[str, Any], source: str) -> tuple[int, int | None]:
    """Return the channels of a UNet2DModel's config and the side of what it sees, None where that is not said.

    Raises:
        DataError: If it is not square.
    """
    channels, size = config.get("in_channels", 3), config.get("sample_size")
    if isinstance(size, (list, tuple)):
        if len(size) != 2 or size[0] != size[1]:
            told = " x ".join(str(side) for side in size)
            raise DataError(f"'{source}' draws pictures of {told}. Pictures are square here; take a model of such.")
        size = size[0]
    if not isinstance(channels, int) or not (size is None or isinstance(size, int)):
        raise DataError(f"config.json of '{source}' has no numbers for in_channels or sample_size. Correct it.")
    return channels, size
