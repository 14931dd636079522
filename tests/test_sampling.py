"""Sampling: equal to diffusers' own schedulers, the same picture for a seed whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler

from dtrak_core import models, sampling
from dtrak_core.denoiser import Denoiser
from dtrak_core.train_settings import ModelSettings


@pytest.fixture
def denoiser(tiny: ModelSettings) -> Denoiser:
    torch.manual_seed(3)
    return models.denoiser_of(models.build_unet(tiny, 16).eval(), models.default_scheduler(), tiny.fold)


def test_ddim_is_the_papers_pipeline(denoiser: Denoiser) -> None:
    ours = sampling.generate(denoiser, [5], "ddim", 50, 0.0)
    pipeline = DDIMPipeline(denoiser.unet, DDPMScheduler.from_config(models.default_scheduler().config))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(5), num_inference_steps=50, eta=0.0, output_type="np")
    folded = torch.from_numpy(theirs.images).permute(0, 3, 1, 2) * 2 - 1
    difference = np.abs(denoiser.decode(folded).astype(int) - ours)
    assert difference.max() <= 1  # rounding to 8 bits on the edge


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_noise_equals_diffusers_step_by_step(denoiser: Denoiser, eta: float) -> None:
    scheduler = DDIMScheduler.from_config(models.default_scheduler().config)
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
    scheduler = models.default_scheduler()
    scheduler.set_timesteps(20)
    random = torch.Generator().manual_seed(2)
    x = torch.randn(denoiser.shape, generator=random)[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(denoiser.predict(x, t[None]), t, x, generator=random).prev_sample
    difference = np.abs(denoiser.decode(x).astype(int) - sampling.generate(denoiser, [2], "ddpm", 20, 0.0))
    assert difference.max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_seed_gives_the_same_picture_whatever_the_batch(denoiser: Denoiser, sampler: str) -> None:
    seeds = [4, 9, 1, 7, 2]
    together = sampling.generate(denoiser, seeds, sampler, 20, 0.0, batch=5)  # type: ignore[arg-type]
    parts = sampling.generate(denoiser, seeds, sampler, 20, 0.0, batch=2)  # type: ignore[arg-type]
    alone = np.concatenate([sampling.generate(denoiser, [s], sampler, 20, 0.0) for s in seeds])  # type: ignore[arg-type]
    assert np.abs(together.astype(int) - parts).max() <= 1
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert len({image.tobytes() for image in together}) == len(seeds)


def test_progress_counts_picture_steps(denoiser: Denoiser) -> None:
    said: list[tuple[int, int]] = []
    sampling.generate(
        denoiser, [0, 1, 2], "ddim", 4, 0.0, on_step=lambda done, total: said.append((done, total)), batch=2
    )
    assert said == [(2, 12), (4, 12), (6, 12), (8, 12), (9, 12), (10, 12), (11, 12), (12, 12)]


def test_timesteps_are_the_papers() -> None:
    assert sampling.sampling_timesteps(50)[:3] == [980, 960, 940]
    assert sampling.sampling_timesteps(50)[-1] == 0
