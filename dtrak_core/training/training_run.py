"""A training in progress: what it is made of, its next step, and how it is kept on disk to go on from.

Loss: mean over elements of w_t (f(x_t, t) - y)^2 with t uniform in 0..T-1, eps Gaussian; target y and weights w_t are
those of the model's process (process.py): for noise y = eps and w_t = 1 (Ho et al. 2020, eq. 14).
All randomness is a function of (train_seed, step).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, out_of_memory
from dtrak_core.models import devices
from dtrak_core.models.denoiser import NOTHING, Condition, Denoiser, tracked_parameters
from dtrak_core.models.settings import TrainSettings
from dtrak_core.settings import digest_of

RESUME = "resume.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class Run:
    """Network, optimiser, average of the weights, steps and seconds so far, losses; stored latents for LoRA."""

    denoiser: Denoiser
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None
    latents: tuple[np.ndarray, np.ndarray] | None = None
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    at_once: int = 0  # pictures that the memory holds; 0 until a batch did not fit

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """Return what is trained."""
        return [parameter for _, parameter in tracked_parameters(self.denoiser.network)]


def learning_rate(highest: float, warmup: float, step: int, total: int) -> float:
    """Return the rate of a step: linear from 0 over the warm-up share, then half a cosine to 0."""
    warm = warmup * total
    if step < warm:
        return highest * (step + 1) / warm if warm >= 1 else highest
    done = (step - warm) / max(1.0, total - warm)
    return highest * 0.5 * (1 + math.cos(math.pi * done))


def step(run: Run, dataset: Dataset, settings: TrainSettings, batch: np.ndarray, total: int) -> float:
    """Take a run's next step, of `total`, on a batch of training indices; return the batch's loss before it."""
    random, rows = generator(settings.train_seed, "step", run.step), np.sort(batch)
    flipped = mirrored(settings, random, len(rows))
    x0 = _clean(run, dataset, rows, flipped, random)
    noise, t = map(torch.from_numpy, noise_and_times(random, tuple(x0.shape), run.denoiser.process.steps))
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
    torch.nn.utils.clip_grad_norm_(run.weights, settings.clip_norm)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        with torch.no_grad():  # or the average would keep the history of all steps
            torch._foreach_lerp_(run.average, list(run.weights), 1 - settings.ema_decay)
    return loss


def mirrored(settings: TrainSettings, random: np.random.Generator, count: int) -> np.ndarray:
    """Draw which pictures of a batch are mirrored, bool: the first of a step's random numbers."""
    return random.random(count) < 0.5 if settings.flip else np.zeros(count, bool)


def noise_and_times(random: np.random.Generator, shape: tuple[int, ...], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a batch's noise, float32, of this shape, and then its timesteps of so many, int64 (B,)."""
    return random.standard_normal(shape, dtype=np.float32), random.integers(steps, size=shape[0])


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
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            run.optimizer.zero_grad()
            devices.free_memory()
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


def write(run: Run, folder: Path) -> None:
    """Write what resuming needs into one file, so that its parts belong together."""
    tensors = {f"weights.{name}": value.detach() for name, value in tracked_parameters(run.denoiser.network)}
    for i, parameter in enumerate(run.weights):
        for name, value in run.optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{name}"] = value
    for i, averaged in enumerate(run.average or []):
        tensors[f"average.{i}"] = averaged
    tensors["losses"] = torch.tensor(run.losses, dtype=torch.float64)
    facts = {"step": str(run.step), "seconds": str(run.seconds)}
    store.write_bytes(folder / RESUME, save({n: v.cpu().contiguous() for n, v in tensors.items()}, metadata=facts))
    write_metrics(run, folder)


def resume(run: Run, folder: Path, kept: Mapping[int, Path]) -> None:
    """Take up what was written; begin in an empty folder where that is nothing, or was harmed since.

    Args:
        run: A run that has not begun.
        folder: Its unfinished artifact.
        kept: The file that tells of the weights kept at a step, for each of these steps.
    """
    try:
        with safe_open(folder / RESUME, framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        step, seconds = int(facts["step"]), float(facts["seconds"])
        told = [json.loads(path.read_bytes())["digest"] for at, path in kept.items() if at <= step]
    except FileNotFoundError:  # parts of a start that never came to its first save, or of weights that are gone
        told = None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        print(f"What was trained so far cannot be read ({error}): the training begins anew.")
        told = None
    if told is None:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return
    with torch.no_grad():
        for name, parameter in tracked_parameters(run.denoiser.network):
            parameter.copy_(tensors[f"weights.{name}"])
    for i, parameter in enumerate(run.weights):
        prefix = f"optimizer.{i}."
        own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        run.optimizer.state[parameter] = {n: v.to(parameter.device) for n, v in own.items()}
    if run.average is not None:
        run.average = [tensors[f"average.{i}"].to(run.average[i].device) for i in range(len(run.average))]
    run.losses = tensors["losses"].tolist()
    run.step, run.seconds = step, seconds


def write_metrics(run: Run, folder: Path) -> None:
    """Write the loss curve, one line for every 20 steps: step, mean loss since the last line."""
    lines = [
        json.dumps({"step": end, "loss": round(float(np.mean(run.losses[end - 20 : end])), 6)})
        for end in range(20, len(run.losses) + 1, 20)
    ]
    store.write_bytes(folder / METRICS, "".join(f"{line}\n" for line in lines).encode())
