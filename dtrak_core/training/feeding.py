"""What models that train together are fed: pictures on the device, random numbers made ahead on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models.settings import TrainSettings
from dtrak_core.training import training_run
from dtrak_core.training.training_run import Run


@dataclass(frozen=True)
class Batch:
    """One step of all models: rows of pictures (M, B), which are mirrored, which count (not those that fill up).

    Noise (U, B, C, H, W) and timesteps (U, B) are of the U different training seeds; so are, of a text-to-image model,
    the standard normal numbers of latents (U, B, C, H, W) and which pictures are told nothing of (U, B); else empty.
    """

    rows: Tensor
    counted: Tensor
    noise: Tensor
    t: Tensor
    latent: Tensor
    untold: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows, self.counted, self.noise, self.t, self.latent, self.untold


class Feed:
    """Pictures on the device, and the steps' random numbers, made ahead on the CPU as each model alone makes them.

    Of a text-to-image model, pictures are the means of their latents, scaled; beside them lie the standard deviations,
    and what captions tell; that of the empty one comes last. Nothing is made of Python's numbers within a step, which
    could not be recorded.
    """

    def __init__(self, dataset: Dataset, wanted: Sequence[TrainSettings], run: Run) -> None:
        self.wanted, denoiser = wanted, run.denoiser
        self.shape, self.steps, self.text = denoiser.shape, denoiser.process.steps, denoiser.text
        self.device = denoiser.weight.device
        images = dataset.train.images[:]
        x0, spread, self.told = torch.zeros(0), torch.zeros(0), {}
        if run.latents is not None:
            x0, spread = (torch.tensor(part[: 1 + wanted[0].flip]).flatten(0, 1) for part in run.latents)
            assert self.text is not None
            x0, spread = self.text.scaled(x0), spread * self.text.scale
            words = [*map(denoiser.told, dataset.train.rows), ""]
            self.told = {name: value.to(self.device) for name, value in denoiser.conditions(words).tensors.items()}
        else:
            x0 = denoiser.encode(images)
            if wanted[0].flip:  # the mirrored ones follow
                x0 = torch.cat([x0, denoiser.encode(images[:, :, ::-1])])
        self.x0, self.spread, self.count = x0.to(self.device), spread.to(self.device), len(images)
        self.indices = [np.arange(self.count) if one.indices is None else np.unique(one.indices) for one in wanted]
        self.seeds = list(dict.fromkeys(one.train_seed for one in wanted))
        self.seed_of = torch.tensor([self.seeds.index(one.train_seed) for one in wanted], device=self.device)

    def clean(self, batch: Batch) -> Tensor:
        """Return the pictures of a batch in model space, (M, B, C, H, W); latents are drawn from their posterior."""
        x0 = self.x0[batch.rows]
        return x0 if self.text is None else x0 + self.spread[batch.rows] * batch.latent[self.seed_of]

    def conditions(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the models are told of a batch's pictures, (M, B, ...) each."""
        if not self.told:
            return {}
        rows = (batch.rows % self.count).masked_fill(batch.untold[self.seed_of], self.count)
        return {name: value[rows] for name, value in self.told.items()}

    def batches(self, total: int) -> Iterator[Batch]:
        """Yield the batches of all steps, a few of which are made ahead."""
        size = self.wanted[0].batch_size
        an_epoch = math.ceil(len(self.indices[0]) / size)
        orders: dict[int, list[np.ndarray]] = {}

        def made(number: int) -> Batch:
            epoch, place = divmod(number, an_epoch)
            mine = orders.get(epoch) or [
                training_run.generator(one.train_seed, "order", epoch).permutation(own)
                for one, own in zip(self.wanted, self.indices, strict=True)
            ]
            orders[epoch] = mine
            orders.pop(epoch - 2, None)
            return self._made(number, [order[place * size : (place + 1) * size] for order in mine])

        with ThreadPoolExecutor(4) as pool:
            ahead = 8
            waiting = [pool.submit(made, number) for number in range(min(ahead, total))]
            for number in range(total):
                ready = waiting.pop(0).result()
                if number + ahead < total:
                    waiting.append(pool.submit(made, number + ahead))
                yield ready

    def _made(self, number: int, parts: Sequence[np.ndarray]) -> Batch:
        size, taken = self.wanted[0].batch_size, len(parts[0])
        rows = np.zeros((len(parts), size), np.int64)
        rows[:, :taken] = np.sort(np.stack(parts), axis=1)
        seeds, settings, spread = len(self.seeds), self.wanted[0], self.text is not None
        noise = np.zeros((seeds, size, *self.shape), np.float32)
        t = np.zeros((seeds, size), np.int64)
        latent = np.zeros((seeds, size, *self.shape) if spread else (seeds, 0), np.float32)
        untold = np.zeros((seeds, size if spread else 0), bool)
        for i, seed in enumerate(self.seeds):
            random = training_run.generator(seed, "step", number)
            own = [m for m, one in enumerate(self.wanted) if one.train_seed == seed]
            rows[own, :taken] += self.count * training_run.mirrored(settings, random, taken)
            if spread:
                latent[i, :taken] = random.standard_normal((taken, *self.shape), dtype=np.float32)
            drawn = training_run.noise_and_times(random, (taken, *self.shape), self.steps)
            noise[i, :taken], t[i, :taken] = drawn
            if spread:
                untold[i, :taken] = random.random(taken) < settings.model.left_out
        counted = np.zeros(size, np.float32)
        counted[:taken] = 1 / taken
        found = [torch.from_numpy(one) for one in (rows, counted, noise, t, latent, untold)]
        return Batch(*(one.pin_memory() if self.device.type == "cuda" else one for one in found))
