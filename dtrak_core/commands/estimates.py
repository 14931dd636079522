"""How long a training takes on this machine, measured anew each time it is asked."""

from __future__ import annotations

from typing import Any

from dtrak_core.amounts import duration
from dtrak_core.commands.answers import completed
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.models.settings import TrainSettings
from dtrak_core.settings import build
from dtrak_core.training import presets


def estimated(settings: TrainSettings, dataset: Dataset) -> dict[str, Any]:
    """Measure what a step of a training costs here now; return the seconds of all its steps, and how busy it was here.

    `load` is in cores: what other work kept busy in the minute before.
    """
    size, batch = dataset.settings.resolution, settings.batch_size
    number = presets.next_probe(presets.probes(settings.model, size, batch))
    job = build(jobs.ProbeJob, model=settings.model, resolution=size, batch_size=batch, number=number)
    (probe,) = completed(job, "Measure the cost of a training step")
    each = float(probe.manifest["seconds_per_picture_step"])
    pictures = len(dataset.train.rows) if settings.indices is None else len(settings.indices)
    seconds = round(each * settings.epochs * pictures, 1)
    return {
        "seconds": seconds,
        "duration": duration(seconds),
        "seconds_per_picture_step": each,
        "load": probe.manifest["load"],
    }
