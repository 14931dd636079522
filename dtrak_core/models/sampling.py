"""Generate pictures: the DDIM, DDPM and Euler loops written out, one random generator a picture.

Initial noise comes from a CPU `torch.Generator` seeded with the picture's own seed, as the
paper's generated sets do, so a seed gives the same picture whatever the batch, up to rounding
in the network (which may change an 8-bit pixel by 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models.denoiser import Condition, Denoiser
from dtrak_core.models.flow import euler
from dtrak_core.models.schedules import Sampler
from dtrak_core.models.settings import DIFFUSION_STEPS, Sampled, refuse_drawing
from dtrak_core.progress import Count

PICTURES_AT_ONCE = 16
Call: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]  # x_t, t -> output, variance


@dataclass(frozen=True)
class Before:
    """The model that draws at noise levels from `take_over` on: a timestep of 1,000, whatever the schedule's length."""

    denoiser: Denoiser
    take_over: int


def along(denoiser: Denoiser, sampling_steps: int) -> tuple[Denoiser, list[int]]:
    """Return the denoiser as a sampling meets it, and the timesteps visited, from noisy to clean.

    Leading spacing visits 980, 960, ..., 0 in 50 steps of the paper's; Stable Diffusion begins each 1 later. A flow is
    drawn at noise levels between those of its training: its timesteps are the rows of a process of them.
    """
    process, sampler = denoiser.process, denoiser.sampler
    if sampler.flow is not None:
        levels = sampler.flow.sigmas(sampling_steps).to(process.betas.dtype)
        met = euler(levels, process.length).to(process.betas.device)
        return replace(denoiser, process=met), list(range(sampling_steps))[::-1]
    return denoiser, sampler.timesteps(sampling_steps, process.steps)


@torch.no_grad()
def generate(
    denoiser: Denoiser,
    seeds: Sequence[int],
    sampler: Literal["ddim", "ddpm"],
    sampling_steps: int,
    eta: float,
    on_progress: Count | None = None,
    batch: int = PICTURES_AT_ONCE,
    prompts: Sequence[str] = (),
    guidance: float = 7.5,
    before: Before | None = None,
) -> np.ndarray:
    """Generate one picture a seed.

    DDIM (Song et al. 2021, eq. 12), with x0 and eps what the network's output means (process.py), x0 clipped as the
    model's sampler says, s the timestep T / steps below t, and
    sigma = eta sqrt((1 - abar_s) / (1 - abar_t)) sqrt(1 - abar_t / abar_s):

        x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - sigma^2) eps + sigma z

    Models with prompts take the output f = f(x, "") + guidance (f(x, prompt) - f(x, "")); those that were distilled
    with guidance are told it instead.

    DDPM (Ho et al. 2020, eq. 7) draws from the posterior of x_s given x_t and x0, s the next timestep visited, with
    the variance of the model's sampler: that of the posterior ("fixed_small"), beta = 1 - abar_t / abar_s
    ("fixed_large"), or what the network says between both (Nichol and Dhariwal 2021, eq. 15), v in [-1, 1]:
    log variance = (v + 1) / 2 log beta + (1 - v) / 2 log fixed_small.

    Flows have one way, Euler's steps x_s = x + (sigma_s - sigma_t) f, which is what "ddim" means with eta 0.

    Args:
        denoiser: The network, in eval mode.
        seeds: One per picture.
        sampler: "ddim" or "ddpm"; the latter ignores `eta`.
        sampling_steps: Steps of the sampler, from 1 to the schedule's T.
        eta: Share of fresh noise in DDIM, 0 (deterministic) to 1.
        on_progress: Called after each step with (picture-steps done, picture-steps in all).
        batch: Pictures generated at once; changes no picture.
        prompts: One a seed, for text-to-image models; the name of a class, for class-conditional ones.
        guidance: How far the prompt is followed, 1 or more; 1 takes the conditional prediction as it is.
        before: Another model of the same kind that draws until this one takes over; None lets this one draw all.

    Returns:
        Pictures (M, H, W, 3), uint8, in the order of the seeds.

    Raises:
        SettingsError: If a model is given no prompts, or some that it does not take, or cannot be guided; if a flow is
            to be drawn with fresh noise, or a schedule has fewer timesteps than the sampler steps.
        DataError: If the network's numbers are not finite.
    """
    made = []
    if denoiser.text is not None and all(prompts):
        denoiser.text.tell(["", *prompts])
    for begin in range(0, len(seeds), batch):
        part = seeds[begin : begin + batch]
        done, total = begin * sampling_steps, len(seeds) * sampling_steps
        prompts_now = prompts[begin : begin + batch]
        for _, x in _visited(denoiser, part, sampler, sampling_steps, eta, prompts_now, guidance, before):
            last, done = x, done + len(part)
            if on_progress is not None:
                on_progress(done, total)
        if not last.isfinite().all():
            raise DataError(
                "What the network draws is not finite: its training diverged, or its sampler does not go with its "
                "schedule. Train it at a lower learning rate, or correct its scheduler_config.json and import it again."
            )
        made.append(denoiser.decode(last))
    return np.concatenate(made)


