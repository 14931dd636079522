"""Products in bfloat16: a setting of the model, taken up by training, features, losses and sampling alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import features, losses
from dtrak_core.features.gradients import watched
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import checkpoints, networks, precision, sampling
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import training

AMX = "processor : 0\nflags\t\t: fpu sse avx512f avx512_bf16 amx_tile\n"


@pytest.mark.parametrize(
    ("asked", "device", "facts", "expected"),
    [
        ("auto", "cpu", AMX, "bfloat16"),
        ("auto", "cpu", "flags : fpu sse avx2", "float32"),
        ("auto", "cpu", None, "float32"),  # not Linux
        ("auto", "cuda", AMX, "float32"),
        ("float32", "cpu", AMX, "float32"),
        ("bfloat16", "cuda", None, "bfloat16"),
    ],
)
def test_auto_is_resolved_by_the_machine_before_it_is_a_setting(
    asked: precision.Asked,
    device: str,
    facts: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if facts is not None:
        (tmp_path / "cpuinfo").write_text(facts)
    real = precision._has_units.__wrapped__
    monkeypatch.setattr(precision, "_has_units", lambda _: real(tmp_path / "cpuinfo"))
    monkeypatch.setenv(precision.VARIABLE, device)
    assert precision.resolved(asked) == expected


def test_float32_leaves_no_trace_in_a_models_settings(tiny: ModelSettings) -> None:
    assert "precision" not in tiny.model_dump_json()
    assert ModelSettings(**tiny.model_dump() | {"precision": "bfloat16"}) != tiny


def formats(denoiser: Denoiser) -> set[torch.dtype]:
    """Return the number formats that the convolutions put out in a pass."""
    found: set[torch.dtype] = set()

    def see(_: nn.Module, __: object, output: Tensor) -> None:
        found.add(output.dtype)

    with watched([m for m in denoiser.network.modules() if isinstance(m, nn.Conv2d)], see), torch.no_grad():
        output = denoiser.predict(torch.zeros(1, *denoiser.shape), torch.tensor([5]))
    assert output.dtype == torch.float32
    return found


def test_a_model_trained_in_bfloat16_is_opened_featurised_and_drawn_in_it(
    pictures: Dataset, checkpoint: Checkpoint, tiny: ModelSettings
) -> None:
    asked = checkpoints.training_of(checkpoint).model_dump()
    asked["model"] = tiny.model_dump() | {"precision": "bfloat16"}
    run = training.train(pictures, TrainSettings(**asked), "half", quiet)
    trained = networks.load_denoiser(checkpoints.by_name("half", pictures.digest))
    exact = networks.load_denoiser(checkpoint)
    assert formats(trained) == {torch.bfloat16}
    assert formats(exact) == {torch.float32}
    assert {p.dtype for p in trained.network.parameters()} == {torch.float32}
    assert run.manifest["final_loss"] == pytest.approx(checkpoint.run.manifest["final_loss"], rel=0.02)
    half = dataclasses.replace(exact, half=True)  # the same weights
    images, ids = np.asarray(pictures.train.images[:8]), [f"train:{i}" for i in range(8)]
    wanted = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=5, proj_dim=256)
    a, b = (features.featurise(network, images, ids, wanted, lambda done: None) for network in (exact, half))
    assert not np.array_equal(a, b)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.999
    told = [losses.of_draws(network, images[0], "train:0", np.arange(0, 1000, 250), 0) for network in (exact, half)]
    np.testing.assert_allclose(told[1], told[0], rtol=0.03)
    drawn = [sampling.generate(network, (0, 1), "ddim", 4, 0.0).astype(int) for network in (exact, half)]
    apart = np.abs(drawn[0][0] - drawn[0][1]).mean()  # two pictures of one network
    assert np.abs(drawn[0] - drawn[1]).mean() < apart / 4
