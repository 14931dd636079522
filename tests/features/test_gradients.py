"""Per-example gradients against a plain loop: every draw alone, ordinary autograd, float64."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dtrak_core.features import draws, gradients, model_outputs
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import networks, schedules
from dtrak_core.models.class_names import Classes
from dtrak_core.models.denoiser import Denoiser, by_class
from dtrak_core.models.process import Process, rectified
from dtrak_core.models.settings import ModelSettings, Prediction

NETWORKS = {
    "plain": ModelSettings(channels=(8, 16), attention=(False, False), norm_groups=4),
    "attention and scale-shift": ModelSettings(
        channels=(8, 16),
        attention=(False, True),
        mid_attention=True,
        head_dim=4,
        norm_groups=4,
        time_scale_shift="scale_shift",
        downsample_padding=0,
        layers_per_block=2,
    ),
    "classes": ModelSettings(channels=(8, 16), attention=(False, False), norm_groups=4, classes=("red", "green")),
}


class Odd(nn.Module):
    """A network with a layer used twice and, if asked, a layer that the hooks do not know."""

    def __init__(self, unknown: bool) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=3)
        self.twice = nn.Linear(12, 12, bias=False)
        self.norm = nn.LayerNorm(12)
        self.frozen = nn.Linear(12, 12)
        self.frozen.requires_grad_(False)
        self.half_frozen = nn.Conv2d(12, 12, 1)
        self.half_frozen.weight.requires_grad_(False)
        self.unused = nn.Linear(3, 3)
        self.steps = nn.Embedding(1000, 12, padding_idx=0 if unknown else None)

    def forward(self, x: Tensor, t: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        y = self.grouped(x).movedim(1, -1)
        y = y + self.steps(t)[:, None, None]
        y = self.frozen(torch.tanh(self.norm(self.twice(torch.tanh(self.twice(y))))))
        return (self.half_frozen(y.movedim(-1, 1)),)


def denoiser_of(unet: nn.Module, dtype: torch.dtype = torch.float64, prediction: Prediction = "noise") -> Denoiser:
    schedule = schedules.default_scheduler()
    for parameter in unet.parameters():  # biases and norms start at 0 and 1, where errors can hide
        parameter.data += 0.05 * torch.randn_like(parameter)
    process = Process(prediction, schedule.betas.to(dtype), schedule.alphas_cumprod.to(dtype))
    if prediction == "flow":  # of 30 timesteps, so that draws are spread over a schedule of another length too
        process = rectified(torch.arange(1, 31, dtype=dtype) / 30, 30)
    ours = Denoiser(unet.to(dtype).eval(), process, 2, (12, 8, 8))
    if getattr(unet, "class_embedding", None) is None:
        return ours
    return replace(ours, call=by_class, classes=Classes(("red", "green"), True))


def network(name: str, dtype: torch.dtype = torch.float64, prediction: Prediction = "noise") -> Denoiser:
    torch.manual_seed(0)
    return denoiser_of(networks.build_unet(NETWORKS[name], 16), dtype, prediction)


def settings_of(**values: object) -> FeatureSettings:
    return FeatureSettings(**({"dataset": "0" * 16, "checkpoint": "0" * 16, "num_timesteps": 4} | values))  # type: ignore[arg-type]


def pictures(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 12, 8, 8, generator=torch.Generator().manual_seed(3), dtype=dtype) * 2 - 1


def plain_loop(
    denoiser: Denoiser, x0: Tensor, ids: list[str], wanted: FeatureSettings, classes: Sequence[int] | None = None
) -> Tensor:
    """One draw at a time, nothing shared with the module but the noise and the formula of f."""
    process = denoiser.process
    grid = [i * process.steps // wanted.num_timesteps for i in range(wanted.num_timesteps)]
    parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
    rows = []
    for number, (picture, name) in enumerate(zip(x0, ids, strict=True)):
        more = {} if classes is None else {"class_labels": torch.tensor([classes[number]])}
        row = torch.zeros(sum(p.numel() for p in parameters), dtype=x0.dtype)
        for step in grid:
            eps = torch.from_numpy(draws.noise(wanted.noise_seed, name, [step], (12, 8, 8))).to(x0)
            bar, t = process.alphas_cumprod[step], torch.tensor([step])
            a, s, told = bar.sqrt(), (1 - bar).sqrt(), t
            if process.prediction == "flow":
                told = (t + 1).to(x0)
                a, s = 1 - told / 30, told / 30
            x_t = (a * picture + s * eps[0])[None]
            f = denoiser.network(x_t, told, return_dict=False, **more)[0][:, :12]  # what follows is a variance
            target = {"noise": eps, "sample": picture, "v": a * eps - s * picture, "flow": eps - picture}
            wanted_of_f = target[process.prediction]
            value = model_outputs.value(wanted.model_output, process, f, x_t, wanted_of_f, t, wanted.eta)
            if wanted.weighting == "training" and process.prediction == "sample":
                value = value * min(1 / (1 - float(bar)), 400.0)
            found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
            flat = [
                torch.zeros(p.numel(), dtype=x0.dtype) if g is None else g.flatten()
                for p, g in zip(parameters, found, strict=True)
            ]
            row += torch.cat(flat) / wanted.num_timesteps
        rows.append(row)
    return torch.stack(rows)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm(dim=1).max() / expected.norm(dim=1).min())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("output", ["squared-output", "loss", "l2-norm", "linf-norm"])
def test_gradients_equal_a_plain_loop(name: str, output: str) -> None:
    denoiser, x0, ids = network(name), pictures(3), ["train:0", "seed:5", "train:2"]
    assert gradients.has_known_layers(denoiser.network)
    wanted = settings_of(model_output=output)
    labels = ["green", "", "red"] if name == "classes" else [""] * 3
    found = gradients.per_example_gradients(denoiser, x0, ids, wanted, condition=denoiser.conditions(labels))
    expected = plain_loop(denoiser, x0, ids, wanted, [1, 2, 0] if name == "classes" else None)
    # noised pictures and the noise are float64 here too, so only the order of sums differs.
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("prediction", ["sample", "v", "flow"])
@pytest.mark.parametrize("output", ["loss", "interpolated", "elbo", "squared-noise", "squared-clean"])
def test_gradients_of_other_predictions_equal_a_plain_loop(prediction: Prediction, output: str) -> None:
    denoiser, x0, ids = network("plain", prediction=prediction), pictures(2), ["train:0", "seed:5"]
    wanted = settings_of(model_output=output, eta=0.3 if output == "interpolated" else 0.0)
    found = gradients.per_example_gradients(denoiser, x0, ids, wanted)
    expected = plain_loop(denoiser, x0, ids, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("output", ["squared-output", "squared-noise", "mean-output", "mean-noise", "loss"])
@pytest.mark.parametrize("prediction", ["sample", "v"])
def test_gradients_weighed_as_the_training_weighs_equal_a_plain_loop(prediction: Prediction, output: str) -> None:
    denoiser, x0, ids = network("plain", prediction=prediction), pictures(2), ["train:0", "seed:5"]
    alike = gradients.per_example_gradients(denoiser, x0, ids, settings_of(model_output=output))
    wanted = settings_of(model_output=output, weighting="training")
    found = gradients.per_example_gradients(denoiser, x0, ids, wanted)
    expected = plain_loop(denoiser, x0, ids, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))
    assert torch.equal(found, alike) == (prediction == "v"), "v's training weighs every timestep alike"
    # Each draw's own length divides its weight away.
    by_length = {"model_output": output, "normalise": "timestep"}
    one = gradients.per_example_gradients(denoiser, x0, ids, settings_of(**by_length))
    other = gradients.per_example_gradients(denoiser, x0, ids, settings_of(**by_length, weighting="training"))
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_a_learned_variance_is_no_part_of_the_output() -> None:
    torch.manual_seed(0)
    config = dict(networks.build_unet(NETWORKS["plain"], 16).config) | {"out_channels": 24}
    denoiser = denoiser_of(UNet2DModel(**config))
    x0, ids, wanted = pictures(2), ["train:0", "seed:5"], settings_of(model_output="loss")
    found = gradients.per_example_gradients(denoiser, x0, ids, wanted)
    torch.testing.assert_close(found, plain_loop(denoiser, x0, ids, wanted), rtol=1e-8, atol=1e-12)
    assert not found[:, -12:].any()  # the last bias is of the variance's channels


def test_float32_gradients_equal_the_loop_to_one_part_in_100000() -> None:
    denoiser, x0 = network("plain", torch.float32), pictures(3, torch.float32)
    ids = ["train:0", "train:1", "train:2"]
    found = gradients.per_example_gradients(denoiser, x0, ids, settings_of())
    assert found.dtype == torch.float32
    assert distance(found, plain_loop(denoiser, x0, ids, settings_of())) < 1e-5


@pytest.mark.parametrize("unknown", [False, True])
def test_any_other_network_gives_the_same_numbers(unknown: bool) -> None:
    torch.manual_seed(1)
    denoiser, x0, ids = denoiser_of(Odd(unknown)), pictures(3), ["train:4", "train:5", "train:6"]
    assert gradients.has_known_layers(denoiser.network) != unknown
    found = gradients.per_example_gradients(denoiser, x0, ids, settings_of(model_output="loss"))
    expected = plain_loop(denoiser, x0, ids, settings_of(model_output="loss"))
    assert found.shape == (3, sum(p.numel() for p in denoiser.network.parameters() if p.requires_grad))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 40), st.permutations(range(5)), st.integers(1, 5))
def test_batch_order_and_pass_size_change_nothing(at_once: int, order: list[int], batch: int) -> None:
    denoiser, x0, ids = network("plain"), pictures(5), [f"train:{i}" for i in range(5)]
    whole = gradients.per_example_gradients(denoiser, x0, ids, settings_of())
    for start in range(0, 5, batch):
        chosen = order[start : start + batch]
        found = gradients.per_example_gradients(
            denoiser, x0[chosen], [ids[i] for i in chosen], settings_of(), draws_at_once=at_once
        )
        torch.testing.assert_close(found, whole[chosen], rtol=1e-9, atol=1e-12)


def test_the_network_is_left_as_it_was() -> None:
    denoiser = network("plain")
    before = [(n, p.requires_grad) for n, p in denoiser.network.named_parameters()]
    gradients.per_example_gradients(denoiser, pictures(2), ["train:0", "train:1"], settings_of())
    with pytest.raises(RuntimeError):
        gradients.per_example_gradients(denoiser, torch.zeros(1, 5, 8, 8).double(), ["train:0"], settings_of())
    assert [(n, p.requires_grad) for n, p in denoiser.network.named_parameters()] == before
    assert all(p.grad is None for p in denoiser.network.parameters())
    assert not any(m._forward_hooks for m in denoiser.network.modules())


def test_memory_bounds_what_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = network("plain", torch.float32)
    assert gradients.draws_for(denoiser) == gradients.DRAWS_AT_ONCE
    assert gradients.pictures_per_batch(denoiser, 10) == gradients.DRAWS_AT_ONCE // 10
    assert gradients.pictures_per_batch(denoiser, 1000) == 1
    count = sum(p.numel() for p in denoiser.network.parameters())
    monkeypatch.setattr(gradients, "GRADIENT_BYTES", 4 * count * 3)
    assert gradients.pictures_per_batch(denoiser, 10) == 3
    monkeypatch.setattr(gradients, "ACTIVATION_BYTES", 2**20)
    assert 1 <= gradients.draws_for(denoiser) < 20


def test_counting_a_networks_numbers_does_not_keep_it_alive() -> None:
    unet = network("plain").network
    gone = weakref.ref(unet)
    assert gradients.draws_for(denoiser_of(unet)) > 0
    del unet
    gc.collect()
    assert gone() is None


def test_a_gradient_is_a_derivative() -> None:
    """Finite differences of the mean output along a random direction, with no autograd."""
    denoiser, x0 = network("plain"), pictures(1)
    wanted = settings_of(num_timesteps=2)
    gradient = gradients.per_example_gradients(denoiser, x0, ["train:0"], wanted)[0]
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def mean_output(step: float) -> float:
        start = 0
        for parameter in denoiser.network.parameters():
            part = direction[start : start + parameter.numel()].view_as(parameter)
            parameter.data += step * part
            start += parameter.numel()
        total = 0.0
        for t in (0, 500):
            eps = torch.from_numpy(draws.noise(0, "train:0", [t], (12, 8, 8))).double()
            bar = denoiser.process.alphas_cumprod[t]
            with torch.no_grad():
                e = denoiser.predict(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, torch.tensor([t]))
            total += float(np.mean(e.numpy() ** 2)) / 2
        start = 0
        for parameter in denoiser.network.parameters():
            parameter.data -= step * direction[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        return total

    slope = (mean_output(1e-6) - mean_output(-1e-6)) / 2e-6
    assert slope == pytest.approx(float(gradient @ direction), rel=1e-5)
