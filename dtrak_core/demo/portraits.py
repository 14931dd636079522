"""Build the demo that ships in cache/demo: everything in it, from nothing, by the real stages.

Portraits drawn at 32 px, equal ones once; a model trained, 64 pictures generated; features for D-TRAK and TRAK with
their kernels, the features of the 64 targets; the models of the LDS; a comparison of removals for the first 12
pictures; what every method predicts, with the findings. Compact on purpose (half-precision weights, 8-bit features),
so that it fits into the repository.

`make` does the work, 112 trainings, in a folder of its own. It may be stopped at any time and goes on where it was:
every stage stores what it finished, a training its state every half minute. `shipping` copies what ships.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import torch

from dtrak_core import store
from dtrak_core.counterfactual import counterfactual, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import shipping
from dtrak_core.features import features, kernel
from dtrak_core.features.settings import FeatureSettings, ModelOutput, TargetFeatureSettings, in_parts
from dtrak_core.jobs import processes
from dtrak_core.lds import benchmarking, recipes, subset_losses, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import certainty, fader_scores, maps, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models import checkpoints, networks, sampling, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import DIFFUSION_STEPS, Precision, SampleSettings, TrainSettings
from dtrak_core.progress import Count, Progress
from dtrak_core.settings import key_of
from dtrak_core.training import presets, training

NAME = "demo"
TEXT_LISTED = "lora.json"  # in the demo's folder: what schools.py has put there
DATASET = catalogue.built_in("openmoji-people")
PRESET = "portraits"
PRECISION: Precision = "bfloat16"  # whatever the machine that builds
SEEDS = range(64)
MODEL_OUTPUTS: tuple[ModelOutput, ...] = ("squared-output", "loss")
TIMESTEPS = 50
COMPARED = tuple(f"seed:{seed}" for seed in range(12))  # the first ones: not chosen by what they show
COMPARED_BY = ("d-trak", "trak", "das", "lite0-cosine")
SIMILARITY: EmbeddingModel = "efficientnet-lite0"  # its weights ship, so the demo needs no network
REMOVED = 166  # 20 % of the training set, as in the paper
RANDOM_MODELS, FLOOR_MODELS = 4, 3
# Timesteps below which the retrained models draw, in comparisons beside the plain one: of two ways to name pictures
# alone, so that a picture for each model, target and timestep stays within what a repository should hold.
TAKE_OVERS = {300: "demo-over-300", 500: "demo-over-500", 700: "demo-over-700", DIFFUSION_STEPS: "demo-over-timesteps"}
TAKEN_OVER_BY = ("d-trak", "lite0-cosine")
HELD_OUT = 64
LDS_MODELS = ((32, 1), (8, 2))  # (subsets, seeds)
PROJ_DIM = 3584  # a little below the 4,096 one would take, to keep the demo small in git
# Kinds that do not ship; of outcomes the comparisons hold all.
LEFT = ("retrained", "outcomes", "embeddings", "residuals", "patches", "ekfac", "probes")
LOG_EVERY = 60.0  # seconds between two lines on one piece of work


def build() -> None:
    """Build the demo, or go on building it, and put it in the place of the old one, once all of it is there."""
    began = time.monotonic()
    building = store.PROJECT / "cache" / "demo.building"
    with elsewhere(STUDIO_CACHE=str(building), STUDIO_DEMO=str(building / "none")):
        dataset, checkpoint = make()
        left_out = unshipped(dataset, checkpoint)
    final = store.demo_root()
    shipping.publish(building, final, left_out, TEXT_LISTED)
    shipping.clear(building)
    size = sum(path.stat().st_size for path in final.rglob("*") if path.is_file())
    print(f"The demo is in cache/demo: {size / 1e6:.1f} MB, built in {(time.monotonic() - began) / 60:.1f} minutes.")


def make() -> tuple[Dataset, Checkpoint]:
    """Compute all of the demo that is not stored yet, in the order of worth."""
    torch.set_num_threads(processes.cores())
    dataset = catalogue.load(catalogue.prepare(DATASET, None, printed_steps("Drawing the portraits")))
    trained = training.train(dataset, train_settings(dataset), NAME, printed("Training"))
    _say_seconds("The original", trained)
    checkpoint = checkpoints.by_name(NAME, dataset.digest)
    attribute(dataset, checkpoint)
    for measured in questions(dataset, checkpoint):
        train_lds(dataset, checkpoint, measured)
    compare(dataset, checkpoint)
    predict(dataset, checkpoint)
    return dataset, checkpoint


def train_settings(dataset: Dataset) -> TrainSettings:
    """Return the settings of the original's training."""
    return presets.train_settings(PRESET, dataset.digest, precision=PRECISION, weights_dtype="float16")


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


