"""How far a target's ranking repeats, at every damping that can be chosen. No torch here.

From either half of the draws a ranking of its own follows (fader_scores.py). At each effective rank of 1 to 95 % of the
training pictures, each half damped to that rank by its own kernel,

    repeatability = Spearman correlation over training pictures of the two halves' scores
    steady        = whether a picture is among the first 5 % of both halves' rankings, or among the last 5 % of both

Both are computed once by a worker, from each half's kernel, and stored: for each picture that is ever
steady, a bit a damping.
What was stored before that, under kind `repeats`, holds the correlation at `RANK_SHARES` alone and the halves' scores
at the method's own damping; elsewhere nothing is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core import store
from dtrak_core.features.settings import FeatureSettings, feature_target, in_parts
from dtrak_core.methods import agreement, fader_scores
from dtrak_core.methods.fader_scores import SIDE, RepeatSettings, ends_shared, halves_of
from dtrak_core.methods.gradient_scores import RANK_SHARES
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.results import Ranking
from dtrak_core.models.targets import Target
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

PERCENT = range(1, 96)  # effective rank, of the number of training pictures
KIND = "certainties"


@dataclass(frozen=True)
class Certainty:
    """Repeatability of a ranking at one damping, and which pictures are steady, bool (N,); None where unknown."""

    repeatability: float
    steady: np.ndarray | None


def compute(settings: FeatureSettings, targets: Sequence[Target]) -> list[Artifact]:
    """Store how far the targets' rankings repeat, from stored features in parts.

    Returns:
        Artifacts of kind `certainties`: repeatability.npy (95,) float32; indices.npy (E,) int32, the pictures that are
        steady at some damping; steady.npy (E, 12) uint8, their bits, the first for 1 %; fact examples, N. None where
        `fader_scores.compute_repeats` stores none.
    """
    method = fader_scores.method_of_features(settings)
    if method is None or not fader_scores.has_halves(settings):
        return []
    wanted = [RepeatSettings(method=method.id, target=feature_target(settings, t, SIDE)) for t in targets]
    keys = [key_of(KIND, one) for one in wanted]
    if (made := store.every(KIND, keys)) is not None:
        return made
    trained = store.get("features", key_of("features", settings))
    with store.computing(KIND, trained.key):  # one lock for all targets of these features
        if (made := store.every(KIND, keys)) is not None:
            return made
        lacking = [(w, t) for w, t in zip(wanted, targets, strict=True) if store.find(KIND, key_of(KIND, w)) is None]
        own = fader_scores.target_rows(settings, [target for _, target in lacking])
        assert own is not None  # computed just before
        sides = halves_of(len(trained.manifest["groups"]))
        both = [fader_scores.curves(method, trained, own, side, [part / 100 for part in PERCENT]) for side in sides]
        for (one, _), first, second in zip(lacking, *both, strict=True):
            steady = np.stack([ends_shared(pair) for pair in zip(first, second, strict=True)], axis=1)
            ever = np.flatnonzero(steady.any(1))
            key = key_of(KIND, one)
            folder = store.partial(KIND, key)
            repeatability = agreement.rank_correlation(first, second).astype(np.float32)
            store.write_array(folder / "repeatability.npy", repeatability)
            store.write_array(folder / "indices.npy", ever.astype(np.int32))
            store.write_array(folder / "steady.npy", np.packbits(steady[ever], axis=1))
            store.publish(KIND, key, one, examples=len(steady))
    return [store.get(KIND, key) for key in keys]


def measured(method: str, features: FeatureSettings, target: Target) -> bool:
    """Say whether a target's certainty is stored for every damping; arguments as of `find`."""
    wanted = RepeatSettings(method=method, target=feature_target(in_parts(features), target, SIDE))
    return store.find(KIND, key_of(KIND, wanted)) is not None


def find(method: str, features: FeatureSettings, target: Target, share: float) -> Certainty | None:
    """Return how far a target's ranking by a method with these features repeats at a damping.

    Args:
        method: Id of the method.
        features: Its feature settings, whole or in parts.
        target: The explained picture.
        share: Effective rank over N; the nearest whole percent is looked up.

    Returns:
        None where it has not been measured at this damping.
    """
    wanted = RepeatSettings(method=method, target=feature_target(in_parts(features), target, SIDE))
    percent = round(100 * share)
    if (artifact := store.find(KIND, key_of(KIND, wanted))) is not None:
        if percent not in PERCENT:
            return None
        place = PERCENT.index(percent)
        steady = np.zeros(artifact.manifest["examples"], bool)
        steady[artifact.array("indices.npy")] = np.unpackbits(artifact.array("steady.npy"), axis=1)[:, place]
        return Certainty(float(artifact.array("repeatability.npy")[place]), steady)
    return _from_repeats(wanted, percent)


def _from_repeats(wanted: RepeatSettings, percent: int) -> Certainty | None:
    artifact = store.find("repeats", key_of("repeats", wanted))
    places = [round(100 * known) for known in RANK_SHARES]
    if artifact is None or percent not in places:
        return None
    known = float(artifact.array("agreement.npy")[0, places.index(percent)])
    own = percent == round(100 * (METHODS[wanted.method].rank_share or 0))
    return Certainty(known, fader_scores.steady(fader_scores.opened(artifact)) if own else None)


def marked(ranking: Ranking, features: FeatureSettings, target: Target) -> Ranking:
    """Return a ranking with its repeatability and steady pictures, where they were measured at its damping."""
    if ranking.effective_rank is None:
        return ranking
    known = find(ranking.method, features, target, ranking.effective_rank / len(ranking.values))
    if known is None:
        return ranking
    return dataclasses.replace(ranking, repeatability=known.repeatability, steady=known.steady)
