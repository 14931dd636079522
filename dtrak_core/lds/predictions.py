"""What a recipe's scores predict for the subsets of an LDS, before anything is trained on them. No torch here.

Predicted losses are sums of scores, and LDS looks at their ranks alone. So what is stored is the ranks, for every
damping of a grid of effective ranks: LDS follows from them within milliseconds, for as many models as are finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from dtrak_core import statistics, store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import no_trajectory, noise_seeds
from dtrak_core.lds import lds, subset_models
from dtrak_core.lds.lds import Chance, Lds
from dtrak_core.lds.recipes import Recipe, method_for
from dtrak_core.lds.subset_models import LdsSettings, Losses
from dtrak_core.methods import embeddings, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.gradient_scores import RANK_SHARES, read_scores, write_scores
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Plan
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target, TargetId, find_sample, sample_settings, seed_of
from dtrak_core.settings import Digest, key_of
from dtrak_core.store import Artifact

LEAST_SUBSETS = 32  # predicted at least, so that a run that grows needs no new predictions


class ScoredSettings(Sampled):
    """Which recipe scores which targets; `checkpoint` is the one whose retraining is predicted.

    `encoder_weights` is the digest of the weights of a similarity's encoder (`EmbeddingSettings.weights`), `learned` as
    in `Measured`.
    """

    dataset: Digest
    checkpoint: Digest
    recipe: Recipe
    targets: tuple[TargetId, ...] = Field(min_length=1)
    encoder_weights: str = Field(default="", exclude_if=lambda value: not value)
    learned: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)


class PredictionSettings(ScoredSettings):
    """Which recipe predicts which targets' losses on which subsets."""

    num_subsets: int = Field(ge=3)
    share: float = Field(gt=0, lt=1)


@dataclass(frozen=True)
class Predictions:
    """An opened artifact: ranks (D, S, M) over effective-rank shares (D,), D = 1 and no share where undamped.

    `place` is the method's own share among them. `targets` are M ids.
    """

    recipe: Recipe
    targets: tuple[str, ...]
    shares: tuple[float, ...]
    place: int
    ranks: np.ndarray
    gradients: int
    seconds: float


def settings_for(recipe: Recipe, measured: LdsSettings) -> PredictionSettings:
    """Return the settings of a recipe's predictions for an LDS, of the targets that its method explains.

    Where it explains none, they are all of them, of which nothing can be computed.

    Similarities are by the weights that their encoder has here and now.
    """
    names, subsets, method = measured.targets, LEAST_SUBSETS, method_for(recipe)
    while subsets < measured.num_subsets:
        subsets *= 2
    names = explained(method, measured) or names
    shared = measured.model_dump(include={"dataset", "checkpoint", "share", "learned", *Sampled.model_fields})
    weights = "" if method.embedding is None else embeddings.known_weights(method.embedding)
    return PredictionSettings(**shared, recipe=recipe, targets=names, encoder_weights=weights, num_subsets=subsets)


def explained(method: Method, measured: LdsSettings) -> tuple[str, ...]:
    """Return the ids of those targets of an LDS that a method explains.

    Journey TRAK explains those that DDIM generated, own scores the very pictures that they have rows for.
    """
    names = measured.targets
    if method.generated_only:
        names = tuple(name for name in names if not no_trajectory(name, measured))
    among = family_of(method).explained
    if among is None:
        return names
    return tuple(name for name, _ in among(method, [(name, _pixels(name, measured)) for name in names]))


def _pixels(name: str, measured: LdsSettings) -> str:
    """Return the digest of a generated picture's pixels, empty before it is drawn; other ids name one picture each."""
    if not name.startswith("seed:"):
        return ""
    found = find_sample(sample_settings(measured.checkpoint, seed_of(name), measured))
    return "" if found is None else found.pixels


def find(recipe: Recipe, measured: LdsSettings) -> Predictions | None:
    """Return a recipe's predictions for an LDS, or None where they are not stored."""
    artifact = store.find("predictions", key_of("predictions", settings_for(recipe, measured)))
    return None if artifact is None else read(artifact)


def plan_of(dataset: Dataset, settings: ScoredSettings, targets: Sequence[Target], train: bool = False) -> Plan:
    """Return what a recipe needs for these targets (`scores.resolve`).

    The checkpoint that it looks at may be an earlier one than that whose retraining is predicted.
    """
    features = settings.recipe.features
    weights = settings.checkpoint if features is None else features.checkpoint
    method, encoder = method_for(settings.recipe), settings.encoder_weights
    return scores.resolve(method, dataset, weights, targets, features, encoder, train)


def compute(dataset: Dataset, settings: PredictionSettings, targets: Sequence[Target]) -> Artifact:
    """Return the stored predictions, computing them from stored scores where they are not there.

    Returns:
        Artifact of kind `predictions`: ranks.npy (D, S, M), twice the rank, so that shared ranks are whole, uint8 or
        uint16; facts shares, place, gradients and that they are told `as_taken`, seconds.
    """
    key = key_of("predictions", settings)
    with store.computing("predictions", key) as found:
        return found or _predicted(dataset, settings, targets, key)


