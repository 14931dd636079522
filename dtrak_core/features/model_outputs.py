"""Model output functions: the scalar of one draw whose gradient becomes the feature.

With the network's output f = f_θ(x_t, t), its target y = c x_0 + d ε (noise, clean picture, v or flow: process.py), the
noise ε̂ = (a f - c x_t) / Δ and the clean picture x̂_0 = (d x_t - s f) / Δ that f means, and d elements in each, the
functions are (Zheng et al. 2024, section 3.2 and table 1)

    loss            (1/d) Σ (f - y)²              TRAK
    squared-output  (1/d) Σ f²                    D-TRAK
    elbo            w_t (1/d) Σ (f - y)²          w_t = β_t / (2 α_t (1 - ᾱ_t)) (a / Δ)², α_t = 1 - β_t
    mean-output     (1/d) Σ f
    l1-norm         Σ |f|
    l2-norm         √ Σ f²
    linf-norm       max |f|
    interpolated    (1/d) Σ (f - η y)²            η = 1 is loss, η = 0 squared-output
    squared-noise   (1/d) Σ ε̂²                    squared-output where the network predicts the noise
    squared-clean   (1/d) Σ x̂_0²                  squared-output where it predicts the clean picture
    mean-noise      (1/d) Σ ε̂                     mean-output where the network predicts the noise
    mean-clean      (1/d) Σ x̂_0                   mean-output where it predicts the clean picture

Where the network predicts the noise, f is e = ε_θ(x_t, t), y is ε and a / Δ is 1: the paper's own functions. Every
timestep counts alike, also where the training has weights (Process.loss_weights); settings with `weighting` training
multiply each draw's value with them.

All take tensors of B draws and give B values. Each differs from its neighbours in scale, so
one damping does not suit two of them; an effective rank does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.models.process import Process

# (output f, noise ε, clean x_0, all of shape (B, C, H, W), timesteps (B,)) -> one value a draw, shape (B,)
Output: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def of_settings(settings: FeatureSettings, process: Process) -> Output:
    """Return the model output that settings name, with its weights by timestep."""
    name, eta, noised, target = settings.model_output, settings.eta, process.noised, process.target

    def plain(output: Tensor, noise: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return value(name, process, output, noised(x0, noise, t), target(x0, noise, t), t, eta)

    if settings.weighting == "alike":
        return plain
    return lambda output, noise, x0, t: process.loss_weights(t) * plain(output, noise, x0, t)


def value(
    name: ModelOutput, process: Process, output: Tensor, x_t: Tensor, target: Tensor, t: Tensor, eta: float
) -> Tensor:
    """Return the model output of each draw.

    Args:
        name: Which function, see the module's table.
        process: What the network predicts.
        output: f, shape (B, C, H, W).
        x_t: What the network was given, shape (B, C, H, W).
        target: y, shape (B, C, H, W).
        t: Timestep of each draw, shape (B,), int64.
        eta: η of `interpolated`; the others ignore it.

    Returns:
        One value a draw, shape (B,), differentiable in `output`.
    """
    f = output.flatten(1)
    match name:
        case "loss":
            return loss(output, target)
        case "squared-output":
            return squared(output)
        case "elbo":
            return process.elbo_weights(t) * loss(output, target)
        case "mean-output":
            return f.mean(1)
        case "l1-norm":
            return f.abs().sum(1)
        case "l2-norm":
            return f.square().sum(1).sqrt()
        case "linf-norm":
            return f.abs().amax(1)
        case "interpolated":
            return loss(output, eta * target)
        case "squared-noise":
            return squared(process.noise(x_t, output, t))
        case "squared-clean":
            return squared(process.clean(x_t, output, t))
        case "mean-noise":
            return process.noise(x_t, output, t).flatten(1).mean(1)
        case "mean-clean":
            return process.clean(x_t, output, t).flatten(1).mean(1)


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the denoising error mean((f - y)²) of each draw, shape (B,): what training lowers."""
    return (output - target).flatten(1).square().mean(1)


def training_loss(process: Process) -> Output:
    """Return w_t (1/d) Σ (f - y)² of each draw: the loss as the training weighs it (`Process.loss_weights`)."""
    return lambda output, noise, x0, t: process.loss_weights(t) * loss(output, process.target(x0, noise, t))


def squared(output: Tensor) -> Tensor:
    """Return mean(f²) of each draw, shape (B,): the loss with the target replaced by zero."""
    return output.flatten(1).square().mean(1)


def refuse_infinite(name: ModelOutput, timesteps: np.ndarray, process: Process) -> None:
    """Refuse a model output that has no finite value at one of these timesteps, before anything is computed.

    Raises:
        SettingsError: For `elbo` where its weight is infinite: a schedule of zero terminal SNR has ᾱ_999 = α_999 = 0.
            For the noise or the clean picture that the output means, where it tells nothing of it (Δ = 0).
    """
    t = torch.as_tensor(timesteps).long().to(process.betas.device)
    match name:
        case "elbo":
            finite, what = process.elbo_weights(t).isfinite(), "The ELBO has an infinite weight"
        case "squared-noise" | "mean-noise" if process.prediction != "noise":
            finite, what = process.delta[t] != 0, "The noise is not known"
        case "squared-clean" | "mean-clean" if process.prediction != "sample":
            finite, what = process.delta[t] != 0, "The clean picture is not known"
        case _:
            return
    if not bool(finite.all()):
        first = int(timesteps[int(finite.logical_not().nonzero()[0])])
        raise SettingsError(
            f"{what} at timestep {first} of this model's noise schedule, at which nothing is left of the picture or "
            "nothing is added. Choose fewer or other timesteps, or another model output, 'loss' say."
        )
