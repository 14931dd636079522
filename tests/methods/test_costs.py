"""What is said before something is computed: the projection counts, each thing once, and larger pictures cost more."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.counterfactual import removals
from dtrak_core.datasets import subsets
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import feature_store
from dtrak_core.features.settings import ALONE, FeatureSettings, TargetSide, feature_target
from dtrak_core.jobs import job_costs
from dtrak_core.lds import predictions, recipes, subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import costs, patches, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, speeds, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ProbeSettings, Sampled, SampleSettings
from dtrak_core.models.targets import Target, of_split
from dtrak_core.progress import quiet
from dtrak_core.settings import Settings, key_of
from dtrak_core.training import training

PAPER = {"dataset": "0" * 16, "checkpoint": "1" * 16, "num_timesteps": 100, "proj_dim": 32_768}
PARAMETERS = 38_307_203


@pytest.fixture
def target(pictures: Dataset) -> Target:
    return of_split(pictures.held_out, "held-out", 3)


def base(pictures: Dataset, checkpoint: Checkpoint, **values: object) -> FeatureSettings:
    return FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, **values)  # type: ignore[arg-type]


def test_a_dense_projection_is_priced_by_the_matrices_drawn_and_multiplied(
    cache: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**40}))
    for kind, drawn in costs.DRAWN_SECONDS.items():
        settings = FeatureSettings(**PAPER, projection=kind)  # type: ignore[arg-type]
        one, shard, set_ = (costs.projection_seconds(settings, PARAMETERS, count) for count in (1, 128, 5000))
        entries = PARAMETERS * 32_768
        assert one == pytest.approx(entries * (drawn + costs.PRODUCT_SECONDS))
        assert shard == pytest.approx(entries * (drawn + 128 * costs.PRODUCT_SECONDS))
        assert set_ == pytest.approx(entries * (math.ceil(5000 / 128) * drawn + 5000 * costs.PRODUCT_SECONDS))
    sparse = FeatureSettings(**PAPER, projection="sparse")  # type: ignore[arg-type]
    assert costs.projection_seconds(sparse, PARAMETERS, 5000) < 300
    assert costs.projection_seconds(FeatureSettings(**PAPER, projection="none"), PARAMETERS, 5000) == 0  # type: ignore[arg-type]
    monkeypatch.setattr(feature_store, "KEPT_BYTES", 4 * PARAMETERS * 10)
    few = costs.projection_seconds(FeatureSettings(**PAPER, projection="gaussian"), PARAMETERS, 128)  # type: ignore[arg-type]
    assert few > 10 * PARAMETERS * 32_768 * costs.DRAWN_SECONDS["gaussian"], "drawn 13 times, for ten pictures each"


def test_little_free_disk_keeps_few_gradients_and_always_one(cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**30}))
    assert feature_store.gradients_kept(2**20) == 512
    assert feature_store.gradients_kept(2**40) == 1
    settings = FeatureSettings(**PAPER, projection="gaussian")  # type: ignore[arg-type]
    assert costs.projection_seconds(settings, 2**33, 3) > 0


def test_an_estimate_holds_gradients_and_projection_and_says_how_much_of_it(
    pictures: Dataset, checkpoint: Checkpoint, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, parameters = speeds.gradient(checkpoint).seconds, checkpoint.run.manifest["parameters"]
    speed, asked = speeds.gradient(checkpoint), []
    monkeypatch.setattr(speeds, "gradient", lambda of: asked.append(of) or speed)
    for kind in ("sparse", "gaussian"):
        settings = base(pictures, checkpoint, projection=kind, proj_dim=256)
        own = feature_target(settings, target, TargetSide())
        parts = [("features", key_of("features", settings), settings)]
        parts += [("target-features", key_of("target-features", own), own)] * 2  # by two methods: once
        found = scores.estimate(pictures, checkpoint, parts)  # type: ignore[arg-type]
        projection = sum(costs.projection_seconds(settings, parameters, count) for count in (24, 1))
        assert found.projection == pytest.approx(projection)
        assert found.seconds == pytest.approx(25 * 10 * each + projection)
        assert found.disk == 24 * 256 * 4 + 4 * 256 + 8 * 24
    assert len(asked) == 2, "once an estimate, not once an artifact: it reads what this machine has computed"


def test_a_cost_is_said_as_a_range_with_its_parts_and_how_it_is_known() -> None:
    def part(name: str, seconds: float, spread: float, source: str) -> costs.Part:
        return costs.Part(name, speeds.Speed(seconds, spread, source))

    both = costs.Cost((part("training", 3600.0, 1.25, speeds.HERE),), 2**20)
    both += costs.Cost((part("drawing", 60.0, 2.0, speeds.ELSEWHERE), part("training", 3600.0, 1.25, speeds.HERE)), 0)
    assert (both.seconds, both.disk) == (7260.0, 2**20)
    assert both.by_name == {"training": 7200.0, "drawing": 60.0}
    assert both.between == pytest.approx((7200 / 1.25 + 30, 7200 * 1.25 + 120))
    said = costs.sentence(both)
    assert said == "about 1.6 h to 2.5 h (training 2.0 h, drawing 60 s), 1.0 MB on disk; measured here"
    assert costs.sentence(costs.Cost((part("drawing", 0.1, 2.0, speeds.ELSEWHERE),), 500)) == (
        "about 1 s, 500 B on disk; measured on another machine"
    )


def test_dense_features_do_not_tell_what_a_gradient_costs(
    pictures: Dataset, checkpoint: Checkpoint, target: Target
) -> None:
    before = speeds.gradient(checkpoint).seconds
    for kind, seconds in (("gaussian", 1e6), ("sparse", 24.0)):
        settings = base(pictures, checkpoint, projection=kind)
        key = key_of("features", settings)
        store.partial("features", key)
        store.publish("features", key, settings, rows=24, width=4096, gradients=240, seconds=seconds)
        assert speeds.gradient(checkpoint).seconds == (before if kind == "gaussian" else 0.1)


def test_features_without_a_projection_are_as_wide_as_the_network(
    pictures: Dataset, checkpoint: Checkpoint, target: Target
) -> None:
    parameters = checkpoint.run.manifest["parameters"]
    settings = base(pictures, checkpoint, projection="none", proj_dim=2**19)
    own = feature_target(settings, target, TargetSide())
    here = costs.Here(pictures, checkpoint)
    assert costs.of_features(here, settings).disk == 24 * parameters * 4
    assert costs.of_target_features(here, own).disk == parameters * 4 + 24 * 8
    kernel = costs.of_kernel(here, settings)
    assert kernel.seconds == pytest.approx(costs.kernel_seconds(24, parameters))
    published("kernels", settings, rows=24, rank=24, seconds=1e3)
    assert costs.of_kernel(costs.Here(pictures, checkpoint), settings) == kernel, "proj_dim does not say how wide it is"


def test_draws_whose_gradient_is_made_alone_take_longer(pictures: Dataset, checkpoint: Checkpoint) -> None:
    here = costs.Here(pictures, checkpoint)
    plain, alone = base(pictures, checkpoint), base(pictures, checkpoint, normalise="timestep")
    features = [costs.of_features(here, one).by_name["features"] for one in (plain, alone)]
    assert features[1] == pytest.approx(ALONE * features[0])
    before = speeds.gradient(checkpoint)
    mixed = base(pictures, checkpoint, model_output="interpolated", eta=0.5)
    for settings, seconds in ((alone, 1e4), (mixed, 1e-2)):
        published("features", settings, rows=24, width=4096, gradients=240, seconds=seconds)
        assert speeds.gradient(checkpoint) == before, "it tells nothing of a plain gradient"


def test_patches_cost_by_the_pairs_of_patches(pictures: Dataset, checkpoint: Checkpoint, target: Target) -> None:
    parts = scores.needed("nda", pictures, checkpoint.digest, target, None)
    found = scores.estimate(pictures, checkpoint, parts)
    assert found.seconds == pytest.approx(24 * costs.PATCH_SECONDS * sum(n**2 for n in patches.counts(16, 16)))
    assert costs.patch_seconds(256, 256) > 1e5 * costs.patch_seconds(16, 16)
    assert METHODS["nda"].family == "patches"


def published(kind: str, settings: Settings, **facts: object) -> None:
    key = key_of(kind, settings)
    store.partial(kind, key)
    store.publish(kind, key, settings, **facts)


def member(checkpoint: Checkpoint, each: float, number: int = 0, **changes: object) -> None:
    """Store what a retrained model's manifest tells: seconds a picture and step, of the same or another network."""
    own = checkpoints.training_of(checkpoint)
    settings = own.model_copy(update={"train_seed": 1000 + number, **changes})
    facts = {**checkpoint.run.manifest, "seconds_per_picture_step": each}
    kept = {name: facts[name] for name in ("dataset", "dataset_name", "steps", "fold", "parameters", "seconds")}
    if "model" in changes:
        kept["parameters"] = 4 * facts["parameters"]
    published("retrained", settings, name="member", **kept, seconds_per_picture_step=each)


