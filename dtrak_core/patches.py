"""Patches: which training pictures explain the target patch by patch, without gradients and without the model.

A diffusion model that knew its training set by heart would denoise x_t towards a mean of the training pictures,
weighed by how well they explain it. NDA (peers.md, 2.5) takes that mean patch by patch: the target noised to x_t,
its patch p against every patch q of every training picture y,

    w(p, q) ∝ exp( - |x_t[p] - √ᾱ_t y[q]|² / (2 (1 - ᾱ_t)) ),    Σ_q w(p, q) = 1
    score(z, i) = Σ_p Σ_{q in picture i} w(p, q) / number of p

at two scales, the picture and its half, of equal weight. Patches lie inside the picture. The sum over p left out is a
map of which parts of the target a training picture explains. (The authors take the 100 best patches a picture.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core import draws, store
from dtrak_core.datasets import Dataset
from dtrak_core.progress import Progress
from dtrak_core.score_settings import PatchSettings
from dtrak_core.settings import DIFFUSION_STEPS, key_of
from dtrak_core.store import Artifact
from dtrak_core.targets import Target

SIDE = 7  # pixels of a patch's side
MAPPED = 32  # training pictures whose maps are kept, the highest first
BLOCK = 2**24  # numbers of a block of distances


def compute(dataset: Dataset, targets: Sequence[Target], progress: Progress) -> list[Artifact]:
    """Return the scores of targets, computing those that are not stored.

    Returns:
        Artifacts of kind `patches`: scores.npy (N,) float64; mapped.npy, the `MAPPED` best training indices;
        maps.npy (MAPPED, H, W) float32, the part of the score that lies on patches around each pixel.
    """
    made = []
    for number, target in enumerate(targets):
        progress(number, len(targets), "targets", "Patches")
        settings = PatchSettings(dataset=dataset.digest, target=target.id, pixels=target.pixels)
        key = key_of("patches", settings)
        found = store.find("patches", key)
        if found is None:
            scores, maps = compare(dataset.train.images, target.image, target.id, settings)
            best = np.argsort(-scores, kind="stable")[:MAPPED]
            folder = store.partial("patches", key)
            store.write_array(folder / "scores.npy", scores)
            store.write_array(folder / "mapped.npy", best)
            store.write_array(folder / "maps.npy", maps[best])
            found = store.publish("patches", key, settings)
        made.append(found)
    return made


def map_of(dataset: str, target: Target, index: int) -> np.ndarray | None:
    """Return which pixels of a target a training picture explains, shape (H, W), 1 at the most; None if not stored."""
    settings = PatchSettings(dataset=dataset, target=target.id, pixels=target.pixels)
    artifact = store.find("patches", key_of("patches", settings))
    if artifact is None:
        return None
    mapped = np.asarray(artifact.array("mapped.npy")).tolist()
    if index not in mapped:
        return None
    found: np.ndarray = np.asarray(artifact.array("maps.npy")[mapped.index(index)])
    return found / max(float(found.max()), 1e-30)


def compare(
    images: np.ndarray, image: np.ndarray, target: str, settings: PatchSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (N,), which sum to 1, and their maps over the target's pixels (N, H, W).

    Args:
        images: Training pictures, shape (N, H, W, 3), uint8.
        image: The target, shape (H, W, 3), uint8.
        target: Its id, which the noise follows.
        settings: Timestep and noise seed.
    """
    x, y = (np.asarray(each, np.float32) / 127.5 - 1 for each in (image[None], images))
    abar = _abar(settings.timestep)
    noise = draws.noise(settings.noise_seed, target, [settings.timestep], x.shape[1:])
    scales = [(x, y, noise)]
    if min(image.shape[:2]) // 2 >= SIDE:
        scales.append((_halved(x), _halved(y), noise[:, ::2, ::2]))
    maps = np.zeros((len(images), *image.shape[:2]), np.float32)
    for clean, train, eps in scales:
        noised = np.sqrt(abar) * clean + np.sqrt(1 - abar) * eps
        mass = _weights(noised[0], np.sqrt(abar) * train, 2 * (1 - abar))  # (N, rows, columns) of patch centres
        step = image.shape[0] // clean.shape[1]
        spread = np.repeat(np.repeat(mass, step, 1), step, 2) / step**2
        edge = (SIDE // 2) * step
        maps[:, edge : edge + spread.shape[1], edge : edge + spread.shape[2]] += spread / len(scales)
    return maps.sum((1, 2), dtype=np.float64), maps


def _weights(x: np.ndarray, train: np.ndarray, width: float) -> np.ndarray:
    """Return each training picture's weight at each patch of x, shape (N, rows, columns); in all they sum to 1."""
    own = _patches(x[None])[0]  # (rows, columns, D)
    rows, columns = own.shape[:2]
    flat = own.reshape(rows * columns, -1)
    lengths = (flat**2).sum(1)
    found = np.empty((len(train), rows * columns), np.float32)
    least = np.full(rows * columns, np.inf, np.float32)
    at_once = max(1, BLOCK // (rows * columns) ** 2)
    for turn in range(2):  # the nearest patch first, so that no exponential vanishes
        for start in range(0, len(train), at_once):
            theirs = _patches(train[start : start + at_once]).reshape(-1, flat.shape[1])
            distances = lengths + (theirs**2).sum(1)[:, None] - 2 * theirs @ flat.T
            if turn == 0:
                least = np.minimum(least, distances.min(0))
            else:
                near = np.exp((least - distances) / width).reshape(-1, rows * columns, rows * columns)
                found[start : start + len(near)] = near.sum(1)
    shared: np.ndarray = found / found.sum(0) / (rows * columns)
    return shared.reshape(-1, rows, columns)


def _patches(images: np.ndarray) -> np.ndarray:
    """Return all patches of pictures (n, H, W, 3), shape (n, rows, columns, SIDE² 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    return windows.reshape(*windows.shape[:3], -1)


def _halved(images: np.ndarray) -> np.ndarray:
    """Return pictures of half the size: means of 2 x 2 pixels."""
    n, height, width, channels = images.shape
    trimmed = images[:, : height // 2 * 2, : width // 2 * 2]
    halved: np.ndarray = trimmed.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
    return halved


def _abar(timestep: int) -> float:
    """Return ᾱ of the paper's noise schedule."""
    betas = np.linspace(1e-4, 0.02, DIFFUSION_STEPS)
    return float(np.cumprod(1 - betas)[timestep])
