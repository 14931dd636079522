"""The models of an LDS: which subset each is trained on, with which seed, and what is known of their losses. No torch.

Models are counted seed by seed: all subsets with the first training seed, then all with the second. So a run that is
not finished tells something about as many subsets as possible.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from dtrak_core import store
from dtrak_core.datasets import catalogue, subsets
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features import draws
from dtrak_core.lds import lds
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import EvenGrid, Sampled, TrainSettings
from dtrak_core.models.targets import TargetId
from dtrak_core.settings import Digest, Seed, canonical_json, key_of

LOSSES, LEVELS = "losses.npy", "timesteps.npy"


class Measured(Sampled):
    """Which losses are measured, of whatever model.

    `num_timesteps` are spread over all noise levels; the paper takes all 1,000, `noise_seeds` 3 and `share` 0.5.
    `learned` is how many pictures the checkpoint has learned from where those were chosen (`learned_by`): subsets are
    parts of them, so that no model learns from a picture that the original never saw.
    """

    dataset: Digest
    checkpoint: Digest
    targets: tuple[TargetId, ...] = Field(min_length=1)
    share: float = Field(default=0.5, gt=0, lt=1)
    num_timesteps: EvenGrid = 50
    noise_seeds: int = Field(default=1, ge=1, le=100)
    learned: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)


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
    """What is known so far: numbers of S subsets, masks (S, N), losses (S, R, M), NaN where a seed is not trained.

    Of `expected` models `done` are finished. `leaked` are the held-out targets that equal a training picture by pixels;
    the paper's own draws keep theirs (`keeps`), from others' LDS they are left out.
    """

    subsets: list[int]
    masks: np.ndarray
    losses: np.ndarray
    done: int
    expected: int
    leaked: frozenset[str] = frozenset()
    keeps: bool = False

    def counts(self, target: str) -> bool:
        """Say whether a target is counted in an LDS."""
        return self.keeps or target not in self.leaked

    @property
    def mean(self) -> np.ndarray:
        """Return each subset's loss, the mean over the seeds that are there, shape (S, M)."""
        found: np.ndarray = np.nanmean(self.losses, axis=1)
        return found


def learned_by(checkpoint: Checkpoint) -> int | None:
    """Return how many pictures a checkpoint has learned from where those were chosen; None for the whole set."""
    chosen = checkpoints.learned(checkpoint)
    return None if chosen is None else len(set(chosen))


def drawn_from(dataset: str, checkpoint: str, learned: int | None) -> Sequence[int] | None:
    """Return the training indices that subsets are drawn from, None for all of them.

    Args:
        dataset: Digest of the training set.
        checkpoint: Digest of the original model.
        learned: `Measured.learned`.
    """
    return None if learned is None else checkpoints.learned(checkpoints.by_digest(checkpoint, dataset))


def models(settings: LdsSettings) -> list[LossSettings]:
    """Return every model of an LDS, seed by seed."""
    shared = settings.model_dump(include=set(Measured.model_fields))
    return [
        LossSettings(**shared, subset=subset, train_seed=seed)
        for seed in range(settings.train_seeds)
        for subset in range(settings.num_subsets)
    ]


def check(dataset: Dataset, checkpoint: Checkpoint, settings: Measured) -> None:
    """Refuse what would only fail once a model is trained: subsets that cannot be drawn, targets that are none.

    Raises:
        NotFoundError: If a target that is not generated does not exist.
        SettingsError: If the checkpoint cannot be trained again, a subset not be drawn, no target is counted, or
            its noise schedule has fewer timesteps; if subsets would hold pictures that it has not learned from.
    """
    among = checkpoints.training_of(checkpoint).indices
    if settings.learned != learned_by(checkpoint):
        raise SettingsError(
            f"This LDS is of models trained on parts of all pictures of '{dataset.name}', and '{checkpoint.name}' has "
            "learned from some of them alone. Ask for it again: parts are drawn of those."
        )
    draws.timesteps("uniform", settings.num_timesteps, checkpoints.process_of(checkpoint)[1])
    subsets.random_part("lds-val", 0, dataset.train.labels, settings.share, among)
    for name in settings.targets:
        if not name.startswith("seed:"):
            targets.resolve(dataset, settings.checkpoint, name, settings)
    leaked, keeps = _leaked(dataset, settings)
    if not keeps and leaked.issuperset(settings.targets):
        raise SettingsError(
            f"All targets of this LDS are training pictures of '{dataset.name}' too, by pixels, and such are not "
            "counted. Add generated pictures, or held-out ones that are not trained on."
        )


def training(dataset: Dataset, checkpoint: Checkpoint, settings: LossSettings) -> TrainSettings:
    """Return the settings that train one model: the original's, on the subset and with the seed.

    Raises:
        SettingsError: If the checkpoint cannot be trained again.
    """
    original, labels = checkpoints.training_of(checkpoint), dataset.train.labels
    chosen = subsets.random_part("lds-val", settings.subset, labels, settings.share, original.indices)
    return TrainSettings(
        **original.model_dump() | {"indices": tuple(chosen.tolist()), "train_seed": settings.train_seed}
    )


@dataclass(frozen=True)
class _Labels:
    """A training set's labels, told apart by the dataset's digest, which covers them."""

    dataset: str
    values: Sequence[str] = field(compare=False, repr=False)


