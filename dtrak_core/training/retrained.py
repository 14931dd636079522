"""Models trained for a comparison or an LDS: kept, but no checkpoints of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import TrainSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.training import together, training

Beside = Callable[[], Sequence[TrainSettings]]  # asked on a GPU alone: settings of many trainings are slow to make


def nothing() -> Sequence[TrainSettings]:
    """Want nothing next."""
    return ()


def retrained(
    dataset: Dataset, run: TrainSettings, on_progress: Progress, beside: Beside = nothing, workers: int = 1
) -> Denoiser:
    """Return the model of a training that is no checkpoint of the user's, trained now unless it is stored.

    On a GPU, those of `beside`, which the caller will want next, are trained with it where they can be (together.py);
    of several workers, which begin with neighbours among them, each trains its share.
    """
    if together.worthwhile() and store.find("retrained", key_of("retrained", run)) is None:
        others = list(beside())
        begin = others.index(run) % workers if run in others else 0
        for group in together.groups(dataset, [run, *others[begin::workers]]):
            if run in group:
                together.train(dataset, group, on_progress)
    trained = training.train(dataset, run, "retrained", on_progress, kind="retrained")
    return networks.load_denoiser(checkpoints.of_run(trained)[-1])
