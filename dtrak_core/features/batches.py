"""Gradients of many pictures, batch by batch, as many at once as the device's memory holds.

The layers of a small network have too little work for several threads, which wait for each other at the end of every
layer. There each thread of a processor has a copy of the network, and pictures of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from dtrak_core.errors import DataError, out_of_memory
from dtrak_core.features import draws, faders, model_outputs, projected
from dtrak_core.features.gradients import draws_for, fewer_draws, per_example_gradients, pictures_per_batch
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import devices
from dtrak_core.models.denoiser import Condition, Denoiser, tracked_parameters

SMALL = 8_000_000  # parameters; docs/speed.md


def gradients(
    denoiser: Denoiser,
    images: np.ndarray,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    on_progress: Callable[[int], None],
    batch: int = 0,
    prompts: Sequence[str] = (),
    grid: np.ndarray | None = None,
    own: model_outputs.Output | None = None,
) -> projected.Made:
    """Yield pictures, part and gradients, batch by batch, as `projected.rows` takes them.

    Args:
        denoiser: Network in eval mode.
        images: Pictures (n, H, W, 3), uint8.
        sample_ids: One id a picture.
        settings: Model output, timesteps, noise seed, and whether the features are in parts.
        on_progress: Told pictures done.
        batch: Pictures at once; 0 chooses.
        prompts: What the network is told of each picture (`Denoiser.told`).
        grid: Timesteps of the draws, for features that are whole; None takes those of the settings.
        own: Model output function that replaces that of the settings, for features that are whole.

    Raises:
        DataError: If the device's memory does not hold a single picture's gradient.
        SettingsError: If the model output cannot be computed at one of the timesteps.
    """
    when = (
        draws.timesteps(settings.timestep_strategy, settings.num_timesteps, denoiser.process.steps)
        if grid is None
        else grid
    )
    if own is None:
        model_outputs.refuse_infinite(settings.model_output, when, denoiser.process)
    size, weight = batch or pictures_per_batch(denoiser, len(when)), denoiser.weight
    captions = prompts or [""] * len(images)
    if denoiser.text is not None:
        denoiser.text.tell(captions)
    alone = own is not None or settings.parts == "faders"
    networks = [denoiser] if alone else copies(denoiser, min(size, len(images)))
    memory = weight.new_empty(min(size, len(images)), sum(p.numel() for _, p in tracked_parameters(denoiser.network)))
    on_progress(0)
    start = 0
    while start < len(images):
        part = slice(start, min(start + size, len(images)))
        try:
            x0 = denoiser.encode(images[part]).to(weight)
            out, told = memory[: len(x0)], denoiser.conditions(captions[part])
            if settings.parts == "faders":
                for number, made in faders.by_parts(denoiser, x0, sample_ids[part], settings, out, told):
                    yield part, number, made
            else:
                by_shares(networks, x0, sample_ids[part], settings, out, grid, told, own)
                yield part, 0, out
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            devices.free_memory()
            if size == 1 and not fewer_draws(denoiser):
                raise DataError(
                    "The device's memory does not hold the gradient of one picture. Choose a smaller model, or another "
                    "device with STUDIO_DEVICE."
                ) from None
            size = max(1, size // 2)  # changes no number beyond rounding
            continue
        start += size
        on_progress(min(start, len(images)))


def copies(denoiser: Denoiser, pictures: int) -> list[Denoiser]:
    """Return the network itself, and a copy for each further thread that has a picture, where it is small."""
    threads = torch.get_num_threads() if denoiser.weight.device.type == "cpu" else 1
    if sum(p.numel() for p in denoiser.network.parameters()) > SMALL:
        threads = 1
    further = range(1, min(threads, pictures))
    return [denoiser, *(replace(denoiser, network=copy.deepcopy(denoiser.network)) for _ in further)]


def by_shares(
    networks: Sequence[Denoiser],
    x0: torch.Tensor,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    out: torch.Tensor,
    grid: np.ndarray | None,
    condition: Condition,
    own: model_outputs.Output | None,
) -> None:
    """Write the gradients of pictures x0 (B, C, H, W) into `out` (B, P), an equal share by each copy of the network.

    A picture's gradient does not depend on its share, beyond rounding.
    """
    used = networks[: len(x0)]
    bounds = [len(x0) * number // len(used) for number in range(len(used) + 1)]
    at_once, threads = max(1, draws_for(networks[0]) // len(used)), torch.get_num_threads()

    def share(number: int) -> None:
        rows = slice(bounds[number], bounds[number + 1])
        if len(used) > 1:
            torch.set_num_threads(1)  # of this thread
        per_example_gradients(
            used[number],
            x0[rows],
            sample_ids[rows],
            settings,
            draws_at_once=at_once,
            out=out[rows],
            grid=grid,
            condition=condition.rows(rows),
            own=own,
        )

    if len(used) == 1:
        share(0)
        return
    try:
        with ThreadPoolExecutor(len(used)) as pool:
            list(pool.map(share, range(len(used))))
    finally:
        torch.set_num_threads(threads)
