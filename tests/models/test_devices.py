"""Where torch computes, and what happens when its memory is too small."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from device_helpers import FEATURE_TOLERANCE, scores_of
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import child_main, tasks
from dtrak_core.errors import DataError, SettingsError, out_of_memory
from dtrak_core.features import batches, draws, features, gradients, losses
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import processes
from dtrak_core.models import devices, networks, sampling
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import training, training_run

ON_MPS = "MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)."


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.VARIABLE, raising=False)


def test_the_best_device_is_taken_and_a_named_one_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.device().type == best
    monkeypatch.setenv(devices.VARIABLE, "CPU")
    assert devices.device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:63", "gpu", "cuda:x", "xla"])
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(devices.VARIABLE, name)
    with pytest.raises(SettingsError, match=r"STUDIO_DEVICE is '.*'(, but torch|\. Write cuda)"):
        devices.device()


class Elsewhere(TorchFunctionMode):
    """Plays a device without float64, as MPS is: notes what is asked of it that it cannot do.

    On it lie parameters, what is moved to one of its tensors or to a torch.device, and what is made of these. `.cpu()`
    leads off it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.far: dict[int, Tensor] = {}  # kept, so that no number is given twice
        self.refused: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        found = func(*args, **kwargs)
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        there = any(isinstance(x, nn.Parameter) or id(x) in self.far for x in given)
        there |= any(isinstance(x, torch.device) for x in (*args, *kwargs.values()))
        if name == "cpu":
            return found.detach()  # another object than the one that lies on the device
        made = [x for x in (found if isinstance(found, tuple | list) else [found]) if isinstance(x, Tensor)]
        if there:
            if name == "numpy" or any(x.dtype == torch.float64 for x in made):
                self.refused.append(name)
            self.far |= {id(x): x for x in made}
        return found


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (lambda w: (2 * w).detach().double(), lambda w: (2 * w).detach().cpu().double()),
        (lambda w: w.detach().square().numpy(), lambda w: w.detach().square().cpu().numpy()),
        (lambda w: torch.from_numpy(np.zeros(3)).to(w.device), lambda w: torch.from_numpy(np.zeros(3, "f4")).to(w)),
    ],
)
def test_the_mode_knows_what_a_device_without_float64_refuses(
    wrong: Callable[[Tensor], object], right: Callable[[Tensor], object]
) -> None:
    weight = nn.Linear(3, 3).weight
    for one, count in ((wrong, 1), (right, 0)):
        with Elsewhere() as mode:
            one(weight)
        assert len(mode.refused) == count


def test_nothing_is_asked_of_a_device_that_it_cannot_do(pictures: Dataset, checkpoint: Checkpoint) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)]
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "num_timesteps": 5, "proj_dim": 256}
    with Elsewhere() as mode:
        losses.of_draws(denoiser, images[0], "train:0", draws.timesteps("uniform", 10), 0)
        scores_of(pictures, checkpoint, denoiser)
        sampling.generate(denoiser, [0, 1], "ddim", 3, 0.5)
        for projection in ("sparse", "gaussian", "rademacher", "none"):
            for parts in ("whole", "faders"):
                wanted = FeatureSettings(**where, projection=projection, parts=parts)
                if (projection, parts) != ("none", "faders"):
                    features.featurise(denoiser, images[:2], ids[:2], wanted, lambda done: None)
    assert mode.refused == []


def test_tf32_keeps_features_within_the_tolerance(pictures: Dataset, checkpoint: Checkpoint) -> None:
    """Weights and pictures cut to TF32's 10 bits of mantissa, which is what it does to a product's factors."""
    wanted = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=5, proj_dim=256)
    denoiser = networks.load_denoiser(checkpoint)
    images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)]
    exact = features.featurise(denoiser, images, ids, wanted, lambda done: None)
    with torch.no_grad():
        for parameter in denoiser.network.parameters():
            parameter.copy_((parameter.view(torch.int32) & ~0x1FFF).view(torch.float32))
    cut = features.featurise(denoiser, images, ids, wanted, lambda done: None)
    error = np.linalg.norm(cut - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0 < error.max() < FEATURE_TOLERANCE


def test_features_go_on_in_smaller_batches_when_memory_runs_out(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=64)
    denoiser = networks.load_denoiser(checkpoint)
    images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)]
    whole = features.featurise(denoiser, images, ids, wanted, lambda done: None, batch=24)
    sizes: list[int] = []

    def small(denoiser: Denoiser, x0: Tensor, *rest: object, **more: object) -> Tensor:
        sizes.append(len(x0))
        if len(x0) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients.per_example_gradients(denoiser, x0, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(batches, "per_example_gradients", small)
    said: list[int] = []
    again = features.featurise(denoiser, images, ids, wanted, said.append, batch=24)
    assert sizes[:3] == [24, 12, 6]
    assert set(sizes[3:]) == {3}
    assert said[-1] == 24
    np.testing.assert_allclose(again, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())
    monkeypatch.setattr(
        batches, "per_example_gradients", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("no"))
    )
    with pytest.raises(DataError, match="does not hold the gradient of one picture"):
        features.featurise(denoiser, images, ids, wanted, lambda done: None, batch=24)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(ON_MPS)])
