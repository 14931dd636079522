"""Train a denoiser on any set of training indices, resumable to the bit.

Loss: mean over elements of (eps_theta(x_t, t) - eps)^2 with t uniform in 0..999 and Gaussian
eps (reference.md 2.1). AdamW, linear warm-up then cosine decay to 0, gradient clipping; epochs
are held fixed, so a smaller set takes fewer steps, as the paper does.

All randomness is a function of (train_seed, epoch) or (train_seed, step): the order of the
pictures, flips, timesteps, noise, dropout. A run that was interrupted and resumed therefore
ends in the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from dtrak_core import store
from dtrak_core.datasets import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.models import Denoiser, build_unet, default_scheduler, denoiser_of, save_pipeline
from dtrak_core.presets import total_steps
from dtrak_core.progress import Progress
from dtrak_core.sampling import generate
from dtrak_core.settings import DIFFUSION_STEPS, ModelSettings, ProbeSettings, TrainSettings, digest_of, key_of
from dtrak_core.thumbnails import sheet

SHARES = (25, 50, 75, 100)  # percent of the training at which weights are kept (TracInCP and GAS use them)
SECONDS_BETWEEN_SAVES = 30.0
GRID_SEEDS = tuple(range(16))
RESUME = "resume.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class _Run:
    """State of a training in progress."""

    denoiser: Denoiser
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


def train(
    dataset: Dataset,
    settings: TrainSettings,
    name: str,
    progress: Progress,
    kind: Literal["checkpoints", "retrained"] = "checkpoints",
) -> store.Artifact:
    """Train, or go on training, and publish the run with its kept checkpoints.

    Args:
        dataset: Must have the digest that the settings name.
        settings: Everything the weights depend on.
        name: What the user calls the run; not part of its key.
        progress: Called once a step with unit "training steps".
        kind: `retrained` runs are a counterfactual's: no choice in the sidebar, and only their last weights are kept.

    Returns:
        Artifact of this kind.

    Raises:
        SettingsError: If the settings name another dataset or indices outside it.
        Cancelled: If `progress` raises it; the newest state is kept for resuming.
    """
    key = key_of(kind, settings)
    if (finished := store.find(kind, key)) is not None:
        return finished
    indices = _indices(dataset, settings)
    folder = store.partial(kind, key)
    total = total_steps(settings, len(indices))
    run = _start(settings, dataset.settings.resolution)
    _resume(run, folder)
    kept = {round(total * share / 100): share for share in (SHARES if kind == "checkpoints" else (100,))}
    began, saved = time.monotonic() - run.seconds, time.monotonic()
    steps_an_epoch = math.ceil(len(indices) / settings.batch_size)
    try:
        while run.step < total:
            epoch, place = divmod(run.step, steps_an_epoch)
            order = _generator(settings.train_seed, "order", epoch).permutation(indices)
            batch = order[place * settings.batch_size : (place + 1) * settings.batch_size]
            loss = _train_step(run, dataset, settings, batch, total)
            run.losses.append(loss)
            run.step += 1
            run.seconds = time.monotonic() - began
            progress(run.step, total, "training steps", f"Loss {np.mean(run.losses[-100:]):.4f}")
            if run.step in kept:
                _keep(run, settings, folder, kept[run.step], drawn=kind == "checkpoints")
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                _save(run, folder)
                saved = time.monotonic()
    except BaseException:
        _save(run, folder)
        raise
    _write_metrics(run, folder)
    (folder / RESUME).unlink(missing_ok=True)
    steps = [json.loads((folder / _folder(step) / "step.json").read_bytes()) for step in kept]
    pictures = run.step * settings.batch_size if len(indices) >= settings.batch_size else run.step * len(indices)
    return store.publish(
        kind,
        key,
        settings,
        name=name,
        dataset=dataset.digest,
        dataset_name=dataset.name,
        steps=steps,
        fold=settings.model.fold,
        examples=len(indices),
        seconds=round(run.seconds, 1),
        seconds_per_picture_step=run.seconds / pictures,
        parameters=sum(p.numel() for p in run.denoiser.unet.parameters()),
        final_loss=float(np.mean(run.losses[-steps_an_epoch:])),
    )


def probe(model: ModelSettings, resolution: int, batch_size: int, progress: Progress) -> store.Artifact:
    """Measure what one picture costs in one training step, in some seconds; publish it as `probes`.

    The median over steps after a warm-up is taken: the first steps pay for set-up.
    """
    settings = ProbeSettings(model=model, resolution=resolution, batch_size=batch_size)
    key = key_of("probes", settings)
    if (finished := store.find("probes", key)) is not None:
        return finished
    run = _start(TrainSettings(dataset="0" * 16, model=model, batch_size=batch_size), resolution)
    x0 = torch.zeros(batch_size, *run.denoiser.shape)
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 30 and sum(seconds) < 5):
        begin = time.perf_counter()
        _backward(run.denoiser, x0, torch.randn_like(x0), torch.randint(DIFFUSION_STEPS, (batch_size,)))
        run.optimizer.step()
        run.optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        progress(len(seconds), 30, "probe steps", "Measuring one training step")
    store.partial("probes", key)
    cost = float(np.median(seconds[1:])) / batch_size
    return store.publish("probes", key, settings, seconds_per_picture_step=cost)


def _indices(dataset: Dataset, settings: TrainSettings) -> np.ndarray:
    if dataset.digest != settings.dataset:
        raise SettingsError(
            f"The settings are for dataset {settings.dataset}, not '{dataset.name}' ({dataset.digest})."
        )
    if settings.indices is None:
        return np.arange(len(dataset.train.images))
    found = np.unique(np.array(settings.indices, dtype=np.int64))
    if len(found) == 0 or found[0] < 0 or found[-1] >= len(dataset.train.images):
        raise SettingsError(
            f"Training indices must lie in 0..{len(dataset.train.images) - 1} and be at least one; "
            f"got {len(found)} of {found[:1].tolist()}..{found[-1:].tolist()}."
        )
    return found


def _start(settings: TrainSettings, resolution: int) -> _Run:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.train_seed)
        unet = build_unet(settings.model, resolution)
    unet.train()
    denoiser = denoiser_of(unet, default_scheduler(), settings.model.fold)
    optimizer = torch.optim.AdamW(
        unet.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        eps=1e-8,
        fused=True,
    )
    average = [p.detach().clone() for p in unet.parameters()] if settings.ema_decay else None
    return _Run(denoiser, optimizer, average)


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Return the rate of a step: linear from 0 over the warm-up share, then half a cosine to 0."""
    warm = settings.warmup * total
    if step < warm:
        return settings.learning_rate * (step + 1) / warm if warm >= 1 else settings.learning_rate
    done = (step - warm) / max(1.0, total - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _train_step(run: _Run, dataset: Dataset, settings: TrainSettings, batch: np.ndarray, total: int) -> float:
    random = _generator(settings.train_seed, "step", run.step)
    images = dataset.train.images[np.sort(batch)]
    if settings.flip:
        flipped = random.random(len(images)) < 0.5
        images = np.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    x0 = run.denoiser.encode(images)
    noise = torch.from_numpy(random.standard_normal(tuple(x0.shape), dtype=np.float32))
    t = torch.from_numpy(random.integers(DIFFUSION_STEPS, size=len(x0)))
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(settings, run.step, total)
    if settings.model.dropout:
        torch.manual_seed(int(random.integers(2**63)))
    loss = _backward(run.denoiser, x0, noise, t)
    torch.nn.utils.clip_grad_norm_(run.denoiser.unet.parameters(), settings.clip_norm, foreach=True)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        torch._foreach_lerp_(run.average, list(run.denoiser.unet.parameters()), 1 - settings.ema_decay)
    return loss


def _backward(denoiser: Denoiser, x0: Tensor, noise: Tensor, t: Tensor) -> float:
    abar = denoiser.alphas_cumprod[t].view(-1, 1, 1, 1)
    predicted = denoiser.predict(abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t)
    loss = functional.mse_loss(predicted, noise)
    loss.backward()
    return float(loss.detach())


def _keep(run: _Run, settings: TrainSettings, folder: Path, share: int, drawn: bool) -> None:
    """Store the weights that are sampled from, and where it is to be drawn a grid of samples made with them."""
    unet = build_unet(settings.model, run.denoiser.shape[1] * settings.model.fold)
    unet.load_state_dict(run.denoiser.unet.state_dict())
    dtype = getattr(torch, settings.weights_dtype)
    with torch.no_grad():
        for parameter, averaged in zip(unet.parameters(), run.average or unet.parameters(), strict=True):
            parameter.copy_(averaged.to(dtype))
    place = folder / _folder(run.step)
    digest = save_pipeline(unet, place, dtype)
    if drawn:
        unet.eval()
        grid = generate(denoiser_of(unet, default_scheduler(), settings.model.fold), GRID_SEEDS, "ddim", 50, 0.0)
        store.write_bytes(folder / f"grid-{share:03d}.png", sheet(grid))
    facts = {"step": run.step, "share": share, "folder": place.name, "digest": digest}
    store.write_json(place / "step.json", facts)
    _save(run, folder)


def _save(run: _Run, folder: Path) -> None:
    """Write what resuming needs into one file, so that its parts belong together."""
    tensors = {f"weights.{n}": v for n, v in run.denoiser.unet.state_dict().items()}
    for i, parameter in enumerate(run.denoiser.unet.parameters()):
        for name, value in run.optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{name}"] = value
    for i, averaged in enumerate(run.average or []):
        tensors[f"average.{i}"] = averaged
    tensors["losses"] = torch.tensor(run.losses, dtype=torch.float64)
    facts = {"step": str(run.step), "seconds": str(run.seconds)}
    store.write_bytes(folder / RESUME, save({n: v.contiguous() for n, v in tensors.items()}, metadata=facts))
    _write_metrics(run, folder)


def _resume(run: _Run, folder: Path) -> None:
    path = folder / RESUME
    if not path.exists():
        for left in folder.iterdir():  # parts of a start that never came to its first save
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    run.denoiser.unet.load_state_dict(
        {n.removeprefix("weights."): v for n, v in tensors.items() if n.startswith("weights.")}
    )
    for i, parameter in enumerate(run.denoiser.unet.parameters()):
        prefix = f"optimizer.{i}."
        run.optimizer.state[parameter] = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    if run.average is not None:
        run.average = [tensors[f"average.{i}"] for i in range(len(run.average))]
    run.losses = tensors["losses"].tolist()
    run.step, run.seconds = int(facts["step"]), float(facts["seconds"])


def _write_metrics(run: _Run, folder: Path) -> None:
    """Write the loss curve, one line for every 20 steps: step, mean loss since the last line."""
    lines = [
        json.dumps({"step": end, "loss": round(float(np.mean(run.losses[end - 20 : end])), 6)})
        for end in range(20, len(run.losses) + 1, 20)
    ]
    store.write_bytes(folder / METRICS, "".join(f"{line}\n" for line in lines).encode())


def _folder(step: int) -> str:
    return f"step-{step:06d}"


def _generator(seed: int, purpose: str, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=int(digest_of(str(seed), purpose, str(number)), 16)))
