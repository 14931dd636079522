"""The models of an LDS: which subset each is trained on, with which seed, and what is known of their losses. No torch.

Models are counted seed by seed: all subsets with the first training seed, then all with the second. So a run that is
not finished tells something about as many subsets as possible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from dtrak_core import lds, store, subsets, targets
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.removals import training_of
from dtrak_core.settings import Digest, Sampled, Seed, TrainSettings, key_of
from dtrak_core.targets import TargetId

LOSSES = "losses.npy"


class Measured(Sampled):
    """Which losses are measured, of whatever model.

    `num_timesteps` are spread over all noise levels; the paper takes all 1,000, `noise_seeds` 3 and `share` 0.5.
    """

    dataset: Digest
    checkpoint: Digest
    targets: tuple[TargetId, ...] = Field(min_length=1)
    share: float = Field(default=0.5, gt=0, lt=1)
    num_timesteps: int = Field(default=50, ge=1, le=1000)
    noise_seeds: int = Field(default=1, ge=1, le=100)


class LossSettings(Measured):
    """The losses of all targets under one model: trained on one subset, with one seed."""

    subset: int = Field(ge=0, lt=subsets.DRAWN["lds-val"])
    train_seed: Seed


class LdsSettings(Measured):
    """All models of an LDS: `num_subsets` x `train_seeds`; the paper trains 64 x 3."""

    num_subsets: int = Field(default=32, ge=3, le=subsets.DRAWN["lds-val"])
    train_seeds: int = Field(default=1, ge=1, le=10)


@dataclass(frozen=True)
class Losses:
    """What is known so far: masks (S, N), losses (S, R, M); `expected` models, of which `done` are finished."""

    masks: np.ndarray
    losses: np.ndarray
    done: int
    expected: int


def models(settings: LdsSettings) -> list[LossSettings]:
    """Return every model of an LDS, seed by seed."""
    shared = settings.model_dump(include=set(Measured.model_fields))
    return [
        LossSettings(**shared, subset=subset, train_seed=seed)
        for seed in range(settings.train_seeds)
        for subset in range(settings.num_subsets)
    ]


def subset_of(dataset: Dataset, number: int, share: float) -> np.ndarray:
    """Return a subset's training indices in order: the paper's draw, stratified where each label is on two pictures."""
    labels = dataset.train.labels
    _, counts = np.unique(labels, return_counts=True)
    stratified = len(counts) > 1 and counts.min() >= 2
    drawn = subsets.subset("lds-val", number, len(labels), list(labels) if stratified else None, share)
    return np.sort(drawn)


def training(dataset: Dataset, checkpoint: Checkpoint, one: LossSettings) -> TrainSettings:
    """Return the settings that train one model: the original's, on the subset and with the seed.

    Raises:
        SettingsError: If the checkpoint cannot be trained again.
    """
    indices = tuple(subset_of(dataset, one.subset, one.share).tolist())
    return TrainSettings(**training_of(checkpoint).model_dump() | {"indices": indices, "train_seed": one.train_seed})


def lacking(settings: LdsSettings) -> list[LossSettings]:
    """Return the models whose losses are not stored, in order."""
    return [one for one in models(settings) if store.find("subset-losses", key_of("subset-losses", one)) is None]


def read(dataset: Dataset, settings: LdsSettings) -> Losses:
    """Return the losses that are stored: of all seeds that every subset has, or else of the first seed alone."""
    found: dict[tuple[int, int], np.ndarray] = {}
    every = models(settings)
    for one in every:
        artifact = store.find("subset-losses", key_of("subset-losses", one))
        if artifact is not None:
            found[one.subset, one.train_seed] = np.asarray(artifact.array(LOSSES), np.float64)
    all_of = range(settings.num_subsets)
    whole = [seed for seed in range(settings.train_seeds) if all((subset, seed) in found for subset in all_of)] or [0]
    there = [subset for subset in all_of if all((subset, seed) in found for seed in whole)]
    values = [[found[subset, seed] for seed in whole] for subset in there]
    shape = (len(there), len(whole), len(settings.targets))
    masks = lds.masks_of([subset_of(dataset, subset, settings.share) for subset in there], len(dataset.train.labels))
    return Losses(masks, np.array(values).reshape(shape), len(found), len(every))


def pictures(dataset: Dataset, settings: Measured) -> list[targets.Target]:
    """Return the targets, in order.

    Raises:
        NotFoundError: If one was never generated or does not exist.
    """
    how = (settings.sampler, settings.sampling_steps, settings.eta)
    return [targets.resolve(dataset, settings.checkpoint, name, *how) for name in settings.targets]
