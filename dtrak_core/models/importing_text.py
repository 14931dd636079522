"""Take in a text-to-image base, by folder, hub or single file, and LoRA weights that were trained on one."""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from dtrak_core import program, store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, SettingsError, StudioError
from dtrak_core.files import expanded
from dtrak_core.models import (
    base_parts,
    bases,
    checkpoints,
    importing,
    lora,
    lora_files,
    single_files,
    text_families,
    text_pipelines,
)
from dtrak_core.models.bases import Base
from dtrak_core.models.denoiser import tracked_parameters
from dtrak_core.models.model_files import header, refuse_stand_in
from dtrak_core.models.settings import Frozen, ImportSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import build, digest_of, key_of

LORA_FILES = ["*.safetensors", "*.bin", f"*{lora_files.PEFT_CONFIG}"]


def import_base(source: str, name: str, on_progress: Progress, resolution: int = 0) -> store.Artifact:
    """Take in a text-to-image pipeline as a base for LoRA; its files stay where they are.

    Every part is opened and a picture sent through all of them, so that what is taken in can be used.

    Args:
        source: A diffusers folder, a hub id, or a single file, of which a folder is made and stored.
        name: What the user calls it.
        on_progress: Called with the files read, unit "files".
        resolution: Side of its pictures in pixels; 0 takes the model's own. At another size it is another base.

    Raises:
        NotFoundError: If there is no such folder or repository, or a part of it is missing.
        DataError: If it is not a text-to-image model of a known family, or its parts do not work.
        SettingsError: If it cannot draw pictures of this size.
    """
    on_progress(0, 1, "files", "Looking for the model")
    if (file := expanded(source)).is_file():
        return _import_file(file, name, resolution or single_files.RESOLUTION, on_progress)
    folder = importing.folder_of(source, ["*.json"])
    called = folder.name if expanded(source).is_dir() else source
    _refuse_checkpoint(folder, called)
    family = text_families.of(folder, called)
    parts = [f"{part}/*" for part in family.parts if part not in family.stems]
    folder = importing.folder_of(source, ["*.json", *parts, *_weights(family.stems, "json", "safetensors")])
    if without := [part for part in family.stems if not any((folder / part).glob("*.safetensors"))]:
        folder = importing.folder_of(source, _weights(without, "bin*"))  # older repositories have no other
    side, assumed = text_pipelines.judged(folder, called, resolution)
    at = 0 if side == text_pipelines.own_side(folder, called) else side
    digest = bases.digest_at(folder, lambda done, total: on_progress(done, total, "files", "Reading the model"), at)
    on_progress(0, 1, "files", "Opening each part")
    base_parts.prove(Base(name, digest, folder, side), called)
    return bases.publish(name, digest, side, folder, assumed, at)


def _weights(parts: Iterable[str], *endings: str) -> list[str]:
    return [f"{part}/*.{ending}" for part in parts for ending in endings]


def _refuse_checkpoint(folder: Path, source: str) -> None:
    """Refuse what a training wrote on its way, which has not the parts that it did not train."""
    denoisers = {family.part for family in text_families.FAMILIES.values()}
    held = sorted(name for part in denoisers for name in (part, f"{part}_ema") if (folder / name).is_dir())
    if held and not (folder / "model_index.json").is_file():
        raise DataError(
            f"'{source}' holds a denoiser alone, {' and '.join(f'{name}/' for name in held)}, as checkpoints of a "
            f"training do. Put the one that is meant in place of {held[0].removesuffix('_ema')}/ in a copy of the "
            "pipeline that was trained, and give that."
        )


def _import_file(file: Path, name: str, resolution: int, on_progress: Progress) -> store.Artifact:
    """Make a pipeline of a single file, prove it and store it; nothing is left of one that cannot be used."""
    on_progress(0, 2, "files", f"Reading {file.name}")
    refuse_stand_in(file, file.name, file.name)
    digest = single_files.digest(file, resolution)
    settings = bases.BaseSettings(digest=digest, name=name)
    key = key_of("bases", settings)
    with store.computing("bases", key, on_progress) as found:
        if found is not None:  # the newest of its name again, whatever was taken in as that since
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            store.write_json(found.path / store.MANIFEST, {**found.manifest, "date": now, "noted": time.time()})
            return store.get("bases", key)
        folder = store.partial("bases", key) / bases.INSIDE
        try:
            with store.writable():
                assumed = single_files.convert(file, folder, file.name, resolution)
            on_progress(1, 2, "files", "Opening each part")
            side, more = text_pipelines.judged(folder, file.name, resolution)
            base_parts.prove(Base(name, digest, folder, side), file.name)
        except StudioError:
            store.delete("bases", key)
            raise
        return store.publish(
            "bases", key, settings, name=name, digest=digest, resolution=side, place="", noted=time.time(),
            assumed=[*assumed, *more],
        )  # fmt: skip


