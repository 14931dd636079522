"""The denoising loss of a picture under a model, draw by draw."""

from __future__ import annotations

import numpy as np
import torch

from dtrak_core.features import draws, model_outputs
from dtrak_core.features.gradients import draws_for
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.targets import Target


@torch.no_grad()
def of_draws(
    denoiser: Denoiser, image: np.ndarray, sample_id: str, timesteps: np.ndarray, noise_seed: int, prompt: str = ""
) -> np.ndarray:
    """Return (1/d) |f - y|² of each draw of a picture, shape (T,), float64: how far the output is from its target.

    The noise is a function of the seed, the sample's id and the timestep, so that two models are compared on equal
    draws, and a picture on those of its feature. At most `draws_for` draws are in memory at once.

    Args:
        denoiser: The model.
        image: The picture, shape (H, W, 3), uint8.
        sample_id: `train:17` for a training example, otherwise the target's id.
        timesteps: One a draw, shape (T,), int64.
        noise_seed: Seed of the noise.
        prompt: What the network is told of it (`Denoiser.told`).
    """
    weight, process, at_once = denoiser.weight, denoiser.process, draws_for(denoiser)
    x0, told = denoiser.encode(np.asarray(image)[None]).to(weight), denoiser.conditions([prompt])
    values = np.empty(len(timesteps))
    for start in range(0, len(timesteps), at_once):
        part = slice(start, start + at_once)
        t = torch.from_numpy(timesteps[part]).to(weight.device)
        noise = torch.from_numpy(draws.noise(noise_seed, sample_id, timesteps[part], denoiser.shape)).to(weight)
        output = denoiser.predict(process.noised(x0, noise, t), t, told.repeated(len(t)))
        values[part] = model_outputs.loss(output, process.target(x0, noise, t)).cpu().numpy()
    return values


def denoising_loss(denoiser: Denoiser, target: Target, num_timesteps: int, noise_seed: int) -> float:
    """Return a target's mean of w_t (1/d) ||f(x_t, t) - y||^2 over uniform timesteps, one noise each.

    w_t are the weights of the training (`Process.loss_weights`): 1 where the network predicts noise, v or flow.
    """
    return float(by_timestep(denoiser, target, num_timesteps, noise_seed).mean())


def by_timestep(denoiser: Denoiser, target: Target, num_timesteps: int, noise_seed: int) -> np.ndarray:
    """Return what `denoising_loss` is the mean of, a value for each of the timesteps, shape (T,), float64."""
    grid = draws.timesteps("uniform", num_timesteps, denoiser.process.steps)
    values = of_draws(denoiser, target.image, target.id, grid, noise_seed, denoiser.told(target.row))
    weighed: np.ndarray = values * weights(denoiser, grid)
    return weighed


def weights(denoiser: Denoiser, timesteps: np.ndarray) -> np.ndarray:
    """Return the weights that timesteps (T,) have in the training, (T,): 1 where it predicts noise, v or flow."""
    found: np.ndarray = (
        denoiser.process.loss_weights(torch.from_numpy(timesteps).to(denoiser.weight.device)).cpu().numpy()
    )
    return found
