"""Model output functions: the scalar of one draw whose gradient becomes the feature.

With the prediction e = ε_θ(x_t, t), the noise ε that made x_t, and d elements in each,
the functions are (reference.md, section 3.1; paper, section 3.2 and table 1)

    loss            (1/d) Σ (e - ε)²              TRAK
    squared-output  (1/d) Σ e²                    D-TRAK
    elbo            w_t (1/d) Σ (e - ε)²          w_t = β_t / (2 α_t (1 - ᾱ_t)), α_t = 1 - β_t
    mean-output     (1/d) Σ e
    l1-norm         Σ |e|
    l2-norm         √ Σ e²
    linf-norm       max |e|
    interpolated    (1/d) Σ (e - η ε)²            η = 1 is loss, η = 0 squared-output

All take tensors of B draws and give B values. Each differs from its neighbours in scale, so
one damping does not suit two of them; an effective rank does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import ModelOutput


def value(
    name: ModelOutput, prediction: Tensor, noise: Tensor, t: Tensor, betas: Tensor, alphas_cumprod: Tensor, eta: float
) -> Tensor:
    """Return the model output of each draw.

    Args:
        name: Which function, see the module's table.
        prediction: e, shape (B, C, H, W).
        noise: ε, shape (B, C, H, W).
        t: Timestep of each draw, shape (B,), int64.
        betas: Noise schedule β, shape (1000,).
        alphas_cumprod: ᾱ, shape (1000,).
        eta: η of `interpolated`; the others ignore it.

    Returns:
        One value a draw, shape (B,), differentiable in `prediction`.
    """
    e, eps = prediction.flatten(1), noise.flatten(1)
    match name:
        case "loss":
            return loss(e, eps)
        case "squared-output":
            return squared_output(e)
        case "elbo":
            return elbo_weights(t, betas, alphas_cumprod) * loss(e, eps)
        case "mean-output":
            return e.mean(1)
        case "l1-norm":
            return e.abs().sum(1)
        case "l2-norm":
            return e.square().sum(1).sqrt()
        case "linf-norm":
            return e.abs().amax(1)
        case "interpolated":
            return loss(e, eta * eps)


def loss(e: Tensor, eps: Tensor) -> Tensor:
    """Return the denoising error mean((e - ε)²) of each row, shape (B,): what training lowers."""
    return (e - eps).square().mean(1)


def squared_output(e: Tensor) -> Tensor:
    """Return mean(e²) of each row, shape (B,): the loss with the noise replaced by zero."""
    return e.square().mean(1)


def elbo_weights(t: Tensor, betas: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Return w_t = β_t / (2 α_t (1 - ᾱ_t)), the variational bound's weight of each timestep, shape (B,)."""
    beta, alpha_bar = betas[t], alphas_cumprod[t]
    return beta / (2 * (1 - beta) * (1 - alpha_bar))


def refuse_infinite(name: ModelOutput, timesteps: np.ndarray, betas: Tensor, alphas_cumprod: Tensor) -> None:
    """Refuse a model output that has no finite value at one of these timesteps, before anything is computed.

    Raises:
        SettingsError: For `elbo` where its weight is infinite: a schedule of zero terminal SNR has ᾱ_999 = α_999 = 0.
    """
    if name != "elbo":
        return
    weights = elbo_weights(torch.as_tensor(timesteps).long(), betas.cpu(), alphas_cumprod.cpu())
    infinite = [int(t) for t, weight in zip(timesteps, weights, strict=True) if not bool(weight.isfinite())]
    if infinite:
        raise SettingsError(
            f"The ELBO has an infinite weight at timestep {infinite[0]} of this model's noise schedule, at which "
            "nothing is left of the picture or nothing is added. Choose fewer or other timesteps, or another model "
            "output, 'loss' say."
        )
