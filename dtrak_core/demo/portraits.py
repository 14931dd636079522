"""Build the demo that ships in cache/demo: everything in it, from nothing, by the real stages.

Portraits drawn, a model trained, 64 pictures generated, features for D-TRAK and TRAK with their
kernels, the features of the 64 targets, a comparison of removals for the first of them, and the
LDS of every method with the paper's findings. Compact on purpose (half-precision weights, 8-bit
features), so that it fits into the repository; a rebuild trains 80 models and prints each stage.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch

from dtrak_core import store
from dtrak_core.counterfactual import counterfactual, removals
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.features import features, kernel
from dtrak_core.features.settings import FeatureSettings, ModelOutput, TargetFeatureSettings, in_parts
from dtrak_core.jobs import processes
from dtrak_core.lds import benchmarking, recipes, subset_losses, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import certainty, embeddings, fader_scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models import checkpoints, networks, sampling, targets
from dtrak_core.models.settings import SampleSettings
from dtrak_core.progress import Count, Progress
from dtrak_core.settings import key_of
from dtrak_core.training import presets, training

NAME = "demo"
TEXT_LISTED = "lora.json"  # in the demo's folder: what roles.py has put there
SEEDS = range(64)
MODEL_OUTPUTS: tuple[ModelOutput, ...] = ("squared-output", "loss")
TIMESTEPS = 50
COMPARED = tuple(f"seed:{seed}" for seed in range(8))  # the first ones: not chosen by what they show
COMPARED_BY = ("d-trak", "trak", "lite0-cosine")
SIMILARITY: EmbeddingModel = "efficientnet-lite0"  # its weights ship, so the demo needs no network
REMOVED = 180  # 20 % of the training set, as in the paper
HELD_OUT = 64
LDS_MODELS = ((32, 1), (6, 2))  # (subsets, seeds)
PROJ_DIM = 3584  # a little below the 4,096 one would take, so that the demo stays under 20 MB in git


def build() -> None:
    """Rebuild the demo and put it in the place of the old one, once all of it is there."""
    torch.set_num_threads(processes.cores())
    final, began = store.demo_root(), time.monotonic()
    building = store.PROJECT / "cache" / "demo.building"
    # Unfinished work of an interrupted build is in there and is gone on with.
    with elsewhere(STUDIO_CACHE=str(building), STUDIO_DEMO=str(building / "none")):
        dataset = catalogue.load(catalogue.prepare(DatasetSettings(), None, printed_steps("Drawing the portraits")))
        settings = presets.train_settings("demo", dataset.digest, weights_dtype="float16")
        training.train(dataset, settings, NAME, printed("Training"))
        checkpoint = checkpoints.by_name(NAME, dataset.digest)
        _attribute(dataset, checkpoint)
        compare(dataset, checkpoint)
        benchmark(dataset, checkpoint)
        slim(dataset, checkpoint)
    old = final.with_name("demo.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.is_dir():
        final.rename(old)
    building.rename(final)
    if (listed := old / TEXT_LISTED).is_file():  # the text-to-image demo is built by itself (roles.py) and stays
        for place in json.loads(listed.read_bytes()):
            shutil.copytree(old / place, final / place)
        shutil.copy2(listed, final / TEXT_LISTED)
    shutil.rmtree(old, ignore_errors=True)
    size = sum(path.stat().st_size for path in final.rglob("*") if path.is_file())
    print(f"The demo is in cache/demo: {size / 1e6:.1f} MB, built in {(time.monotonic() - began) / 60:.1f} minutes.")


def feature_settings(
    dataset: str, checkpoint: str, model_output: ModelOutput, num_timesteps: int = TIMESTEPS, proj_dim: int = PROJ_DIM
) -> FeatureSettings:
    """Return the settings of shipped features: sparse projection, 8 bits a number; 50 timesteps for this demo."""
    return FeatureSettings(
        dataset=dataset,
        checkpoint=checkpoint,
        model_output=model_output,
        num_timesteps=num_timesteps,
        proj_dim=proj_dim,
        storage="int8",
    )


def compare(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> store.Artifact:
    """Compute the shipped comparison of removals: 37 trainings."""
    embed(dataset, checkpoint)
    asked = {"targets": COMPARED, "remove": (REMOVED,), "random_draws": 4}
    settings = removals.settings_for(dataset, checkpoint, COMPARED_BY, asked, SIMILARITY)
    return counterfactual.compare(dataset, checkpoint, settings, NAME, printed("Removing and retraining"))


def questions(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> list[LdsSettings]:
    """Return what the shipped LDS asks: 32 subsets with one seed, and a second seed for six of them."""
    names = tuple(f"seed:{seed}" for seed in SEEDS) + tuple(f"held-out:{number}" for number in range(HELD_OUT))
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": names}
    return [LdsSettings(**where, num_subsets=count, train_seeds=seeds) for count, seeds in LDS_MODELS]


def benchmark(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> None:
    """Train the models of the LDS, measure the losses, and predict them by every recipe of the Benchmark page."""
    for measured in questions(dataset, checkpoint):
        subset_losses.compute(dataset, checkpoint, measured, printed("Models of the LDS"))
    measured = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    table, curves = shipped_recipes(dataset, checkpoint)
    benchmarking.compute(dataset, measured, table, True, printed("Methods"))
    benchmarking.compute(dataset, measured, curves, False, printed("Findings"))
    denoiser = networks.load_denoiser(checkpoint)
    targets_of = [target for target in subset_models.pictures(dataset, measured) if target.id.startswith("seed:")]
    for model_output in MODEL_OUTPUTS:
        settings = feature_settings(dataset.digest, checkpoint.digest, model_output)
        parts = in_parts(settings)
        features.compute_features(dataset, denoiser, parts, printed(f"Features in parts of {model_output}"))
        about = printed(f"Targets' features in parts of {model_output}")
        features.compute_target_features(dataset, denoiser, parts, targets_of, about)
        fader_scores.compute_repeats(parts, targets_of)
        certainty.compute(parts, targets_of)


def shipped_recipes(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> tuple[list[Recipe], list[Recipe]]:
    """Return the recipes of the table, and those of its variants and of the findings."""
    able = [
        name for name, one in METHODS.items() if one.embedding in (None, SIMILARITY) and one.family != "own"
    ]  # CLIP's weights do not ship, nor does what a user brought
    table = [recipes.usual(dataset, checkpoint, name) for name in able]
    curves = [recipes.with_timesteps(one, recipes.FEW) for one in table if one.features is not None]
    curves += [recipes.build_recipe(one, squared=True) for one in table]
    for name in get_args(recipes.Sweep):
        curves += [one for line in recipes.sweep(name, dataset, checkpoint).values() for one in line]
    return table, list(dict.fromkeys(curves))


def slim(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> None:
    """Delete what a fresh clone need not have: retrained weights, and features that only predictions were made of."""
    for kind in ("retrained", "embeddings", "residuals", "patches", "ekfac"):
        shutil.rmtree(store.root() / kind, ignore_errors=True)
    kept = {key_of("features", feature_settings(dataset.digest, checkpoint.digest, output)) for output in MODEL_OUTPUTS}
    for kind in ("features", "kernels"):
        for artifact in store.listing(kind):
            if key_of("features", FeatureSettings(**artifact.settings)) not in kept:
                shutil.rmtree(artifact.path)
    for artifact in store.listing("target-features"):
        own = TargetFeatureSettings(**artifact.settings)
        if key_of("features", own.features) not in kept or not own.target.startswith("seed:") or own.trajectory:
            shutil.rmtree(artifact.path)


def embed(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> None:
    """Compute the embeddings that the comparison ranks by."""
    embeddings.embed_dataset(dataset, SIMILARITY, printed_steps("Embedding"))
    for target in COMPARED:
        embeddings.embed_target(SIMILARITY, targets.resolve(dataset, checkpoint.digest, target).image)


def _attribute(dataset: Dataset, checkpoint: checkpoints.Checkpoint) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    images = sampling.generate(denoiser, SEEDS, "ddim", 50, 0.0, printed_steps("Generating"))
    wanted = [SampleSettings(checkpoint=checkpoint.digest, seed=seed) for seed in SEEDS]
    samples = [targets.publish_sample(one, image) for one, image in zip(wanted, images, strict=True)]
    for model_output in MODEL_OUTPUTS:
        settings = feature_settings(dataset.digest, checkpoint.digest, model_output)
        trained = features.compute_features(dataset, denoiser, settings, printed(f"Features of {model_output}"))
        kernel.compute_kernel(trained, printed(f"Kernel of {model_output}"))
        about = printed(f"Targets' features of {model_output}")
        features.compute_target_features(dataset, denoiser, settings, samples, about)


@contextmanager
def elsewhere(**places: str) -> Iterator[None]:
    """Let the store work in other folders for a while."""
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def printed(stage: str) -> Progress:
    """Return progress that prints a line every few seconds."""
    last = 0.0

    def on_progress(done: int, total: int, unit: str, message: str) -> None:
        nonlocal last
        if time.monotonic() - last > 5 or done == total:
            last = time.monotonic()
            print(f"{stage}: {done:,} of {total:,} {unit} {message}".rstrip(), file=sys.stderr, flush=True)

    return on_progress


def printed_steps(stage: str) -> Count:
    on_progress = printed(stage)
    return lambda done, total: on_progress(done, total, "steps", "")
