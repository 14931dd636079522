"""Which jobs make methods answer for targets: pages and command line share it, so that equal questions are one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import AttributeJob, EmbedJob, Job, ScoreJob
from dtrak_core.methods import embeddings, scores
from dtrak_core.methods.methods import Method
from dtrak_core.models.settings import Sampled
from dtrak_core.settings import build


def jobs_for(
    dataset: Dataset,
    checkpoint: str,
    targets: Sequence[str],
    sampled: Sampled,
    methods: Sequence[Method],
    bases: Mapping[str, FeatureSettings],
) -> list[Job]:
    """Return the jobs: one for all gradients of a kind of target side, one for own scores, one for each encoder.

    Args:
        dataset: The training set.
        checkpoint: Digest of the weights that generate the targets.
        targets: Ids of what is explained.
        sampled: How generated ones are drawn.
        methods: Which are to answer; those that are refused (`scores.refusal`) must be left out before.
        bases: Feature settings by method id.
    """
    drawn = {"targets": tuple(targets), **sampled.drawing()}
    where = {"dataset": dataset.digest, "checkpoint": checkpoint}
    wanted: list[Job] = []
    gradient = [one for one in methods if one.family == "gradient"]
    for side in dict.fromkeys(one.side for one in gradient):
        read: dict[FeatureSettings, bool] = {}  # whether a method reads their kernel
        for one in gradient:
            if one.side == side:
                for features in scores.models_of(one, dataset.digest, checkpoint, bases.get(one.id)):
                    read[features] = read.get(features, False) or one.reads_kernel
        elsewhere = any(one.checkpoint != checkpoint for one in read)
        own = {"pictures_of": checkpoint} if elsewhere else {}
        undamped = tuple(place for place, kernel in enumerate(read.values()) if not kernel)
        wanted.append(build(AttributeJob, features=tuple(read), undamped=undamped, **own, **side.model_dump(), **drawn))
    names = tuple(one.id for one in methods if one.family in ("patches", "influence"))
    if names:
        wanted.append(build(ScoreJob, methods=names, **where, **drawn))
    for model in dict.fromkeys(one.embedding for one in methods if one.embedding is not None):
        wanted.append(build(EmbedJob, model=model, weights=embeddings.known_weights(model), **where, **drawn))
    return wanted


def unusable(method: Method, checkpoint: str, train: bool) -> str:
    """Return in a sentence why a benchmark cannot take a method, or nothing.

    Args:
        method: The method.
        checkpoint: Digest of the weights.
        train: Whether the models of an ensemble may be trained for it.
    """
    if method.embedding is not None:
        return embeddings.available(method.embedding)
    return "" if method.models and train else scores.refusal(method, checkpoint)