@pytest.fixture
def unmeasured(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Checkpoint:
    """Let the model be one that ships: it was trained on another machine, and nothing was measured here."""
    shipped = tmp_path / "shipped"
    for kind in ("checkpoints", "datasets"):
        shutil.move(store.root() / kind, shipped / kind)
    for kind in ("features", "retrained", "probes", "samples", "kernels"):
        shutil.rmtree(store.root() / kind, ignore_errors=True)
    monkeypatch.setenv("STUDIO_DEMO", str(shipped))
    return checkpoints.by_digest(checkpoint.digest)


def test_a_training_is_as_fast_as_the_same_network_was_here(unmeasured: Checkpoint) -> None:
    own = unmeasured.seconds_per_picture_step
    assert own is not None
    assert speeds.training(unmeasured) == speeds.Speed(own, 3.0, speeds.ELSEWHERE)
    for number, each in enumerate((0.5, 2.0, 3.0)):
        member(unmeasured, each, number)
    assert speeds.training(unmeasured) == speeds.Speed(2.0, 4.0, speeds.HERE)
    (part,) = costs.training(unmeasured, 100).parts
    assert (part.name, part.seconds) == ("training", 200.0)
    assert speeds.gradient(unmeasured).seconds == pytest.approx(2.0 * speeds.GRADIENT_OVER_TRAINING)


def test_the_newest_probes_and_trainings_count(unmeasured: Checkpoint) -> None:
    model, (discs,) = checkpoints.training_of(unmeasured).model, store.listing("datasets")
    for number in range(speeds.RECENT):
        member(unmeasured, 2.0, number)
    for number, (each, year, expected) in enumerate(
        [(9.0, 2001, 2.0)] * 8 + [(6.0, 2999, 2.0)] * 3 + [(6.0, 2999, 4.0)]
    ):
        size = discs.settings["resolution"]
        settings = ProbeSettings(model=model, resolution=size, batch_size=4, number=number)
        facts = {"seconds_per_picture_step": each, "date": f"{year}-01-01T00:00:00+00:00"}
        published("probes", settings, **facts)
        assert speeds.training(unmeasured).seconds == expected, f"{number + 1} probes"


def test_another_network_here_is_scaled_by_parameters_and_places(unmeasured: Checkpoint) -> None:
    larger = checkpoints.training_of(unmeasured).model.model_copy(update={"layers_per_block": 4})
    member(unmeasured, 8.0, model=larger)
    assert speeds.training(unmeasured) == speeds.Speed(2.0, 2.5, speeds.ALIKE), "it has four times the parameters"
    member(unmeasured, 7.0)
    assert speeds.training(unmeasured).seconds == 7.0


def test_a_model_that_was_trained_elsewhere_is_told_by_the_constant(
    unmeasured: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "seconds_per_picture_step", None)
    places = 16**2 / unmeasured.fold**2
    told = speeds.STEP_SECONDS * unmeasured.run.manifest["parameters"] * places
    assert speeds.training(unmeasured).seconds == pytest.approx(told)


def test_drawing_is_as_fast_as_pictures_were_drawn(unmeasured: Checkpoint) -> None:
    how = Sampled(sampling_steps=20)
    before = costs.drawing(unmeasured, 3, how).seconds
    assert before == pytest.approx(60 * speeds.FORWARD_OVER_TRAINING * speeds.training(unmeasured).seconds)
    published("samples", SampleSettings(checkpoint=unmeasured.digest, sampling_steps=10), pixels="0" * 16, seconds=5.0)
    assert costs.drawing(unmeasured, 3, how).seconds == pytest.approx(60 * 0.5)
    guided = how.model_copy(update={"prompts": ("a cat",)})
    assert speeds.passes(guided) == 2 * speeds.passes(guided.model_copy(update={"guidance": 1.0})) == 40


def test_kernels_and_dense_projections_follow_what_they_took_here(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**40}))
    sparse = base(pictures, checkpoint, proj_dim=2**19)
    part = [("kernels", key_of("kernels", sparse), sparse)]
    before = scores.estimate(pictures, checkpoint, part).seconds  # type: ignore[arg-type]
    assert before == pytest.approx(costs.KERNEL_SECONDS * 24 * 24 * 2**19)
    with monkeypatch.context() as patch:
        patch.setattr(costs, "LARGEST", 20)
        patch.setattr(costs, "RANK", 8)
        sketched = scores.estimate(pictures, checkpoint, part)  # type: ignore[arg-type]
        assert sketched.seconds == pytest.approx(costs.SKETCH_SECONDS * 24 * 2**19 * 8 * 10)
        assert sketched.disk == 24 * 8 * 4
    other = base(pictures, checkpoint, proj_dim=2**19, noise_seed=5)
    published("kernels", other, rows=24, rank=24, seconds=10 * before)
    assert scores.estimate(pictures, checkpoint, part).seconds == pytest.approx(10 * before)  # type: ignore[arg-type]
    dense = base(pictures, checkpoint, projection="rademacher")
    part = [("features", key_of("features", dense), dense)]
    projection = scores.estimate(pictures, checkpoint, part).projection  # type: ignore[arg-type]
    took = 240 * speeds.gradient(checkpoint).seconds + 700 * projection
    parameters = checkpoint.run.manifest["parameters"]
    facts = {"rows": 24, "width": 4096, "parameters": parameters, "gradients": 240, "seconds": took}
    published("features", base(pictures, checkpoint, projection="rademacher", noise_seed=5), **facts)
    found = scores.estimate(pictures, checkpoint, part)  # type: ignore[arg-type]
    assert found.projection == pytest.approx(700 * projection)
    mixture = base(pictures, checkpoint, projection="rademacher", model_output="interpolated", eta=0.5)
    published("features", mixture, **facts | {"seconds": 0.01})  # sums of stored features: no projection
    found = scores.estimate(pictures, checkpoint, part)  # type: ignore[arg-type]
    assert found.projection == pytest.approx(700 * projection)


