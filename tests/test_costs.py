"""What is said before something is computed: the projection counts, each thing once, and larger pictures cost more."""

from __future__ import annotations

import math

import pytest

from dtrak_core import costs, feature_store, patches, scores, store
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.methods import METHODS
from dtrak_core.settings import FeatureSettings, TargetSide, key_of
from dtrak_core.targets import Target, feature_target, of_split

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
    pictures: Dataset, checkpoint: Checkpoint, target: Target
) -> None:
    each, parameters = costs.gradient_seconds(checkpoint), checkpoint.run.manifest["parameters"]
    assert each is not None
    for kind in ("sparse", "gaussian"):
        settings = base(pictures, checkpoint, projection=kind, proj_dim=256)
        own = feature_target(settings, target, TargetSide())
        parts = [("features", key_of("features", settings), settings)]
        parts += [("target-features", key_of("target-features", own), own)] * 2  # by two methods: once
        found = costs.estimate(pictures, checkpoint, parts)  # type: ignore[arg-type]
        projection = sum(costs.projection_seconds(settings, parameters, count) for count in (24, 1))
        assert found.projection == pytest.approx(projection)
        assert found.seconds == pytest.approx(25 * 10 * each + projection)
        assert found.disk == 24 * 256 * 4 + 4 * 256 + 8 * 24
    said = costs.sentence(costs.Cost(7200.0, 3600.0, 2**20))
    assert said == "about 2.0 h, 60 min of it for the projection, 1.0 MB on disk"
    assert "projection" not in costs.sentence(costs.Cost(7200.0, 30.0, 2**20))
    assert "not known yet" in costs.sentence(costs.Cost(None, 30.0, 2**20))


def test_dense_features_do_not_tell_what_a_gradient_costs(
    pictures: Dataset, checkpoint: Checkpoint, target: Target
) -> None:
    before = costs.gradient_seconds(checkpoint)
    for kind, seconds in (("gaussian", 1e6), ("sparse", 24.0)):
        settings = base(pictures, checkpoint, projection=kind)
        key = key_of("features", settings)
        store.partial("features", key)
        store.publish("features", key, settings, rows=24, width=4096, gradients=240, seconds=seconds)
        assert costs.gradient_seconds(checkpoint) == (before if kind == "gaussian" else 0.1)


def test_patches_cost_by_the_pairs_of_patches(pictures: Dataset, checkpoint: Checkpoint, target: Target) -> None:
    parts = scores.needed("nda", pictures, checkpoint.digest, target, None)
    found = costs.estimate(pictures, checkpoint, parts)
    assert found.seconds == pytest.approx(24 * costs.PATCH_SECONDS * sum(n**2 for n in patches.counts(16, 16)))
    assert costs.patch_seconds(256, 256) > 1e5 * costs.patch_seconds(16, 16)
    assert METHODS["nda"].family == "patches"
