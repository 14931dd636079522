"""Which captions a model doubts: its loss of a picture under the picture's own caption, and under others'.

    suspicion_i = loss(x_i | own caption) − median over others c of loss(x_i | c)

High where a model that has learned what captions mean denoises a picture worse, or hardly better, with its own. A
class-conditional model is asked the same of labels. All losses of a picture are over the same draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import prompt_of
from dtrak_core.errors import SettingsError
from dtrak_core.methods import costs
from dtrak_core.methods.costs import Cost
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import EvenGrid
from dtrak_core.progress import Progress
from dtrak_core.settings import Digest, Seed, Settings, key_of
from dtrak_core.store import Artifact

KIND, FILE = "suspicions", "suspicions.npy"


class SuspicionSettings(Settings):
    """Which model's doubts: `others` captions beside the own one, `num_timesteps` draws each."""

    dataset: Digest
    checkpoint: Digest
    others: int = Field(default=4, ge=1, le=64)
    num_timesteps: EvenGrid = 10
    noise_seed: Seed = 0


def refusal(checkpoint: Checkpoint, dataset: Dataset) -> str:
    """Say why a model cannot doubt captions; nothing where it can."""
    if not checkpoint.prompted:
        return f"'{checkpoint.name}' is told neither captions nor classes, so it cannot doubt them."
    if len(set(told(checkpoint, dataset))) < 2:
        return f"All pictures of '{dataset.name}' are told alike, so there is no other caption to compare with."
    return ""


def told(checkpoint: Checkpoint, dataset: Dataset) -> list[str]:
    """Return what the model is told of each training picture."""
    return [str(row["label"]) if checkpoint.classes else prompt_of(row) for row in dataset.train.rows]


def others(captions: Sequence[str], count: int) -> list[list[str]]:
    """Return for each picture up to `count` different captions of other pictures, none its own, drawn once for all."""
    different = sorted(set(captions))
    random = np.random.default_rng(0)
    found = []
    for own in captions:
        order = random.permutation(len(different))[: count + 1]
        found.append([different[i] for i in order if different[i] != own][:count])
    return found


def find(dataset: Dataset, checkpoint: Checkpoint) -> np.ndarray | None:
    """Return the stored suspicion of each training picture, (N,), None where it was not measured."""
    artifact = store.find(KIND, key_of(KIND, settings_of(dataset, checkpoint)))
    return None if artifact is None else np.asarray(artifact.array(FILE), np.float64)


def settings_of(dataset: Dataset, checkpoint: Checkpoint) -> SuspicionSettings:
    """Return the usual settings."""
    return SuspicionSettings(dataset=dataset.digest, checkpoint=checkpoint.digest)


def cost(dataset: Dataset, checkpoint: Checkpoint) -> Cost:
    """Return what it costs to measure all captions."""
    settings = settings_of(dataset, checkpoint)
    passes = len(dataset.train.rows) * (1 + settings.others) * settings.num_timesteps
    return costs.losses(checkpoint, passes)


def compute(dataset: Dataset, settings: SuspicionSettings, on_progress: Progress) -> Artifact:
    """Measure and store the suspicion of every training picture's caption.

    Raises:
        SettingsError: If the model is told nothing.
    """
    key = key_of(KIND, settings)
    with store.computing(KIND, key, on_progress) as found:
        return found or _measured(dataset, settings, key, on_progress)


def _measured(dataset: Dataset, settings: SuspicionSettings, key: str, on_progress: Progress) -> Artifact:
    from dtrak_core.features import draws, losses
    from dtrak_core.models import open_models

    checkpoint = checkpoints.by_digest(settings.checkpoint, settings.dataset)
    if reason := refusal(checkpoint, dataset):
        raise SettingsError(reason)
    denoiser = open_models.opened(checkpoint)
    grid = draws.timesteps("uniform", settings.num_timesteps, denoiser.process.steps)
    weights = losses.weights(denoiser, grid)
    captions = told(checkpoint, dataset)
    against, values = others(captions, settings.others), np.empty(len(captions))
    for i, own in enumerate(captions):
        on_progress(i, len(captions), "pictures", "Losses under own and other captions")
        image, name = dataset.train.images[i], f"train:{i}"
        each = [
            float((losses.of_draws(denoiser, image, name, grid, settings.noise_seed, one) * weights).mean())
            for one in [own, *against[i]]
        ]
        values[i] = each[0] - np.median(each[1:])
    store.write_array(store.partial(KIND, key) / FILE, values)
    return store.publish(KIND, key, settings, rows=len(values))