def test_an_lds_costs_its_models_targets_losses_and_the_scores(pictures: Dataset, checkpoint: Checkpoint) -> None:
    names = ("seed:900", "seed:901", "held-out:0")
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "targets": names}
    settings = LdsSettings(**where, num_subsets=4, sampling_steps=10, num_timesteps=5)  # type: ignore[arg-type]
    own = recipes.usual(pictures, checkpoint, "d-trak")
    assert own.features is not None
    found = job_costs.of_lds(pictures, checkpoint, settings, [own])
    step, pass_ = speeds.training(checkpoint).seconds, speeds.forward(checkpoint).seconds
    run = subset_models.training(pictures, checkpoint, subset_models.models(settings)[0])
    assert run.indices is not None
    draws = own.features.num_timesteps
    assert found.by_name["training"] == pytest.approx(4 * run.epochs * len(run.indices) * step)
    assert found.by_name["drawing"] == pytest.approx(2 * 10 * pass_)
    assert found.by_name["losses"] == pytest.approx(4 * 3 * 5 * pass_)
    assert found.by_name["features"] == pytest.approx((24 + 3) * draws * speeds.gradient(checkpoint).seconds)
    assert {"projection", "kernel"} <= found.by_name.keys()
    assert found.seconds == pytest.approx(sum(found.by_name.values()))
    ensemble = recipes.usual(pictures, checkpoint, "d-trak-ensemble")
    more = job_costs.of_recipes(pictures, checkpoint, settings, [ensemble])
    members = METHODS["d-trak-ensemble"].models
    assert more.by_name["training"] == pytest.approx(members * run.epochs * len(run.indices) * step)
    assert more.by_name["features"] == pytest.approx(members * found.by_name["features"])


