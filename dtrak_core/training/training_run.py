"""One step of a training: pictures or latents, noise, loss, weights.

Loss: mean over elements of w_t (f(x_t, t) - y)^2 with t uniform in 0..T-1, eps Gaussian; target y and weights w_t are
those of the model's process (process.py): for noise y = eps and w_t = 1 (Ho et al. 2020, eq. 14).
All randomness is a function of (train_seed, step).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser
from dtrak_core.models.settings import TrainSettings
from dtrak_core.settings import digest_of
from dtrak_core.training.training_state import Run


def learning_rate(highest: float, warmup: float, step: int, total: int) -> float:
    """Return the rate of a step: linear from 0 over the warm-up share, then half a cosine to 0."""
    warm = warmup * total
    if step < warm:
        return highest * (step + 1) / warm if warm >= 1 else highest
    done = (step - warm) / max(1.0, total - warm)
    return highest * 0.5 * (1 + math.cos(math.pi * done))


def step(run: Run, dataset: Dataset, settings: TrainSettings, batch: np.ndarray, total: int) -> float:
    random, rows = generator(settings.train_seed, "step", run.step), np.sort(batch)
    flipped = random.random(len(rows)) < 0.5 if settings.flip else np.zeros(len(rows), bool)
    x0 = _clean(run, dataset, rows, flipped, random)
    noise = torch.from_numpy(random.standard_normal(tuple(x0.shape), dtype=np.float32))
    t = torch.from_numpy(random.integers(run.denoiser.process.steps, size=len(x0)))
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(settings.learning_rate, settings.warmup, run.step, total)
    told = NOTHING
    if run.denoiser.prompted:
        left_out = random.random(len(rows)) < settings.model.left_out
        known = [run.denoiser.told(dataset.train.rows[row]) for row in rows]
        told = run.denoiser.conditions(["" if out else one for one, out in zip(known, left_out, strict=True)])
    if settings.model.dropout:
        torch.manual_seed(int(random.integers(2**63)))
    where = run.denoiser.weight.device
    loss = backward(run, x0.to(where), noise.to(where), t.to(where), told)
    torch.nn.utils.clip_grad_norm_(run.weights, settings.clip_norm, foreach=True)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        torch._foreach_lerp_(run.average, list(run.weights), 1 - settings.ema_decay)
    return loss


def _clean(run: Run, dataset: Dataset, rows: np.ndarray, flipped: np.ndarray, random: np.random.Generator) -> Tensor:
    """Return pictures of the training set in model space, some mirrored; latents are drawn from their posterior."""
    if run.latents is None:
        images = dataset.train.images[rows]
        return run.denoiser.encode(np.where(flipped[:, None, None, None], images[:, :, ::-1], images))
    means, stds = (part[flipped.astype(int), rows] for part in run.latents)
    drawn = means + stds * random.standard_normal(means.shape, dtype=np.float32)
    assert run.denoiser.text is not None
    return run.denoiser.text.scaled(torch.from_numpy(drawn))


def backward(run: Run, x0: Tensor, noise: Tensor, t: Tensor, told: Condition) -> float:
    """Add the gradient of the mean loss of a batch to the weights' gradients; return the loss.

    Where the device's memory does not hold the batch, it is worked through in smaller and smaller parts, whose
    gradients add up to the same.

    Raises:
        DataError: If not even one picture fits.
    """
    at_once = min(run.at_once or len(x0), len(x0))
    while True:
        try:
            total = sum(_part(run.denoiser, x0, noise, t, told, i, at_once) for i in range(0, len(x0), at_once))
            break
        except torch.OutOfMemoryError:
            run.optimizer.zero_grad()
            torch.cuda.empty_cache()
            if at_once == 1:
                raise DataError(
                    "The device's memory does not hold the training of one picture. Choose a smaller network or LoRA "
                    "rank, or another device with STUDIO_DEVICE."
                ) from None
            run.at_once = at_once = math.ceil(at_once / 2)
    return float(total)


def _part(denoiser: Denoiser, x0: Tensor, noise: Tensor, t: Tensor, told: Condition, start: int, size: int) -> float:
    rows = slice(start, start + size)
    process, clean, eps, when = denoiser.process, x0[rows], noise[rows], t[rows]
    output, target = (
        denoiser.predict(process.noised(clean, eps, when), when, told.rows(rows)),
        process.target(clean, eps, when),
    )
    if process.prediction == "sample":
        loss = (process.loss_weights(when) * (output - target).square().flatten(1).mean(1)).mean()
    else:  # all weights are 1
        loss = functional.mse_loss(output, target)
    if size < len(x0):
        loss = loss * (len(output) / len(x0))
    loss.backward()
    return float(loss.detach())


def generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    """Return the random numbers of a purpose: of an epoch's order, or of a step."""
    return np.random.Generator(np.random.Philox(key=int(digest_of(str(seed), purpose, str(number)), 16)))
