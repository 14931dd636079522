"""Train a denoiser on any set of training indices, resumable to the bit.

Loss: mean over elements of (eps_theta(x_t, t) - eps)^2 with t uniform in 0..T-1 and Gaussian
eps (Ho et al. 2020, eq. 14), or of what else the network predicts (training_run.py). AdamW, linear
warm-up then cosine decay to 0, gradient clipping; epochs are held fixed, so a smaller set takes fewer
steps, as the paper does.

All randomness is a function of (train_seed, epoch) or (train_seed, step): the order of the
pictures, flips, timesteps, noise, dropout. A run that was interrupted and resumed therefore
ends in the same weights as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.thumbnails import sheet
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models import base_parts, bases, checkpoints, latents, networks
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.sampling import generate
from dtrak_core.models.settings import LoraSettings, ModelSettings, Sampled, TrainSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.training import growing, training_run
from dtrak_core.training.growing import Growing
from dtrak_core.training.presets import SHARES
from dtrak_core.training.training_run import Run

SECONDS_BETWEEN_SAVES = 30.0
GRID_SEEDS = tuple(range(16))


def train(
    dataset: Dataset,
    settings: TrainSettings,
    name: str,
    on_progress: Progress,
    kind: Literal["checkpoints", "retrained"] = "checkpoints",
) -> store.Artifact:
    """Train, or go on training, and publish the run with its kept checkpoints.

    Args:
        dataset: Must have the digest that the settings name.
        settings: Everything the weights depend on.
        name: What the user calls the run; not part of its key.
        on_progress: Called once a step with unit "training steps".
        kind: `retrained` runs are a counterfactual's: no choice in the sidebar, and only their last weights are kept.

    Returns:
        Artifact of this kind; or a name of it, where the same training was done under another one.

    Raises:
        SettingsError: If the settings name another dataset or indices outside it.
        Cancelled: If `on_progress` raises it; the newest state is kept for resuming.
    """
    key = key_of(kind, settings)
    with store.computing(kind, key, on_progress) as finished:
        if finished is None:
            return held(dataset, settings, name, on_progress, kind)
    return checkpoints.name_run(finished, name) if kind == "checkpoints" else finished


def held(
    dataset: Dataset,
    settings: TrainSettings,
    name: str,
    on_progress: Progress,
    kind: Literal["checkpoints", "retrained"],
) -> store.Artifact:
    """Do what `train` does where its lock is held already, and nothing is stored."""
    indices, key = _indices(dataset, settings), key_of(kind, settings)
    folder = store.partial(kind, key)
    total = settings.steps(len(dataset.train.images))
    # First, so that autoencoder, text encoders and denoiser need not lie in memory together.
    encoded = (
        latents_of(dataset, settings.model.base, on_progress) if isinstance(settings.model, LoraSettings) else None
    )
    run = start(settings, dataset.settings.resolution)
    run.latents = encoded
    # A short training has fewer: shares that fall on one step are kept once, under the largest.
    kept = {max(1, round(total * share / 100)): share for share in (SHARES if kind == "checkpoints" else (100,))}
    training_run.resume(run, folder, {step: folder / _folder(step) / "step.json" for step in kept})
    began, saved = time.monotonic() - run.seconds, time.monotonic()
    looks = Growing(folder, total, run.step, saved) if kind == "checkpoints" else None
    steps_an_epoch = math.ceil(len(indices) / settings.batch_size)
    try:
        while run.step < total:
            epoch, place = divmod(run.step, steps_an_epoch)
            order = training_run.generator(settings.train_seed, "order", epoch).permutation(indices)
            batch = order[place * settings.batch_size : (place + 1) * settings.batch_size]
            loss = training_run.step(run, dataset, settings, batch, total)
            run.losses.append(loss)
            run.step += 1
            run.seconds = time.monotonic() - began
            # Before anyone may stop the training: a training goes on after a state saved at this step.
            if run.step in kept:
                _keep(run, settings, folder, kept[run.step], dataset if kind == "checkpoints" else None)
            on_progress(run.step, total, "training steps", f"Loss {np.mean(run.losses[-100:]):.4f}")
            if looks is not None and looks.due(run.step):
                looks.look(run.step, lambda: _drawn(run, settings, dataset, (growing.SEED,), growing.SAMPLING_STEPS)[0])
                training_run.write_metrics(run, folder)
            if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                training_run.write(run, folder)
                saved = time.monotonic()
    except BaseException:
        training_run.write(run, folder)
        raise
    return _published(run, dataset, settings, name, kind, key, list(kept))


def publish_last(dataset: Dataset, run: Run, settings: TrainSettings) -> store.Artifact:
    """Keep the last weights of a run that has ended, and publish it as `retrained`."""
    key = key_of("retrained", settings)
    folder = store.partial("retrained", key)
    _keep(run, settings, folder, 100, None)
    return _published(run, dataset, settings, "retrained", "retrained", key, [run.step])


def _published(
    run: Run,
    dataset: Dataset,
    settings: TrainSettings,
    name: str,
    kind: Literal["checkpoints", "retrained"],
    key: str,
    kept: Sequence[int],
) -> store.Artifact:
    """Publish a run that has ended, with the weights kept at some steps."""
    folder, taken = store.partial(kind, key), len(_indices(dataset, settings))
    final = float(np.mean(run.losses[-math.ceil(taken / settings.batch_size) :]))
    if not math.isfinite(final):
        raise DataError(f"The training diverged: its loss is {final}. Train with a lower learning rate.")
    training_run.write_metrics(run, folder)
    growing.clear(folder)
    steps = [json.loads((folder / _folder(step) / "step.json").read_bytes()) for step in kept]
    done = store.publish(
        kind,
        key,
        settings,
        name=name,
        dataset=dataset.digest,
        dataset_name=dataset.name,
        steps=steps,
        fold=settings.model.fold,
        examples=taken,
        seconds=round(run.seconds, 1),
        seconds_per_picture_step=run.seconds / (settings.epochs * taken),
        parameters=sum(p.numel() for p in run.weights),
        target_draws=_target_draws(run.denoiser),
        final_loss=final,
        **_told_of(run.denoiser, settings.model),
    )
    return checkpoints.name_run(done, name) if kind == "checkpoints" else done


def _told_of(denoiser: Denoiser, model: ModelSettings | LoraSettings) -> dict[str, object]:
    """Return what a run's manifest says of its model where that is not one of pixels alone: base, classes."""
    base = {"base": model.base} if isinstance(model, LoraSettings) else {}
    return base | ({} if denoiser.classes is None else denoiser.classes.facts())


