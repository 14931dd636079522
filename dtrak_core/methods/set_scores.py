"""Scores over a set of generated pictures: which pictures, which of them are ready, and scores made twice. No torch.

What repeats the scores is looked up where it is stored: of D-TRAK and TRAK at their own damping the scores by either
half of the draws (fader_scores.py), of an ensemble the scores by each of its models.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from dtrak_core import store
from dtrak_core.features.settings import feature_target, in_parts
from dtrak_core.methods import fader_scores, gradient_scores, scores
from dtrak_core.methods.fader_scores import SIDE, RepeatSettings
from dtrak_core.methods.plans import Plan, Scores
from dtrak_core.models import targets
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import key_of

HALVES, MODELS = "both halves of the draws", "the models of the ensemble"


def drawn(
    checkpoint: str,
    seeds: Collection[int] = (),
    prompts: Collection[str] = (),
    sampled: Sampled | None = None,
) -> list[Target]:
    """Return the stored generated pictures of a checkpoint (by digest): all, or those of some seeds and prompts.

    `sampled` says with which sampler and steps they were drawn; None is the checkpoint's own way.
    """
    way = None if sampled is None else sampled.model_copy(update={"prompts": ()})
    found = targets.samples(checkpoint, way)
    return [
        one
        for one in found
        if (not seeds or targets.seed_of(one.id) in seeds) and (not prompts or one.prompt in prompts)
    ]


def ready(plan: Plan) -> list[Target]:
    """Return the targets of a plan for which nothing has to be computed."""
    if not plan.missing:
        return list(plan.targets)
    return [target for target in plan.targets if not of_some(plan, [target]).missing]


def of_some(plan: Plan, some: Sequence[Target]) -> Plan:
    """Return what a plan's method needs for some of its targets."""
    return scores.resolve(plan.method, plan.dataset, plan.checkpoint, some, plan.features, plan.encoder_weights)


def repeats(plan: Plan, found: Scores) -> tuple[list[np.ndarray], str]:
    """Return a plan's scores made by halves of the draws or by single models, (M, N) each, and what they are of.

    Nothing where there are none: for other methods, at other dampings, and where they are not stored for every target.

    Args:
        plan: What was scored.
        found: Its scores (M, N); halves are stored without their sizes, and get those of these.
    """
    if plan.method.models:
        share = None if found.effective_rank is None else found.effective_rank / found.values.shape[1]
        each = [gradient_scores.score(plan.method, [one], plan.targets, None, share) for one in plan.models]
        return [one.values for one in each], MODELS
    halves = _halves(plan, found)
    return ([], "") if halves is None else (halves, HALVES)


def _halves(plan: Plan, found: Scores) -> list[np.ndarray] | None:
    method, features = plan.method, plan.features
    if features is None or found.effective_rank is None or method.rank_share is None:
        return None
    of = fader_scores.method_of_features(features)
    own = round(100 * found.effective_rank / found.values.shape[1]) == round(100 * method.rank_share)
    if of is None or of.id != method.id or not own:
        return None
    wanted = [
        RepeatSettings(method=method.id, target=feature_target(in_parts(features), t, SIDE)) for t in plan.targets
    ]
    stored = store.every("repeats", [key_of("repeats", one) for one in wanted])
    if stored is None:
        return None
    sizes = np.abs(found.values).max(1)
    both = np.stack([fader_scores.opened(one).halves for one in stored], axis=1)  # (2, M, N)
    return [half * sizes[:, None] for half in both]
