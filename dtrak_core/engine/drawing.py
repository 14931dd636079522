"""Generated pictures that jobs need: drawn where they are not stored yet."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dtrak_core.models import checkpoints, open_models, targets
from dtrak_core.models.settings import Sampled
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact, find


def samples(
    checkpoint: str, seeds: tuple[int, ...], sampled: Sampled, pictures_per_batch: int, on_progress: Progress
) -> list[Artifact]:
    """Generate what is not stored yet, a batch at a time, so that a cancelled job keeps whole batches."""
    from dtrak_core.models import sampling

    wanted = [targets.sample_settings(checkpoint, seed, sampled) for seed in dict.fromkeys(seeds)]
    missing = [settings for settings in wanted if targets.find_sample(settings) is None]
    if missing:
        denoiser = open_models.opened(checkpoints.by_digest(checkpoint))
    steps, made = sampled.sampling_steps, len(wanted) - len(missing)
    for begin in range(0, len(missing), pictures_per_batch):
        batch = missing[begin : begin + pictures_per_batch]

        def drawn(done: int, _total: int, before: int = made + begin) -> None:
            message = f"Picture {min(len(wanted), before + 1)} of {len(wanted)}"
            on_progress(before * steps + done, len(wanted) * steps, "sampling steps", message)

        now, prompts = [s.seed for s in batch], [s.prompt_of(s.seed) for s in batch if s.prompts]
        began, sampler, eta, guidance = time.perf_counter(), sampled.sampler, sampled.eta, sampled.guidance
        images = sampling.generate(denoiser, now, sampler, steps, eta, drawn, pictures_per_batch, prompts, guidance)
        each = (time.perf_counter() - began) / len(batch)
        for settings, image in zip(batch, images, strict=True):
            targets.publish_sample(settings, image, each)
    return [artifact for s in wanted if (artifact := find("samples", key_of("samples", s))) is not None]


def generate_missing(names: Sequence[str], checkpoint: str, sampled: Sampled, on_progress: Progress) -> None:
    """Generate those of these targets that are generated ones and not stored yet."""
    seeds = tuple(targets.seed_of(name) for name in names if name.startswith("seed:"))
    samples(checkpoint, seeds, sampled, 16, on_progress)
