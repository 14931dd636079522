"""What a comparison of removals consists of: which pictures each removal takes, which trainings that asks for.

No torch here: pages count trainings before anything is computed. The controls belong to every plan:
nothing removed and the same seed (identity), nothing removed and other training seeds (noise floor), and
random removals as large as each other removal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dtrak_core import checkpoints, defaults, embeddings, scores, store, targets
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.methods import method_of
from dtrak_core.removal_settings import CounterfactualSettings, OutcomeSettings
from dtrak_core.results import Row
from dtrak_core.settings import EmbeddingModel, FeatureSettings, SampleSettings, build, key_of
from dtrak_core.subsets import complement
from dtrak_core.train_settings import TrainSettings

IDENTITY, FLOOR, RANDOM, BOTTOM = "identity", "noise_floor", "random", "bottom"
CONTRIBUTOR = "contributor:"
Model: TypeAlias = tuple[tuple[int, ...], int]  # (removed, train_seed): what a trained model is known by


@dataclass(frozen=True)
class Wanted:
    """One bar of a comparison: `draw` numbers random draws and noise-floor seeds; `asked` is the size asked for."""

    target: str
    method: str
    draw: int
    asked: int
    removed: tuple[int, ...]
    train_seed: int


def plan(dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings) -> list[Wanted]:
    """Return every bar of a comparison, in the order in which it is best computed: controls, then target by target.

    Raises:
        NotFoundError: If scores are not stored yet, or a contributor is unknown.
        SettingsError: If the checkpoint cannot be trained again, or a size leaves nothing to train on.
    """
    seed = checkpoints.training_of(checkpoint).train_seed
    count = len(dataset.train.rows)
    if max(settings.remove) >= count:
        raise SettingsError(f"{max(settings.remove)} of {count} training pictures cannot be removed. Leave at least 1.")
    own: list[Wanted] = []
    for target in settings.targets:
        orders = {
            method: _order(dataset, checkpoint, settings, target, method)
            for method in settings.methods
            if not method.startswith(CONTRIBUTOR)
        }
        for size in settings.remove:
            for method in settings.methods:
                removed = _removed(dataset, settings, method, orders.get(method), size)
                own.append(Wanted(target, method, 0, size, removed, seed))
            if _removes_lowest(settings):
                lowest = orders[settings.methods[0]][::-1][:size]
                own.append(Wanted(target, BOTTOM, 0, size, _sorted(lowest), seed))
    found = [Wanted(target, IDENTITY, 0, 0, (), seed) for target in settings.targets]
    for draw in range(max(settings.random_draws, settings.floor_seeds)):
        if draw < settings.random_draws:
            for each in dict.fromkeys((w.target, w.asked, len(w.removed)) for w in own):
                target, asked, size = each
                found.append(Wanted(target, RANDOM, draw, asked, random_set(count, size, draw), seed))
        if draw < settings.floor_seeds:
            found += [Wanted(target, FLOOR, draw, 0, (), seed + 1 + draw) for target in settings.targets]
    return found + own


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
            trained.
        SettingsError: If the checkpoint cannot be trained again.
    """
    checkpoints.training_of(checkpoint)
    wanted = [method_of(one) for one in methods if not one.startswith(CONTRIBUTOR)]
    each: list[FeatureSettings] = []
    for one in wanted:
        if one.family == "gradient":
            base = defaults.base_for(dataset.digest, checkpoint.digest, one, {})
            each += scores.models_of(one, dataset.digest, checkpoint.digest, base)
    features = tuple(dict.fromkeys(each))
    if encoder is None:
        encoder = "efficientnet-lite0" if embeddings.available("clip-vit-b-32") else "clip-vit-b-32"
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "methods": methods}
    if needs_facts(methods, asked.get("group", "none")):
        where["facts"] = dataset.facts
    return build(CounterfactualSettings, **where, features=features, encoder=encoder, **asked)


def needs_facts(methods: Sequence[str], group: str) -> bool:
    """Say whether removal sets depend on who made the training pictures, or on families."""
    return group in ("family", "contributor") or any(method.startswith(CONTRIBUTOR) for method in methods)


def random_set(count: int, size: int, draw: int) -> tuple[int, ...]:
    """Return `size` of `count` training indices, drawn at random: the same for the same draw number."""
    drawn = np.random.Generator(np.random.PCG64(draw)).choice(count, size, replace=False)
    return _sorted(drawn)


