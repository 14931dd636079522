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
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from dtrak_core import store
from dtrak_core.counterfactual import counterfactual, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue, emoji_schools
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.demo import portraits, school_pictures, shipping, text_base
from dtrak_core.demo.text_base import Shape
from dtrak_core.engine import work
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.jobs import processes
from dtrak_core.jobs.job_kinds import AttributeJob, SampleJob
from dtrak_core.models import bases, checkpoints, devices
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Layers, Sampled, TrainSettings
from dtrak_core.settings import key_of
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
AUTOENCODER, DENOISER = (4500, 64), (5200, 256)  # (steps, pictures a step)
# Of attention alone, whatever the rank, LoRA weights of this base take in less than half of what they are shown: the
# loss stays at 0.20 where that of all layers falls below 0.1 (docs/findings.md).
LAYERS: Layers = "all"
EPOCHS, RATE = 200, 1.5e-3
SEEDS, GUIDANCE = 64, 2.0  # pictures, all of them explained
STRIDE = 27  # of seeds among the subjects chosen; it shares no divisor with their number
TIMESTEPS, PROJ_DIM = 20, 1024
COMPARED = 6  # targets: as many as a verdict needs, since a training takes most of an hour
PAIR = 2  # pictures of a subject
SHIPPED = (
    "bases", "datasets", "checkpoints", "samples", "features", "kernels", "target-features", "comparisons"
)  # fmt: skip
# What is removed, random sets of each size, models with nothing removed: six models without a subject's two pictures
# and two without two random ones; of the schools, which have 431 and 425 pictures, three random sets of each size.
REMOVALS = {"subjects": (("same:family",), 2, 1), "schools": (("same:contributor",), 3, 1)}


def build() -> None:
    """Build the demo, or go on building it, in cache/demo-schools.building, and put it into cache/demo."""
    place = store.PROJECT / "cache" / "demo-schools.building"
    school_pictures.write_shipped(place / "packages", portraits.printed_steps("Drawing the pictures"))
    make(place)
    publish(place, store.demo_root())
    shipping.clear(place)


def make(place: Path) -> None:
    """Compute all of the demo that is not stored in a folder yet."""
    torch.set_num_threads(processes.cores())
    with portraits.elsewhere(STUDIO_CACHE=str(place), STUDIO_DEMO=str(place / "none")):
        base = trained_base(place)
        dataset = prepared()
        training.train(dataset, lora_settings(dataset, base), NAME, portraits.printed("Training"))
        checkpoint = checkpoints.by_name(NAME, dataset.digest)
        explain(dataset, checkpoint)
        for name, settings in comparisons(dataset, checkpoint).items():
            counterfactual.compare(dataset, checkpoint, settings, name, portraits.printed(f"Comparison {name}"))


def prepared() -> Dataset:
    """Return what LoRA weights learn."""
    return catalogue.load(
        catalogue.prepare(DatasetSettings(kind=DATASET, name=DATASET, resolution=emoji_schools.RESOLUTION))
    )


def lora_settings(dataset: Dataset, base: Base) -> TrainSettings:
    """Return how the LoRA weights are trained."""
    made_of = (dataset.digest, base.digest)
    return presets.train_settings(
        "lora-demo", *made_of, layers=LAYERS, weights_dtype="float16", epochs=EPOCHS, learning_rate=RATE
    )


def drawing(dataset: Dataset, count: int = SEEDS) -> Sampled:
    """Return how the pictures are drawn: seed k from the caption of a training picture, the schools by turns.

    The subjects are those with two training pictures, one of each school, evenly over the list and then out of order,
    so that the first seeds are of all groups.
    """
    captions = {(row["family"], row["contributor"]): row["caption"] for row in dataset.train.rows}
    pictures = Counter(row["family"] for row in dataset.train.rows)
    both = [one for one in dict.fromkeys(row["family"] for row in emoji_schools.facts()) if pictures[one] == PAIR]
    chosen = [both[i] for i in np.linspace(0, len(both) - 1, SEEDS).astype(int)]
    hands = tuple(emoji_schools.SCHOOLS)
    told = [captions[chosen[STRIDE * seed % SEEDS], hands[seed % len(hands)]] for seed in range(count)]
    return Sampled(prompts=tuple(told), guidance=GUIDANCE)


def explain(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Draw the pictures, and compute the features of D-TRAK and TRAK for all of them."""
    how = drawing(dataset).drawing()
    work.run(SampleJob(checkpoint=checkpoint.digest, seeds=tuple(range(SEEDS)), **how), portraits.printed("Pictures"))
    wanted = tuple(feature_settings(dataset.digest, checkpoint.digest, output) for output in portraits.MODEL_OUTPUTS)
    names = tuple(f"seed:{seed}" for seed in range(SEEDS))
    work.run(AttributeJob(features=wanted, targets=names, **how), portraits.printed("Features"))


def feature_settings(dataset: str, checkpoint: str, model_output: ModelOutput) -> FeatureSettings:
    """Return the settings of the shipped features: 20 timesteps, sparse projection, 8 bits a number."""
    return portraits.feature_settings(dataset, checkpoint, model_output, TIMESTEPS, PROJ_DIM)


def comparisons(dataset: Dataset, checkpoint: Checkpoint) -> dict[str, CounterfactualSettings]:
    """Return what is removed for the first pictures: the subject's own, and all of the school's."""
    shared = {"targets": tuple(f"seed:{seed}" for seed in range(COMPARED)), "bottom": False, "remove": (PAIR,)}
    shared |= drawing(dataset, COMPARED).drawing()
    found = {}
    for name, (methods, draws, floor) in REMOVALS.items():
        asked = shared | {"random_draws": draws, "floor_models": floor}
        found[name] = removals.settings_for(dataset, checkpoint, methods, asked, portraits.SIMILARITY)
    return found


def publish(building: Path, final: Path) -> None:
    """Put what a fresh clone should have into the demo's folder, at once, in the place of what of it was there."""
    with shipping.replacing(final) as fresh:
        if final.is_dir():
            shutil.copytree(final, fresh, dirs_exist_ok=True)
        for place in listed(fresh):
            shutil.rmtree(fresh / place, ignore_errors=True)
        store.write_json(fresh / portraits.TEXT_LISTED, shipping.put(building, SHIPPED, fresh))


def listed(folder: Path) -> list[str]:
    """Return which artifacts of a demo's folder are this module's."""
    return shipping.listed(folder, portraits.TEXT_LISTED)


def keep(pipeline: Path, name: str) -> Base:
    """Store a pipeline's folder as a base."""
    digest, resolution = bases.inspected(pipeline, lambda done, total: None)
    key = key_of("bases", bases.BaseSettings(digest=digest))
    shutil.copytree(pipeline, store.partial("bases", key) / bases.INSIDE, dirs_exist_ok=True)
    bases.publish(name, digest, resolution, None)
    return bases.by_digest(digest)


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
    base = keep(folder, BASE)
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
