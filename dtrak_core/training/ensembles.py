"""Ensembles: models trained on halves of what the original learned from, whose scores are averaged. No torch here.

As in the authors' folder 06_ensemble: member m is trained with the original's settings and training seed 0 on subset
m of the `retrain` draws, which are disjoint from those that an LDS is measured on.
"""

from __future__ import annotations

from dtrak_core import program, store
from dtrak_core.datasets import catalogue, subsets
from dtrak_core.errors import NotFoundError
from dtrak_core.models import checkpoints
from dtrak_core.models.settings import TrainSettings
from dtrak_core.settings import key_of

SHARE = 0.5
TRAIN_SEED = 0


def member_trainings(checkpoint: str, count: int, dataset: str = "") -> list[TrainSettings]:
    """Return the trainings of the first members of a checkpoint's ensemble, on this dataset where it is known.

    Raises:
        SettingsError: If the checkpoint was not trained here, so that it cannot be trained again.
    """
    original = checkpoints.by_digest(checkpoint, dataset)
    labels = catalogue.by_digest(original.dataset).train.labels
    shared = checkpoints.training_of(original)
    trainings = []
    for number in range(count):
        chosen = subsets.random_part("retrain", number, labels, SHARE, shared.indices)
        own = {"indices": tuple(chosen.tolist()), "train_seed": TRAIN_SEED}
        trainings.append(TrainSettings(**shared.model_dump() | own))
    return trainings


def members(checkpoint: str, count: int, dataset: str = "") -> list[str]:
    """Return the digests of the members' weights.

    Raises:
        NotFoundError: If one is not trained yet.
    """
    found = []
    for number, training in enumerate(member_trainings(checkpoint, count, dataset)):
        run = store.find("retrained", key_of("retrained", training))
        if run is None:
            raise NotFoundError(
                f"Model {number + 1} of {count} of the ensemble is not trained yet. Ask for it on the Benchmark page, "
                f"or by '{program.command('lds --method d-trak-ensemble')}'."
            )
        found.append(checkpoints.of_run(run)[-1].digest)
    return found
