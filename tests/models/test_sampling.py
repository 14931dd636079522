"""Sampling: equal to diffusers' own schedulers, the same picture for a seed whatever the batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor, nn

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models import networks, sampling, schedules
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.schedules import Sampler
from dtrak_core.models.settings import ModelSettings


@pytest.fixture
def denoiser(tiny: ModelSettings) -> Denoiser:
    torch.manual_seed(3)
    return networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)


def test_ddim_is_the_papers_pipeline(denoiser: Denoiser) -> None:
    ours = sampling.generate(denoiser, [5], "ddim", 50, 0.0)
    pipeline = DDIMPipeline(denoiser.network, DDPMScheduler.from_config(schedules.default_scheduler().config))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(5), num_inference_steps=50, eta=0.0, output_type="np")
    folded = torch.from_numpy(theirs.images).permute(0, 3, 1, 2) * 2 - 1
    difference = np.abs(denoiser.decode(folded).astype(int) - ours)
    assert difference.max() <= 1  # rounding to 8 bits on the edge


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_noise_equals_diffusers_step_by_step(denoiser: Denoiser, eta: float) -> None:
    scheduler = DDIMScheduler.from_config(schedules.default_scheduler().config)
    scheduler.set_timesteps(10)
    random = torch.Generator().manual_seed(8)
    x = torch.randn(denoiser.shape, generator=random)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            noise = denoiser.predict(x, t[None])
            last = t == scheduler.timesteps[-1]
            fresh = torch.zeros_like(x) if last else torch.randn(denoiser.shape, generator=random)[None]
            x = scheduler.step(noise, t, x, eta=eta, variance_noise=fresh).prev_sample
    difference = np.abs(denoiser.decode(x).astype(int) - sampling.generate(denoiser, [8], "ddim", 10, eta))
    assert difference.max() <= 1


def test_ddpm_equals_diffusers(denoiser: Denoiser) -> None:
    scheduler = schedules.default_scheduler()
    scheduler.set_timesteps(20)
    random = torch.Generator().manual_seed(2)
    x = torch.randn(denoiser.shape, generator=random)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(denoiser.predict(x, t[None]), t, x, generator=random).prev_sample
    difference = np.abs(denoiser.decode(x).astype(int) - sampling.generate(denoiser, [2], "ddpm", 20, 0.0))
    assert difference.max() <= 1


CONFIGS: dict[str, dict[str, object]] = {
    "no clipping": {"clip_sample": False},
    "clipping at 4": {"clip_sample_range": 4.0},
    "thresholding": {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "offset": {"steps_offset": 1},
    "zero SNR": {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "abar of step 0": {"set_alpha_to_one": False, "steps_offset": 3},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": {"beta_schedule": "sigmoid"},
    "trained": {"trained_betas": np.linspace(0.001, 0.01, 1000).tolist()},
    "large variance": {"variance_type": "fixed_large", "steps_offset": 2},
    "logarithm of the variance": {"variance_type": "fixed_small_log"},
    "37 timesteps": {"num_train_timesteps": 37},
    "4000 timesteps": {"num_train_timesteps": 4000, "timestep_spacing": "linspace", "beta_end": 0.01},
}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_models_own_scheduler_draws_as_in_diffusers(denoiser: Denoiser, name: str, sampler: str) -> None:
    schedule = schedules.read(CONFIGS[name], "theirs")
    ours = replace(denoiser, process=schedule.process, sampler=schedule.sampler)
    given = {key: value for key, value in CONFIGS[name].items() if key not in ("set_alpha_to_one", "variance_type")}
    if given.get("beta_schedule") == "sigmoid":  # which diffusers' DDIM does not know
        given = {"trained_betas": DDPMScheduler(**CONFIGS[name]).betas.tolist()}
    theirs = (
        DDIMScheduler(**given, set_alpha_to_one=CONFIGS[name].get("set_alpha_to_one", True))
        if sampler == "ddim"
        else DDPMScheduler(**given, variance_type=CONFIGS[name].get("variance_type", "fixed_small"))
    )
    theirs.set_timesteps(10)
    random = torch.Generator().manual_seed(4)
    x = torch.randn(denoiser.shape, generator=random)[None]
    with torch.no_grad():
        for t in theirs.timesteps:
            more = {"eta": 0.5} if sampler == "ddim" else {}
            x = theirs.step(ours.predict(x, t[None]), t, x, generator=random, **more).prev_sample
    picture = sampling.generate(ours, [4], sampler, 10, 0.5)  # type: ignore[arg-type]
    assert np.abs(denoiser.decode(x).astype(int) - picture).max() <= 1
    plain = sampling.generate(denoiser, [4], sampler, 10, 0.5)  # type: ignore[arg-type]
    same = name == "logarithm of the variance"  # as without the logarithm
    assert same or np.abs(plain.astype(int) - picture).max() > 1


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_fresh_noise_from_a_step_without_signal_is_finite(denoiser: Denoiser, spacing: str) -> None:
    config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": spacing}
    schedule = schedules.read(config | CONFIGS["scaled"], "zero")
    ours = replace(denoiser, process=schedule.process, sampler=schedule.sampler)
    assert float(schedule.process.alphas_cumprod[-1]) == 0
    assert sampling.generate(ours, [0], "ddim", 50, 1.0).std() > 0


class Mixing(nn.Module):
    """A small network that looks at the timestep too."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        return (torch.tanh(self.mix(x)) + 0.3 * torch.cos(t / 50).view(-1, 1, 1, 1),)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", ["plain", *CONFIGS])
