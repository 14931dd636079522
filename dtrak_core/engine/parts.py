"""Parts of a job that can be done side by side on several workers.

A job is always finished by the one function that does it whole (`work.run`), which goes on from what is stored.
Where there are several workers, parts of it are computed before that, by any of them: so the numbers are those
of one worker, and what one machine does is not another program. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtrak_core import store
from dtrak_core.counterfactual import comparisons, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.features import feature_store
from dtrak_core.features.passes import Piece
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import AttributeJob, CounterfactualJob, Job, LdsJob
from dtrak_core.lds import subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.models import checkpoints
from dtrak_core.settings import key_of


@dataclass(frozen=True)
class Part:
    """One part: `features` and `shard`, or `removed` and `train_seed`, or `model`, or `piece`; or none: all that
    scores need.

    `weight` is what it costs, counted in `unit`; `about` says in words what it is; `workers` do parts at once.
    """

    weight: int
    unit: str
    about: str
    features: int = -1
    shard: int = -1
    removed: tuple[int, ...] = ()
    train_seed: int = -1
    model: int = -1
    piece: Piece | None = None
    workers: int = 1


def read_part(values: Mapping[str, Any]) -> Part:
    """Return a part from what JSON makes of it."""
    piece = values["piece"] and Piece(**values["piece"])
    return Part(**{**values, "removed": tuple(values["removed"]), "piece": piece})


def of_pass(pieces: Sequence[Piece]) -> list[Part]:
    """Return the parts of a pass over stored features."""
    return [Part(one.end - one.first, "rows", "A pass over the features", piece=one) for one in pieces]


def stage(job: Job, number: int) -> list[Part] | None:
    """Return the parts of a job's stage, which may be worked on once the stages before it are done.

    Only what is not stored is a part. None means that there is no such stage.
    """
    match job, number:
        case AttributeJob(), 0:
            return _shards(job.features)
        case CounterfactualJob(), 0:
            return _shards(job.settings.features)
        case CounterfactualJob(), 1:
            return [Part(1, "steps", "Scores")]
        case CounterfactualJob(), 2:
            return _trainings(job.settings)
        case LdsJob(), 0:
            return [Part(1, "steps", "Pictures")]
        case LdsJob(), 1:
            return _models(job.settings)
    return None


def _shards(chosen: Sequence[FeatureSettings]) -> list[Part]:
    found: list[Part] = []
    for i, settings in enumerate(chosen):
        key = key_of("features", settings)
        if store.find("features", key) is not None:
            continue
        count, folder = len(catalogue.by_digest(settings.dataset).train.rows), store.partial("features", key)
        for number, rows in enumerate(feature_store.shard_sizes(count)):
            if not feature_store.seal_path(folder, number).exists():
                about = f"Training features {settings.model_output}"
                found.append(Part(rows * settings.num_timesteps, "gradients", about, features=i, shard=number))
    return found


def _trainings(settings: CounterfactualSettings) -> list[Part]:
    dataset, checkpoint = (
        catalogue.by_digest(settings.dataset, settings.facts),
        checkpoints.by_digest(settings.checkpoint, settings.dataset),
    )
    wanted = removals.plan(dataset, checkpoint, settings)
    found = []
    for (removed, seed), bars in removals.lacking(wanted, settings).items():
        if (removed, seed) != removals.original(checkpoint):
            run = removals.retraining(dataset, checkpoint, removed, seed)
            steps = run.steps(len(dataset.train.rows))
            about = f"Training: {comparisons.about(bars)}"
            found.append(Part(steps, "training steps", about, removed=removed, train_seed=seed))
    return found


def _models(settings: LdsSettings) -> list[Part]:
    dataset, checkpoint = (
        catalogue.by_digest(settings.dataset),
        checkpoints.by_digest(settings.checkpoint, settings.dataset),
    )
    lacking, found = subset_models.lacking(settings), []
    for number, one in enumerate(subset_models.models(settings)):
        if one in lacking:
            run = subset_models.training(dataset, checkpoint, one)
            steps = run.steps(len(dataset.train.rows))
            found.append(Part(steps, "training steps", f"Subset {one.subset}, seed {one.train_seed}", model=number))
    return found