def _predicted(dataset: Dataset, settings: PredictionSettings, targets: Sequence[Target], key: str) -> Artifact:
    method, recipe = method_for(settings.recipe), settings.recipe
    among = subset_models.drawn_from(settings.dataset, settings.checkpoint, settings.learned)
    masks = subset_models.masks_of(dataset.train.labels, settings.num_subsets, settings.share, among)
    shares: list[float | None] = [*RANK_SHARES] if method.damped else [None]
    place = 0
    if method.rank_share is not None:
        damped = sorted({*RANK_SHARES, method.rank_share})
        shares, place = [*damped], damped.index(method.rank_share)
    plan = plan_of(dataset, settings, targets)
    ranks = []
    small = np.uint8 if 2 * settings.num_subsets < 256 else np.uint16
    for share in shares:
        found_scores = scores.score(plan, None, share).values
        used = np.square(found_scores) if recipe.squared else found_scores
        guess = lds.predicted(used, masks)
        ranks.append(np.rint(2 * statistics.ranks(guess)).astype(small))
    folder = store.partial("predictions", key)
    store.write_array(folder / "ranks.npy", np.stack(ranks))
    gradients, seconds = family_of(method).spent(plan)
    facts = {"shares": [] if shares == [None] else shares, "place": place, "as_taken": True}
    return store.publish("predictions", key, settings, **facts, gradients=gradients, seconds=round(seconds, 1))


def compute_scores(dataset: Dataset, settings: ScoredSettings, targets: Sequence[Target]) -> Artifact:
    """Return a recipe's scores of all targets at its own damping, for comparing methods with each other.

    Returns:
        Artifact of kind `scores`: scores.npy and scores-places.npy, see `gradient_scores.write_scores`.
    """
    key = key_of("scores", settings)
    with store.computing("scores", key) as found:
        return found or _scored(dataset, settings, targets, key)


def _scored(dataset: Dataset, settings: ScoredSettings, targets: Sequence[Target], key: str) -> Artifact:
    values = scores.score(plan_of(dataset, settings, targets)).values
    write_scores(store.partial("scores", key), "scores", values)
    return store.publish("scores", key, settings)


def stored_scores(recipe: Recipe, measured: LdsSettings) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Return the targets' ids and the scores (M, N) of a recipe, at most 1, or None where they are not stored."""
    wanted = scored_settings(recipe, measured)
    artifact = store.find("scores", key_of("scores", wanted))
    return None if artifact is None else (wanted.targets, read_scores(artifact, "scores"))


def scored_settings(recipe: Recipe, measured: LdsSettings) -> ScoredSettings:
    """Return the settings of a recipe's scores for the targets of an LDS."""
    predicted = settings_for(recipe, measured)
    return ScoredSettings(**predicted.model_dump(include=set(ScoredSettings.model_fields)))


def read(artifact: Artifact) -> Predictions:
    """Open stored predictions."""
    settings = PredictionSettings(**artifact.settings)
    facts = artifact.manifest
    return Predictions(
        settings.recipe,
        settings.targets,
        tuple(facts["shares"]),
        facts["place"],
        np.asarray(artifact.array("ranks.npy"), np.float64) / 2,
        facts["gradients"] - _untaken(settings, facts),
        facts["seconds"],
    )


def _untaken(settings: PredictionSettings, facts: Mapping[str, Any]) -> int:
    """Return how many gradients too many are told of targets followed along their sampling, before 2026-11-28."""
    features = settings.recipe.features
    if features is None or "as_taken" in facts or not method_for(settings.recipe).side.trajectory:
        return 0
    return len(settings.targets) * (features.num_timesteps * noise_seeds(features) - settings.sampling_steps)


def evaluated(predicted: Predictions, known: Losses, measured: LdsSettings, kind: str, place: int | None = None) -> Lds:
    """Return the LDS of predictions on targets of one kind (`seed` or `held-out`), with its interval.

    Held-out targets that were trained on are left out (`Losses.leaked`). Predictions must explain some of the kind.

    `place` chooses the damping among `predicted.shares`; None takes the method's own.
    """
    mine, theirs = of_kind(predicted, known, measured, kind)
    at = predicted.place if place is None else place
    return lds.judge(predicted.ranks[at][known.subsets][:, mine], known.mean[:, theirs])


def chance(predicted: Predictions, known: Losses, measured: LdsSettings, kind: str) -> Chance:
    """Return the LDS that predictions at the method's own damping would have by chance."""
    mine, theirs = of_kind(predicted, known, measured, kind)
    return lds.by_chance(predicted.ranks[predicted.place][known.subsets][:, mine], known.mean[:, theirs])


def curve(predicted: Predictions, known: Losses, measured: LdsSettings, kind: str) -> np.ndarray:
    """Return the LDS at each share of effective rank, shape (D,), without intervals."""
    mine, theirs = of_kind(predicted, known, measured, kind)
    losses = known.mean[:, theirs]
    return np.array([statistics.spearman(ranks[known.subsets][:, mine], losses).mean() for ranks in predicted.ranks])


def of_kind(predicted: Predictions, known: Losses, measured: LdsSettings, kind: str) -> tuple[list[int], list[int]]:
    """Return places of a kind's targets that count among the predictions' targets and among the losses'."""
    place = {name: number for number, name in enumerate(measured.targets)}
    mine = [
        number for number, name in enumerate(predicted.targets) if name.startswith(f"{kind}:") and known.counts(name)
    ]
    return mine, [place[predicted.targets[number]] for number in mine]
