"""Scores from features in parts, for any position of the faders, and how far they repeat. No torch here.

    score(z, ·) = Φ_w (Φ_wᵀ Φ_w + λ I)⁻¹ φ_w(z)

with the weights w of layers and noise levels (fader_layout.py). From either half of the draws a ranking of its own
follows; how well the two agree says what chance in the draws leaves standing, without any training:

    agreement(λ) = Spearman correlation over training pictures of the two halves' scores
    shared(λ)    = part of the first pictures that both halves name, `agreement.top_of` many

Agreement falls with every direction that is let in; what the halves share at the top first rises, while the directions
say more about this target, and then falls, when they say more about the draws. The damping at which it is highest is a
choice that needs neither retraining nor a benchmark (`chosen_share`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.features import draws, feature_store
from dtrak_core.features.fader_layout import BANDS, HALVES, Faders, part_of, together, training_rows
from dtrak_core.features.kernel import Kernel, damped_scores, effective_rank, in_memory
from dtrak_core.features.settings import (
    FeatureSettings,
    TargetFeatureSettings,
    TargetSide,
    feature_target,
    in_parts,
)
from dtrak_core.methods import agreement
from dtrak_core.methods.gradient_scores import RANK_SHARES, damping_of, read_scores, write_scores
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact

TARGETS = 16  # whose scores are held together at every damping
LEAST_TARGETS = 8  # for a choice of damping
LEAST_SHARED = 0.25  # of the first pictures, likewise


class RepeatSettings(Settings):
    """Whose scores by which method are compared between the halves of their draws."""

    method: str
    target: TargetFeatureSettings


@dataclass(frozen=True)
class Repeat:
    """Both halves' scores (2, N) of a target at the method's own damping, and their agreement there."""

    halves: np.ndarray
    own_agreement: float


def neutral(groups: int) -> Faders:
    """Return faders that change nothing."""
    return Faders((1.0,) * groups, (1.0,) * len(BANDS))


def score(
    method: Method, trained: Artifact, own: np.ndarray, faders: Faders, rank_share: float | None = None
) -> tuple[np.ndarray, float, float]:
    """Score every training example for targets with weights on layers and noise levels.

    Args:
        method: A damped method; its model output function is that of the features.
        trained: Features in parts.
        own: The targets' features in parts, shape (M, width).
        faders: The weights.
        rank_share: Effective rank over N; None takes the method's own.

    Returns:
        Scores (M, N), λ and the effective rank.

    Raises:
        SettingsError: If with these weights the features of all training pictures are 0.
    """
    rows, found = _kernel(trained.path, trained.key, faders)
    cross = together(own, trained.manifest["group_widths"], faders).astype(np.float64) @ rows.T.astype(np.float64)
    damping = damping_of(method, found.spectrum, len(rows), None, rank_share)
    return damped_scores(found, cross, damping), damping, effective_rank(found.spectrum, damping)


def curves(
    method: Method, trained: Artifact, own: np.ndarray, faders: Faders, shares: Sequence[float]
) -> Iterator[np.ndarray]:
    """Yield each target's scores at each of these effective ranks over N, shape (D, N); arguments as of `score`."""
    rows, found = _kernel(trained.path, trained.key, faders)
    cross = together(own, trained.manifest["group_widths"], faders).astype(np.float64) @ rows.T.astype(np.float64)
    dampings = [damping_of(method, found.spectrum, len(rows), None, share) for share in shares]
    for start in range(0, len(cross), TARGETS):
        some = cross[start : start + TARGETS]
        yield from np.stack([damped_scores(found, some, damping) for damping in dampings], 1)


@functools.lru_cache(maxsize=3)
def _kernel(path: Path, key: str, faders: Faders) -> tuple[np.ndarray, Kernel]:
    """Return Φ_w (N, K) and its kernel."""
    rows = training_rows(store.get("features", key), faders)
    return rows, in_memory(rows.astype(np.float64))


