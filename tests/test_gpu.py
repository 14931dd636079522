"""What a GPU computes is what the CPU computes; `make gpu` runs these where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import text_helpers
import torch
from device_helpers import FEATURE_TOLERANCE, scores_of
from engine_helpers import emptied

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws, features, gradients, losses, projection
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import jobs
from dtrak_core.models import bases, checkpoints, devices, networks, sampling
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import LoraSettings, ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import together, training, training_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine to compare with its CPU"),
]
HALF_TOLERANCE = 0.05  # of a feature's norm: a frozen base in bfloat16, which keeps 8 bits


@pytest.fixture
def home(cache: Path) -> Iterator[Path]:
    yield from emptied(cache)


def wanted_of(dataset: Dataset, checkpoint: Checkpoint, **more: object) -> FeatureSettings:
    plain = {"num_timesteps": 5, "proj_dim": 256}
    return FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint.digest, **plain | more)  # type: ignore[arg-type]


def errors_of(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return |found - exact| / |exact| of each row."""
    error: np.ndarray = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
    return error


def test_a_gpu_gives_the_cpus_features_and_pictures(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=5, proj_dim=256)
    found, drawn, lost, influence = [], [], [], []
    for name in ("cpu", "cuda"):
        monkeypatch.setenv(devices.VARIABLE, name)
        denoiser = networks.load_denoiser(checkpoint)
        images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)]
        found.append(features.featurise(denoiser, images, ids, wanted, lambda done: None))
        drawn.append(sampling.generate(denoiser, [0, 1], "ddim", 10, 0.0).astype(int))
        lost.append(losses.of_draws(denoiser, images[0], "train:0", draws.timesteps("uniform", 10), 0))
        influence.append(scores_of(pictures, checkpoint, denoiser))
    assert errors_of(found[1], found[0]).max() < FEATURE_TOLERANCE
    assert np.abs(drawn[0] - drawn[1]).mean() < 2
    np.testing.assert_allclose(lost[1], lost[0], rtol=FEATURE_TOLERANCE)
    assert np.corrcoef(influence[0], influence[1])[0, 1] > 0.98


def test_every_kind_of_feature_is_the_cpus(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, ids = np.asarray(pictures.train.images)[:6], [f"train:{i}" for i in range(6)]
    for more in (
        {"projection": "gaussian"},
        {"projection": "rademacher"},
        {"parts": "faders"},
        {"normalise": "timestep"},
        {"model_output": "loss"},
    ):
        found = []
        for name in ("cpu", "cuda"):
            monkeypatch.setenv(devices.VARIABLE, name)
            wanted = wanted_of(pictures, checkpoint, **more)
            found.append(features.featurise(networks.load_denoiser(checkpoint), images, ids, wanted, lambda done: None))
        assert errors_of(found[1], found[0]).max() < FEATURE_TOLERANCE, more


def test_a_sparse_projection_of_millions_is_the_cpus() -> None:
    sparse = Projector("sparse", 4096, 42, 3_000_001)
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3_000_001), dtype=np.float32))
    here, there = project(sparse, rows), project(sparse, rows.cuda()).cpu()
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-3)
    assert projection.GATHERED * 4096 < 3_000_001


