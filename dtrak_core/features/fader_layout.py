"""How features in parts are laid out (faders.py), and how they are put together again. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.features import feature_store
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models.settings import DIFFUSION_STEPS
from dtrak_core.store import Artifact

BANDS = {"fine": (0.0, 0.2), "middle": (0.2, 0.6), "coarse": (0.6, 1.0)}  # shares of the schedule, by what they decide
HALVES = 2
PARTS = len(BANDS) * HALVES


@dataclass(frozen=True)
class Faders:
    """Weights of layer groups (G,) and of bands (3,), and which halves of the draws count (0, 1 or both)."""

    layers: tuple[float, ...]
    bands: tuple[float, ...]
    halves: tuple[int, ...] = (0, 1)


def refusal(settings: FeatureSettings) -> str:
    """Say why such features cannot be in parts; nothing where they can."""
    if settings.projection != "none":
        return ""
    return (
        "Features in parts, from which faders and certainty are computed, are projected group by group, and these have "
        "projection 'none'. Choose another projection."
    )


def part_of(grid: np.ndarray, band: int, half: int, length: int = DIFFUSION_STEPS) -> np.ndarray:
    """Return which draws of a grid of timesteps lie in a band, and there in this half (every other one), bool.

    `length` is that of the schedule. A band ends at the timestep to which a share of it is rounded.
    """
    low, high = (round(share * length) for share in list(BANDS.values())[band])
    inside = (grid >= low) & (grid < high)
    turn = np.cumsum(inside) - 1
    taken: np.ndarray = inside & (turn % HALVES == half)
    return taken


def together(rows: np.ndarray, widths: Sequence[int], faders: Faders) -> np.ndarray:
    """Return features with these weights, shape (n, ΣK_g), float32, from features in parts (n, 3 * 2 * ΣK_g).

    Half of the draws alone is doubled, so that it stands for the whole.
    """
    parts = rows.reshape(len(rows), len(BANDS), HALVES, -1)
    scale = HALVES / len(faders.halves)
    summed = np.zeros((len(rows), parts.shape[-1]), np.float32)
    for band, weight in enumerate(faders.bands):
        for half in faders.halves:
            if weight:
                summed += np.float32(weight * scale) * parts[:, band, half]
    by_column: np.ndarray = np.repeat(np.asarray(faders.layers, np.float32), widths)
    weighted: np.ndarray = summed * by_column
    return weighted


def training_rows(artifact: Artifact, faders: Faders) -> np.ndarray:
    """Return a training set's features with these weights, shape (N, ΣK_g), float32, block by block."""
    widths = artifact.manifest["group_widths"]
    return np.concatenate([together(rows, widths, faders) for _, rows in feature_store.blocks(artifact)])
