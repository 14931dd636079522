"""What whole jobs cost, said before they are asked for: an LDS, a benchmark, a comparison, pictures. No torch here.

Pages and command line share it. Only what is not stored yet is counted, each thing once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core import store
from dtrak_core.counterfactual import removals
from dtrak_core.counterfactual.removal_sets import is_fixed
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError
from dtrak_core.lds import predictions, subset_models
from dtrak_core.lds.recipes import Recipe, method_for
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import costs, scores
from dtrak_core.methods.costs import Cost
from dtrak_core.methods.scores import Needed
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled, TrainSettings
from dtrak_core.models.targets import Target
from dtrak_core.settings import digest_of, key_of
from dtrak_core.training import ensembles

OUTCOME_TIMESTEPS = 50  # of a loss under a retrained model (`OutcomeSettings`)


def undrawn(checkpoint: Checkpoint, seeds: Sequence[int], sampled: Sampled) -> int:
    """Return of how many of these seeds no picture is stored that was drawn so."""
    wanted = [targets.sample_settings(checkpoint.digest, seed, sampled) for seed in dict.fromkeys(seeds)]
    return sum(store.find("samples", key_of("samples", one)) is None for one in wanted)


def of_drawing(checkpoint: Checkpoint, seeds: Sequence[int], sampled: Sampled) -> Cost:
    """Return what the pictures of these seeds cost that are not stored."""
    missing = undrawn(checkpoint, seeds, sampled)
    return costs.drawing(checkpoint, missing, sampled) if missing else Cost()


def of_lds(dataset: Dataset, checkpoint: Checkpoint, settings: LdsSettings, recipes: Sequence[Recipe] = ()) -> Cost:
    """Return what an LDS costs: its models and targets, the targets' losses, and what these recipes need.

    Raises:
        SettingsError: If the checkpoint cannot be trained again, or a subset not be drawn.
    """
    found, missing = Cost(), subset_models.lacking(settings)
    if missing:
        run = subset_models.training(dataset, checkpoint, missing[0])
        fresh = len(subset_models.untrained(dataset, checkpoint, missing))
        if fresh:  # all subsets are of one size
            found += costs.training(checkpoint, fresh * run.epochs * len(run.indices or ()))
        each = len(settings.targets) * settings.num_timesteps * settings.noise_seeds
        found += costs.losses(checkpoint, len(missing) * each)
    return found + of_recipes(dataset, checkpoint, settings, recipes, drawn=bool(missing))


def of_recipes(
    dataset: Dataset, checkpoint: Checkpoint, settings: LdsSettings, recipes: Sequence[Recipe], drawn: bool = False
) -> Cost:
    """Return what the predictions of these recipes cost that are not stored.

    Args:
        dataset: The training set.
        checkpoint: The model whose retraining is predicted.
        settings: The LDS.
        recipes: The recipes.
        drawn: Whether generated targets are drawn whatever the recipes need.
    """
    lacking = [one for one in recipes if predictions.find(one, settings) is None]
    found = Cost()
    if drawn or lacking:
        seeds = [targets.seed_of(name) for name in settings.targets if name.startswith("seed:")]
        found += of_drawing(checkpoint, seeds, settings)
    if not lacking:
        return found
    own = _targets(dataset, settings.targets, settings.checkpoint, settings)
    needed: list[Needed] = []
    members: dict[str, TrainSettings] = {}
    for recipe in lacking:
        method = method_for(recipe)
        predicted = predictions.settings_for(recipe, settings)
        chosen = [one for one in own if one.id in predicted.targets]
        plan = predictions.plan_of(dataset, predicted, chosen, train=True)
        if method.models:
            runs = ensembles.member_trainings(plan.checkpoint, method.models, dataset.digest)
            members |= {key_of("retrained", run): run for run in runs}
        needed += plan.missing
    found += _trainings(dataset, checkpoint, _untrained(list(members.values())))
    return found + scores.estimate(dataset, checkpoint, needed, own)


@dataclass(frozen=True)
class Removing:
    """What a comparison of removals costs, and how many of its `trainings` are `stored`.

    None are counted as stored, and the trainings are the most there can be, while scores are missing that would name
    them: `stored` is None then.
    """

    cost: Cost
    trainings: int
    stored: int | None


def of_comparison(dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings) -> Removing:
    """Return what a comparison of removals costs: scores, trainings, and what retrained models draw.

    Raises:
        NotFoundError: If a method compares checkpoints that were not kept.
        SettingsError: If the checkpoint cannot be trained again, or a removal leaves nothing to train on.
    """
    seeds = [targets.seed_of(name) for name in settings.targets]
    found = of_drawing(checkpoint, seeds, settings)
    own = _targets(dataset, settings.targets, settings.checkpoint, settings)
    needed: list[Needed] = []
    for name in settings.methods:
        if not is_fixed(name):
            base = removals.features_of(settings, name)
            needed += scores.resolve(name, dataset, checkpoint.digest, own, base, train=True).missing
    found += scores.estimate(dataset, checkpoint, needed, own)
    stored: int | None = None
    try:
        plan = removals.plan(dataset, checkpoint, settings)
    except NotFoundError:  # which models are trained is known once there are scores
        models = removals.count_trainings(settings)
        learned, epochs = len(removals.trained_on(dataset, checkpoint)), int(checkpoint.run.settings["epochs"])
        found += costs.training(checkpoint, models * learned * epochs)
        outcomes = (1 + models) * len(settings.targets)
    else:
        unmoved, lacking = removals.original(checkpoint), removals.lacking(plan, settings)
        models = len({(bar.removed, bar.train_seed) for bar in plan} - {unmoved})
        fresh = _untrained([removals.retraining(dataset, checkpoint, *one) for one in lacking if one != unmoved])
        found += _trainings(dataset, checkpoint, fresh)
        stored, outcomes = models - len(fresh), sum(len({bar.target for bar in bars}) for bars in lacking.values())
    if outcomes:
        found += costs.drawing(checkpoint, outcomes, settings)
        found += costs.losses(checkpoint, (outcomes + len(settings.targets)) * OUTCOME_TIMESTEPS)
        found += costs.embedding(2 * outcomes)
    return Removing(found, models, stored)


def _untrained(runs: Sequence[TrainSettings]) -> list[TrainSettings]:
    """Return those of these trainings that are not stored."""
    return [run for run in runs if store.find("retrained", key_of("retrained", run)) is None]


def _trainings(dataset: Dataset, checkpoint: Checkpoint, fresh: Sequence[TrainSettings]) -> Cost:
    """Return what these trainings cost."""
    if not fresh:
        return Cost()
    pictures = [len(dataset.train.rows) if run.indices is None else len(run.indices) for run in fresh]
    return costs.training(checkpoint, sum(run.epochs * count for run, count in zip(fresh, pictures, strict=True)))


def _targets(dataset: Dataset, names: Sequence[str], checkpoint: str, sampled: Sampled) -> list[Target]:
    """Return these targets; in the place of one that is still to be drawn a stand-in, of which nothing is stored."""
    found = []
    for name in names:
        try:
            found.append(targets.resolve(dataset, checkpoint, name, sampled))
        except NotFoundError:
            row = {}
            if name.startswith("seed:"):
                drawn = targets.sample_settings(checkpoint, targets.seed_of(name), sampled)
                row = {"settings": drawn.model_dump(mode="json")}
            found.append(Target(name, np.empty(0, np.uint8), digest_of("to be drawn", name), "", row))
    return found
