"""What a comparison of removals consists of: which pictures each removal takes, which trainings that asks for.

No torch here: pages count trainings before anything is computed. The controls belong to every plan: nothing
removed and the original's training seed (identity), nothing removed (noise floor), and random removals as large as
each other removal. All arms but the identity have the same training seeds, none of them the original's, and every
model draws every target (docs/design.md, "Statistics").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dtrak_core import store
from dtrak_core.counterfactual import encoders, removal_sets
from dtrak_core.counterfactual.removal_sets import CONTRIBUTOR, SAME, ascending, grouped, is_fixed, random_set
from dtrak_core.counterfactual.settings import GROUPS, CounterfactualSettings, OutcomeSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.subsets import complement
from dtrak_core.errors import SettingsError, shortened
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import defaults, embeddings, scores
from dtrak_core.methods.methods import method_of
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings, TrainSettings
from dtrak_core.settings import build, key_of

IDENTITY, FLOOR, RANDOM, BOTTOM = "identity", "noise_floor", "random", "bottom"
Model: TypeAlias = tuple[tuple[int, ...], int]  # (removed, train_seed): what a trained model is known by


@dataclass(frozen=True)
class Wanted:
    """One bar of a comparison: what a model makes of `target`.

    `owner` is the target for which the removal was named, empty for controls and contributors. `draw` numbers what an
    arm has several of, random sets and training seeds; `asked` is the size asked for.
    """

    target: str
    method: str
    draw: int
    asked: int
    removed: tuple[int, ...]
    train_seed: int
    owner: str = ""


@dataclass(frozen=True)
class _Arm:
    """What one set of models leaves out, and for which target it was named."""

    owner: str
    method: str
    draw: int
    asked: int
    removed: tuple[int, ...]


def plan(dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings) -> list[Wanted]:
    """Return every bar of a comparison, in the order in which it is best computed: controls, then target by target.

    Raises:
        NotFoundError: If scores are not stored yet, or a contributor is unknown.
        SettingsError: If the checkpoint cannot be trained again, or a removal leaves nothing to train on.
    """
    learned = trained_on(dataset, checkpoint)
    own = _named(dataset, checkpoint, settings, learned)
    sizes = list(dict.fromkeys((arm.asked, len(arm.removed)) for arm in own))
    arms = []
    for draw in range(settings.random_draws):
        for asked, size in sizes:
            arms.append(_Arm("", RANDOM, draw, asked, ascending(learned[list(random_set(len(learned), size, draw))])))
        if draw == 0:
            arms.append(_Arm("", FLOOR, 0, 0, ()))
    unmoved = original(checkpoint)
    found = [Wanted(target, IDENTITY, 0, 0, *unmoved) for target in settings.targets]
    seeds = train_seeds(checkpoint, settings)
    for number, seed in enumerate(seeds):
        for arm in [*arms, *own]:
            where = (arm.method, arm.draw * len(seeds) + number, arm.asked, arm.removed, seed, arm.owner)
            found += [Wanted(target, *where) for target in settings.targets]
    for number, seed in enumerate(_seeds(checkpoint, settings.floor_models)[len(seeds) :], len(seeds)):
        found += [Wanted(target, FLOOR, number, 0, (), seed) for target in settings.targets]
    return found


def train_seeds(checkpoint: Checkpoint, settings: CounterfactualSettings) -> tuple[int, ...]:
    """Return the training seeds that every arm has: those that follow the original's, which is none of them."""
    return _seeds(checkpoint, settings.train_seeds)


def _seeds(checkpoint: Checkpoint, count: int) -> tuple[int, ...]:
    own = checkpoints.training_of(checkpoint).train_seed
    return tuple((own + 1 + number) % 2**31 for number in range(count))


def trained_on(dataset: Dataset, checkpoint: Checkpoint) -> np.ndarray:
    """Return the training indices that a checkpoint has learned from: only those can be taken from it."""
    chosen = checkpoints.training_of(checkpoint).indices
    return np.arange(len(dataset.train.rows)) if chosen is None else np.array(chosen)


