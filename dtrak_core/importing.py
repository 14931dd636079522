"""Take in what was made elsewhere, by folder or hub: a diffusers DDPM, a text-to-image base, LoRA weights of it.

Of a DDPM are taken a pipeline folder (model_index.json, unet/, scheduler/) or a folder with a UNet2DModel
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

from dtrak_core import bases, lora, models, store
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
    folder = _folder(source)
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    config = bases.config_of(unet_folder / "config.json", folder, source)
    if config.get("_class_name") != "UNet2DModel":
        raise DataError(
            f"'{source}' holds a {config.get('_class_name', 'network of unknown class')}. "
            "A DDPM of class UNet2DModel is needed."
        )
    schedule_file = folder / "scheduler" / "scheduler_config.json"
    if schedule_file.exists():
        schedule = bases.config_of(schedule_file, folder, source)
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
    return _published(key, settings, dataset, name, digest, fold=denoiser.fold, parameters=parameters)


def import_base(source: str, name: str, progress: Progress) -> store.Artifact:
    """Note a Stable Diffusion pipeline as a base for LoRA; its files stay where they are.

    Raises:
        NotFoundError: If there is no such folder or repository, or a part of it is missing.
        DataError: If it is not a text-to-image model that predicts noise.
    """
    progress(0, 1, "files", "Looking for the model")
    folder = _folder(source, BASE_FILES)
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
    found = [given] if given.is_file() else sorted(_folder(source, ["*.safetensors"]).glob("*.safetensors"))
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
        return finished
    place = store.partial("checkpoints", key) / "imported"
    store.write_bytes(place / lora.FILE, file.read_bytes())
    denoiser = lora.load(base, place, dataset.digest)
    digest = lora.save(denoiser, place, torch.float32)
    progress(2, 2, "files", "Stored")
    parameters = sum(p.numel() for _, p in tracked_parameters(denoiser.unet))
    return _published(key, settings, dataset, name, digest, fold=1, base=base.digest, parameters=parameters)


def _published(
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


def _folder(source: str, wanted: list[str] | None = None) -> Path:
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