def grouped(order: np.ndarray, size: int, rows: Sequence[Row], group: str) -> tuple[int, ...]:
    """Return whole groups of the best-ranked pictures, in the order of their best, until `size` are reached.

    Args:
        order: Training indices from the highest score to the lowest, shape (N,).
        size: Number of pictures asked for; the last group may exceed it.
        rows: Facts of each training picture.
        group: The fact that groups them: family, contributor or label. Pictures without it stand alone.
    """
    members: dict[str, list[int]] = {}
    names = [str(row.get(group) or f"alone {i}") for i, row in enumerate(rows)]
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    taken: list[int] = []
    for name in dict.fromkeys(names[i] for i in order):
        if len(taken) >= size:
            break
        taken += members[name]
    return _sorted(taken)


def trainings(wanted: Sequence[Wanted], checkpoint: Checkpoint) -> list[Model]:
    """Return the different trainings (removed, train_seed) of a plan; what was trained already is not one."""
    unmoved = original(checkpoint)
    return [each for each in dict.fromkeys((w.removed, w.train_seed) for w in wanted) if each != unmoved]


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
    contributors = sum(method.startswith(CONTRIBUTOR) for method in settings.methods)
    ranked = len(settings.methods) - contributors
    # A contributor's pictures are one removal, whatever the target and the size asked for.
    sizes = removals = contributors
    if ranked:
        # Whole groups differ in size by target and method, and each size has random draws of its own.
        by_group = len(settings.targets) * ranked + _removes_lowest(settings)
        sizes += len(settings.remove) * (1 if settings.group == "none" else by_group)
        removals += (ranked + _removes_lowest(settings)) * len(settings.targets) * len(settings.remove)
    return settings.floor_seeds + settings.random_draws * sizes + removals


def retraining(dataset: Dataset, checkpoint: Checkpoint, removed: tuple[int, ...], train_seed: int) -> TrainSettings:
    """Return the original training settings without the removed pictures, with this training seed."""
    original = checkpoints.training_of(checkpoint)
    kept = np.arange(len(dataset.train.rows)) if original.indices is None else np.array(original.indices)
    left = np.intersect1d(kept, complement(len(dataset.train.rows), removed))
    indices = original.indices if not removed else tuple(left.tolist())
    return TrainSettings(**(original.model_dump() | {"indices": indices, "train_seed": train_seed}))


def outcome_of(wanted: Wanted, settings: CounterfactualSettings) -> OutcomeSettings:
    """Return the settings under which one bar's picture and distances are stored."""
    return OutcomeSettings(
        sample=sample_of(wanted.target, settings),
        removed=wanted.removed,
        train_seed=wanted.train_seed,
        encoder=settings.encoder,
    )


def sample_of(target: str, settings: CounterfactualSettings) -> SampleSettings:
    """Return the settings of a target's own picture."""
    return targets.sample_settings(settings.checkpoint, int(target.removeprefix("seed:")), settings)


def features_of(settings: CounterfactualSettings, method: str) -> FeatureSettings | None:
    """Return the feature settings from which a method takes its models', None for one without gradients."""
    wanted = method_of(method)
    if wanted.family != "gradient":
        return None
    own = (wanted.model_output, wanted.normalise)
    found = next(f for f in settings.features if (f.model_output, f.normalise) == own)
    return found.model_copy(update={"checkpoint": settings.checkpoint})


def _removes_lowest(settings: CounterfactualSettings) -> bool:
    """Say whether the lowest scores are removed too: they are the first method's, if it gives scores."""
    return settings.bottom and not settings.methods[0].startswith(CONTRIBUTOR)


def _removed(
    dataset: Dataset, settings: CounterfactualSettings, method: str, order: np.ndarray | None, size: int
) -> tuple[int, ...]:
    """Return the removal set of a method from the order it gives, None for a contributor's pictures."""
    if order is None:
        name = method.removeprefix(CONTRIBUTOR)
        found = [i for i, row in enumerate(dataset.train.rows) if row.get("contributor") == name]
        if not found:
            raise NotFoundError(f"No training picture is by '{name}'. Take a contributor's name as the dataset has it.")
        return tuple(found)
    if settings.group == "none":
        return _sorted(order[:size])
    return grouped(order, size, dataset.train.rows, settings.group)


def _order(
    dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, target: str, method: str
) -> np.ndarray:
    """Return training indices from the highest score to the lowest, equal scores by index."""
    found = targets.resolve(dataset, checkpoint.digest, target, settings)
    result = scores.attribution_scores(method, dataset, checkpoint.digest, found, features_of(settings, method))
    return np.argsort(-result.values, kind="stable")


def _sorted(indices: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    return tuple(sorted(int(i) for i in indices))