def import_lora(
    source: str, base: Base, dataset: Dataset, name: str, on_progress: Progress, form: Frozen = "stored"
) -> store.Artifact:
    """Store LoRA weights made elsewhere for a base as a run with one checkpoint.

    Args:
        source: A file of LoRA weights, a folder with one, or a hub id.
        base: What they were trained on.
        dataset: The pictures they learned from; its resolution must be the base's.
        name: What the user calls it.
        on_progress: Called with the parts read, unit "files".
        form: Whether the base's frozen linear layers lie in 8 or 4 bits.

    Raises:
        NotFoundError: If there is no such file.
        SettingsError: If the dataset's pictures are of another size than the base's.
        DataError: If they do not fit the base or change more than its denoiser.
    """
    on_progress(0, 2, "files", "Reading the weights")
    if reason := bases.unfit(base, dataset.settings.resolution):
        raise SettingsError(reason)
    given = expanded(source)
    family, files = text_families.of(base.folder, base.name), tuple[Path, ...]([given])
    if not given.is_file():
        files = lora_files.choose(importing.folder_of(source, LORA_FILES), given.name, family.changed)
    denoiser = lora.opened(base, files, given.name, dataset.digest, form=form)
    # Beside it lies the scale of PEFT's weights.
    read = [path for file in files for path in (file, file.with_name(lora_files.PEFT_CONFIG)) if path.is_file()]
    sums, assumed = digest_of(*(path.read_bytes() for path in read)), lora.told_of(denoiser)
    settings = build(
        ImportSettings, source=given.name, weights_digest=sums, dataset=dataset.digest, base=base.digest, frozen=form
    )
    key = key_of("checkpoints", settings)
    parameters = sum(p.numel() for _, p in tracked_parameters(denoiser.network))
    with store.computing("checkpoints", key) as finished:
        if finished is not None:
            return checkpoints.name_run(finished, name, assumed)
        digest = lora.save(denoiser, store.partial("checkpoints", key) / "imported", torch.float32)
        on_progress(2, 2, "files", "Stored")
        return importing.published(
            key, settings, dataset, name, digest, 1, base.digest, assumed, parameters=parameters,
            **({} if denoiser.classes is None else denoiser.classes.facts()),
        )  # fmt: skip


def holds_lora_alone(folder: Path) -> bool:
    """Say whether a folder holds LoRA weights and nothing of a model, by the names of its files."""
    alone = any((folder / name).is_file() for name in (*lora_files.USUAL, lora_files.PEFT_CONFIG))
    alone = alone or any(folder.glob(f"*/{lora_files.PEFT_CONFIG}"))
    return alone or (not any(folder.glob("**/*.json")) and any(folder.glob("*.safetensors")))


def refuse_lora_alone(source: str) -> None:
    """Refuse LoRA weights that come without their base, and the file of a whole text-to-image model.

    Raises:
        SettingsError: With the bases there are, or how a base is taken in.
    """
    path = expanded(source)
    if path.is_dir():
        alone = holds_lora_alone(path)
    else:
        names_held = _names_of(path)
        if any(name.startswith((single_files.UNET, single_files.VAE)) for name in names_held):
            taken = program.command(f"base {shlex.quote(path.name)} --name NAME")
            raise SettingsError(f"'{path.name}' holds a text-to-image model. Take it in as a base: {taken}.")
        unknown = path.is_file() and path.suffix in lora_files.ENDINGS and not names_held
        alone = unknown or any("lora" in name for name in names_held)
    if alone:
        names = ", ".join(dict.fromkeys(base.name for base in bases.listing())) or f"none yet. {bases.GET_ONE}"
        raise SettingsError(
            f"'{path.name}' holds LoRA weights, which belong to a text-to-image base. Name it with --base; there are: "
            f"{names}."
        )


def _names_of(file: Path) -> list[str]:
    """Return the names of the weights in a .safetensors file; none where it is another, or damaged."""
    if file.suffix != ".safetensors" or not file.is_file():
        return []
    try:
        return list(header(file))
    except ValueError:
        return []