@torch.no_grad()
def expected(
    denoiser: Denoiser, seed: int, sampling_steps: int, eta: float, prompts: Sequence[str] = (), guidance: float = 7.5
) -> Tensor:
    """Return the clean picture that the model expects at each step of a DDIM sampling, from noisy to clean.

    Shape (T, C, H, W) in model space: x0 of `generate`, at the timesteps of `along`.
    """
    return torch.cat([x0 for x0, _ in _visited(denoiser, [seed], "ddim", sampling_steps, eta, prompts, guidance)])


def _visited(
    denoiser: Denoiser,
    seeds: Sequence[int],
    sampler: Literal["ddim", "ddpm"],
    sampling_steps: int,
    eta: float,
    prompts: Sequence[str],
    guidance: float,
    before: Before | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x0 and x_s of each sampling step, for pictures sampled together."""
    flowing = denoiser.process.prediction == "flow"
    how = Sampled(sampler=sampler, sampling_steps=sampling_steps, eta=eta)
    refuse_drawing(denoiser.process.prediction, denoiser.process.steps, how)
    length, (denoiser, visited) = denoiser.process.steps, along(denoiser, sampling_steps)
    predict = _guided(denoiser, prompts, guidance, len(seeds))
    if before is not None:
        predict = _taken_over(denoiser, predict, before, sampling_steps, prompts, guidance, len(seeds))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    x, process = _normal(generators, denoiser), denoiser.process
    for t, following in zip(visited, [*visited[1:], -1], strict=True):
        when = torch.full((len(seeds),), t, device=x.device)
        output, variance = predict(x, when)
        x0 = _bounded(denoiser.sampler, process.clean(x, output, when))
        if flowing:
            x = x + ((process.s[following] if following >= 0 else 0.0) - process.s[t]) * output
        elif sampler == "ddim":
            x = _ddim(denoiser, x0, process.noise(x, output, when), t, t - length // sampling_steps, eta, generators)
        else:
            x = _ddpm(denoiser, x, x0, t, following, generators, variance)
        yield x0, x


def _bounded(sampler: Sampler, x0: Tensor) -> Tensor:
    """Keep expected pictures (B, C, H, W) within bounds, as the sampler says."""
    if sampler.threshold is not None:
        quantile, most = sampler.threshold
        bound = x0.flatten(1).abs().quantile(quantile, dim=1).clamp(1, most).view(-1, 1, 1, 1)
        return x0.clamp(-bound, bound) / bound
    return x0 if sampler.clip is None else x0.clamp(-sampler.clip, sampler.clip)


def _guided(denoiser: Denoiser, prompts: Sequence[str], guidance: float, count: int) -> Call:
    """Return how the network is asked: plainly, or under prompts with guidance (Ho and Salimans 2022, eq. 6)."""
    if not denoiser.prompted:
        if any(prompts):
            raise SettingsError("This model takes no prompts. Leave them out, or choose a text-to-image model.")
        return denoiser.with_variance
    if len(prompts) != count or not all(prompts):
        what = "class-conditional model: give a class" if denoiser.classes else "text-to-image model: give a prompt"
        raise SettingsError(f"This is a {what} for each picture, in prompts.")
    asked = denoiser.conditions(prompts)
    if denoiser.reads_guidance:
        asked = Condition({**asked.tensors, "guidance": torch.full((count,), guidance, device=denoiser.weight.device)})
    if guidance == 1 or denoiser.reads_guidance:
        return lambda x, t: denoiser.with_variance(x, t, asked)
    if denoiser.classes is not None and not denoiser.classes.null:
        raise SettingsError(
            f"Guidance {guidance:g} needs a model that knows pictures of no class too, and this one knows none. Draw "
            "with guidance 1."
        )
    both = denoiser.conditions([""] * count).joined(asked)

    def predict(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        output, variance = denoiser.with_variance(torch.cat([x, x]), torch.cat([t, t]), both)
        plain, told = output.chunk(2)
        return plain + guidance * (told - plain), None if variance is None else variance.chunk(2)[1]

    return predict


def _taken_over(
    denoiser: Denoiser,
    own: Call,
    before: Before,
    sampling_steps: int,
    prompts: Sequence[str],
    guidance: float,
    count: int,
) -> Call:
    """Return how the other model is asked at high noise levels, and the model itself below."""
    other = _guided(along(before.denoiser, sampling_steps)[0], prompts, guidance, count)
    share = denoiser.process.times / denoiser.process.length if denoiser.process.sigmas is not None else None

    def predict(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        level = float(t[0]) / denoiser.process.steps if share is None else float(share[t[0]])
        return other(x, t) if level * DIFFUSION_STEPS >= before.take_over else own(x, t)

    return predict


def _ddim(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, t: int, s: int, eta: float, generators: list[torch.Generator]
) -> Tensor:
    abar_t, abar_s = _abar(denoiser, t), _abar(denoiser, s, denoiser.sampler.final_abar)
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()
    rest = (1 - abar_s - sigma**2).clamp(min=0)  # 0 where abar_t is 0 and eta 1, but for a rounding either way
    x = abar_s.sqrt() * x0 + rest.sqrt() * noise
    return x + sigma * _normal(generators, denoiser) if eta > 0 else x


def _ddpm(
    denoiser: Denoiser,
    x: Tensor,
    x0: Tensor,
    t: int,
    s: int,
    generators: list[torch.Generator],
    learned: Tensor | None,
) -> Tensor:
    abar_t, abar_s = _abar(denoiser, t), _abar(denoiser, s)
    alpha = abar_t / abar_s
    x = abar_s.sqrt() * (1 - alpha) / (1 - abar_t) * x0 + alpha.sqrt() * (1 - abar_s) / (1 - abar_t) * x
    if t == 0:
        return x
    small, kind = ((1 - abar_s) / (1 - abar_t) * (1 - alpha)).clamp(min=1e-20), denoiser.sampler.variance
    variance = 1 - alpha if kind.startswith("fixed_large") else small
    if kind.startswith("learned"):
        if learned is None:
            raise DataError(
                f"The scheduler takes the variance from the network (variance_type '{kind}'), which says none. "
                "Draw with the sampler 'ddim', or correct scheduler_config.json and take the model in again."
            )
        share = (learned + 1) / 2
        variance = learned if kind == "learned" else (share * (1 - alpha).log() + (1 - share) * small.log()).exp()
    return x + variance.sqrt() * _normal(generators, denoiser)


def _abar(denoiser: Denoiser, t: int, finished: float = 1.0) -> Tensor:
    """Return abar at a timestep; of the finished picture where it is below 0."""
    known = denoiser.process.alphas_cumprod
    return known[t] if t >= 0 else known.new_tensor(finished)


def _normal(generators: list[torch.Generator], denoiser: Denoiser) -> Tensor:
    drawn = torch.stack([torch.randn(denoiser.shape, generator=generator) for generator in generators])
    return drawn.to(denoiser.weight)