def test_journey_trak_costs_by_the_steps_in_which_a_target_is_drawn(pictures: Dataset, checkpoint: Checkpoint) -> None:
    gradient = speeds.gradient(checkpoint).seconds
    journey = METHODS["journey-trak"]
    way = {"checkpoint": checkpoint.digest, "seed": 901, "sampling_steps": 7}
    drawn = targets.publish_sample(SampleSettings(**way), np.zeros((16, 16, 3), np.uint8))
    plan = scores.resolve(journey, pictures, checkpoint.digest, [drawn])
    training = 24 * plan.features.num_timesteps  # type: ignore[union-attr]
    found = scores.estimate(pictures, checkpoint, plan.missing, plan.targets)
    assert found.by_name["features"] == pytest.approx((training + 7) * gradient)
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "targets": ("seed:901", "seed:902")}
    for steps in (7, 20):  # the one that is drawn and one that is not; two that are not
        settings = LdsSettings(**where, num_subsets=4, sampling_steps=steps)  # type: ignore[arg-type]
        own = recipes.usual(pictures, checkpoint, "journey-trak")
        found = job_costs.of_recipes(pictures, checkpoint, settings, [own])
        assert found.by_name["features"] == pytest.approx((training + 2 * steps) * gradient)


def test_a_sweep_over_checkpoints_costs_the_features_of_each(pictures: Dataset, checkpoint: Checkpoint) -> None:
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "targets": ("held-out:0", "held-out:1")}
    settings = LdsSettings(**where, num_subsets=4)  # type: ignore[arg-type]
    points = [one for line in recipes.sweep("checkpoints", pictures, checkpoint).values() for one in line]
    assert len(points) == 8, "two methods at four checkpoints"
    gradient = speeds.gradient(checkpoint)
    found = job_costs.of_recipes(pictures, checkpoint, settings, points)
    assert found.by_name["features"] == pytest.approx(8 * (24 + 2) * recipes.FEW * gradient.seconds)
    last = [one for one in points if one.features and one.features.checkpoint == checkpoint.digest]
    own = [of_split(pictures.held_out, "held-out", number) for number in (0, 1)]
    for recipe in last:
        plan = predictions.plan_of(pictures, predictions.settings_for(recipe, settings), own)
        family_of(plan.method).compute(plan, quiet)
    gradient = speeds.gradient(checkpoint)
    assert job_costs.of_recipes(pictures, checkpoint, settings, last).seconds == 0
    found = job_costs.of_recipes(pictures, checkpoint, settings, points)
    assert found.by_name["features"] == pytest.approx(6 * (24 + 2) * recipes.FEW * gradient.seconds)


