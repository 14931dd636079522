"""Text-to-image models that LoRA weights are trained on: which there are, and where their folders lie. No torch here.

A base is a diffusers `StableDiffusionPipeline` folder, known by the digest of its parts. One that was made here lies
in the store; the user's own, or one from a hub, stays where it is and is only noted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dtrak_core import program, store
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.model_files import config_of
from dtrak_core.settings import DIFFUSION_STEPS, Digest, Settings, digest_of, key_of

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
INSIDE = "pipeline"  # where a base that is stored here lies in its artifact
GET_ONE = (
    f"Take one in with: {program.command('base lambdalabs/miniSD-diffusers --name minisd')} (the paper's, 4 GB), or "
    "give the folder of any Stable Diffusion pipeline of diffusers"
)


class BaseSettings(Settings):
    """A text-to-image model, by the digest of its parts."""

    digest: Digest


@dataclass(frozen=True)
class Base:
    """A text-to-image model: name, digest, the pipeline's folder, and the side of its pictures in pixels."""

    name: str
    digest: str
    folder: Path
    resolution: int


def listing() -> list[Base]:
    """Return the bases there are, the shipped one first."""
    found = []
    for artifact in store.listing("bases"):
        facts = artifact.manifest
        folder = Path(facts["place"]) if facts["place"] else artifact.path / INSIDE
        found.append(Base(facts["name"], artifact.settings["digest"], folder, facts["resolution"]))
    return found


def by_digest(digest: str) -> Base:
    """Return the base of this digest.

    Raises:
        NotFoundError: If there is none, or its folder has gone.
    """
    for base in listing():
        if base.digest == digest:
            if not (base.folder / "model_index.json").is_file():
                raise NotFoundError(
                    f"The base '{base.name}' is no longer at {base.folder}. Put it back, or take it in again from "
                    "where it is now."
                )
            return base
    raise NotFoundError(f"No base has the digest {digest}. {GET_ONE}.")


def by_name(name: str) -> Base:
    """Return the newest base of this name, or raise NotFoundError."""
    matching = [base for base in listing() if base.name == name]
    if not matching:
        if not listing():
            raise NotFoundError(f"There is no text-to-image base yet. {GET_ONE}.")
        names = ", ".join(base.name for base in listing())
        raise NotFoundError(f"There is no base '{name}'; there are: {names}. {GET_ONE}.")
    return by_digest(matching[-1].digest)


def chosen(name: str) -> Base:
    """Return the base of this name; without a name the first there is."""
    known = listing()
    if name or not known:
        return by_name(name)
    return by_digest(known[0].digest)


def inspected(folder: Path, told: Callable[[int, int], None]) -> tuple[str, int]:
    """Return the digest of a pipeline's parts, and the side of its pictures.

    Args:
        folder: A diffusers pipeline folder.
        told: Told the files read and their number.

    Raises:
        NotFoundError: If a part is missing; the sentence names the file.
        DataError: If it is not a Stable Diffusion that predicts noise.
    """
    index = config_of(folder / "model_index.json", folder, folder.name)
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise DataError(
            f"'{folder.name}' holds a {index.get('_class_name', 'pipeline of unknown class')}. A text-to-image model "
            "of class StableDiffusionPipeline is needed."
        )
    for name in PARTS:
        if not (folder / name).is_dir():
            raise NotFoundError(f"'{folder.name}' has no folder {name}/. Give a whole diffusers pipeline.")
    schedule = config_of(folder / "scheduler" / "scheduler_config.json", folder, folder.name)
    if (kind := schedule.get("prediction_type", "epsilon")) != "epsilon":
        raise DataError(f"'{folder.name}' predicts '{kind}'. Only models that predict the noise (epsilon) are taken.")
    if schedule.get("num_train_timesteps", DIFFUSION_STEPS) != DIFFUSION_STEPS:
        raise DataError(
            f"'{folder.name}' has a schedule of {schedule['num_train_timesteps']} steps; {DIFFUSION_STEPS} are needed."
        )
    unet, vae = (config_of(folder / part / "config.json", folder, folder.name) for part in ("unet", "vae"))
    side = int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
    files = sorted(path for name in PARTS for path in (folder / name).rglob("*") if path.is_file())
    weights = [path for path in files if path.suffix == ".safetensors"]
    if len({path.parent for path in weights}) < 3:
        raise NotFoundError(
            f"'{folder.name}' lacks weights as .safetensors in unet/, vae/ or text_encoder/. Save it with "
            "safe_serialization=True."
        )
    sums: list[bytes | str] = []
    for number, path in enumerate(files):
        told(number, len(files))
        if path.suffix == ".bin":  # other copies of the same weights
            continue
        with path.open("rb") as opened:
            sums += [path.relative_to(folder).as_posix(), hashlib.file_digest(opened, "sha256").hexdigest()]
    return digest_of(*sums), side


def publish(name: str, digest: str, resolution: int, place: Path | None) -> store.Artifact:
    """Note a base; without a place its pipeline lies in the unfinished artifact already, as `INSIDE`."""
    settings = BaseSettings(digest=digest)
    key = key_of("bases", settings)
    with store.computing("bases", key) as found:
        if found is not None:
            return found
        store.partial("bases", key)
        where = str(place.resolve()) if place is not None else ""
        return store.publish("bases", key, settings, name=name, digest=digest, place=where, resolution=resolution)
