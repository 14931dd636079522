"""Which jobs make methods answer for targets: pages and command line share it, so that equal questions are one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from dtrak_core.features.settings import FeatureSettings, no_trajectory
from dtrak_core.jobs.job_kinds import AttributeJob, EmbedJob, Job, ScoreJob
from dtrak_core.lds import predictions
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import embeddings, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import Method
from dtrak_core.methods.scores import Plan
from dtrak_core.models import targets
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build


def jobs_for(plans: Sequence[Plan], sampled: Sampled) -> list[Job]:
    """Return the jobs: one for all gradients of a kind of target side, one for own scores, one for each encoder.

    Args:
        plans: What the methods that are to answer need for the same targets of a checkpoint. None may be refused.
        sampled: How generated targets are drawn.
    """
    if not plans:
        return []
    checkpoint = plans[0].checkpoint
    drawn = {"targets": tuple(target.id for target in plans[0].targets), **sampled.drawing()}
    where = {"dataset": plans[0].dataset.digest, "checkpoint": checkpoint}
    wanted: list[Job] = []
    gradient = [one for one in plans if family_of(one.method).job == "features"]
    for side in dict.fromkeys(one.method.side for one in gradient):
        read: dict[FeatureSettings, bool] = {}  # whether a method reads their kernel
        for one in gradient:
            if one.method.side == side:
                for features in one.models:
                    read[features] = read.get(features, False) or one.method.reads_kernel
        elsewhere = any(one.checkpoint != checkpoint for one in read)
        own = {"pictures_of": checkpoint} if elsewhere else {}
        undamped = tuple(place for place, kernel in enumerate(read.values()) if not kernel)
        wanted.append(build(AttributeJob, features=tuple(read), undamped=undamped, **own, **side.model_dump(), **drawn))
    names = tuple(one.method.id for one in plans if family_of(one.method).job == "scores")
    if names:
        wanted.append(build(ScoreJob, methods=names, **where, **drawn))
    for model in dict.fromkeys(one.method.embedding for one in plans if one.method.embedding is not None):
        wanted.append(build(EmbedJob, model=model, weights=embeddings.known_weights(model), **where, **drawn))
    return wanted


def by_drawing(chosen: Sequence[Target], usual: Sampled) -> list[tuple[Sampled, list[Target]]]:
    """Return targets in as few sets as jobs can name: alike in sampler, steps and guidance, one picture of a seed.

    Args:
        chosen: Targets of one checkpoint; those that were not generated join any set.
        usual: The way that a set's drawing is told by, where all of it was drawn so.
    """
    sets: dict[tuple[Sampled, int], list[Target]] = {}
    seen: Counter[tuple[Sampled, str]] = Counter()
    others = [target for target in chosen if not target.id.startswith("seed:")]
    for target in chosen:
        if target.id.startswith("seed:"):
            way = target.sampled.model_copy(update={"prompts": ()})
            sets.setdefault((way, seen[way, target.id]), []).append(target)
            seen[way, target.id] += 1
    found = [(targets.together(some, usual), some) for some in sets.values()]
    if others:
        sampled, some = found.pop() if found else (Sampled(), [])
        found.append((sampled, [*some, *others]))
    return found


def sets(plan: Plan, usual: Sampled) -> list[tuple[Sampled, list[Target]]]:
    """Return the targets of a plan as `by_drawing` does: one set of none where it is of the training set alone."""
    return by_drawing(plan.targets, usual) or [(usual, [])]


def together(method: Method) -> Hashable:
    """Return what methods of one job (`jobs_for`) have in common."""
    return family_of(method).job, method.side, method.embedding


def unusable(method: Method, dataset: str, checkpoint: str, train: bool, measured: LdsSettings | None = None) -> str:
    """Return in a sentence why a benchmark cannot take a method, or nothing.

    Args:
        method: The method.
        dataset: Digest of the dataset.
        checkpoint: Digest of the weights.
        train: Whether the models of an ensemble may be trained for it.
        measured: An LDS some of whose targets it is to explain.
    """
    if reason := family_of(method).lacking(method) or scores.unusable(method, checkpoint, dataset, train):
        return reason
    if measured is None or predictions.explained(method, measured):
        return ""
    drawn = next((name for name in measured.targets if name.startswith("seed:")), None)
    astray = no_trajectory(drawn, measured) if method.generated_only and drawn is not None else ""
    return astray or "It explains none of these targets."
