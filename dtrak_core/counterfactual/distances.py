"""Distances between a target and its counterfactual, and what several of them say together. No torch here.

    pixel l2    ||a - b||_2 over all numbers of the pictures in [-1, 1]   (Zheng et al. 2024)
    cosine      <u, v> / (||u|| ||v||) of two embeddings

A larger l2 and a smaller cosine mean that the removal changed the picture more.
"""

from __future__ import annotations

import numpy as np

from dtrak_core.errors import SettingsError


def pixel_l2(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Euclidean distance of two uint8 pictures (H, W, 3), taken in [-1, 1].

    Raises:
        SettingsError: If their shapes differ.
    """
    if a.shape != b.shape:
        raise SettingsError(f"Pictures of shapes {a.shape} and {b.shape} have no distance. Give pictures of one size.")
    return float(np.linalg.norm((a.astype(np.float64) - b.astype(np.float64)) / 127.5))


def cosine(u: np.ndarray, v: np.ndarray) -> float:
    """Return the cosine of two embeddings (D,), -1 to 1; 1 for equal ones."""
    a, b = np.asarray(u, np.float64), np.asarray(v, np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / lengths, -1.0, 1.0)) if lengths else 0.0
