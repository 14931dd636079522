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
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import TrainSettings
from dtrak_core.training import training_run


@dataclass(frozen=True)
class Batch:
    """One step of all models: rows of pictures (M, B), which are mirrored, which count (not those that fill up).

    Noise (U, B, C, H, W) and timesteps (U, B) are of the U different training seeds.
    """

    rows: Tensor
    counted: Tensor
    noise: Tensor
    t: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows, self.counted, self.noise, self.t


class Feed:
    """Pictures on the device, and the steps' random numbers, made ahead on the CPU as each model alone makes them."""

    def __init__(self, dataset: Dataset, wanted: Sequence[TrainSettings], denoiser: Denoiser) -> None:
        self.wanted, self.shape, self.steps = wanted, denoiser.shape, denoiser.process.steps
        self.device = denoiser.weight.device
        images = dataset.train.images[:]
        x0 = denoiser.encode(images)
        if wanted[0].flip:  # the mirrored ones follow
            x0 = torch.cat([x0, denoiser.encode(images[:, :, ::-1])])
        self.x0, self.count = x0.to(self.device), len(images)
        self.indices = [np.arange(self.count) if one.indices is None else np.unique(one.indices) for one in wanted]
        self.seeds = list(dict.fromkeys(one.train_seed for one in wanted))
        self.seed_of = torch.tensor([self.seeds.index(one.train_seed) for one in wanted], device=self.device)

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
        noise = np.zeros((len(self.seeds), size, *self.shape), np.float32)
        t = np.zeros((len(self.seeds), size), np.int64)
        for i, seed in enumerate(self.seeds):
            random = training_run.generator(seed, "step", number)
            own = [m for m, one in enumerate(self.wanted) if one.train_seed == seed]
            rows[own, :taken] += self.count * training_run.mirrored(self.wanted[0], random, taken)
            drawn = training_run.noise_and_times(random, (taken, *self.shape), self.steps)
            noise[i, :taken], t[i, :taken] = drawn
        counted = np.zeros(size, np.float32)
        counted[:taken] = 1 / taken
        found = [torch.from_numpy(one) for one in (rows, counted, noise, t)]
        return Batch(*(one.pin_memory() if self.device.type == "cuda" else one for one in found))
