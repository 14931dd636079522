"""A target's feature is the mean over noise seeds, as many as its model's run notes to be affordable."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from dtrak_core import store
from dtrak_core.api import own_output
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws, feature_store, features
from dtrak_core.features import settings as settings_of_features
from dtrak_core.features.feature_store import target_feature
from dtrak_core.features.settings import FeatureSettings, TargetFeatureSettings, TargetSide, feature_target, noise_seeds
from dtrak_core.methods import costs, ekfac
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import training

T = 4


def wanted(pictures: Dataset, checkpoint: Checkpoint, **values: object) -> FeatureSettings:
    base = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "num_timesteps": T, "projection": "none"}
    return FeatureSettings(**base | values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "timesteps", "seeds"), [(0, 50, 1), (49, 50, 1), (50, 50, 1), (199, 50, 2), (200, 50, 4), (9999, 10, 8)]
)
def test_so_many_noises_are_taken_as_a_second_holds(
    held: int, timesteps: int, seeds: int, pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_of_features, "target_draws", lambda digest: held if digest == checkpoint.digest else 0)
    settings = wanted(pictures, checkpoint, num_timesteps=timesteps)
    assert noise_seeds(settings) == seeds
    assert noise_seeds(wanted(pictures, checkpoint, num_timesteps=timesteps, projection="gaussian")) == 1
    alone = noise_seeds(wanted(pictures, checkpoint, num_timesteps=timesteps, normalise="timestep"))
    assert alone == max(1, min(8, 2 ** ((held // (4 * timesteps)).bit_length() - 1)))
    target = targets.resolve(pictures, checkpoint.digest, "held-out:0")
    assert feature_target(settings, target, TargetSide()).noise_seeds == seeds
    assert feature_target(settings, target, TargetSide(trajectory=True)).noise_seeds == 1


def test_a_targets_feature_is_the_mean_over_its_noises(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, target = wanted(pictures, checkpoint), targets.resolve(pictures, checkpoint.digest, "held-out:1")
    denoiser = networks.load_denoiser(checkpoint)
    features.compute_features(pictures, denoiser, settings, quiet)
    (single,) = features.compute_target_features(denoiser, settings, [target], quiet)
    monkeypatch.setattr(settings_of_features, "target_draws", lambda digest: 4 * T)
    (found,) = features.compute_target_features(denoiser, settings, [target], quiet)
    assert found.key != single.key
    assert found.manifest["gradients"] == 4 * T
    parameters = list(denoiser.network.parameters())
    x0, total = denoiser.encode(target.image[None]), torch.zeros(sum(p.numel() for p in parameters))
    for seed in range(4):
        for t in range(0, 1000, 1000 // T):
            eps, when = torch.from_numpy(draws.noise(seed, target.id, [t], denoiser.shape)), torch.tensor([t])
            output = denoiser.predict(denoiser.process.noised(x0, eps, when), when)
            each = torch.autograd.grad(output.square().mean(), parameters)
            total += torch.cat([g.flatten() for g in each]) / (4 * T)
    np.testing.assert_allclose(target_feature(found), total.numpy(), rtol=1e-3, atol=1e-5 * float(total.abs().max()))
    monkeypatch.setattr(
        settings_of_features, "target_draws", lambda digest: 0
    )  # a run of before: what is stored stays found
    (again,) = features.compute_target_features(denoiser, settings, [target], quiet)
    assert again.key == single.key
    here = costs.Here(pictures, checkpoint)
    one, four = (
        costs.of_target_features(here, TargetFeatureSettings(**artifact.settings)) for artifact in (single, found)
    )
    assert four.parts[0].speed.seconds == pytest.approx(4 * one.parts[0].speed.seconds)


def test_a_training_picture_shares_no_noise_with_its_own_feature(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, str]] = []
    noise = draws.noise

    def noted(seed: int, name: str, *rest: Any) -> np.ndarray:
        drawn.append((seed, name))
        return noise(seed, name, *rest)

    monkeypatch.setattr(settings_of_features, "target_draws", lambda digest: 2 * T)
    monkeypatch.setattr(draws, "noise", noted)
    settings, names = wanted(pictures, checkpoint), ["held-out:1", "train:5"]
    denoiser = networks.load_denoiser(checkpoint)
    chosen = [targets.resolve(pictures, checkpoint.digest, name) for name in names]
    features.compute_features(pictures, denoiser, settings, quiet)
    trained = set(drawn)
    assert (0, "train:5") in trained
    drawn.clear()
    found = features.compute_target_features(denoiser, settings, chosen, quiet)
    assert set(drawn) == {(seed, name) for seed in (0, 1) for name in ("held-out:1", "target/train:5")}
    assert not trained.intersection(drawn)
    anew = ["drawn_anew" in one.settings for one in found]
    assert anew == [False, True], "the other targets keep their keys"
    about = METHODS["gradient-dot"], pictures, denoiser, settings, chosen, None, None, quiet
    for compute in (
        lambda: ekfac.compute(pictures, checkpoint.digest, denoiser, chosen, quiet),
        lambda: own_output.compute(lambda e, n, x, t: e.square().mean((1, 2, 3)), *about),
    ):
        drawn.clear()
        compute()
        asked = {name for _, name in drawn}
        assert {"held-out:1", "target/train:5", "train:5"} <= asked
        assert "train:1" in asked
        times = Counter(name for _, name in drawn)
        assert times["train:5"] == times["train:1"], "of its training feature alone"


def test_what_a_training_picture_says_of_itself_is_not_its_noise(pictures: Dataset, checkpoint: Checkpoint) -> None:
    """With the noise of its training feature, a picture's cosine with itself would be 1, whatever it is."""
    settings, denoiser = wanted(pictures, checkpoint, model_output="loss"), networks.load_denoiser(checkpoint)
    features.compute_features(pictures, denoiser, settings, quiet)
    rows = feature_store.rows(store.get("features", key_of("features", settings)), slice(0, 24))
    chosen = [targets.resolve(pictures, checkpoint.digest, f"train:{place}") for place in range(6)]
    own = [target_feature(one) for one in features.compute_target_features(denoiser, settings, chosen, quiet)]
    for place, (row, feature) in enumerate(zip(rows, own, strict=False)):
        ids = [f"target/train:{place}"]
        expected = features.featurise(denoiser, chosen[place].image[None], ids, settings, lambda done: None)[0]
        np.testing.assert_allclose(feature, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
        cosine = float(row @ feature / np.linalg.norm(row) / np.linalg.norm(feature))
        assert cosine < 0.99, "with shared noise it was 1"


def test_a_training_notes_how_many_draws_a_second_holds_by_its_size_alone(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "TARGET_SECONDS", 1e-2)
    asked = TrainSettings(dataset=pictures.digest, model=tiny, epochs=1, batch_size=24)
    run = training.train(pictures, asked, "noted", quiet)
    expected = int(1e-2 / (checkpoints.GRADIENT_SECONDS * run.manifest["parameters"] * 8 * 8))
    assert run.manifest["target_draws"] == expected > 0
    digest = checkpoints.by_name("noted", pictures.digest).digest
    assert settings_of_features.target_draws(digest) == expected
    assert settings_of_features.target_draws("f" * 16) == 0
    monkeypatch.setattr(checkpoints, "TARGET_SECONDS", 1e-1)
    again = training.train(pictures, asked, "retrained", quiet, "retrained")  # which comes to the same weights
    assert again.manifest["steps"][-1]["digest"] == digest
    assert again.manifest["target_draws"] > expected
    assert settings_of_features.target_draws(digest) == expected, "targets' features would lose their keys"
    assert key_of("features", wanted(pictures, checkpoints.by_name("noted", pictures.digest)))  # no part of this key
