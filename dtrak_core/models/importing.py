"""Take in a diffusers DDPM made elsewhere, by folder or hub.

What is taken, and what is refused, is said in `pipelines`. Weights are stored again as float32 safetensors, so that
everything after works as with a training of our own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import grey, is_grey
from dtrak_core.errors import DataError, NotFoundError, first_line
from dtrak_core.files import expanded
from dtrak_core.models import checkpoints, class_names, descriptions, networks, pipelines, weights
from dtrak_core.models.base_parts import UNREADABLE
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ImportSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import build, key_of

FOLDS = {planes * fold**2: fold for planes in (1, 3) for fold in (1, 2, 4)}  # by channels
WANTED = [descriptions.CARD, "*.json", "scheduler/*.json"] + [
    f"{folder}{name}" for folder in ("", "unet/", "unet_ema/") for name in ("config.json", "diffusion_pytorch_model*")
]
# What is raised where the hub does not answer: of its HTTP client, whose package differs between versions, and of Xet.
UNANSWERED: tuple[type[Exception], ...] = (
    errors.HTTPError,  # type: ignore[attr-defined]
    getattr(errors, "XetDownloadError", HfHubHTTPError), LocalEntryNotFoundError, ConnectionError,
)  # fmt: skip


def import_checkpoint(source: str, dataset: Dataset, name: str, on_progress: Progress) -> store.Artifact:
    """Store a diffusers checkpoint as a run with one checkpoint; what was assumed stands in its manifest.

    Args:
        source: A folder, or a hub id like `google/ddpm-cifar10-32`.
        dataset: What the model was trained on; its resolution must be the model's.
        name: What the user calls it.
        on_progress: Called with the parts read, unit "files".

    Returns:
        The run; or, where one of this dataset with this identity is stored, its name.

    Raises:
        NotFoundError: If there is no such folder, repository, or weights in it.
        DataError: If it is not a DDPM for pictures of this size, or its files are damaged.
    """
    on_progress(0, 3, "files", "Reading the checkpoint")
    folder = folder_of(source)
    called = folder.resolve().name if expanded(source).is_dir() else source
    found = pipelines.judge(folder, called)
    fold, size, assumed = _size(found, dataset, called)
    names = tuple[str, ...]()
    if found.config.get("class_embed_type") or found.config.get("num_class_embeds"):
        count = networks.numbers_of(found.config)
        names, more = class_names.settled(count, found.classes, dataset.classes, called)
        assumed = (*assumed, *more)
    twice = found.config.get("out_channels", 3) == 2 * found.config.get("in_channels", 3)
    if twice and not found.schedule.sampler.variance.startswith("learned"):
        assumed = (*assumed, "the variance that its network puts out is not used, as its scheduler takes a fixed one")
    on_progress(1, 3, "files", "Reading the weights")
    read = weights.read(found.weights, called)
    denoiser = networks.assemble({**found.config, "sample_size": size}, read, found.schedule, fold, called, names)
    _prove(denoiser, dataset, called)
    digest = networks.weights_digest(denoiser.network)
    config = json.loads(denoiser.network.to_json_string())  # type: ignore[operator]  # a UNet2DModel
    if wrong := [key for key, value in config.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise DataError(f"config.json of '{called}' has {config[wrong[0]]} for {wrong[0]}. Correct it.")
    facts = checkpoints.pixel_facts(config | class_names.stored(names), found.schedule.config, fold)
    identity = checkpoints.identity(digest, facts)
    settings = build(
        ImportSettings, source=called.split("/")[-1], weights_digest=digest, dataset=dataset.digest, identity=identity
    )
    for known in checkpoints.listing(dataset.digest):
        if known.digest == identity:
            return checkpoints.name_run(known.run, name, assumed)
    key = key_of("checkpoints", settings)
    with store.computing("checkpoints", key, on_progress) as finished:
        if finished is not None:
            return checkpoints.name_run(finished, name, assumed)
        on_progress(2, 3, "files", "Storing the weights")
        place = store.partial("checkpoints", key) / "imported"
        networks.save_pipeline(denoiser.network, place, torch.float32, found.schedule, names)
        on_progress(3, 3, "files", "Stored")
        parameters = sum(p.numel() for p in denoiser.network.parameters())
        by = denoiser.classes
        told: dict[str, Any] = {} if by is None else by.facts()
        told |= {"licence": named} if (named := descriptions.licence(folder)) else {}
        told["target_draws"] = checkpoints.draws_within(parameters, size**2)
        return published(key, settings, dataset, name, digest, fold, "", assumed, parameters=parameters, **told)


def _prove(denoiser: Denoiser, dataset: Dataset, source: str) -> None:
    """Send one picture through a network, so that it cannot fail at its first use.

    Raises:
        DataError: If it cannot look at the dataset's pictures.
    """
    try:
        with torch.no_grad():
            x = denoiser.encode(dataset.train.images[:1]).to(denoiser.weight)
            first = torch.zeros(1, dtype=torch.long, device=x.device)
            denoiser.predict(x, first, denoiser.conditions([denoiser.usual]))
    except UNREADABLE as error:
        raise DataError(
            f"The network of '{source}' cannot look at pictures of {dataset.settings.resolution} pixels "
            f"({first_line(error)}). Correct its config.json, or prepare the dataset at the size that it learned."
        ) from None


def published(
    key: str,
    settings: ImportSettings,
    dataset: Dataset,
    name: str,
    digest: str,
    fold: int,
    base: str = "",
    assumed: Sequence[str] = (),
    **told: object,
) -> store.Artifact:
    """Publish imported weights, which lie in the unfinished artifact, as a run with one checkpoint; name it.

    Args:
        key: Key of the settings, under which the artifact is unfinished.
        settings: Where the weights come from.
        dataset: What they were trained on.
        name: What the user calls the run.
        digest: Digest of the weights.
        fold: Side of the blocks of pixels that the network sees as channels.
        base: Digest of the base that LoRA weights belong to.
        assumed: What the files left open, in words.
        told: Further facts for the manifest.

    Returns:
        The run; or its name, where a run of this dataset with this identity was stored under another one.
    """
    facts = checkpoints.facts_of(store.partial("checkpoints", key) / "imported", fold, base)
    identity = checkpoints.identity(digest, facts)
    for known in checkpoints.listing(dataset.digest):
        if known.digest == identity:
            store.delete("checkpoints", key)
            return checkpoints.name_run(known.run, name, assumed)
    steps = [{"step": 0, "share": 100, "folder": "imported", "digest": identity, "weights": digest}]
    about = {"name": name, "dataset": dataset.digest, "dataset_name": dataset.name, "steps": steps, "fold": fold}
    about |= {"base": base} if base else {}
    run = store.publish("checkpoints", key, settings, **about, assumed=list(assumed), **told)
    return checkpoints.name_run(run, name, assumed)


def _size(found: pipelines.Layout, dataset: Dataset, source: str) -> tuple[int, int, Sequence[str]]:
    """Return f for a network that sees pictures folded f x f, from its channels; its side; what is assumed.

    Pictures in colours have 3 f^2 channels, grey ones f^2.

    Raises:
        DataError: If channels or size do not fit pictures of the dataset's resolution and colours.
    """
    channels, size = pipelines.sides(found.config, source)
    fold, assumed = FOLDS.get(channels, 0), found.assumed
    if channels == 1:
        grey(dataset.train.images)  # raises where they are not
    elif channels == fold**2 and is_grey(dataset.train.images):
        assumed = (*assumed, f"its {channels} channels are grey pictures folded {fold} x {fold}")
    elif channels != 3 * fold**2 or not fold:
        raise DataError(
            f"'{source}' takes {channels} channels. Pictures in colours have 3, folded ones 12 or 48; grey ones have "
            "1, folded ones 4 or 16. Take a model of pixels, not of an autoencoder's latents."
        )
    resolution = dataset.settings.resolution
    if size is None and resolution % fold:
        raise DataError(
            f"'{source}' folds {fold} x {fold} pixels, and the {resolution} of dataset '{dataset.name}' are no "
            f"multiple of that. Prepare the dataset at {resolution - resolution % fold} pixels."
        )
    if size is None:
        told = f"its config.json has no sample_size: {resolution} pixels, as the dataset has"
        return fold, resolution // fold, (*assumed, told)
    if size * fold != resolution:
        raise DataError(
            f"'{source}' draws pictures of {size * fold} pixels, dataset '{dataset.name}' has {resolution}. "
            f"Prepare the dataset at {size * fold} pixels."
        )
    return fold, size, assumed


def folder_of(source: str, wanted: list[str] | None = None) -> Path:
    """Return a local folder as it is, or that of the hub's repository of this id, downloaded.

    Raises:
        NotFoundError: If there is neither, or the repository is gated, or the hub does not answer.
    """
    path = expanded(source)
    if path.is_dir():
        return path
    if path.is_file():
        raise NotFoundError(f"'{path.name}' is a file. Give the folder that holds it, with its config.json.")
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        raise NotFoundError(f"There is no folder '{path.name}'. Give a folder or a hub id like owner/name.")
    try:
        return Path(snapshot_download(source, allow_patterns=wanted or WANTED))
    except GatedRepoError:  # which is a RepositoryNotFoundError too
        raise NotFoundError(
            f"The model '{source}' is gated. Accept its terms at https://huggingface.co/{source}, log in with "
            "hf auth login, and try again."
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise NotFoundError(
            f"The hub has no repository '{source}', and there is no such folder here. Check the name; if the "
            "repository is private, log in with hf auth login."
        ) from None
    except UNANSWERED as error:
        raise NotFoundError(
            f"There is no folder '{source}' here, and the hub could not be asked for it ({type(error).__name__}). Try "
            "again, or give a folder."
        ) from None