def test_training_takes_the_same_steps(pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(dataset=pictures.digest, model=tiny, epochs=20, batch_size=8)
    lost = []
    for name in ("cpu", "cuda"):
        monkeypatch.setenv(devices.VARIABLE, name)
        run = settings.model_copy(update={"weight_decay": 1e-6 + len(lost) * 1e-13})  # another key, the same training
        lost.append(curve(alone(pictures, run)))
    np.testing.assert_allclose(lost[1], lost[0], rtol=FEATURE_TOLERANCE)


def test_models_trained_together_take_the_steps_of_the_cpu(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [(tuple(range(20)), 1), (tuple(range(4, 24)), 2), (tuple(range(2, 22)), 1)]
    each = [
        TrainSettings(dataset=pictures.digest, model=tiny, indices=part, train_seed=seed, epochs=20, batch_size=8)
        for part, seed in parts
    ]
    monkeypatch.setenv(devices.VARIABLE, "cuda")
    lost = [curve(run) for run in together.train(pictures, each, quiet)]
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    for one, found in zip(each, lost, strict=True):
        store.delete("retrained", key_of("retrained", one))
        np.testing.assert_allclose(found, curve(alone(pictures, one)), rtol=FEATURE_TOLERANCE)


def test_lora_weights_trained_together_take_the_steps_of_those_alone(cache: Path, tmp_path: Path) -> None:
    discs, base = text_helpers.captioned(tmp_path / "discs"), text_helpers.small_base(tmp_path / "base")
    lora = LoraSettings(base=base.digest, rank=4, dropout=0.0, targets=bases.layers(base.digest, "all"))
    each = [
        TrainSettings(dataset=discs.digest, model=lora, indices=tuple(range(i, i + 20)), epochs=10, batch_size=8)
        for i in (0, 4)
    ]
    lost = []
    for made in (lambda: together.train(discs, each, quiet), lambda: [alone(discs, one) for one in each]):
        lost.append([curve(run) for run in made()])
        for one in each:
            store.delete("retrained", key_of("retrained", one))
    np.testing.assert_allclose(lost[0], lost[1], rtol=HALF_TOLERANCE)


def alone(dataset: Dataset, settings: TrainSettings) -> store.Artifact:
    return training.train(dataset, settings, "", quiet, kind="retrained")


def curve(run: store.Artifact) -> list[float]:
    """Return the losses that a training has written."""
    return [json.loads(line)["loss"] for line in run.file(training_run.METRICS).read_text().splitlines()]


def test_lora_weights_on_a_base_in_bfloat16(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discs, base = text_helpers.captioned(tmp_path / "discs"), text_helpers.small_base(tmp_path / "base")
    lora = LoraSettings(base=base.digest, rank=4, dropout=0.0)
    settings = TrainSettings(dataset=discs.digest, model=lora, epochs=1, batch_size=8)
    checkpoint, found, drawn = None, [], []
    for name in ("cuda", "cpu"):  # trained on the GPU
        monkeypatch.setenv(devices.VARIABLE, name)
        done = training.train(discs, settings, "lo", quiet)
        checkpoint = checkpoints.by_name("lo", discs.digest)
        assert np.isfinite(done.manifest["final_loss"])
        denoiser = networks.load_denoiser(checkpoint)
        assert denoiser.half == (name == "cuda")
        images, ids = np.asarray(discs.train.images)[:4], [f"train:{i}" for i in range(4)]
        wanted = wanted_of(discs, checkpoint, proj_dim=64)
        words = discs.train.prompts[:4]
        found.append(features.featurise(denoiser, images, ids, wanted, lambda done: None, prompts=words))
        drawn.append(sampling.generate(denoiser, [0], "ddim", 5, 0.0, prompts=["a red disc"]).astype(int))
    assert errors_of(found[0], found[1]).max() < HALF_TOLERANCE
    assert np.abs(drawn[0] - drawn[1]).mean() < 4


def test_a_pass_that_does_not_fit_is_made_smaller(pictures: Dataset, checkpoint: Checkpoint) -> None:
    """With a real lack of memory: what the process may take is cut to little more than it holds."""
    wanted = wanted_of(pictures, checkpoint, num_timesteps=500)
    images, ids = np.asarray(pictures.train.images)[:2], ["train:0", "train:1"]
    denoiser = networks.load_denoiser(checkpoint)
    whole = features.featurise(denoiser, images, ids, wanted, lambda done: None)
    before = gradients.draws_for(denoiser)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**25) / total)
    try:
        small = features.featurise(denoiser, images, ids, wanted, lambda done: None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert gradients.draws_for(denoiser) < before
    np.testing.assert_allclose(small, whole, rtol=1e-2, atol=1e-3 * np.abs(whole).max())


def test_the_engine_computes_on_the_gpu(
    home: Path, pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = wanted_of(pictures, checkpoint)
    job = jobs.AttributeJob(features=(wanted,), targets=("held-out:0",))
    done = jobs.wait(jobs.submit(job, "On the GPU")[0])
    assert done.state == "done", done.message
    stored = store.get("features", key_of("features", wanted))
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)]
    here = features.featurise(networks.load_denoiser(checkpoint), images, ids, wanted, lambda done: None)
    assert 0 < errors_of(np.asarray(stored.array("00000.npy")), here).max() < FEATURE_TOLERANCE