def test_training_goes_on_in_parts_when_memory_runs_out(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settings = TrainSettings(dataset=pictures.digest, model=tiny, epochs=2, batch_size=12)
    whole = training.train(pictures, settings, "whole", quiet, kind="retrained").manifest["final_loss"]
    real, sizes = Denoiser.predict, set()

    def small(self: Denoiser, x_t: Tensor, t: Tensor, told: Condition = NOTHING) -> Tensor:
        sizes.add(len(x_t))
        if len(x_t) > 4:
            raise error
        return real(self, x_t, t, told)

    monkeypatch.setattr(Denoiser, "predict", small)
    other = settings.model_copy(update={"weight_decay": 1.0000001e-6})  # another key for the same training
    parts = training.train(pictures, other, "parts", quiet, kind="retrained").manifest["final_loss"]
    assert sizes == {12, 6, 3}
    assert parts == pytest.approx(whole, rel=1e-4)
    run = training.start(settings, 16)
    monkeypatch.setattr(Denoiser, "predict", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    x = torch.zeros(2, *run.denoiser.shape)
    with pytest.raises(DataError, match="does not hold the training of one picture"):
        training_run.backward(run, x, x, torch.zeros(2, dtype=torch.long), NOTHING)
    monkeypatch.setattr(Denoiser, "predict", lambda *a: (_ for _ in ()).throw(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        training_run.backward(run, x, x, torch.zeros(2, dtype=torch.long), NOTHING)


def test_memory_that_runs_out_is_told_on_every_device(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(2**50)
    for error in (cpu.value, RuntimeError(ON_MPS), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        assert out_of_memory(error)
        assert child_main.sentence(error).startswith("Memory did not suffice.")
    assert not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(ValueError("out of memory"))
    assert "not foreseen" in child_main.sentence(RuntimeError("shapes differ"))


def test_a_gpu_takes_more_at_once_by_its_memory(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    where = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**35))
    assert gradients._budget(torch.device("cpu")) == (320, 2**30, 2**28)
    assert gradients._budget(where) == (4096, 2**34, 2**31)


def test_draws_are_halved_where_memory_runs_out_at_one_picture(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=20, proj_dim=64)
    denoiser = networks.load_denoiser(checkpoint)
    images, ids = np.asarray(pictures.train.images), [f"train:{i}" for i in range(2)]
    whole = features.featurise(denoiser, images[:2], ids, wanted, lambda done: None)
    real, sizes = Denoiser.predict, []

    def small(self: Denoiser, x_t: Tensor, t: Tensor, told: Condition = NOTHING) -> Tensor:
        sizes.append(len(x_t))
        if len(x_t) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, x_t, t, told)

    monkeypatch.setattr(Denoiser, "predict", small)
    monkeypatch.setattr(gradients, "DRAWS_AT_ONCE", 40)
    again = features.featurise(networks.load_denoiser(checkpoint), images[:2], ids, wanted, lambda done: None)
    assert sizes[:6] == [1, 40, 20, 20, 10, 5]
    assert max(sizes[5:]) == 5
    np.testing.assert_allclose(again, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize(("visible", "count"), [("0,1,2", 3), ("", 0), ("-1", 0), ("GPU-8f2a", 1)])
def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes.gpus() == count


@pytest.mark.parametrize(
    ("visible", "name", "expected"), [("0,1", 1, "cuda:1"), ("0", 0, ""), ("0,1", "tcp://host:1", "")]
)
def test_each_worker_of_this_machine_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, visible: str, name: object, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(tasks, "get_worker", lambda: SimpleNamespace(name=name))
    assert tasks.device() == expected


def test_a_child_computes_on_the_device_of_its_order(cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import os

    monkeypatch.setattr(child_main, "IDLE", 0)
    monkeypatch.setenv(devices.VARIABLE, "")  # put back afterwards
    order = {"do": "whole", "root": str(cache), "key": "none", "device": "cuda:1"}
    with pytest.raises(FileNotFoundError):  # there is no such job: its log cannot be opened
        child_main.serve(io.StringIO(json.dumps(order) + "\n"), lambda said: None, 0)
    assert os.environ[devices.VARIABLE] == "cuda:1"