def settings_for(
    dataset: Dataset,
    checkpoint: Checkpoint,
    methods: tuple[str, ...],
    asked: Mapping[str, Any],
    encoder: EmbeddingModel | None = None,
) -> CounterfactualSettings:
    """Return the settings of a comparison, with stored features where there are some and the encoder that can be had.

    Pages and command line share it, so that equal questions are one job.

    Raises:
        NotFoundError: If a method compares checkpoints that were not kept, or members of an ensemble that are not
            trained, or a contributor is unknown.
        SettingsError: If the checkpoint cannot be trained again, or a size leaves nothing to train on.
    """
    learned = trained_on(dataset, checkpoint)
    # By their ids, of which those of own scores say which ones.
    count = len(dataset.train.rows)
    methods = tuple(removal_sets.settled(one, count) if is_fixed(one) else method_of(one).id for one in methods)
    wanted = [method_of(one) for one in methods if not is_fixed(one)]
    each: list[FeatureSettings] = []
    for one in wanted:
        if one.model_output is not None:
            base = defaults.base_for(dataset.digest, checkpoint.digest, one, {})
            each += scores.models_of(one, dataset.digest, checkpoint.digest, base)
    features = tuple(dict.fromkeys(each))
    if encoder is None:
        encoder = "efficientnet-lite0" if embeddings.available("clip-vit-b-32") else "clip-vit-b-32"
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "methods": methods}
    if needs_facts(methods, asked.get("group", "none")):
        where["facts"] = dataset.facts
    settings = encoders.settled(build(CounterfactualSettings, **where, features=features, encoder=encoder, **asked))
    fixed = tuple(one for one in methods if is_fixed(one))
    _named(dataset, checkpoint, settings.model_copy(update={"methods": fixed}), learned)  # refused before it is begun
    return settings


def check_group(dataset: Dataset, group: str, instead: str) -> None:
    """Refuse groups that are unknown or that no picture is in; `instead` is the sentence that says what to do."""
    if group not in GROUPS:
        raise SettingsError(f"group is {shortened(repr(group))}; choose one of {', '.join(GROUPS)}.")
    if group != "none" and not any(row.get(group) for row in dataset.train.rows):
        raise SettingsError(f"No training picture of '{dataset.name}' has a {group}. {instead}")


def check(dataset: Dataset, methods: Sequence[str], group: str, instead: str) -> None:
    """Refuse before anything is computed what would fail after: groups as `check_group`, an encoder not here."""
    check_group(dataset, group, instead)
    wanted = [method_of(one) for one in methods if not is_fixed(one)]
    for model in dict.fromkeys(one.embedding for one in wanted if one.embedding is not None):
        stored = [a.settings for a in store.listing("embeddings") if a.settings["pixels"] == dataset.digest]
        known = any((one["model"], one["weights"]) == (model, embeddings.known_weights(model)) for one in stored)
        if not known and (reason := embeddings.available(model)):
            raise SettingsError(reason)


def needs_facts(methods: Sequence[str], group: str) -> bool:
    """Say whether removal sets depend on who made the training pictures, or on families."""
    by_facts = (CONTRIBUTOR, f"{SAME}family", f"{SAME}contributor")
    return group in ("family", "contributor") or any(method.startswith(by_facts) for method in methods)


def original(checkpoint: Checkpoint) -> Model:
    """Return (removed, train_seed) of the checkpoint itself."""
    return (), checkpoints.training_of(checkpoint).train_seed


def lacking(
    wanted: Sequence[Wanted], settings: CounterfactualSettings
) -> dict[tuple[tuple[int, ...], int], list[Wanted]]:
    """Return the bars whose outcome is not stored, by the model (removed, train_seed) that they need."""
    found: dict[Model, list[Wanted]] = {}
    for bar in wanted:
        if store.find("outcomes", key_of("outcomes", outcome_of(bar, settings))) is None:
            found.setdefault((bar.removed, bar.train_seed), []).append(bar)
    return found


def count_trainings(settings: CounterfactualSettings) -> int:
    """Return how many trainings a comparison costs at most, before any score is known."""
    fixed = sum(
        1 if removal_sets.is_shared(one) else len(settings.targets) for one in settings.methods if is_fixed(one)
    )
    ranked = sum(not is_fixed(one) for one in settings.methods)
    # A contributor's pictures are one removal, whatever the target and the size asked for.
    sizes = removals = fixed
    if ranked:
        # Whole groups differ in size by target and method, and each size has random draws of its own.
        by_group = len(settings.targets) * ranked + _removes_lowest(settings)
        sizes += len(settings.remove) * (1 if settings.group == "none" else by_group)
        removals += (ranked + _removes_lowest(settings)) * len(settings.targets) * len(settings.remove)
    further = max(0, settings.floor_models - settings.train_seeds)
    return settings.train_seeds * (1 + settings.random_draws * sizes + removals) + further


