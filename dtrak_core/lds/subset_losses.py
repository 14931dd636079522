"""Train the models of an LDS and measure the targets' losses under each (Zheng et al. 2024)."""

from __future__ import annotations

import numpy as np

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import losses
from dtrak_core.lds import subset_models
from dtrak_core.lds.subset_models import LdsSettings, LossSettings
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import Progress, onward
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact
from dtrak_core.training import retrained


def compute(dataset: Dataset, checkpoint: Checkpoint, settings: LdsSettings, on_progress: Progress) -> list[Artifact]:
    """Train every model that is lacking and store its losses; return those of all models.

    Args:
        dataset: The training set.
        checkpoint: The original model, whose settings train all of them.
        settings: Subsets, seeds, targets; generated targets must be stored.
        on_progress: Called once a training step with unit "training steps", over all trainings together.
    """
    missing = subset_models.lacking(settings)
    runs = [subset_models.training(dataset, checkpoint, one) for one in missing]
    steps = [run.steps(len(dataset.train.rows)) for run in runs]
    on_progress = onward(on_progress)
    for number, one in enumerate(missing):
        before, about = sum(steps[:number]), f"Model {number + 1} of {len(missing)}"

        def part(done: int, _total: int, unit: str, message: str, before: int = before, about: str = about) -> None:
            on_progress(before + done, sum(steps), unit, f"{about}. {message}")

        losses_of(dataset, checkpoint, one, part, lambda: runs)
    return [store.get("subset-losses", key_of("subset-losses", one)) for one in subset_models.models(settings)]


def losses_of(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: LossSettings,
    on_progress: Progress,
    beside: retrained.Beside = retrained.nothing,
    workers: int = 1,
) -> Artifact:
    """Train one model and store the loss of every target under it; `beside` are trainings wanted next (retrained.py).

    Returns:
        Artifact of kind `subset-losses`: losses.npy, float64, shape (M,): mean over timesteps and noise seeds; and
        timesteps.npy, float32, shape (M, T): the same by timestep, by which it is told afterwards what a method
        predicts, and which does not ship. The noise is a function of seed, target and timestep alone, so it is the same
        for every model.
    """
    key = key_of("subset-losses", settings)
    with store.computing("subset-losses", key, on_progress) as found:
        return found or _measured(dataset, checkpoint, settings, key, on_progress, beside, workers)


def _measured(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: LossSettings,
    key: str,
    on_progress: Progress,
    beside: retrained.Beside,
    workers: int,
) -> Artifact:
    run, measured = subset_models.training(dataset, checkpoint, settings), subset_models.pictures(dataset, settings)
    denoiser = retrained.retrained(dataset, run, on_progress, beside, workers)
    total = run.steps(len(dataset.train.rows))
    values = np.empty(len(settings.targets))
    levels = np.empty((len(values), settings.num_timesteps), np.float32)
    for i, target in enumerate(measured):
        on_progress(total, total, "training steps", f"Losses: {i} of {counted(len(values), 'target')}")
        each = [
            losses.by_timestep(denoiser, target, settings.num_timesteps, seed) for seed in range(settings.noise_seeds)
        ]
        values[i], levels[i] = np.mean([one.mean() for one in each]), np.mean(each, axis=0)
    folder = store.partial("subset-losses", key)
    store.write_array(folder / subset_models.LOSSES, values)
    store.write_array(folder / subset_models.LEVELS, levels)
    return store.publish("subset-losses", key, settings, name=f"subset {settings.subset}, seed {settings.train_seed}")
