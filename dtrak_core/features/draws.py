"""Timesteps and noise of a picture's draws.

A draw is one (timestep t, noise ε_t) pair. The noise is a function of (noise_seed, sample
id, draw number) alone: a counter-based generator (Philox) keyed by their hash, always on
the CPU. Features therefore do not depend on batch size, order, shard or machine. (The
authors' grad_unconditional.py seeds by timestep and batch, so there a picture's noise
follows its place in the batch.)

The draw number of a timestep is the timestep itself, so a grid of 10 timesteps uses the
same noise as the grid of 100 where they meet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from dtrak_core.errors import SettingsError
from dtrak_core.models.settings import DIFFUSION_STEPS

Strategy: TypeAlias = Literal["uniform", "cumulative", "low"]


def timesteps(strategy: Strategy, num_timesteps: int, length: int = DIFFUSION_STEPS) -> np.ndarray:
    """Return the timesteps of a picture's draws, shape (K,), int64.

    uniform: 0, T/K, 2·T/K, ..., rounded down (0 is nearly clean); cumulative: 0, 1, ..., K - 1; low: the middles of K
    equal parts of the lowest fifth, T/10K, 3·T/10K, ..., rounded down. With few draws that is where most can be seen
    (docs/findings.md).

    Args:
        strategy: How they are spread.
        num_timesteps: K; for `uniform` one that divides 1000.
        length: T, the timesteps of the model's noise schedule.

    Raises:
        SettingsError: If K is out of range, or does not divide 1000 for `uniform`.
    """
    most = max(1, length // 5) if strategy == "low" else length
    if not 1 <= num_timesteps <= most:
        part = "the lowest fifth of " if strategy == "low" else ""
        raise SettingsError(
            f"{num_timesteps} timesteps cannot be drawn from {part}a noise schedule of {length}. Choose 1 to {most}."
        )
    if strategy == "low":
        return (2 * np.arange(num_timesteps, dtype=np.int64) + 1) * length // (10 * num_timesteps)
    if strategy == "cumulative":
        return np.arange(num_timesteps, dtype=np.int64)
    if DIFFUSION_STEPS % num_timesteps:
        raise SettingsError(f"{num_timesteps} timesteps do not divide {DIFFUSION_STEPS} evenly. Choose a divisor.")
    return np.arange(num_timesteps, dtype=np.int64) * length // num_timesteps


def noise(noise_seed: int, sample_id: str, draws: Sequence[int] | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normal noise for some draws of one sample.

    Args:
        noise_seed: Seed of the whole noise family.
        sample_id: `train:17` for a training example; for a target see `settings.target_name`.
        draws: Draw numbers, length T.
        shape: Shape of one noise, in the network's space (C, H, W).

    Returns:
        Noise, shape (T, C, H, W), float32. Row j depends on draws[j] alone.
    """
    out = np.empty((len(draws), *shape), dtype=np.float32)
    for row, draw in zip(out, draws, strict=True):
        text = f"noise/{noise_seed}/{sample_id}/{int(draw)}"
        stream(text).standard_normal(out=row, dtype=np.float32)
    return out


def stream(name: str) -> np.random.Generator:
    """Return the random stream of a name: the same numbers for the same name, everywhere."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))
