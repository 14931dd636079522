"""Features of a training set and of targets: right, resumable, and the same however they are run."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled, NotFoundError
from dtrak_core.features import batches, feature_store, features
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import networks
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings
from dtrak_core.models.targets import of_split
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact


@pytest.fixture
def denoiser(tiny: ModelSettings) -> Denoiser:
    torch.manual_seed(0)
    return networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "SHARD", 10)


def wanted(dataset: Dataset, **values: object) -> FeatureSettings:
    chosen = {"dataset": dataset.digest, "checkpoint": "1" * 16, "num_timesteps": 2, "proj_dim": 64} | values
    return FeatureSettings(**chosen)  # type: ignore[arg-type]


def rows_of(artifact: Artifact) -> np.ndarray:
    return np.concatenate([rows for _, rows in feature_store.blocks(artifact)])


def test_a_feature_is_the_projected_mean_gradient(pictures: Dataset, denoiser: Denoiser) -> None:
    none = wanted(pictures, projection="none")
    artifact = features.compute_features(pictures, denoiser, none, quiet)
    x0 = denoiser.encode(pictures.train.images)
    expected = per_example_gradients(denoiser, x0, [f"train:{i}" for i in range(24)], none)
    assert artifact.manifest["rows"] == 24
    assert artifact.manifest["width"] == artifact.manifest["parameters"] == expected.shape[1]
    assert artifact.manifest["gradients"] == 48
    exact = rows_of(artifact)
    np.testing.assert_allclose(exact, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    sparse = rows_of(features.compute_features(pictures, denoiser, wanted(pictures, proj_dim=1024), quiet))
    assert sparse.shape == (24, 1024)
    error = sparse @ sparse.T - exact @ exact.T
    norms = np.linalg.norm(exact, axis=1)
    assert np.abs(error / np.outer(norms, norms)).max() < 5 / 1024**0.5


def test_two_that_want_the_same_features_compute_them_once(pictures: Dataset, denoiser: Denoiser) -> None:
    settings, messages = wanted(pictures), list[str]()
    with ThreadPoolExecutor(1) as pool:
        later: list[Future[Artifact]] = []

        def told(_done: int, _total: int, _unit: str, message: str) -> None:
            messages.append(message)

        def first(_done: int, _total: int, _unit: str, _message: str) -> None:
            if not later:  # while the first is at it, another begins, and says that it waits
                later.append(pool.submit(features.compute_features, pictures, denoiser, settings, told))
            while not messages:
                time.sleep(0.01)

        made = features.compute_features(pictures, denoiser, settings, first, 4)
        assert later[0].result(30).manifest == made.manifest
    assert set(messages) == {"Another job computes these features"}


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_an_interrupted_computation_goes_on_and_ends_the_same(
    pictures: Dataset, denoiser: Denoiser, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = wanted(pictures, storage=storage)
    whole = features.compute_features(pictures, denoiser, settings, quiet, 4)
    expected = {name: whole.path.joinpath(name).read_bytes() for name in whole.manifest["files"]}
    store.delete("features", whole.key)
    seen: list[int] = []

    def stop(done: int, total: int, unit: str, message: str) -> None:
        assert (total, unit) == (48, "gradients")
        seen.append(done)
        if done >= 28:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        features.compute_features(pictures, denoiser, settings, stop, 4)
    assert store.find("features", whole.key) is None
    assert seen == sorted(seen)
    computed: list[str] = []
    real = batches.per_example_gradients
    monkeypatch.setattr(
        batches,
        "per_example_gradients",
        lambda d, x, ids, s, **more: computed.extend(ids) or real(d, x, ids, s, **more),
    )
    again = features.compute_features(pictures, denoiser, settings, quiet, 4)
    assert computed == [f"train:{i}" for i in range(10, 24)]
    assert {name: again.path.joinpath(name).read_bytes() for name in again.manifest["files"]} == expected
    assert {path.name for path in again.path.iterdir()} == {*expected, store.MANIFEST}
    computed.clear()
    assert features.compute_features(pictures, denoiser, settings, quiet).key == again.key
    assert computed == []


def test_a_publishing_that_fails_loses_no_shard(
    pictures: Dataset, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = wanted(pictures)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_describe", lambda path: (_ for _ in ()).throw(Cancelled("killed")))
        with pytest.raises(Cancelled):
            features.compute_features(pictures, denoiser, settings, quiet)
    monkeypatch.delattr(batches, "per_example_gradients")
    assert features.compute_features(pictures, denoiser, settings, quiet).manifest["rows"] == 24


def test_batch_and_shard_sizes_change_nothing(
    pictures: Dataset, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = wanted(pictures)
    first = rows_of(features.compute_features(pictures, denoiser, settings, quiet, 1))
    for shard, batch in ((7, 3), (24, 0), (1, 2)):
        store.delete("features", key_of("features", settings))
        monkeypatch.setattr(feature_store, "SHARD", shard)
        again = rows_of(features.compute_features(pictures, denoiser, settings, quiet, batch))
        assert (np.linalg.norm(again - first, axis=1) < 2e-6 * np.linalg.norm(first, axis=1)).all()


def test_a_copy_of_a_small_network_for_each_thread_changes_nothing(
    pictures: Dataset, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, ids = wanted(pictures), [f"train:{i}" for i in range(7)]
    images = np.asarray(pictures.train.images[:7])
    alone = features.featurise(denoiser, images, ids, settings, lambda done: None, 5)
    shares: list[tuple[tuple[str, ...], int, int]] = []
    real = batches.per_example_gradients

    def noted(d: Denoiser, x: torch.Tensor, ids: list[str], *how: FeatureSettings, **more: object) -> torch.Tensor:
        shares.append((tuple(ids), id(d.network), torch.get_num_threads()))
        return real(d, x, ids, *how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(batches, "per_example_gradients", noted)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = features.featurise(denoiser, images, ids, settings, lambda done: None, 5)
        assert torch.get_num_threads() == 3
        assert sorted(share for share, _, _ in shares) == [
            ("train:0",), ("train:1", "train:2"), ("train:3", "train:4"), ("train:5",), ("train:6",)
        ]  # fmt: skip
        assert len({network for _, network, _ in shares}) == 3
        assert {threads for _, _, threads in shares} == {1}
        monkeypatch.setattr(batches, "SMALL", 1)
        assert batches.copies(denoiser, 7) == [denoiser]
    finally:
        torch.set_num_threads(before)
    assert (np.linalg.norm(together - alone, axis=1) < 2e-6 * np.linalg.norm(alone, axis=1)).all()


def test_targets_get_their_feature_and_its_products(pictures: Dataset, denoiser: Denoiser) -> None:
    settings = wanted(pictures)
    chosen = [of_split(pictures.held_out, "held-out", i) for i in (3, 0)] + [of_split(pictures.train, "train", 5)]
    with pytest.raises(NotFoundError, match="features"):
        features.compute_target_features(denoiser, settings, chosen, quiet)
    trained = rows_of(features.compute_features(pictures, denoiser, settings, quiet))
    found = features.compute_target_features(denoiser, settings, chosen, quiet)
    assert [a.settings["target"] for a in found] == ["held-out:3", "held-out:0", "train:5"]
    for artifact in found:
        feature = feature_store.target_feature(artifact)
        expected = trained.astype(np.float64) @ feature
        np.testing.assert_allclose(artifact.array("cross.npy"), expected, rtol=1e-10, atol=1e-12 * expected.max())
    # A training picture as a target has noise of its own: it shares none with its training feature.
    own = feature_store.target_feature(found[2])
    anew = features.featurise(denoiser, pictures.train.images[5:6], ["target/train:5"], settings, lambda done: None)
    np.testing.assert_allclose(own, anew[0], rtol=1e-4, atol=1e-6)
    assert own @ trained[5] < 0.95 * np.linalg.norm(own) * np.linalg.norm(trained[5])
    alone = features.compute_target_features(denoiser, settings, chosen[:1], quiet)
    assert alone[0].path == found[0].path


def test_a_network_with_broken_weights_stores_nothing(pictures: Dataset, denoiser: Denoiser) -> None:
    next(denoiser.network.parameters()).data[0] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        features.compute_features(pictures, denoiser, wanted(pictures), quiet)
    assert store.listing("features") == []