def _target_draws(denoiser: Denoiser) -> int:
    """Return what a run notes for its targets' features; of a frozen base, whose size counts too, nothing."""
    if denoiser.text is not None:
        return 0
    places = denoiser.shape[1] * denoiser.shape[2]
    return checkpoints.draws_within(sum(p.numel() for p in denoiser.network.parameters()), places)


def _indices(dataset: Dataset, settings: TrainSettings) -> np.ndarray:
    if dataset.digest != settings.dataset:
        raise SettingsError(
            f"The settings are for dataset {settings.dataset}, not '{dataset.name}' ({dataset.digest}). Give that one."
        )
    count = len(dataset.train.images)
    if settings.indices is None:
        return np.arange(count)
    found = np.unique(np.array(settings.indices, dtype=np.int64))
    if len(outside := found[(found < 0) | (found >= count)]):
        raise SettingsError(
            f"There is no training picture {outside[0]}: there are {count:,}, numbered from 0. Leave it out."
        )
    if len(found) == 0:
        raise SettingsError("No training picture is left to train on. Leave fewer out.")
    return found


def start(settings: TrainSettings, resolution: int) -> Run:
    """Return a run that has not begun."""
    denoiser = networks.untrained(settings.model, resolution, settings.train_seed, settings.dataset)
    denoiser.network.train()
    if denoiser.text is not None and denoiser.weight.device.type == "cuda":
        denoiser.network.enable_gradient_checkpointing()  # type: ignore[operator]  # activations of a large denoiser do not fit beside a batch
    run = Run(denoiser, torch.optim.AdamW([denoiser.weight]), None)
    run.optimizer = torch.optim.AdamW(
        run.weights,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        eps=1e-8,
        fused=True,
    )
    run.average = [p.detach().clone() for p in run.weights] if settings.ema_decay else None
    return run


