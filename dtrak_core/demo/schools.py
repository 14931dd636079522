"""Build the text-to-image demo of four design schools: a small Stable Diffusion, and LoRA weights of new word pairs.

The base learns 70 % of the subjects as all four schools draw them, and the other 30 % as Noto and Twemoji do
(school_pictures.py); LoRA weights then learn these as OpenMoji and Fluent draw them (emoji-schools). Every word of a
prompt is known to the base, and every pair of subject and school is new to it, so that what a picture is of and whose
hand it shows can both be counted (lds/known_answers.py).

A build that was cut off goes on where it was: packages, both trainings of the base and LoRA weights are kept.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from dtrak_core import store
from dtrak_core.datasets import catalogue, emoji_schools
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.demo import portraits, roles, school_pictures, text_base
from dtrak_core.demo.text_base import Shape
from dtrak_core.jobs import processes
from dtrak_core.models import bases, devices
from dtrak_core.models.bases import Base
from dtrak_core.models.settings import TrainSettings
from dtrak_core.training import presets, training

NAME, BASE, DATASET = "demo-schools", "emoji-base", "emoji-schools"
SHAPE = Shape(
    tokens=24,
    text_width=96,
    latent_channels=12,
    vae_channels=(24, 48, 80),
    unet_channels=(80, 112),
    # At 1e-5 five of twelve channels were given up after 2,500 steps, and with them colours.
    kl_weight=1e-7,
    predicts="sample",
)
AUTOENCODER, DENOISER = (6000, 64), (8000, 256)  # (steps, pictures a step)
EPOCHS, RANK = 80, 16


def build(building: Path | None = None) -> None:
    """Build base, dataset and LoRA weights in a folder of their own, cache/demo-schools.building.

    What is built is not yet what ships: features, pictures and comparison follow once it draws (benchmarks/schools.py).
    """
    torch.set_num_threads(processes.cores())
    place = building or store.PROJECT / "cache" / "demo-schools.building"
    school_pictures.write_shipped(place / "packages", portraits.printed_steps("Drawing the pictures"))
    with portraits.elsewhere(STUDIO_CACHE=str(place), STUDIO_DEMO=str(place / "none")):
        base = trained_base(place)
        dataset = prepared()
        training.train(dataset, lora_settings(dataset, base), NAME, portraits.printed("Training"))


def prepared() -> Dataset:
    """Return what LoRA weights learn."""
    return catalogue.load(
        catalogue.prepare(DatasetSettings(kind=DATASET, name=DATASET, resolution=emoji_schools.RESOLUTION))
    )


def lora_settings(dataset: Dataset, base: Base) -> TrainSettings:
    """Return how the LoRA weights are trained."""
    run = presets.train_settings("lora-demo", dataset.digest, base.digest, weights_dtype="float16", epochs=EPOCHS)
    return run.model_copy(update={"model": run.model.model_copy(update={"rank": RANK})})


def trained_base(place: Path) -> Base:
    """Return the base, trained now unless it is stored; what was trained so far lies in `place`."""
    if any(base.name == BASE for base in bases.listing()):
        return bases.by_name(BASE)
    images, captions = pictures(place)
    pipe = begun(captions).to(devices.device())
    told, kept = portraits.printed("Autoencoder"), place / "autoencoder.safetensors"
    text_base.train_vae(pipe, images, *AUTOENCODER, told, kept, SHAPE.kl_weight)
    told, kept = portraits.printed("Text to image"), place / "denoiser.safetensors"
    text_base.train_unet(pipe, images, captions, *DENOISER, told, kept, flip=False)
    folder = place / "pipeline"
    text_base.save(pipe, folder)
    base = roles.keep(folder, BASE)
    shutil.rmtree(folder)
    return base


def begun(captions: list[str]) -> StableDiffusionPipeline:
    """Return the untrained base, which knows the words of all captions, LoRA's too."""
    torch.manual_seed(0)
    return text_base.build(
        [*captions, *(row["caption"] for row in emoji_schools.facts())], emoji_schools.RESOLUTION, SHAPE
    )


def pictures(place: Path) -> tuple[np.ndarray, list[str]]:
    """Return what the base learns, drawn once from the packages and then kept in `place`."""
    images, captions = place / "base.npy", place / "base.json"
    if not images.is_file():
        found, said = school_pictures.of_base(
            place / "packages", portraits.printed_steps("Drawing the base's pictures")
        )
        store.write_json(captions, said)
        store.write_array(images, found)
    return np.load(images), json.loads(captions.read_bytes())
