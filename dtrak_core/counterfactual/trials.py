"""Is a model better off without some training pictures? Trained without them, and without as many random ones.

Every arm (nothing removed, these pictures, random sets of as many) is trained with the same seeds, none of them the
original's, and measured by the mean denoising loss over the same held-out pictures and draws. Each random set is one
draw of chance, so that p counts sets:

    p = (1 + random sets whose removal gives at most this loss) / (1 + random sets)

Models are those of comparisons where these train the same. No torch until a model is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual import removal_sets, removals
from dtrak_core.counterfactual.settings import TrialSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import copies, costs
from dtrak_core.methods.costs import Cost
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import Progress, onward
from dtrak_core.settings import build, key_of
from dtrak_core.store import Artifact

KIND, FILE = "trials", "losses.npy"
MOST = 64  # held-out pictures
NOTHING, THESE, RANDOM = "nothing", "these", "random"


@dataclass(frozen=True)
class Arm:
    """A training set that leaves something out: nothing, these pictures, or a random set."""

    name: str
    removed: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Trial:
    """Mean held-out losses: with nothing removed, without these pictures, and without each random set.

    Each is the mean over training seeds; a larger loss is worse.
    """

    settings: TrialSettings
    nothing: float
    these: float
    random: tuple[float, ...]

    @property
    def p(self) -> float:
        """Return how often random sets do as well or better, these pictures counted among them."""
        return (1 + sum(one <= self.these for one in self.random)) / (1 + len(self.random))

    @property
    def sentence(self) -> str:
        """Say what it shows."""
        settings = self.settings
        own = self.these - self.nothing
        chance = [one - self.nothing for one in self.random]
        told = (
            f"Trained without these {counted(len(settings.removed), 'picture')}, the loss over "
            f"{counted(len(settings.targets), 'held-out picture')} changes by {own:+.5f} (of {self.nothing:.5f}); "
            f"without as many random ones by {min(chance):+.5f} to {max(chance):+.5f} "
            f"({counted(len(chance), 'random set')}, {counted(settings.train_seeds, 'training seed')} each)"
        )
        better = sum(one > self.these for one in self.random)
        if better == len(self.random):
            end = "the model is better off without these than without any of the random sets"
        elif better == 0:
            end = "the model misses these more than any of the random sets"
        else:
            end = "no more than chance"
        return f"{told}: {end} (p = {self.p:.2g}).".replace(" -", " −")


def settings_for(
    dataset: Dataset, checkpoint: Checkpoint, removed: Sequence[int], random_draws: int = 3, train_seeds: int = 1
) -> TrialSettings:
    """Return the settings of a trial without these pictures.

    Raises:
        SettingsError: If the checkpoint cannot be trained again, no held-out picture is unlike all training pictures,
            or a number cannot be removed.
    """
    learned = removals.trained_on(dataset, checkpoint)
    taken = removal_sets.ascending(list(set(removed)))
    if len(wrong := np.setdiff1d(taken, learned)):
        raise SettingsError(f"The model has not learned from training picture {wrong[0]}. Leave it out.")
    if not taken or len(taken) >= len(learned):
        raise SettingsError(
            f"{len(taken)} of {len(learned)} training pictures cannot be removed. Remove at least 1 and leave 1."
        )
    if reason := copies.no_reference(dataset):
        raise SettingsError(f"{reason}, so no loss says whether the model is better off.")
    own = copies.reference_of(dataset)
    chosen = np.unique(np.linspace(0, len(own) - 1, min(MOST, len(own))).astype(int))
    return build(
        TrialSettings,
        dataset=dataset.digest,
        checkpoint=checkpoint.digest,
        removed=taken,
        random_draws=random_draws,
        train_seeds=train_seeds,
        targets=tuple(own[i].id for i in chosen),
    )


def arms(dataset: Dataset, checkpoint: Checkpoint, settings: TrialSettings) -> list[Arm]:
    """Return what is trained: nothing removed first, then these, then the random sets."""
    learned = removals.trained_on(dataset, checkpoint)
    found = [Arm(NOTHING, ()), Arm(THESE, settings.removed)]
    for draw in range(settings.random_draws):
        places = list(removal_sets.random_set(len(learned), len(settings.removed), draw))
        found.append(Arm(RANDOM, removal_sets.ascending(learned[places])))
    return found


def seeds(checkpoint: Checkpoint, settings: TrialSettings) -> list[int]:
    """Return the training seeds of every arm."""
    own = checkpoints.training_of(checkpoint).train_seed
    return [(own + 1 + number) % 2**31 for number in range(settings.train_seeds)]


def cost(dataset: Dataset, checkpoint: Checkpoint, settings: TrialSettings) -> Cost:
    """Return what a trial costs; models that are stored already cost nothing."""
    every = list(itertools.product(arms(dataset, checkpoint, settings), seeds(checkpoint, settings)))
    runs = [removals.retraining(dataset, checkpoint, arm.removed, seed) for arm, seed in every]
    fresh = [run for run in runs if store.find("retrained", key_of("retrained", run)) is None]
    learned = len(removals.trained_on(dataset, checkpoint))
    steps = sum(run.epochs * (learned if run.indices is None else len(run.indices)) for run in fresh)
    passes = len(every) * len(settings.targets) * settings.num_timesteps
    return (costs.training(checkpoint, steps) if fresh else Cost()) + costs.losses(checkpoint, passes)


def find(settings: TrialSettings) -> Trial | None:
    """Return a stored trial."""
    artifact = store.find(KIND, key_of(KIND, settings))
    return None if artifact is None else _open(artifact)


def listing(dataset: Dataset, checkpoint: Checkpoint) -> list[Trial]:
    """Return the stored trials of a checkpoint, the newest first."""
    wanted = {"dataset": dataset.digest, "checkpoint": checkpoint.digest}
    found = [one for one in store.listing(KIND) if wanted.items() <= one.settings.items()]
    return [_open(one) for one in sorted(found, key=lambda one: str(one.manifest["date"]), reverse=True)]


def document(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain JSON values."""
    return {
        "sentence": trial.sentence,
        "removed": list(trial.settings.removed),
        "loss_nothing_removed": trial.nothing,
        "loss_without_these": trial.these,
        "losses_without_random": list(trial.random),
        "p": trial.p,
        "settings": trial.settings.model_dump(mode="json"),
    }