def attribute(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Draw the pictures, and compute the features of D-TRAK and TRAK with their kernels, for all of them."""
    denoiser = networks.load_denoiser(checkpoint)
    wanted = [SampleSettings(checkpoint=checkpoint.digest, seed=seed) for seed in SEEDS]
    if any(targets.find_sample(one) is None for one in wanted):
        images = sampling.generate(denoiser, SEEDS, "ddim", 50, 0.0, printed_steps("Generating"))
        for one, image in zip(wanted, images, strict=True):
            targets.publish_sample(one, image)
    samples = [targets.resolve(dataset, checkpoint.digest, f"seed:{seed}") for seed in SEEDS]
    for model_output in MODEL_OUTPUTS:
        settings = feature_settings(dataset.digest, checkpoint.digest, model_output)
        trained = features.compute_features(dataset, denoiser, settings, printed(f"Features of {model_output}"))
        kernel.compute_kernel(trained, printed(f"Kernel of {model_output}"))
        about = printed(f"Targets' features of {model_output}")
        features.compute_target_features(denoiser, settings, samples, about)


def questions(dataset: Dataset, checkpoint: Checkpoint) -> list[LdsSettings]:
    """Return what the shipped LDS asks: 32 subsets with one seed, and a second seed for eight of them."""
    names = tuple(f"seed:{seed}" for seed in SEEDS) + tuple(f"held-out:{number}" for number in range(HELD_OUT))
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": names}
    return [LdsSettings(**where, num_subsets=count, train_seeds=seeds) for count, seeds in LDS_MODELS]


def train_lds(dataset: Dataset, checkpoint: Checkpoint, measured: LdsSettings) -> None:
    """Train the models of an LDS that are lacking, and measure the targets' losses under each."""
    lacking = subset_models.lacking(measured)

    def runs() -> list[TrainSettings]:
        return [subset_models.training(dataset, checkpoint, one) for one in lacking]

    for one in lacking:
        about = f"Half {one.subset}, seed {one.train_seed}"
        run = subset_models.training(dataset, checkpoint, one)
        subset_losses.losses_of(dataset, checkpoint, one, printed(about), runs)
        _say_seconds(about, store.get("retrained", key_of("retrained", run)))


def compare(dataset: Dataset, checkpoint: Checkpoint) -> store.Artifact:
    """Compute the shipped comparisons of removals: 67 trainings, the controls first, which serve all of them.

    The plain one comes last, so that it is the newest, with which the page opens.
    """
    explain(dataset, checkpoint)
    settings = comparison_settings(dataset, checkpoint)
    for removed, seed in removals.lacking(removals.plan(dataset, checkpoint, settings), settings):
        if (removed, seed) != removals.original(checkpoint):
            about = f"Without {len(removed)} pictures, seed {seed}"
            counterfactual.retrain(dataset, checkpoint, settings, removed, seed, printed(about))
            run = removals.retraining(dataset, checkpoint, removed, seed)
            _say_seconds(about, store.get("retrained", key_of("retrained", run)))
    for name, later in taken_over(dataset, checkpoint).items():
        counterfactual.compare(dataset, checkpoint, later, name, printed(f"Comparison {name}"))
    return counterfactual.compare(dataset, checkpoint, settings, NAME, printed("Comparison"))


def comparison_settings(
    dataset: Dataset, checkpoint: Checkpoint, methods: tuple[str, ...] = COMPARED_BY, **more: Any
) -> CounterfactualSettings:
    """Return the settings of the plain comparison, in which the retrained models draw from the first step on."""
    controls = {"random_draws": RANDOM_MODELS, "floor_models": FLOOR_MODELS}
    asked = {"targets": COMPARED, "remove": (REMOVED,), **controls, **more}
    return removals.settings_for(dataset, checkpoint, methods, asked, SIMILARITY)


def taken_over(dataset: Dataset, checkpoint: Checkpoint) -> dict[str, CounterfactualSettings]:
    """Return the settings of the comparisons over the timestep below which the retrained models draw, by name."""
    return {
        name: comparison_settings(dataset, checkpoint, TAKEN_OVER_BY, take_over=level, bottom=False)
        for level, name in TAKE_OVERS.items()
    }


def explain(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Compute what the comparison ranks by, where it is not stored."""
    compared = [targets.resolve(dataset, checkpoint.digest, target) for target in COMPARED]
    for name in COMPARED_BY:
        usual = recipes.usual(dataset, checkpoint, name)
        plan = scores.resolve(name, dataset, checkpoint.digest, compared, usual.features)
        family_of(METHODS[name]).compute(plan, printed(f"Scores of {name}"))


def predict(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Predict the losses by every recipe of the Benchmark page, and what else is said of the pictures' scores."""
    measured = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    table, curves = shipped_recipes(dataset, checkpoint)
    benchmarking.compute(dataset, measured, table, True, printed("Methods"))
    benchmarking.compute(dataset, measured, curves, False, printed("Findings"))
    chart(dataset, checkpoint)
    denoiser = networks.load_denoiser(checkpoint)
    targets_of = [target for target in subset_models.pictures(dataset, measured) if target.id.startswith("seed:")]
    for model_output in MODEL_OUTPUTS:
        settings = feature_settings(dataset.digest, checkpoint.digest, model_output)
        parts = in_parts(settings)
        features.compute_features(dataset, denoiser, parts, printed(f"Features in parts of {model_output}"))
        about = printed(f"Targets' features in parts of {model_output}")
        features.compute_target_features(denoiser, parts, targets_of, about)
        fader_scores.compute_repeats(parts, targets_of)
        certainty.compute(parts, targets_of)


def chart(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Lay out the training pictures in every space, as the Map page shows them."""
    for space in maps.SPACES:
        maps.compute(maps.settings_of(space, dataset, checkpoint), printed(f"Map by {space}"))


def shipped_recipes(dataset: Dataset, checkpoint: Checkpoint) -> tuple[list[Recipe], list[Recipe]]:
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


def unshipped(dataset: Dataset, checkpoint: Checkpoint) -> set[tuple[str, str]]:
    """Return which artifacts, by kind and key, a fresh clone need not have: retrained weights, features of sweeps."""
    found = {(kind, artifact.key) for kind in LEFT for artifact in store.listing(kind)}
    kept = {key_of("features", feature_settings(dataset.digest, checkpoint.digest, output)) for output in MODEL_OUTPUTS}
    for kind in ("features", "kernels"):
        for artifact in store.listing(kind):
            if key_of("features", FeatureSettings(**artifact.settings)) not in kept:
                found.add((kind, artifact.key))
    for artifact in store.listing("target-features"):
        own = TargetFeatureSettings(**artifact.settings)
        other_side = own.trajectory or own.target_output is not None  # of a finding, or of a method that does not ship
        if key_of("features", own.features) not in kept or not own.target.startswith("seed:") or other_side:
            found.add(("target-features", artifact.key))
    return found


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
    """Return progress that prints a line every minute."""
    last = time.monotonic()

    def on_progress(done: int, total: int, unit: str, message: str) -> None:
        nonlocal last
        if time.monotonic() - last > LOG_EVERY:
            last = time.monotonic()
            print(f"{stage}: {done:,} of {total:,} {unit} {message}".rstrip(), file=sys.stderr, flush=True)

    return on_progress


def printed_steps(stage: str) -> Count:
    on_progress = printed(stage)
    return lambda done, total: on_progress(done, total, "steps", "")


def _say_seconds(about: str, trained: store.Artifact) -> None:
    seconds = trained.manifest["seconds"]
    print(f"{about}: trained in {seconds:.0f} s, loss {trained.manifest['final_loss']:.4f}", flush=True)