def test_every_prediction_draws_as_in_diffusers_in_float64(
    monkeypatch: pytest.MonkeyPatch, name: str, prediction: str, sampler: Literal["ddim", "ddpm"]
) -> None:
    torch.manual_seed(6)
    settings = CONFIGS.get(name, {}) | {"prediction_type": prediction}
    schedule = schedules.read(settings, "theirs")
    ours = Denoiser(Mixing().double(), schedule.process, 1, (3, 6, 6), sampler=schedule.sampler)
    kind, ignored = (DDIMScheduler, "variance_type") if sampler == "ddim" else (DDPMScheduler, "set_alpha_to_one")
    given = {key: value for key, value in settings.items() if key != ignored}
    if sampler == "ddim" and given.get("beta_schedule") == "sigmoid":  # which diffusers' DDIM does not know
        given = {"trained_betas": DDPMScheduler(**given).betas.tolist(), "prediction_type": prediction}
    theirs = kind(**given)
    theirs.set_timesteps(10)
    random = torch.Generator().manual_seed(4)

    def drawn(shape: Sequence[int], **_: object) -> Tensor:
        return torch.randn(tuple(shape[1:]), generator=random)[None].double()

    module = "scheduling_ddim" if sampler == "ddim" else "scheduling_ddpm"
    monkeypatch.setattr(f"diffusers.schedulers.{module}.randn_tensor", drawn)
    x, visited = drawn((1, 3, 6, 6)), sampling._visited(ours, [4], sampler, 10, 0.5, (), 1.0)
    with torch.no_grad():
        for t, (clean, found) in zip(theirs.timesteps, visited, strict=True):
            step = theirs.step(ours.predict(x, t[None]), t, x, **({"eta": 0.5} if sampler == "ddim" else {}))
            x = step.prev_sample
            torch.testing.assert_close(clean, step.pred_original_sample, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
            x = found  # so that each step is compared, not how the network amplifies what was before


@pytest.mark.parametrize("kind", ["learned_range", "learned", "fixed_small"])
def test_a_learned_variance_draws_as_in_diffusers_in_float64(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Nichol and Dhariwal 2021, eq. 15; a scheduler with a fixed variance leaves it out."""
    torch.manual_seed(6)
    network = Mixing().double()
    network.mix = nn.Conv2d(3, 6, 3, padding=1).double()
    if kind == "learned":  # the variance itself, which is above 0
        nn.init.constant_(network.mix.bias, 3.0)
    schedule = schedules.read({"variance_type": kind}, "theirs")
    ours = Denoiser(network, schedule.process, 1, (3, 6, 6), sampler=schedule.sampler)
    theirs = DDPMScheduler(variance_type=kind)
    theirs.set_timesteps(10)
    random = torch.Generator().manual_seed(4)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor",
        lambda shape, **_: torch.randn(shape[1:], generator=random)[None].double(),
    )
    x = torch.randn(3, 6, 6, generator=random)[None].double()
    with torch.no_grad():
        for t, (_, drawn) in zip(theirs.timesteps, sampling._visited(ours, [4], "ddpm", 10, 0.0, (), 1.0), strict=True):
            output = network(x, t[None])[0]
            x = theirs.step(output if kind != "fixed_small" else output[:, :3], t, x, generator=random).prev_sample
            torch.testing.assert_close(drawn, x, rtol=1e-6, atol=1e-6)
            x = drawn


def test_a_variance_that_no_network_puts_out_is_said(denoiser: Denoiser) -> None:
    learned = schedules.read({"variance_type": "learned_range"}, "theirs")
    asked = replace(denoiser, sampler=learned.sampler)
    with pytest.raises(DataError, match="which says none"):
        sampling.generate(asked, [0], "ddpm", 2, 0.0)
    with pytest.raises(DataError, match="puts out the picture's channels alone"):
        networks.denoiser_of(denoiser.network, 1, learned, "theirs")  # type: ignore[arg-type]


def test_timesteps_are_those_of_diffusers() -> None:
    for spacing in ("leading", "linspace", "trailing"):
        for count, length in ((1, 1000), (3, 10), (10, 10), (50, 1000), (333, 1000), (1000, 1000), (60, 4000)):
            theirs = DDIMScheduler(num_train_timesteps=length, timestep_spacing=spacing)
            theirs.set_timesteps(count)
            assert Sampler(spacing).timesteps(count, length) == theirs.timesteps.tolist()  # type: ignore[arg-type]


FLOWS: dict[str, dict[str, object]] = {
    "plain": {},
    "shift of Stable Diffusion 3": {"shift": 3.0},
    "last level": {"shift": 2.0, "shift_terminal": 0.1},
    "Karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True, "shift": 3.0},
    "dynamic": {"use_dynamic_shifting": True},
    "dynamic, linear": {
        "use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 0.2, "max_shift": 2.0,
        "base_image_seq_len": 16, "max_image_seq_len": 64, "shift_terminal": 0.02,
    },
    "40 timesteps": {"num_train_timesteps": 40, "shift": 3.0},
}  # fmt: skip


@pytest.mark.parametrize("evenly", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_drawn_as_in_diffusers_in_float64(name: str, evenly: bool) -> None:
    """In the way of Stable Diffusion 3, whose pipeline leaves the levels to the scheduler, and in that of Flux."""
    torch.manual_seed(6)
    theirs, steps = FlowMatchEulerDiscreteScheduler(**FLOWS[name]), 50
    schedule = schedules.read(schedules.config_of(theirs), "theirs")
    assert schedule.process.prediction == "flow"
    torch.testing.assert_close(schedule.process.sigmas, theirs.sigmas.flip(0), rtol=0, atol=0)
    torch.testing.assert_close(schedule.process.times, theirs.timesteps.flip(0))
    assert schedule.sampler.flow is not None
    sampler = replace(schedule.sampler, flow=replace(schedule.sampler.flow, positions=36, evenly=evenly))
    ours = Denoiser(Mixing().double(), schedule.process.to(torch.float64), 1, (3, 6, 6), sampler=sampler)
    own = theirs.config
    mu = calculate_shift(36, own.base_image_seq_len, own.max_image_seq_len, own.base_shift, own.max_shift)
    given = np.linspace(1.0, 1 / steps, steps) if evenly else None
    theirs.set_timesteps(steps, sigmas=given, mu=mu if own.use_dynamic_shifting else None)
    random = torch.Generator().manual_seed(4)
    x = torch.randn((3, 6, 6), generator=random)[None].double()
    with torch.no_grad():
        visited = list(sampling._visited(ours, [4], "ddim", steps, 0.0, (), 1.0))
        for t, level, (clean, found) in zip(theirs.timesteps, theirs.sigmas[:-1], visited, strict=True):
            output = ours.network(x, t.double()[None])[0]
            torch.testing.assert_close(clean, x - level * output, rtol=1e-6, atol=1e-6)
            x = theirs.step(output, t, x).prev_sample  # rounds x to float32 before it adds
            torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
            x = found


def test_flows_are_drawn_without_fresh_noise() -> None:
    flow = schedules.read({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow")
    ours = Denoiser(Mixing(), flow.process, 1, (3, 6, 6), sampler=flow.sampler)
    for sampler, eta in (("ddpm", 0.0), ("ddim", 0.5)):
        with pytest.raises(SettingsError, match="predicts flow and is drawn without fresh noise"):
            sampling.generate(ours, [1], sampler, 5, eta)  # type: ignore[arg-type]


def test_no_more_steps_are_drawn_than_the_schedule_has() -> None:
    short = schedules.read({"num_train_timesteps": 20}, "short")
    ours = Denoiser(Mixing(), short.process, 1, (3, 6, 6), sampler=short.sampler)
    assert sampling.generate(ours, [1], "ddim", 20, 0.0).shape == (1, 6, 6, 3)
    with pytest.raises(SettingsError, match=r"21 sampling steps are more than .* has timesteps. Choose 1 to 20"):
        sampling.generate(ours, [1], "ddim", 21, 0.0)


def test_numbers_that_are_not_finite_are_said(denoiser: Denoiser) -> None:
    with torch.no_grad():
        next(iter(denoiser.network.parameters())).fill_(float("nan"))
    with pytest.raises(DataError, match="not finite: its training diverged"):
        sampling.generate(denoiser, [0, 1], "ddim", 2, 0.0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_seed_gives_the_same_picture_whatever_the_batch(denoiser: Denoiser, sampler: str) -> None:
    seeds = [4, 9, 1, 7, 2]
    together = sampling.generate(denoiser, seeds, sampler, 20, 0.0, batch=5)  # type: ignore[arg-type]
    parts = sampling.generate(denoiser, seeds, sampler, 20, 0.0, batch=2)  # type: ignore[arg-type]
    alone = np.concatenate([sampling.generate(denoiser, [s], sampler, 20, 0.0) for s in seeds])  # type: ignore[arg-type]
    assert np.abs(together.astype(int) - parts).max() <= 1
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert len({image.tobytes() for image in together}) == len(seeds)


@pytest.mark.parametrize("take_over", [1000, 500, 1])
def test_another_model_draws_until_this_one_takes_over(denoiser: Denoiser, tiny: ModelSettings, take_over: int) -> None:
    torch.manual_seed(4)
    unet = networks.build_unet(tiny, 16).eval()
    other = networks.denoiser_of(unet, tiny.fold)
    scheduler = DDIMScheduler.from_config(schedules.default_scheduler().config)
    scheduler.set_timesteps(10)
    x = torch.randn(denoiser.shape, generator=torch.Generator().manual_seed(8))[None]
    with torch.no_grad():
        for t in scheduler.timesteps:  # 900, 800, ..., 0
            now = other if t >= take_over else denoiser
            x = scheduler.step(now.predict(x, t[None]), t, x).prev_sample
    before = sampling.Before(other, take_over)
    found = sampling.generate(denoiser, [8], "ddim", 10, 0.0, before=before)
    assert np.abs(denoiser.decode(x).astype(int) - found).max() <= 1
    alone = sampling.generate(denoiser, [8], "ddim", 10, 0.0)
    assert np.array_equal(found, alone) == (take_over == 1000)


def test_a_flow_is_taken_over_at_its_noise_level(tiny: ModelSettings) -> None:
    flows = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        unet = networks.build_unet(tiny, 16).eval()
        flows.append(networks.denoiser_of(unet, tiny.fold, schedules.default("flow")))
    one, other = flows
    x = torch.randn(one.shape, generator=torch.Generator().manual_seed(8))[None]
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(10)
    levels = scheduler.sigmas.tolist()
    with torch.no_grad():
        for sigma, following in itertools.pairwise(levels):
            now = other if sigma >= 0.5 else one
            x = x + (following - sigma) * now.network(x, torch.tensor([sigma * 1000]), return_dict=False)[0]
    found = sampling.generate(one, [8], "ddim", 10, 0.0, before=sampling.Before(other, 500))
    assert np.abs(one.decode(x).astype(int) - found).max() <= 1
    assert not np.array_equal(found, sampling.generate(one, [8], "ddim", 10, 0.0))


def test_progress_counts_picture_steps(denoiser: Denoiser) -> None:
    said: list[tuple[int, int]] = []
    sampling.generate(
        denoiser, [0, 1, 2], "ddim", 4, 0.0, on_progress=lambda done, total: said.append((done, total)), batch=2
    )
    assert said == [(2, 12), (4, 12), (6, 12), (8, 12), (9, 12), (10, 12), (11, 12), (12, 12)]


def test_timesteps_are_the_papers() -> None:
    assert Sampler().timesteps(50)[:3] == [980, 960, 940]
    assert Sampler().timesteps(50)[-1] == 0
