"""What a network is asked to predict: one line for noise, the clean picture, v and flow, timestep by timestep.

    x_t = a x_0 + s ε        target  y = c x_0 + d ε        loss  mean (f(x_t, t) - y)²

| prediction | a | s | c | d | source |
|---|---|---|---|---|---|
| noise | √ᾱ | √(1-ᾱ) | 0 | 1 | Ho et al. 2020, eq. 14 |
| sample, the clean picture | √ᾱ | √(1-ᾱ) | 1 | 0 | |
| v | √ᾱ | √(1-ᾱ) | -√(1-ᾱ) | √ᾱ | Salimans and Ho 2022, appendix D |
| flow, rectified flow | 1-σ | σ | -1 | 1 | Liu et al. 2023, eq. 1, with the noise at 1; Esser et al. 2024 |

With Δ = a d - s c, the network's output f gives both ends: x̂_0 = (d x_t - s f) / Δ and ε̂ = (a f - c x_t) / Δ.

A schedule has T timesteps, t = 0 the cleanest. The network is told `times[t]`: t itself, of a flow T σ_t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dtrak_core.models.settings import Prediction

HIGHEST_WEIGHT = 400.0  # of the loss at a timestep where the network predicts the picture


@dataclass(frozen=True)
class Process:
    """The betas and ᾱ of a schedule, shape (T,), with what a network of it predicts, and a, s, c, d, (T,) each.

    A flow is given by its noise levels σ, made by `rectified`: its betas and ᾱ are those of the DDPM with as much noise
    for as much picture, ᾱ = a² / (a² + s²), and stand in nothing but the ELBO. The network is told `length` σ_t.

    Methods take tensors (B, C, H, W) with timesteps t (B,), int64.
    """

    prediction: Prediction
    betas: Tensor
    alphas_cumprod: Tensor
    sigmas: Tensor | None = None
    length: int = 0

    @property
    def steps(self) -> int:
        """Return T, the number of timesteps."""
        return len(self.betas)

    @cached_property
    def times(self) -> Tensor:
        """Return what the network is told at each timestep: int64; of a flow as its betas."""
        if self.sigmas is None:
            return torch.arange(self.steps, device=self.betas.device)
        return self.sigmas * self.length

    @cached_property
    def a(self) -> Tensor:
        """Return the share of the clean picture in x_t, at each timestep."""
        return self.alphas_cumprod.sqrt() if self.sigmas is None else 1 - self.sigmas

    @cached_property
    def s(self) -> Tensor:
        """Return the share of the noise in x_t."""
        return (1 - self.alphas_cumprod).sqrt() if self.sigmas is None else self.sigmas

    @cached_property
    def c(self) -> Tensor:
        """Return the share of the clean picture in the target."""
        match self.prediction:
            case "noise":
                return torch.zeros_like(self.a)
            case "sample":
                return torch.ones_like(self.a)
            case "v":
                return -self.s
            case "flow":
                return -torch.ones_like(self.a)

    @cached_property
    def d(self) -> Tensor:
        """Return the share of the noise in the target."""
        match self.prediction:
            case "noise" | "flow":
                return torch.ones_like(self.a)
            case "sample":
                return torch.zeros_like(self.a)
            case "v":
                return self.a

    @cached_property
    def delta(self) -> Tensor:
        """Return Δ = a d - s c: 0 where one of both ends cannot be told from the output."""
        return self.a * self.d - self.s * self.c

    def to(self, where: torch.device | torch.dtype) -> Process:
        """Return the process with its tables on a device, or in another number format."""
        sigmas = None if self.sigmas is None else self.sigmas.to(where)
        return replace(self, betas=self.betas.to(where), alphas_cumprod=self.alphas_cumprod.to(where), sigmas=sigmas)

    def noised(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t = a x_0 + s ε."""
        return _at(self.a, t) * x0 + _at(self.s, t) * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return y = c x_0 + d ε, what the network is asked for."""
        match self.prediction:
            case "noise":
                return noise
            case "sample":
                return x0
            case "v":
                return _at(self.c, t) * x0 + _at(self.d, t) * noise
            case "flow":
                return noise - x0

    def clean(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Return x̂_0 = (d x_t - s f) / Δ, the clean picture that an output f means: f itself where it predicts that."""
        if self.prediction == "sample":
            return output
        return (_at(self.d, t) * x_t - _at(self.s, t) * output) / _at(self.delta, t)

    def noise(self, x_t: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """Return ε̂ = (a f - c x_t) / Δ, the noise that an output f means: f itself where it predicts that."""
        if self.prediction == "noise":
            return output
        return (_at(self.a, t) * output - _at(self.c, t) * x_t) / _at(self.delta, t)

    def elbo_weights(self, t: Tensor) -> Tensor:
        """Return the variational bound's weight of mean (f - y)² at each timestep, shape (B,).

        w = β / (2 α (1 - ᾱ)) (a / Δ)², with α = 1 - β: the weight of the error of ε̂ (Ho et al. 2020, eq. 12), whose
        error is a / Δ times that of f.
        """
        beta, abar = self.betas[t], self.alphas_cumprod[t]
        of_noise = beta / (2 * (1 - beta) * (1 - abar))
        return of_noise if self.prediction == "noise" else of_noise * (self.a[t] / self.delta[t]).square()

    def loss_weights(self, t: Tensor) -> Tensor:
        """Return what training multiplies mean (f - y)² with at each timestep, shape (B,).

        1 for noise, v and flow. For the clean picture 1 / (1 - ᾱ), 400 at most, so that its error weighs as that of v.
        """
        if self.prediction == "sample":
            return (1 / (1 - self.alphas_cumprod[t])).clamp(max=HIGHEST_WEIGHT)
        return torch.ones_like(self.alphas_cumprod[t])


def rectified(sigmas: Tensor, length: int) -> Process:
    """Return the process of a rectified flow.

    Args:
        sigmas: Noise levels in (0, 1], ascending, shape (T,).
        length: What the network is told of σ = 1: the timesteps of its training.
    """
    picture, noise = (1 - sigmas.double()).square(), sigmas.double().square()
    abar = picture / (picture + noise)
    betas = 1 - abar / torch.cat([torch.ones_like(abar[:1]), abar[:-1]])
    return Process("flow", betas.to(sigmas), abar.to(sigmas), sigmas, length)


def _at(table: Tensor, t: Tensor) -> Tensor:
    """Return a table's values at timesteps (B,), shape (B, 1, 1, 1)."""
    return table[t].view(-1, 1, 1, 1)