def target_rows(settings: FeatureSettings, targets: Sequence[Target]) -> np.ndarray | None:
    """Return the targets' stored features in parts (M, width), or None where one is not stored."""
    found = []
    for target in targets:
        artifact = store.find("target-features", key_of("target-features", feature_target(settings, target, SIDE)))
        if artifact is None:
            return None
        found.append(feature_store.target_feature(artifact))
    return np.stack(found)


SIDE = TargetSide()


def method_of_features(settings: FeatureSettings) -> Method | None:
    """Return the method whose features these are, D-TRAK or TRAK, or None."""
    known = {METHODS[name].model_output: METHODS[name] for name in ("d-trak", "trak")}
    return known.get(settings.model_output)


def has_halves(settings: FeatureSettings) -> bool:
    """Say whether either half of the draws has one in every range of timesteps."""
    grid = draws.timesteps(settings.timestep_strategy, settings.num_timesteps)
    return all(part_of(grid, band, half).any() for band in range(len(BANDS)) for half in range(HALVES))


def halves_of(groups: int) -> list[Faders]:
    """Return the faders that let either half of the draws count alone."""
    return [Faders((1.0,) * groups, (1.0,) * len(BANDS), (half,)) for half in range(HALVES)]


def compute_repeats(settings: FeatureSettings, targets: Sequence[Target]) -> list[Artifact]:
    """Return how far the targets' scores repeat, from stored features in parts.

    Returns:
        Artifacts of kind `repeats`: halves.npy (2, N) and halves-places.npy, see `gradient_scores.write_scores`;
        agreement.npy (2, D) float32, agreement and shared over `RANK_SHARES`; fact own_agreement, at the method's own
        damping. None for other functions than D-TRAK's and TRAK's, and where a half has no draw in some range of
        timesteps.
    """
    method = method_of_features(settings)
    if method is None or not has_halves(settings):
        return []
    wanted = [RepeatSettings(method=method.id, target=feature_target(settings, t, SIDE)) for t in targets]
    keys = [key_of("repeats", one) for one in wanted]
    if (made := store.every("repeats", keys)) is not None:
        return made
    trained = store.get("features", key_of("features", settings))
    with store.computing("repeats", trained.key):  # one lock for all targets of these features
        lacking = [
            (w, t) for w, t in zip(wanted, targets, strict=True) if store.find("repeats", key_of("repeats", w)) is None
        ]
        if not lacking:
            return [store.get("repeats", key) for key in keys]
        own = target_rows(settings, [t for _, t in lacking])
        assert own is not None  # computed just before
        sides = halves_of(len(trained.manifest["groups"]))
        top = agreement.top_of(trained.manifest["rows"])
        pairs = [[score(method, trained, own, side, share)[0] for side in sides] for share in RANK_SHARES]
        agreements = np.array(
            [
                [agreement.rank_correlation(first, second) for first, second in pairs],
                [agreement.overlap(first, second, top) for first, second in pairs],
            ]
        )
        first, second = (score(method, trained, own, side)[0] for side in sides)
        at_own = agreement.rank_correlation(first, second)
        for number, (one, _) in enumerate(lacking):
            key = key_of("repeats", one)
            folder = store.partial("repeats", key)
            write_scores(folder, "halves", np.stack([first[number], second[number]]))
            store.write_array(folder / "agreement.npy", agreements[:, :, number].astype(np.float32))
            store.publish("repeats", key, one, own_agreement=round(float(at_own[number]), 4))
    return [store.get("repeats", key) for key in keys]


def chosen_share(method: str, features: FeatureSettings) -> float | None:
    """Return the effective rank over N at which both halves of the draws share most of their first pictures.

    None where fewer than `LEAST_TARGETS` targets with these features are stored, and where even the best share is below
    `LEAST_SHARED`: then the draws decide which pictures come first, and their agreement chooses nothing.
    """
    found = mean_agreement(method, features)
    if found is None or found[1].max() < LEAST_SHARED:
        return None
    return RANK_SHARES[int(found[1].argmax())]