def retraining(dataset: Dataset, checkpoint: Checkpoint, removed: tuple[int, ...], train_seed: int) -> TrainSettings:
    """Return the original training settings without the removed pictures, with this training seed."""
    original = checkpoints.training_of(checkpoint)
    left = np.intersect1d(trained_on(dataset, checkpoint), complement(len(dataset.train.rows), removed))
    indices = original.indices if not removed else tuple(left.tolist())
    return TrainSettings(**(original.model_dump() | {"indices": indices, "train_seed": train_seed}))


def outcome_of(wanted: Wanted, settings: CounterfactualSettings) -> OutcomeSettings:
    """Return the settings under which one bar's picture and distances are stored."""
    return OutcomeSettings(
        sample=sample_of(wanted.target, settings),
        removed=wanted.removed,
        train_seed=wanted.train_seed,
        encoder=settings.encoder,
        encoder_weights=encoders.weights_of(settings, settings.encoder),
        take_over=settings.take_over,
    )


def sample_of(target: str, settings: CounterfactualSettings) -> SampleSettings:
    """Return the settings of a target's own picture."""
    return targets.sample_settings(settings.checkpoint, targets.seed_of(target), settings)


def features_of(settings: CounterfactualSettings, method: str) -> FeatureSettings | None:
    """Return the feature settings from which a method takes its models', None for one without gradients."""
    wanted = method_of(method)
    if wanted.model_output is None:
        return None
    own = (wanted.model_output, wanted.normalise, wanted.weighting)
    found = next(f for f in settings.features if (f.model_output, f.normalise, f.weighting) == own)
    return found.model_copy(update={"checkpoint": settings.checkpoint})


def _removes_lowest(settings: CounterfactualSettings) -> bool:
    """Say whether the lowest scores are removed too: they are the first method's, if it gives scores."""
    return settings.bottom and not is_fixed(settings.methods[0])


def _named(
    dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, learned: np.ndarray
) -> list[_Arm]:
    """Return the removals that were asked for: those that methods name for each target, then of contributors."""
    if max(settings.remove) >= len(learned):
        raise SettingsError(
            f"{max(settings.remove)} of {len(learned)} training pictures cannot be removed. Leave at least 1."
        )
    fixed = [method for method in settings.methods if is_fixed(method)]
    ranking = [method for method in settings.methods if method not in fixed]
    found: list[_Arm] = []
    for target in settings.targets:
        orders = {method: _order(dataset, checkpoint, settings, target, method, learned) for method in ranking}
        for size in settings.remove:
            for method, order in orders.items():
                taken = ascending(order[:size])
                if settings.group != "none":
                    taken = grouped(order, size, dataset.train.rows, settings.group)
                found.append(_Arm(target, method, 0, size, taken))
            if orders and _removes_lowest(settings):
                lowest = orders[settings.methods[0]][::-1][:size]
                found.append(_Arm(target, BOTTOM, 0, size, ascending(lowest)))
    for size in settings.remove:
        for one in fixed:
            if removal_sets.is_shared(one):
                found.append(_Arm("", one, 0, size, removal_sets.taken(one, dataset, learned)))
                continue
            for target in settings.targets:
                prompt = settings.prompt_of(targets.seed_of(target))
                taken = removal_sets.sharing(one, dataset, learned, target, prompt)
                found.append(_Arm(target, one, 0, size, taken))
    for arm in found:
        if len(arm.removed) >= len(learned):
            raise SettingsError(
                f"Without the pictures of '{arm.method}' none of the {len(learned)} training pictures is left. "
                "Remove fewer, or smaller groups."
            )
    return found


def _order(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    target: str,
    method: str,
    learned: np.ndarray,
) -> np.ndarray:
    """Return the training indices learned from, from the highest score to the lowest, equal scores by index."""
    found = targets.resolve(dataset, checkpoint.digest, target, settings)
    where = (method, dataset, checkpoint.digest, found, features_of(settings, method))
    result = scores.attribution_scores(*where, encoder_weights=encoders.of_method(settings, method))
    order = np.argsort(-result.values, kind="stable")
    return order[np.isin(order, learned)]