def latents_of(dataset: Dataset, digest: str, on_progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of the training pictures' latents, plain and mirrored (2, N, C, h, w).

    What their captions tell is stored too.
    """
    base = bases.by_digest(digest)
    if reason := bases.unfit(base, dataset.settings.resolution):
        raise SettingsError(reason)
    text = base_parts.text_side(base)

    def posterior(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = text.posterior(images)
        return mean.numpy(), std.numpy()

    found = latents.compute(dataset, digest, posterior, lambda d, t: on_progress(d, t, "pictures", "Encoding"))
    text.tell(
        ["", *dataset.train.prompts, *dataset.held_out.prompts], lambda d, t: on_progress(d, t, "captions", "Encoding")
    )
    return found.array(latents.MEANS), found.array(latents.STDS)


def _shown(dataset: Dataset, denoiser: Denoiser) -> list[str]:
    """Return what pictures are drawn from along a training: captions from all over the training set; all classes."""
    if not denoiser.prompted:
        return []
    words = (
        denoiser.classes.among(dataset.train.labels) if denoiser.classes else dataset.train.examples(len(GRID_SEEDS))
    )
    return [words[seed % len(words)] for seed in GRID_SEEDS] if words else []


def _keep(run: Run, settings: TrainSettings, folder: Path, share: int, shown: Dataset | None) -> None:
    """Store the weights that are sampled from; where a dataset is given, draw a grid of pictures, with its captions."""
    place, dtype = folder / _folder(run.step), getattr(torch, settings.weights_dtype)
    with _sampled_from(run, dtype):
        digest = networks.save_weights(run.denoiser, place, dtype)
    if shown is not None:
        store.write_bytes(folder / f"grid-{share:03d}.png", sheet(_drawn(run, settings, shown, GRID_SEEDS)))
    facts = {"step": run.step, "share": share, "folder": place.name, "digest": digest}
    store.write_json(place / "step.json", facts)
    training_run.write(run, folder)


def _drawn(
    run: Run, settings: TrainSettings, shown: Dataset, seeds: Sequence[int], steps: int | None = None
) -> np.ndarray:
    """Return pictures that the network draws as it is, the model's own way but for the number of steps."""
    own, text = Sampled(guidance=1.0), run.denoiser.text
    if text is not None:
        own = text.family.usual(run.denoiser.network.config)  # type: ignore[arg-type]
    told = _shown(shown, run.denoiser)
    prompts = [told[seed % len(told)] for seed in seeds] if told else []
    with _sampled_from(run, getattr(torch, settings.weights_dtype)):
        return generate(
            run.denoiser, seeds, "ddim", steps or own.sampling_steps, 0.0, prompts=prompts, guidance=own.guidance
        )


@contextmanager
def _sampled_from(run: Run, dtype: torch.dtype) -> Iterator[None]:
    """Let the network have the weights that are sampled from, averaged and as they are stored, for a while."""
    trained = [p.detach().clone() for p in run.weights]
    run.denoiser.network.eval()
    try:
        with torch.no_grad():
            for parameter, value in zip(run.weights, run.average or trained, strict=True):
                parameter.copy_(value.to(dtype))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(run.weights, trained, strict=True):
                parameter.copy_(value)
        run.denoiser.network.train()


def _folder(step: int) -> str:
    return f"step-{step:06d}"
