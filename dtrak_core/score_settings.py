"""Settings of methods that keep no features: what one target's scores depend on."""

from __future__ import annotations

from pydantic import Field

from dtrak_core.settings import DIFFUSION_STEPS, Digest, EvenGrid, Seed, Settings


class PatchSettings(Settings):
    """Which target is compared patch by patch (patches.py), and how far it is noised."""

    dataset: Digest
    target: str
    pixels: Digest
    timestep: int = Field(default=100, ge=1, lt=DIFFUSION_STEPS)
    noise_seed: Seed = 0


class InfluenceSettings(Settings):
    """Which target's influence by EK-FAC, and over how many draws (ekfac.py)."""

    dataset: Digest
    checkpoint: Digest
    target: str
    pixels: Digest
    num_timesteps: EvenGrid = 50
    damping: float = Field(default=0.1, gt=0)
    noise_seed: Seed = 0