def compute(dataset: Dataset, settings: TrialSettings, on_progress: Progress) -> Artifact:
    """Train every arm and store its losses: losses.npy (arms, seeds, targets), float64."""
    key = key_of(KIND, settings)
    with store.computing(KIND, key, on_progress) as found:
        return found or _measured(dataset, settings, key, on_progress)


def _measured(dataset: Dataset, settings: TrialSettings, key: str, on_progress: Progress) -> Artifact:
    from dtrak_core.features.losses import denoising_loss
    from dtrak_core.training.retrained import retrained

    checkpoint = checkpoints.by_digest(settings.checkpoint, settings.dataset)
    measured = [targets.resolve(dataset, settings.checkpoint, name) for name in settings.targets]
    every = list(itertools.product(arms(dataset, checkpoint, settings), seeds(checkpoint, settings)))
    runs = [removals.retraining(dataset, checkpoint, arm.removed, seed) for arm, seed in every]
    steps = [run.steps(len(dataset.train.rows)) for run in runs]
    values = np.empty((len(runs), len(measured)))
    on_progress = onward(on_progress)
    for number, run in enumerate(runs):
        before, about = sum(steps[:number]), f"Model {number + 1} of {len(runs)}: {every[number][0].name} removed"

        def part(done: int, _total: int, unit: str, message: str, before: int = before, about: str = about) -> None:
            on_progress(before + done, sum(steps), unit, f"{about}. {message}")

        denoiser = retrained(dataset, run, part, lambda: runs)
        for place, target in enumerate(measured):
            part(steps[number], 0, "training steps", f"Losses: {place} of {len(measured)}")
            values[number, place] = denoising_loss(denoiser, target, settings.num_timesteps, settings.noise_seed)
    shaped = values.reshape(-1, settings.train_seeds, len(measured))
    store.write_array(store.partial(KIND, key) / FILE, shaped)
    return store.publish(KIND, key, settings, models=len(runs))


def _open(artifact: Artifact) -> Trial:
    settings = build(TrialSettings, **artifact.settings)
    means = np.asarray(artifact.array(FILE), np.float64).mean((1, 2))
    return Trial(settings, float(means[0]), float(means[1]), tuple(float(one) for one in means[2:]))
