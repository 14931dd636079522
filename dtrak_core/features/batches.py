"""Gradients of many pictures, batch by batch, as many at once as the device's memory holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from dtrak_core.errors import DataError
from dtrak_core.features import draws, faders, model_outputs, projected
from dtrak_core.features.gradients import fewer_draws, per_example_gradients, pictures_per_batch
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models.denoiser import Denoiser, tracked_parameters


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
                yield (
                    part,
                    0,
                    per_example_gradients(
                        denoiser, x0, sample_ids[part], settings, out=out, grid=grid, condition=told, own=own
                    ),
                )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if size == 1 and not fewer_draws(denoiser):
                raise DataError(
                    "The device's memory does not hold the gradient of one picture. Choose a smaller model, or another "
                    "device with STUDIO_DEVICE."
                ) from None
            size = max(1, size // 2)  # changes no number beyond rounding
            continue
        start += size
        on_progress(min(start, len(images)))