def mean_agreement(method: str, features: FeatureSettings) -> np.ndarray | None:
    """Return agreement and shared at each of `RANK_SHARES`, shape (2, D), mean over the stored targets.

    Args:
        method: Id of the method.
        features: Its feature settings, whole or in parts: other numbers of draws agree best at other dampings.

    Returns:
        None where fewer than `LEAST_TARGETS` targets with these features are stored.
    """
    wanted = in_parts(features).model_dump(mode="json")
    found = {  # of a target that was measured in several ways, the newest
        one["target"]: artifact
        for artifact in store.listing("repeats")
        if artifact.settings["method"] == method and (one := artifact.settings["target"])["features"] == wanted
    }
    if len(found) < LEAST_TARGETS:
        return None
    mean: np.ndarray = np.mean([np.asarray(one.array("agreement.npy")) for one in found.values()], axis=0)
    return mean


def opened(artifact: Artifact) -> Repeat:
    """Return what an artifact of kind `repeats` holds."""
    return Repeat(read_scores(artifact, "halves"), artifact.manifest["own_agreement"])


def steady(repeat: Repeat, share: float = 0.05) -> np.ndarray:
    """Return which training pictures stand at the same end of both halves' rankings, bool, shape (N,)."""
    return ends_shared(repeat.halves, share)


def ends_shared(halves: Sequence[np.ndarray] | np.ndarray, share: float = 0.05) -> np.ndarray:
    """Return which training pictures are among the first `share` of both rankings or the last of both, bool, (N,)."""
    count = len(halves[0])
    top = max(1, round(share * count))
    found = np.zeros(count, bool)
    for sign in (-1, 1):
        ends = [np.argsort(sign * half, kind="stable")[:top] for half in halves]
        found[np.intersect1d(ends[0], ends[1])] = True
    return found


def learned_layers(
    trained: Artifact, own: np.ndarray, method: Method, top: int = 50, penalty: float = 0.1
) -> np.ndarray:
    """Return weights of the layer groups that make scores stand out, shape (G,), summing to G (PW; arXiv 2506.05647).

    With each group's own scores τ_g(z, ·), weights w = softmax(v) are chosen without any label to minimise

        - mean over targets of ( mean of the `top` highest of Σ_g w_g τ_g ) / |Σ_g w_g τ_g|  +  penalty |w|²

    Each group's scores are divided by their spread first, so that weights compare groups and not scales. A group that
    says nothing, because its gradients are all 0, stays at 1.
    """
    from scipy import optimize

    groups = len(trained.manifest["groups"])
    each: dict[int, np.ndarray] = {}
    for number in range(groups):
        layers = tuple(1.0 if other == number else 0.0 for other in range(groups))
        faders = Faders(layers, (1.0,) * len(BANDS))
        if len(_kernel(trained.path, trained.key, faders)[1].spectrum):
            alone = score(method, trained, own, faders)[0]
            if (spread := alone.std()) > 0:
                each[number] = alone / spread
    shared = np.ones(groups)
    if not each:
        return shared
    stack = np.stack(list(each.values()))

    def cost(v: np.ndarray) -> float:
        weights = np.exp(v - v.max())
        weights /= weights.sum()
        mixed = np.tensordot(weights, stack, 1)
        highest = np.sort(mixed, axis=1)[:, -top:].mean(1)
        return float(-(highest / np.linalg.norm(mixed, axis=1).clip(1e-30)).mean() + penalty * (weights**2).sum())

    found = optimize.minimize(cost, np.zeros(len(stack)), method="L-BFGS-B").x
    weights = np.exp(found - found.max())
    shared[list(each)] = len(stack) * weights / weights.sum()
    return shared
