"""Take in a text-to-image base, by folder or hub, and LoRA weights that were trained on one."""

from __future__ import annotations

from pathlib import Path

import torch

from dtrak_core import bases, checkpoints, importing, lora, store
from dtrak_core.bases import Base
from dtrak_core.datasets import Dataset
from dtrak_core.denoiser import tracked_parameters
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.progress import Progress
from dtrak_core.settings import ImportSettings, build, digest_of, key_of

BASE_FILES = [
    "*.json", "unet/*.json", "unet/*.safetensors", "vae/*.json", "vae/*.safetensors", "text_encoder/*.json",
    "text_encoder/*.safetensors", "tokenizer/*", "scheduler/*",
]  # fmt: skip


def import_base(source: str, name: str, progress: Progress) -> store.Artifact:
    """Note a Stable Diffusion pipeline as a base for LoRA; its files stay where they are.

    Raises:
        NotFoundError: If there is no such folder or repository, or a part of it is missing.
        DataError: If it is not a text-to-image model that predicts noise.
    """
    progress(0, 1, "files", "Looking for the model")
    folder = importing.folder_of(source, BASE_FILES)
    digest, resolution = bases.inspected(folder, lambda d, t: progress(d, t, "files", "Reading the model"))
    return bases.publish(name, digest, resolution, folder)


def import_lora(source: str, base: Base, dataset: Dataset, name: str, progress: Progress) -> store.Artifact:
    """Store LoRA weights made elsewhere for a base as a run with one checkpoint.

    Args:
        source: A folder with one .safetensors file, that file, or a hub id.
        base: What they were trained on.
        dataset: The pictures they learned from; its resolution must be the base's.
        name: What the user calls it.
        progress: Told the parts read, unit "files".

    Raises:
        NotFoundError: If there is no such file.
        DataError: If they do not fit the base or change more than its denoiser.
    """
    progress(0, 2, "files", "Reading the weights")
    given = Path(source).expanduser()
    found = [given] if given.is_file() else sorted(importing.folder_of(source, ["*.safetensors"]).glob("*.safetensors"))
    file = next((path for path in found if path.name == lora.FILE), found[0] if len(found) == 1 else None)
    if file is None:
        raise NotFoundError(
            f"'{given.name}' holds {len(found)} .safetensors files and none is {lora.FILE}. Give the file of the "
            "LoRA weights."
        )
    if dataset.settings.resolution != base.resolution:
        raise DataError(
            f"The base '{base.name}' draws pictures of {base.resolution} pixels, dataset '{dataset.name}' has "
            f"{dataset.settings.resolution}. Prepare the dataset at {base.resolution} pixels."
        )
    sums = digest_of(file.read_bytes())
    settings = build(ImportSettings, source=given.name, weights_digest=sums, dataset=dataset.digest, base=base.digest)
    key = key_of("checkpoints", settings)
    if (finished := store.find("checkpoints", key)) is not None:
        return checkpoints.name_run(finished, name)
    place = store.partial("checkpoints", key) / "imported"
    store.write_bytes(place / lora.FILE, file.read_bytes())
    denoiser = lora.load(base, place, dataset.digest)
    digest = lora.save(denoiser, place, torch.float32)
    progress(2, 2, "files", "Stored")
    parameters = sum(p.numel() for _, p in tracked_parameters(denoiser.unet))
    return importing.published(key, settings, dataset, name, digest, fold=1, base=base.digest, parameters=parameters)
