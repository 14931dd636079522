"""The shipped demo: what it holds is what its own checkpoint gives, recomputed here in part."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from dtrak_core import statistics, store
from dtrak_core.commands import measuring
from dtrak_core.counterfactual import comparisons, removals
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import portraits, schools
from dtrak_core.features import feature_store, features, kernel
from dtrak_core.features.settings import TargetSide, feature_target
from dtrak_core.kinds import KINDS
from dtrak_core.lds import predictions, recipes, standings, subset_models
from dtrak_core.methods import embeddings, scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, sampling, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.settings import key_of
from dtrak_core.ui.counterfactual import matrix

LIMIT = 30e6  # bytes that the demo may take
pytestmark = pytest.mark.usefixtures("only_the_demo")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return catalogue.by_name("openmoji-people")


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset) -> Checkpoint:
    return checkpoints.by_name("demo", dataset.digest)


def test_readme_tells_how_many_trainings_it_takes(dataset: Dataset, checkpoint: Checkpoint) -> None:
    halves = {one for asked in portraits.questions(dataset, checkpoint) for one in subset_models.models(asked)}
    removed = removals.count_trainings(portraits.comparison_settings(dataset, checkpoint))
    members = max(METHODS[recipe.method].models for recipe in portraits.shipped_recipes(dataset, checkpoint)[0])
    told = re.findall(r"(\d+)\s+trainings", (store.PROJECT / "README.md").read_text() + str(portraits.__doc__))
    assert set(told) == {str(1 + len(halves) + removed + members)}


def test_it_is_small_whole_and_says_what_made_it() -> None:
    root = store.demo_root()
    others = [root / place for place in schools.listed(root)]  # of the text-to-image demo: test_schools.py
    files = [path for path in root.rglob("*") if path.is_file() and not set(others) & set(path.parents)]
    assert 0 < sum(path.stat().st_size for path in files) < LIMIT
    for kind in (
        "datasets",
        "checkpoints",
        "samples",
        "features",
        "kernels",
        "target-features",
        "comparisons",
        "subset-losses",
        "predictions",
        "scores",
    ):
        assert store.listing(kind), f"the demo has no {kind}"
    for kind in KINDS:
        found = store.listing(kind)
        for artifact in found:
            artifact.verify()
            assert artifact.shipped
            assert {"torch", "diffusers", "numpy"} <= set(artifact.manifest["versions"])
            if kind != "checkpoints":
                assert str(store.PROJECT) not in json.dumps(artifact.manifest)


def test_the_dataset_is_what_this_machine_draws(dataset: Dataset) -> None:
    assert openmoji.is_same_as_package(store.get("datasets", dataset.key), every=50) == ""
    assert (len(dataset.train.images), len(dataset.held_out.images)) == (832, 94)
    assert not dataset.equal.copies
    assert not dataset.equal.leaked
    assert "CC BY-SA 4.0" in dataset.credit


def test_the_last_weights_ship_in_half_precision_and_of_the_others_the_digests(dataset: Dataset) -> None:
    (found,) = checkpoints.listing(dataset.digest)
    assert found.run.settings["weights_dtype"] == "float16"
    assert [(c.name, c.left_out) for c in checkpoints.of_run(found.run)] == [
        ("demo@25", True),
        ("demo@50", True),
        ("demo@75", True),
        ("demo", False),
    ]


@pytest.mark.parametrize("seed", [3, 40])
def test_a_sample_is_drawn_again(checkpoint: Checkpoint, denoiser: Denoiser, seed: int) -> None:
    shipped = next(t for t in targets.samples(checkpoint.digest) if t.id == f"seed:{seed}")
    difference = np.abs(sampling.generate(denoiser, [seed], "ddim", 50, 0.0)[0].astype(int) - shipped.image)
    # Another processor may round otherwise; 50 steps make a little more of it.
    assert difference.mean() < 0.5
    assert difference.max() <= 12


@pytest.mark.parametrize("model_output", portraits.MODEL_OUTPUTS)
def test_features_are_computed_again(
    dataset: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, model_output: str
) -> None:
    settings = portraits.feature_settings(dataset.digest, checkpoint.digest, model_output)  # type: ignore[arg-type]
    stored = np.concatenate(
        [rows for _, rows in feature_store.blocks(store.get("features", key_of("features", settings)))]
    )
    count = len(dataset.train.images)
    assert stored.shape == (count, portraits.PROJ_DIM)
    for index in (0, count // 2, count - 1):
        ids, image = [f"train:{index}"], np.asarray(dataset.train.images[index])[None]
        (fresh,) = features.featurise(denoiser, image, ids, settings, lambda done: None)
        error = np.linalg.norm(stored[index] - fresh) / np.linalg.norm(fresh)
        assert error < 0.015, "8 bits a number leave half a percent"


@pytest.mark.parametrize("model_output", portraits.MODEL_OUTPUTS)
def test_the_kernel_is_that_of_the_features(dataset: Dataset, checkpoint: Checkpoint, model_output: str) -> None:
    settings = portraits.feature_settings(dataset.digest, checkpoint.digest, model_output)  # type: ignore[arg-type]
    trained = store.get("features", key_of("features", settings))
    phi = np.concatenate([rows for _, rows in feature_store.blocks(trained)]).astype(np.float64)
    opened = kernel.open_kernel(store.get("kernels", key_of("kernels", settings)))
    np.testing.assert_allclose(opened.eigenvalues.sum(), (phi**2).sum(), rtol=1e-6)
    target = targets.samples(checkpoint.digest)[5]
    wanted = feature_target(settings, target, TargetSide())
    stored = store.get("target-features", key_of("target-features", wanted))
    cross = np.asarray(stored.array("cross.npy"), np.float64)
    np.testing.assert_allclose(
        cross, phi @ feature_store.target_feature(stored), rtol=0.05, atol=0.02 * np.abs(cross).max()
    )
    damping = kernel.damping_for_rank(opened.eigenvalues, 0.15 * len(phi))
    exact = np.linalg.solve(phi @ phi.T + damping * np.eye(len(phi)), cross)
    found = kernel.damped_scores(opened, cross, damping)
    assert np.corrcoef(found, exact)[0, 1] > 0.9999
    assert set(np.argsort(-found)[:9]) == set(np.argsort(-exact)[:9])


def test_the_comparisons_hold_what_their_plan_asks_for(dataset: Dataset, checkpoint: Checkpoint) -> None:
    plain = comparisons.by_name("demo")
    assert (plain.settings.targets, plain.settings.methods) == (portraits.COMPARED, portraits.COMPARED_BY)
    assert comparisons.listing(dataset, checkpoint.digest)[0].key == plain.key, "the page opens with it"
    assert comparisons.unjudged(plain) == ""
    embeddings.embed_dataset(dataset, portraits.SIMILARITY, lambda done, total: None)  # which is not shipped
    for target in portraits.COMPARED:
        embeddings.embed_target(portraits.SIMILARITY, targets.resolve(dataset, checkpoint.digest, target).image)
    plan = removals.plan(dataset, checkpoint, plain.settings.model_copy(update={"methods": ("d-trak", "lite0-cosine")}))
    asked = {(w.target, w.method, w.owner, w.removed, w.train_seed) for w in plan}
    later = portraits.taken_over(dataset, checkpoint)
    assert [settings.take_over for settings in later.values()] == [300, 500, 700, 1000]
    for found in comparisons.listing(dataset, checkpoint.digest):
        arms = {(e.target, e.method, e.owner, e.removed, e.train_seed) for e in found.entries}
        if found.key == plain.key:
            assert asked <= arms
            assert len(found.entries) == len(portraits.COMPARED) * (1 + 4 + 3 + 12 * 5)
        else:
            assert found.settings == later.pop(found.name)
            assert arms == {arm for arm in asked if arm[1] != "bottom"}
            assert len(found.entries) == len(portraits.COMPARED) * (1 + 4 + 3 + 12 * 2)
        for entry in found.entries:
            distance = np.linalg.norm((entry.image.astype(float) - found.originals[entry.target]) / 127.5)
            assert entry.l2 == pytest.approx(distance)
            if entry.method == "identity":  # the take-overs were drawn on another processor, which rounds otherwise
                assert entry.l2 <= (0 if found.key == plain.key else matrix.ROUNDING)
    assert not later, "all of them ship"
    for target, image in plain.originals.items():
        np.testing.assert_array_equal(image, targets.resolve(dataset, checkpoint.digest, target).image)


def test_the_lds_is_finished(dataset: Dataset, checkpoint: Checkpoint) -> None:
    measured = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    known = subset_models.read(dataset, measured)
    assert len(known.subsets) == 32
    assert len(measured.targets) == len(portraits.SEEDS) + portraits.HELD_OUT
    kinds = standings.kinds(known, measured)
    leaked = {f"held-out:{index}" for index in dataset.equal.leaked} & set(measured.targets)
    counts = (len(portraits.SEEDS), portraits.HELD_OUT - len(leaked))
    assert (kinds["generated"]["count"], kinds["held-out"]["count"]) == counts, "training pictures are no test"
    floor = kinds["held-out"]["noise_floor"]
    assert floor is not None
    assert 0.5 < floor <= 1
    table, _ = portraits.shipped_recipes(dataset, checkpoint)
    assert all(predictions.stored_scores(one, measured) for one in table if predictions.find(one, measured))
    masks = subset_models.masks_of(dataset.train.labels, 32, 0.5)
    usual = recipes.usual(dataset, checkpoint, "d-trak")
    found = predictions.find(usual, measured)
    assert found is not None
    drawn = [targets.resolve(dataset, checkpoint.digest, name) for name in found.targets[:8]]
    values = scores.score(scores.resolve("d-trak", dataset, checkpoint.digest, drawn, usual.features)).values
    again = statistics.spearman(-(masks @ values.T), found.ranks[found.place][:, :8])
    np.testing.assert_allclose(again, 1, atol=1e-3)  # another processor may swap two that are next to each other


def test_a_shipped_loss_is_that_of_a_target_under_some_model(dataset: Dataset, checkpoint: Checkpoint) -> None:
    measured = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    for artifact in store.listing("subset-losses"):
        losses = np.asarray(artifact.array(subset_models.LOSSES))
        assert losses.shape == (len(measured.targets),)
        assert (losses > 0).all()
        assert np.isfinite(losses).all()


def test_every_method_that_ships_is_in_the_table_of_the_command_line(
    dataset: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    table, _ = portraits.shipped_recipes(dataset, checkpoint)
    names = {one.method for one in table if predictions.find(one, measured)}
    assert names >= {"d-trak", "trak", "das", "lite0-cosine", "raw-pixel-cosine"}
    measuring.lds(method=tuple(names), so_far=True, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["left_out"] == {}
    assert {row["method"] for row in document["rows"] if row["targets"] == "generated"} == names
