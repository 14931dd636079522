"""Build the text-to-image demo that ships in cache/demo: a small Stable Diffusion, LoRA weights of people at work.

The base learns to draw OpenMoji's people, faces and animals from their names (text_base.py); LoRA weights then
learn 492 portraits of roles that it has not seen, with named contributors. Pictures from prompts, features for
D-TRAK and TRAK, and a comparison of removals go with them, all by the stages that every model goes through.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch

from dtrak_core import store
from dtrak_core.counterfactual import counterfactual, removals
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.demo import portraits, text_base
from dtrak_core.engine import work
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.jobs import processes
from dtrak_core.jobs.job_kinds import AttributeJob, SampleJob
from dtrak_core.models import bases, checkpoints
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.settings import key_of
from dtrak_core.training import presets, training

NAME, BASE, DATASET = "lora-demo", "openmoji-base", "openmoji-roles"
RESOLUTION = 32
AUTOENCODER, DENOISER = (4000, 16), (4000, 32)  # (steps, pictures a step)
SEEDS, EXPLAINED = tuple(range(32)), 16  # pictures, and how many of them have their features
PROMPTS = (
    "woman firefighter: dark skin tone",
    "man astronaut",
    "woman health worker: light skin tone",
    "man cook: medium-dark skin tone",
    "police officer",
    "woman artist: medium skin tone",
    "man farmer: light skin tone",
    "woman pilot",
)
HOW = Sampled(prompts=PROMPTS, guidance=2.0)
TIMESTEPS, PROJ_DIM = 20, 2048
REMOVED = 43  # a tenth of the training set


SHIPPED = (
    "bases", "datasets", "checkpoints", "samples", "features", "kernels", "target-features", "comparisons"
)  # fmt: skip


def build() -> None:
    """Build the demo and put it into cache/demo, in the place of an older one."""
    torch.set_num_threads(processes.cores())
    building = store.PROJECT / "cache" / "demo-lora.building"
    # Unfinished work of an interrupted build is in there and is continued.
    with portraits.elsewhere(STUDIO_CACHE=str(building), STUDIO_DEMO=str(building / "none")):
        base = trained_base()
        kind = DatasetSettings(kind=DATASET, name=DATASET, resolution=RESOLUTION)
        dataset = catalogue.load(catalogue.prepare(kind, None, portraits.printed_steps("Drawing the portraits")))
        run = presets.train_settings(NAME, dataset.digest, base.digest, weights_dtype="float16")
        training.train(dataset, run, NAME, portraits.printed("Training"))
        checkpoint = checkpoints.by_name(NAME, dataset.digest)
        explain(dataset, checkpoint)
        compare(dataset, checkpoint)
    publish(building, store.demo_root())
    shutil.rmtree(building)


def trained_base() -> Base:
    """Return the base, trained now unless it is stored."""
    if any(base.name == BASE for base in bases.listing()):
        return bases.by_name(BASE)
    images, captions, living = text_base.pictures(RESOLUTION)
    roles = [row["caption"] for row in openmoji.facts() if row["subgroup"] == openmoji.ROLES]
    torch.manual_seed(0)
    pipe = text_base.build([*captions, *roles], RESOLUTION)
    text_base.train_vae(pipe, images, *AUTOENCODER, portraits.printed("Base"))
    chosen = [caption for caption, seen in zip(captions, living, strict=True) if seen]
    text_base.train_unet(pipe, images[living], chosen, *DENOISER, portraits.printed("Base"))
    with tempfile.TemporaryDirectory() as folder:
        text_base.save(pipe, Path(folder) / "pipeline")
        return keep(Path(folder) / "pipeline", BASE)


def keep(pipeline: Path, name: str) -> Base:
    """Store a pipeline's folder as a base."""
    digest, resolution = bases.inspected(pipeline, lambda done, total: None)
    key = key_of("bases", bases.BaseSettings(digest=digest))
    shutil.copytree(pipeline, store.partial("bases", key) / bases.INSIDE, dirs_exist_ok=True)
    bases.publish(name, digest, resolution, None)
    return bases.by_digest(digest)


def explain(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Draw the pictures, and compute the features of D-TRAK and TRAK for the first of them."""
    work.run(SampleJob(checkpoint=checkpoint.digest, seeds=SEEDS, **HOW.drawing()), portraits.printed("Pictures"))
    wanted = tuple(feature_settings(dataset.digest, checkpoint.digest, output) for output in portraits.MODEL_OUTPUTS)
    names = tuple(f"seed:{seed}" for seed in SEEDS[:EXPLAINED])
    work.run(AttributeJob(features=wanted, targets=names, **HOW.drawing()), portraits.printed("Features"))


def feature_settings(dataset: str, checkpoint: str, model_output: ModelOutput) -> FeatureSettings:
    """Return the settings of the shipped features: 20 timesteps, sparse projection, 8 bits a number."""
    return portraits.feature_settings(dataset, checkpoint, model_output, TIMESTEPS, PROJ_DIM)


def compare(dataset: Dataset, checkpoint: Checkpoint) -> store.Artifact:
    """Compute the shipped comparison: the first picture without D-TRAK's first tenth of the training pictures."""
    asked = {"targets": ("seed:0",), "remove": (REMOVED,), "random_draws": 1, "bottom": False}
    settings = removals.settings_for(dataset, checkpoint, ("d-trak",), asked | HOW.drawing(), portraits.SIMILARITY)
    return counterfactual.compare(dataset, checkpoint, settings, NAME, portraits.printed("Removing and retraining"))


def publish(building: Path, final: Path) -> None:
    """Put what a fresh clone should have into the demo's folder, in the place of what was there."""
    for place in listed(final):
        shutil.rmtree(final / place, ignore_errors=True)
    made = []
    for kind in SHIPPED:
        for folder in sorted((building / kind).glob("*")):
            if folder.suffix == "":
                shutil.copytree(folder, final / kind / folder.name)
                made.append(f"{kind}/{folder.name}")
    store.write_json(final / portraits.TEXT_LISTED, made)


def listed(folder: Path) -> list[str]:
    """Return which artifacts of a demo's folder are this module's."""
    path = folder / portraits.TEXT_LISTED
    found: list[str] = json.loads(path.read_bytes()) if path.is_file() else []
    return found
