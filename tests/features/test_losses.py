"""Losses of a picture's draws: one by one or many at once, and never more at once than memory is meant to hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dtrak_core.features import draws, gradients, losses
from dtrak_core.models import networks, schedules
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser
from dtrak_core.models.process import Process
from dtrak_core.models.settings import ModelSettings, Prediction
from dtrak_core.models.targets import Target
from dtrak_core.training import presets


def test_a_thousand_draws_are_those_of_the_formula_in_bounded_passes(
    tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    denoiser = networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    grid, seen = draws.timesteps("uniform", 1000), list[int]()
    real = Denoiser.predict

    def counted(self: Denoiser, x_t: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        seen.append(len(x_t))
        return real(self, x_t, t, condition)

    monkeypatch.setattr(gradients, "ACTIVATION_BYTES", 2**23)
    at_once = gradients.draws_for(denoiser)
    assert 1 < at_once < 320
    monkeypatch.setattr(Denoiser, "predict", counted)
    found = losses.of_draws(denoiser, image, "train:3", grid, 7)
    assert found.dtype == np.float64
    assert max(seen) == at_once
    assert sum(seen) == 1000
    x0 = denoiser.encode(image[None])
    for t in (0, at_once - 1, at_once, 997, 999):
        eps = torch.from_numpy(draws.noise(7, "train:3", [t], denoiser.shape))
        bar = denoiser.process.alphas_cumprod[t]
        with torch.no_grad():
            e = real(denoiser, bar.sqrt() * x0 + (1 - bar).sqrt() * eps, torch.tensor([t]))
        assert found[t] == pytest.approx(float((e - eps).square().mean()), rel=1e-5)


@pytest.mark.parametrize("prediction", ["sample", "v", "flow"])
def test_the_loss_of_other_predictions_is_weighted_as_in_training(tiny: ModelSettings, prediction: Prediction) -> None:
    model = ModelSettings(**tiny.model_dump() | {"prediction": prediction})
    denoiser = networks.untrained(model, 16, 0, "0" * 16)
    denoiser.network.eval()
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    target, grid = Target("held-out:3", image, "0" * 16, ""), [0, 250, 500, 750]
    found = losses.denoising_loss(denoiser, target, 4, 2)
    bars, x0, expected = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), denoiser.encode(image[None]), []
    for t in grid:
        eps, a, s = (
            torch.from_numpy(draws.noise(2, target.id, [t], denoiser.shape)),
            bars[t] ** 0.5,
            (1 - bars[t]) ** 0.5,
        )
        if prediction == "flow":
            a, s = 1 - (t + 1) / 1000, (t + 1) / 1000
        told = torch.tensor([t + 1.0 if prediction == "flow" else t])
        with torch.no_grad():
            f = denoiser.network((a * x0 + s * eps).float(), told).sample
        wanted = {"sample": x0, "v": a * eps - s * x0, "flow": eps - x0}[prediction]
        weight = min(1 / s**2, 400) if prediction == "sample" else 1
        expected.append(weight * float((f - wanted).square().mean()))
    assert found == pytest.approx(np.mean(expected), rel=1e-3)


@pytest.mark.parametrize(("preset", "side"), [("cifar", 32), ("celeba", 64)])
def test_a_pass_of_the_papers_networks_stays_within_the_stated_memory(preset: str, side: int) -> None:
    """Nothing is computed here: the layers' outputs are counted on torch's device of shapes alone."""
    model = presets.PRESETS[preset].model
    assert model is not None
    schedule = schedules.default_scheduler()
    with torch.device("meta"):
        denoiser = Denoiser(
            networks.build_unet(model, side).eval(),
            Process("noise", schedule.betas, schedule.alphas_cumprod).to(torch.device("meta")),
            1,
            (3, side, side),
        )
    at_once, numbers = gradients.draws_for(denoiser), 0

    def count(_: object, __: object, output: object) -> None:
        nonlocal numbers
        numbers += output.numel() if isinstance(output, Tensor) else 0

    for layer in denoiser.network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        denoiser.predict(torch.zeros(1, 3, side, side, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"))
    assert at_once * 2 * 4 * numbers <= gradients.ACTIVATION_BYTES < (at_once + 1) * 2 * 4 * numbers
