"""Take in a diffusers DDPM made elsewhere, by folder or hub.

Taken are a pipeline folder (model_index.json, unet/, scheduler/) or a folder with a UNet2DModel
alone. Weights are read from safetensors, else from a .bin with weights_only; they are stored
again as float32 safetensors, so that everything after works as with a training of our own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from safetensors.torch import load_file
from torch import Tensor

from dtrak_core import models, store
from dtrak_core.datasets import Dataset
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.model_files import config_of
from dtrak_core.progress import Progress
from dtrak_core.settings import ImportSettings, build, key_of

WANTED = ["*.json", "unet/*.json", "unet/diffusion_pytorch_model.*", "diffusion_pytorch_model.*", "scheduler/*.json"]


def import_checkpoint(source: str, dataset: Dataset, name: str, progress: Progress) -> store.Artifact:
    """Store a diffusers checkpoint as a run with one checkpoint.

    Args:
        source: A folder, or a hub id like `google/ddpm-cifar10-32`.
        dataset: What the model was trained on; its resolution must be the model's.
        name: What the user calls it.
        progress: Told the parts read, unit "files".

    Raises:
        NotFoundError: If there is no such folder, repository, or weights in it.
        DataError: If it is not a noise-predicting DDPM for pictures of this size.
    """
    progress(0, 3, "files", "Reading the checkpoint")
    folder = folder_of(source)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    config = config_of(unet_folder / "config.json", folder, source)
    if config.get("_class_name") != "UNet2DModel":
        raise DataError(
            f"'{source}' holds a {config.get('_class_name', 'network of unknown class')}. "
            "A DDPM of class UNet2DModel is needed."
        )
    schedule_file = folder / "scheduler" / "scheduler_config.json"
    if schedule_file.exists():
        schedule = config_of(schedule_file, folder, source)
    else:
        schedule = dict(models.default_scheduler().config)
    progress(1, 3, "files", "Reading the weights")
    denoiser = models.assemble(config, _weights(unet_folder, source), schedule, fold_of(config, dataset, source))
    digest = models.weights_digest(denoiser.unet)
    settings = build(ImportSettings, source=Path(source).name, weights_digest=digest, dataset=dataset.digest)
    key = key_of("checkpoints", settings)
    if (finished := store.find("checkpoints", key)) is not None:
        return finished
    progress(2, 3, "files", "Storing the weights")
    place = store.partial("checkpoints", key) / "imported"
    scheduler = DDPMScheduler.from_config(schedule)
    models.save_pipeline(denoiser.unet, place, torch.float32, scheduler)
    progress(3, 3, "files", "Stored")
    parameters = sum(p.numel() for p in denoiser.unet.parameters())
    return published(key, settings, dataset, name, digest, fold=denoiser.fold, parameters=parameters)


def published(
    key: str, settings: ImportSettings, dataset: Dataset, name: str, digest: str, **facts: object
) -> store.Artifact:
    """Publish imported weights as a run with one checkpoint."""
    steps = [{"step": 0, "share": 100, "folder": "imported", "digest": digest}]
    told = {"name": name, "dataset": dataset.digest, "dataset_name": dataset.name, "steps": steps}
    return store.publish("checkpoints", key, settings, **told, **facts)


def fold_of(config: dict[str, Any], dataset: Dataset, source: str) -> int:
    """Return f for a network that sees pictures folded f x f, from its channels: 3 f^2.

    Raises:
        DataError: If channels or size do not fit RGB pictures of the dataset's resolution.
    """
    channels, size = config["in_channels"], config["sample_size"]
    fold = math.isqrt(channels // 3)
    if channels != 3 * fold**2 or fold not in (1, 2, 4):
        raise DataError(f"'{source}' takes {channels} channels. RGB pictures have 3, folded ones 12 or 48.")
    resolution = dataset.settings.resolution
    if size != resolution // fold:
        raise DataError(
            f"'{source}' draws pictures of {size * fold} pixels, dataset '{dataset.name}' has {resolution}. "
            f"Prepare the dataset at {size * fold} pixels."
        )
    return fold


def folder_of(source: str, wanted: list[str] | None = None) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise NotFoundError(f"There is no folder '{path.name}'. Give a folder or a hub id like owner/name.")
    try:
        return Path(snapshot_download(source, allow_patterns=wanted or WANTED))
    except (RepositoryNotFoundError, HFValidationError):
        raise NotFoundError(f"The hub has no repository '{source}', and there is no such folder here.") from None


def _weights(folder: Path, source: str) -> dict[str, Tensor]:
    if (path := folder / models.WEIGHTS).exists():
        return load_file(path)
    if (path := folder / "diffusion_pytorch_model.bin").exists():
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return weights
    raise NotFoundError(f"'{source}' has no weights: neither {models.WEIGHTS} nor diffusion_pytorch_model.bin.")
