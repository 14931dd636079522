"""Patches: which training pictures explain the target patch by patch, without gradients and without the model.

A diffusion model that knew its training set by heart would denoise x_t towards a mean of the training pictures,
weighed by how well they explain it. NDA (arXiv 2510.14269) takes that mean patch by patch: the target noised to x_t,
its patch p against every patch q of every training picture y,

    w(p, q) ∝ exp( - |x_t[p] - √ᾱ_t y[q]|² / (2 (1 - ᾱ_t)) ),    Σ_q w(p, q) = 1
    score(z, i) = Σ_p Σ_{q in picture i} w(p, q) / number of p

at two scales, the picture and its half, of equal weight. Patches lie inside the picture. The sum over p left out is a
map of which parts of the target a training picture explains. (The authors take the 100 best patches a picture.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws
from dtrak_core.methods.settings import PatchSettings
from dtrak_core.models.settings import DIFFUSION_STEPS
from dtrak_core.models.targets import Target
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

SIDE = 7  # pixels of a patch's side
MAPPED = 32  # training pictures whose maps are kept, the highest first
MEMORY = 2**29  # bytes that a comparison may take beside the pictures and the maps that it returns; docs/scale.md
BLOCK = MEMORY // 32  # numbers of a block of distances: eight such blocks in float32 are the most that lives at once


def compute(dataset: Dataset, targets: Sequence[Target], on_progress: Progress) -> list[Artifact]:
    """Return the scores of targets, computing those that are not stored.

    Returns:
        Artifacts of kind `patches`: scores.npy (N,) float64; mapped.npy, the `MAPPED` best training indices;
        maps.npy (MAPPED, H, W) float32, the part of the score that lies on patches around each pixel.
    """
    made = []
    for number, target in enumerate(targets):
        every = len(targets) * sum(counts(*target.image.shape[:2]))

        def scored(done: int, before: int = number * (every // len(targets)), every: int = every) -> None:
            on_progress(before + done, every, "patches", "Patches")

        settings = PatchSettings(dataset=dataset.digest, target=target.id, pixels=target.pixels)
        key = key_of("patches", settings)
        with store.computing("patches", key, on_progress) as found:
            if found is None:
                images, scales = dataset.train.images, _scales(target.image, target.id, settings)
                scores, totals = _scores(images, scales, scored)
                best = np.argsort(-scores, kind="stable")[:MAPPED]
                folder = store.partial("patches", key)
                store.write_array(folder / "scores.npy", scores)
                store.write_array(folder / "mapped.npy", best)
                store.write_array(folder / "maps.npy", _maps(np.asarray(images)[best], scales, totals))
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
    scales = _scales(image, target, settings)
    scores, totals = _scores(images, scales)
    return scores, _maps(images, scales, totals)


def counts(height: int, width: int) -> list[int]:
    """Return how many patches a picture has at each of its scales."""
    sizes = [(height, width)] + [(height // 2, width // 2)] * (min(height, width) // 2 >= SIDE)
    return [(rows - SIDE + 1) * (columns - SIDE + 1) for rows, columns in sizes]


@dataclass(frozen=True)
class _Scale:
    """The noised target (h, w, 3) at one scale, float32; how often it is halved, √ᾱ and 2 (1 - ᾱ)."""

    noised: np.ndarray
    halvings: int
    root: float
    width: float

    @property
    def grid(self) -> tuple[int, int]:
        """Return rows and columns of patches."""
        return self.noised.shape[0] - SIDE + 1, self.noised.shape[1] - SIDE + 1

    def of(self, images: np.ndarray) -> np.ndarray:
        """Return training pictures (n, H, W, 3), uint8, at this scale, times √ᾱ, float32."""
        clean = np.asarray(images, np.float32) / 127.5 - 1
        return np.float32(self.root) * (_halved(clean) if self.halvings else clean)


def _scales(image: np.ndarray, target: str, settings: PatchSettings) -> list[_Scale]:
    abar = _abar(settings.timestep)
    root, width = abar**0.5, 2 * (1 - abar)
    noise = draws.noise(settings.noise_seed, target, [settings.timestep], image.shape)[0]
    x = np.asarray(image, np.float32) / 127.5 - 1
    found = [(x, noise)]
    if min(image.shape[:2]) // 2 >= SIDE:
        found.append((_halved(x[None])[0], noise[::2, ::2][: image.shape[0] // 2, : image.shape[1] // 2]))
    return [
        _Scale((root * clean + (1 - abar) ** 0.5 * eps).astype(np.float32), halvings, root, width)
        for halvings, (clean, eps) in enumerate(found)
    ]


def _scores(
    images: np.ndarray, scales: Sequence[_Scale], on_progress: Callable[[int], None] = lambda done: None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return scores (N,), and for each scale log Σ_q exp(-distance(p, q) / width) over all pictures' q, (P,)."""
    scores, totals, done = np.zeros(len(images)), [], 0
    for scale in scales:
        total = np.empty(scale.grid[0] * scale.grid[1])
        for part, logs in _log_weights(images, scale):
            on_progress(done + part.start)
            total[part] = np.logaddexp.reduce(logs, axis=0)
            scores += np.exp(logs - total[part]).sum(1) / len(total) / len(scales)
        done += len(total)
        totals.append(total)
    return scores, totals