def test_an_lds_costs_the_models_that_are_not_stored_and_draws_subsets_once(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "targets": ("held-out:0",)}
    settings = LdsSettings(**where, num_subsets=5, train_seeds=2)  # type: ignore[arg-type]
    drawn, draw = [], subsets.random_part
    monkeypatch.setattr(subsets, "random_part", lambda *asked: drawn.append(asked[1]) or draw(*asked))
    run = subset_models.training(pictures, checkpoint, subset_models.models(settings)[7])
    assert job_costs.of_lds(pictures, checkpoint, settings).by_name["training"] == pytest.approx(
        10 * 2 * 12 * speeds.training(checkpoint).seconds
    )
    training.train(pictures, run, "retrained", quiet, kind="retrained")
    found = job_costs.of_lds(pictures, checkpoint, settings)
    assert found.by_name["training"] == pytest.approx(9 * 2 * 12 * speeds.training(checkpoint).seconds)
    drawn.clear()
    assert job_costs.of_lds(pictures, checkpoint, settings) == found
    assert len(drawn) <= 1, "a page asks on every rerun"


def test_what_is_stored_costs_nothing(pictures: Dataset, checkpoint: Checkpoint) -> None:
    how = Sampled(sampling_steps=10)
    assert job_costs.of_drawing(checkpoint, [900, 900, 901], how).by_name["drawing"] == pytest.approx(
        20 * speeds.forward(checkpoint).seconds
    )
    for seed in (900, 901):
        targets.publish_sample(targets.sample_settings(checkpoint.digest, seed, how), pictures.train.images[seed % 24])
    assert job_costs.of_drawing(checkpoint, [900, 901], how) == costs.Cost()


def test_a_comparison_costs_trainings_pictures_losses_and_scores(pictures: Dataset, checkpoint: Checkpoint) -> None:
    asked = {"targets": ("seed:900", "seed:901"), "remove": (3,), "sampling_steps": 10}
    settings = removals.settings_for(pictures, checkpoint, ("d-trak",), asked, "efficientnet-lite0")
    told = job_costs.of_comparison(pictures, checkpoint, settings)
    assert told.stored is None, "which models are trained is known once there are scores"
    found, models, pass_ = told.cost, removals.count_trainings(settings), speeds.forward(checkpoint).seconds
    epochs = checkpoints.training_of(checkpoint).epochs
    assert found.by_name["training"] == pytest.approx(models * 24 * epochs * speeds.training(checkpoint).seconds)
    assert found.by_name["drawing"] == pytest.approx((2 + 2 * (models + 1)) * 10 * pass_)
    assert found.by_name["losses"] == pytest.approx((2 * (models + 1) + 2) * job_costs.OUTCOME_TIMESTEPS * pass_)
    assert {"features", "projection", "kernel", "embeddings"} <= found.by_name.keys()
    assert told.trainings == models