def untrained(dataset: Dataset, checkpoint: Checkpoint, wanted: Sequence[LossSettings]) -> list[LossSettings]:
    """Return those of the models that are not stored themselves, whatever is known of their losses.

    Raises:
        SettingsError: If the checkpoint cannot be trained again.
    """
    if not any(store.entries(base / "retrained") for base in (store.root(), store.demo_root())):
        return list(wanted)
    original, labels = checkpoints.training_of(checkpoint), _Labels(dataset.digest, dataset.train.labels)
    keys = [_key_of_training(labels, original, one.subset, one.share, one.train_seed) for one in wanted]
    return [one for one, key in zip(wanted, keys, strict=True) if store.find("retrained", key) is None]


@functools.lru_cache(maxsize=4096)
def _key_of_training(labels: _Labels, original: TrainSettings, subset: int, share: float, seed: int) -> str:
    """Return the key of a trained model: with all indices in it, it is slow to make, and pages ask on every rerun."""
    indices = _indices(labels, subset, share, original.indices)
    return key_of("retrained", original.model_copy(update={"indices": indices, "train_seed": seed}))


@functools.lru_cache(maxsize=64)
def _indices(labels: _Labels, subset: int, share: float, among: tuple[int, ...] | None) -> tuple[int, ...]:
    return tuple(subsets.random_part("lds-val", subset, labels.values, share, among).tolist())


def masks_of(labels: Sequence[str], num_subsets: int, share: float, among: Sequence[int] | None = None) -> np.ndarray:
    """Return which training examples each subset holds, bool, shape (S, N): known before anything is trained.

    Subsets are drawn `among` training indices (`drawn_from`): what the original never saw is in none of them.
    """
    drawn = [subsets.random_part("lds-val", number, labels, share, among) for number in range(num_subsets)]
    return lds.masks_of(drawn, len(labels))


def lacking(settings: LdsSettings) -> list[LossSettings]:
    """Return the models whose losses are not stored, in order."""
    return [one for one in models(settings) if store.find("subset-losses", key_of("subset-losses", one)) is None]


def read(dataset: Dataset, settings: LdsSettings, levels: slice | None = None) -> Losses:
    """Return the losses that are stored, of every subset that has a model of any seed.

    `levels` takes the mean over some of the measured timesteps, in their order, instead of over all of them; models
    of which it is not known by timestep (what ships, and what was measured before that was kept) are left out then.
    """
    found: dict[tuple[int, int], np.ndarray] = {}
    every = models(settings)
    for one in every:
        artifact = store.find("subset-losses", key_of("subset-losses", one))
        if artifact is None:
            continue
        if levels is None:
            found[one.subset, one.train_seed] = np.asarray(artifact.array(LOSSES), np.float64)
        elif LEVELS in artifact.manifest["files"]:
            found[one.subset, one.train_seed] = np.asarray(artifact.array(LEVELS), np.float64)[:, levels].mean(1)
    there = sorted({subset for subset, _ in found})
    among = drawn_from(settings.dataset, settings.checkpoint, settings.learned)
    masks = masks_of(dataset.train.labels, settings.num_subsets, settings.share, among)
    losses = np.full((len(there), settings.train_seeds, len(settings.targets)), np.nan)
    for place, subset in enumerate(there):
        for seed in range(settings.train_seeds):
            if (subset, seed) in found:
                losses[place, seed] = found[subset, seed]
    leaked, keeps = _leaked(dataset, settings)
    return Losses(there, masks[there], losses, len(found), len(every), leaked, keeps)


def _leaked(dataset: Dataset, settings: Measured) -> tuple[frozenset[str], bool]:
    """Return the held-out targets that equal a training picture by pixels, and whether they are counted even so."""
    found = {f"held-out:{number}" for number in dataset.equal.leaked}.intersection(settings.targets)
    return frozenset(found), dataset.settings.kind in catalogue.PAPERS


def pictures(dataset: Dataset, settings: Measured) -> list[targets.Target]:
    """Return the targets, in order.

    Raises:
        NotFoundError: If one was never generated or does not exist.
    """
    return [targets.resolve(dataset, settings.checkpoint, name, settings) for name in settings.targets]


def stored(settings: LdsSettings) -> list[store.Artifact]:
    """Return the stored losses of an LDS's models, in order."""
    found = [store.find("subset-losses", key_of("subset-losses", one)) for one in models(settings)]
    return [one for one in found if one is not None]


def of_checkpoint(dataset: str, checkpoint: str) -> list[LdsSettings]:
    """Return the questions about a checkpoint of which models are stored, with as many as there are: most first.

    Models of before 2026-11-28 whose subsets hold pictures that the checkpoint has not learned from are left out.
    """
    grouped: dict[str, list[store.Artifact]] = {}
    for artifact in store.listing("subset-losses"):
        if (artifact.settings["dataset"], artifact.settings["checkpoint"]) == (dataset, checkpoint):
            shared = {n: artifact.settings[n] for n in Measured.model_fields if n in artifact.settings}
            grouped.setdefault(canonical_json(shared), []).append(artifact)
    if grouped:
        learned = learned_by(checkpoints.by_digest(checkpoint, dataset))
        grouped = {key: same for key, same in grouped.items() if same[0].settings.get("learned") == learned}
    found = []
    for same in sorted(grouped.values(), key=len, reverse=True):
        shared = {n: same[0].settings[n] for n in Measured.model_fields if n in same[0].settings}
        seeds = 1 + max(one.settings["train_seed"] for one in same)
        count = 1 + max(one.settings["subset"] for one in same)
        found.append(LdsSettings(**shared, num_subsets=max(3, count), train_seeds=seeds))
    return found