def _maps(images: np.ndarray, scales: Sequence[_Scale], totals: Sequence[np.ndarray]) -> np.ndarray:
    """Return the maps of pictures, shape (n, H, W), float32, from what `_scores` found of all."""
    shape = scales[0].noised.shape[:2]
    maps = np.zeros((len(images), *shape), np.float32)
    for scale, total in zip(scales, totals, strict=True):
        step = 2**scale.halvings
        edge = (SIDE // 2) * step
        mass = np.empty((len(images), len(total)), np.float32)
        for part, logs in _log_weights(images, scale):
            mass[:, part] = np.exp(logs - total[part]) / len(total)
        for one, own in zip(maps, mass.reshape(-1, *scale.grid), strict=True):
            spread = np.repeat(np.repeat(own, step, 0), step, 1) / (step**2 * len(scales))
            one[edge : edge + spread.shape[0], edge : edge + spread.shape[1]] += spread
    return maps


def _log_weights(images: np.ndarray, scale: _Scale) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some of the target's patches p, and log Σ_q exp(-distance(p, q) / width) over each picture's q, (N, part).

    Blocks of the target's patches, of pictures and of rows of patches, so that no array has more than `BLOCK` numbers.
    """
    (rows, columns), depth = scale.grid, SIDE * SIDE * 3
    own = _patches(scale.noised[None]).reshape(rows * columns, depth)
    width = max(1, min(BLOCK // max(columns, len(images)) // 2, len(own)))  # of a part; the logs are float64
    band = max(1, min(rows, BLOCK // (columns * max(width, depth))))
    at_once = max(1, BLOCK // (rows * columns * max(width, depth)))
    for begin in range(0, len(own), width):
        part = slice(begin, min(begin + width, len(own)))
        mine = own[part]
        lengths, logs = (mine**2).sum(1), np.full((len(images), len(mine)), -np.inf)
        for start in range(0, len(images), at_once):
            theirs = scale.of(images[start : start + at_once])
            here = logs[start : start + at_once]
            for top in range(0, rows, band):
                patches = _patches(theirs[:, top : top + band + SIDE - 1]).reshape(-1, depth)
                near = patches @ mine.T
                near *= 2
                near -= (patches**2).sum(1)[:, None]
                near -= lengths
                near /= np.float32(scale.width)
                near = near.reshape(len(theirs), -1, len(mine))
                best = near.max(1)  # taken out first, so that no exponential vanishes
                near -= best[:, None]
                sums = np.log(np.exp(near, out=near).sum(1, dtype=np.float64)) + best
                np.logaddexp(here, sums, out=here)
        yield part, logs


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
