"""Generate pictures: the DDIM and DDPM loops written out, one random generator a picture.

Initial noise comes from a CPU `torch.Generator` seeded with the picture's own seed, as the
paper's generated sets do, so a seed gives the same picture whatever the batch, up to rounding
in the network (which may change an 8-bit pixel by 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dtrak_core.models import Denoiser
from dtrak_core.settings import DIFFUSION_STEPS

PICTURES_AT_ONCE = 16


def sampling_timesteps(sampling_steps: int) -> list[int]:
    """Return the timesteps visited, from noisy to clean: leading spacing, 980, 960, ..., 0 for 50 steps."""
    spacing = DIFFUSION_STEPS // sampling_steps
    return [i * spacing for i in reversed(range(sampling_steps))]


@torch.no_grad()
def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    sampler: Literal["ddim", "ddpm"],
    sampling_steps: int,
    eta: float,
    on_step: Callable[[int, int], None] | None = None,
    batch: int = PICTURES_AT_ONCE,
) -> np.ndarray:
    """Generate one picture a seed.

    DDIM (Song et al. 2021, eq. 12), with x0 = clip((x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), -1, 1) and
    sigma = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s):

        x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) eps + sigma z

    DDPM (Ho et al. 2020, eq. 7) draws from the posterior of x_s given x_t and x0 ("fixed_small" variance).

    Args:
        denoiser: The network, in eval mode.
        seeds: One per picture.
        sampler: "ddim" or "ddpm"; the latter ignores `eta`.
        sampling_steps: Steps of the sampler, 1..1000.
        eta: Share of fresh noise in DDIM, 0 (deterministic) to 1.
        on_step: Called after each step with (picture-steps done, picture-steps in all).
        batch: Pictures generated at once; changes no picture.

    Returns:
        Pictures (M, H, W, 3), uint8, in the order of the seeds.
    """
    made = []
    for begin in range(0, len(seeds), batch):
        part = seeds[begin : begin + batch]
        done, total = begin * sampling_steps, len(seeds) * sampling_steps
        for _, x in _visited(denoiser, part, sampler, sampling_steps, eta):
            last, done = x, done + len(part)
            if on_step is not None:
                on_step(done, total)
        made.append(denoiser.decode(last))
    return np.concatenate(made)


@torch.no_grad()
def expected(denoiser: Denoiser, seed: int, sampling_steps: int, eta: float) -> Tensor:
    """Return the clean picture that the model expects at each step of a DDIM sampling, from noisy to clean.

    Shape (T, C, H, W) in model space: x0 of `generate`, at the timesteps of `sampling_timesteps`.
    """
    return torch.cat([x0 for x0, _ in _visited(denoiser, [seed], "ddim", sampling_steps, eta)])


def _visited(
    denoiser: Denoiser, seeds: Sequence[int], sampler: Literal["ddim", "ddpm"], sampling_steps: int, eta: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x0 and x_s of each sampling step, for pictures sampled together."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x = _normal(generators, denoiser.shape)
    for t in sampling_timesteps(sampling_steps):
        s = t - DIFFUSION_STEPS // sampling_steps
        noise = denoiser.predict(x, torch.full((len(seeds),), t))
        abar_t = _abar(denoiser, t)
        x0 = ((x - (1 - abar_t).sqrt() * noise) / abar_t.sqrt()).clamp(-1, 1)
        x = (
            _ddim(denoiser, x0, noise, t, s, eta, generators)
            if sampler == "ddim"
            else _ddpm(denoiser, x, x0, t, s, generators)
        )
        yield x0, x


def _ddim(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, t: int, s: int, eta: float, generators: list[torch.Generator]
) -> Tensor:
    abar_t, abar_s = _abar(denoiser, t), _abar(denoiser, s)
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()
    x = abar_s.sqrt() * x0 + (1 - abar_s - sigma**2).sqrt() * noise
    return x + sigma * _normal(generators, denoiser.shape) if eta > 0 and s >= 0 else x


def _ddpm(denoiser: Denoiser, x: Tensor, x0: Tensor, t: int, s: int, generators: list[torch.Generator]) -> Tensor:
    abar_t, abar_s = _abar(denoiser, t), _abar(denoiser, s)
    alpha = abar_t / abar_s
    x = abar_s.sqrt() * (1 - alpha) / (1 - abar_t) * x0 + alpha.sqrt() * (1 - abar_s) / (1 - abar_t) * x
    if t == 0:
        return x
    variance = ((1 - abar_s) / (1 - abar_t) * (1 - alpha)).clamp(min=1e-20)
    return x + variance.sqrt() * _normal(generators, denoiser.shape)


def _abar(denoiser: Denoiser, t: int) -> Tensor:
    """Return abar at a timestep; before the first one the picture is clean."""
    return denoiser.alphas_cumprod[t] if t >= 0 else torch.tensor(1.0)


def _normal(generators: list[torch.Generator], shape: tuple[int, int, int]) -> Tensor:
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
