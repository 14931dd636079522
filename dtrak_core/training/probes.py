"""Measure what one picture costs in one training step here, before a training is asked for."""

from __future__ import annotations

import os
import time

import numpy as np
import torch

from dtrak_core import store
from dtrak_core.models.settings import LoraSettings, ModelSettings, ProbeSettings, TrainSettings
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.training import training, training_run


def probe(
    model: ModelSettings | LoraSettings, resolution: int, batch_size: int, on_progress: Progress, number: int = 0
) -> store.Artifact:
    """Measure what one picture costs in one training step, in some seconds; publish it as `probes`.

    The median over steps after a warm-up is taken: the first steps pay for set-up. The quartiles are noted beside it,
    as `seconds_between`, and the number of trained `parameters`. How busy the machine was before, in cores, is noted as
    `load`; the same is measured again under another number.
    """
    settings = ProbeSettings(model=model, resolution=resolution, batch_size=batch_size, number=number)
    key = key_of("probes", settings)
    with store.computing("probes", key, on_progress) as finished:
        return finished or _probed(settings, key, on_progress)


def _probed(settings: ProbeSettings, key: str, on_progress: Progress) -> store.Artifact:
    model, resolution, batch_size = settings.model, settings.resolution, settings.batch_size
    load = round(os.getloadavg()[0], 1)
    run = training.start(TrainSettings(dataset="0" * 16, model=model, batch_size=batch_size), resolution)
    weight = run.denoiser.weight
    x0 = weight.new_zeros(batch_size, *run.denoiser.shape)
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < 30 and sum(seconds) < 5):
        begin = time.perf_counter()
        t = torch.randint(run.denoiser.process.steps, (batch_size,)).to(weight.device)
        told = run.denoiser.conditions([run.denoiser.usual] * batch_size)
        training_run.backward(run, x0, torch.randn_like(x0), t, told)
        run.optimizer.step()
        run.optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        on_progress(len(seconds), 30, "probe steps", "Measuring one training step")
    store.partial("probes", key)
    low, cost, high = (float(value) / batch_size for value in np.quantile(seconds[1:], (0.25, 0.5, 0.75)))
    count = sum(weights.numel() for weights in run.weights)
    facts = {"seconds_per_picture_step": cost, "seconds_between": [low, high], "parameters": count, "load": load}
    return store.publish("probes", key, settings, **facts)
