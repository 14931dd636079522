"""Pictures that are nearly equal: found by a perceptual hash, confirmed pixel by pixel. No torch here.

A perceptual hash (pHash) is the sign, against their median, of the 64 lowest coefficients of the cosine transform of a
picture's brightness at 32 x 32. What is encoded again, resized, or a little brighter keeps most of its bits. Pictures
that have few bits apart may still differ, in colour say, so a pair counts where its pixels lie close as well.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dtrak_core.datasets.catalogue import Dataset

SIDE = 32  # pixels a side at which pictures are compared; smaller ones as they are
BITS, RMS = 6, 0.05  # of 64 bits, and of [-1, 1]: at most so far apart are two pictures that are nearly equal
_KEPT = 8  # coefficients a side
_BLOCK = 2**22  # pairs of a bucket that are compared at once


@dataclass(frozen=True)
class Pair:
    """Two pictures, `first` before `second`: bits of their hashes that differ, root mean square of their pixels."""

    first: int
    second: int
    bits: int
    rms: float


def reduced(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return pictures (N, H, W, 3) uint8 as they are compared: at most 32 pixels a side, in [-1, 1], (N, D) float32."""
    found = np.stack([_small(image) for image in images]).astype(np.float32)
    return found.reshape(len(found), -1) / np.float32(127.5) - 1


def hashes(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return the perceptual hash of each picture (N, H, W, 3) uint8, shape (N,), uint64."""
    steps = np.arange(SIDE)
    basis = np.cos(np.pi * (steps + 0.5) * np.arange(_KEPT)[:, None] / SIDE)
    grey = np.stack([_brightness(image) for image in images])
    found = (basis @ grey @ basis.T).reshape(len(grey), -1)
    found[:, 0] = np.median(found[:, 1:], axis=1)  # how bright a picture is on the whole says nothing
    bits = found > np.median(found, axis=1, keepdims=True)
    packed: np.ndarray = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return packed


def pairs(images: Sequence[np.ndarray] | np.ndarray, rms: float = RMS) -> list[Pair]:
    """Return all pairs of pictures that are equal or nearly so, the closest first.

    Args:
        images: Pictures of one size, (N, H, W, 3) uint8.
        rms: Root mean square of the differences of pixels in [-1, 1], at most.
    """
    codes, pixels = hashes(images), reduced(images)
    found: dict[tuple[int, int], Pair] = {}
    # Of BITS + 1 parts of two hashes at least one is equal where at most BITS of their bits differ.
    edges = np.linspace(0, 64, BITS + 2).astype(int)
    for start, end in itertools.pairwise(edges.tolist()):
        part = (codes >> np.uint64(start)) & np.uint64(2 ** (end - start) - 1)
        for members in _buckets(part):
            step = max(1, _BLOCK // len(members))
            for begin in range(0, len(members), step):
                here = members[begin : begin + step]
                apart = np.bitwise_count(codes[here][:, None] ^ codes[members])
                first, second = np.nonzero((apart <= BITS) & (here[:, None] < members))
                for i, j, far in zip(here[first].tolist(), members[second].tolist(), apart[first, second], strict=True):
                    if (i, j) not in found:
                        distance = float(np.sqrt(np.mean((pixels[i] - pixels[j]) ** 2)))
                        found[i, j] = Pair(i, j, int(far), distance)
    return sorted((one for one in found.values() if one.rms <= rms), key=lambda p: (p.rms, p.bits, p.first, p.second))


def classes(count: int, found: Iterable[Pair]) -> np.ndarray:
    """Return for each of `count` pictures the number of the first that pairs join it with, shape (count,), int64."""
    parent = np.arange(count)
    for one in found:
        low, high = sorted((_root(parent, one.first), _root(parent, one.second)))
        parent[high] = low
    return np.array([_root(parent, i) for i in range(count)], np.int64)


def of_dataset(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of every training picture and of every held-out one, training pictures counted first.

    Pictures of one class are equal or nearly so, directly or through others.
    """
    return _of_dataset(dataset.key, dataset.digest, Held(dataset))


@dataclass(frozen=True)
class Held:
    """A dataset that stands in no key."""

    dataset: Dataset

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held)


@functools.lru_cache(maxsize=8)
def _of_dataset(_key: str, _digest: str, held: Held) -> tuple[np.ndarray, np.ndarray]:
    train, held_out = held.dataset.train.images, held.dataset.held_out.images
    found = classes(len(train) + len(held_out), pairs([*train, *held_out]))
    return found[: len(train)], found[len(train) :]


def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _buckets(part: np.ndarray) -> list[np.ndarray]:
    found: dict[int, list[int]] = defaultdict(list)
    for i, value in enumerate(part.tolist()):
        found[value].append(i)
    return [np.array(members) for members in found.values() if len(members) > 1]


def _small(image: np.ndarray) -> np.ndarray:
    if max(image.shape[:2]) <= SIDE:
        return np.asarray(image)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((SIDE, SIDE), Image.Resampling.BOX))


def _brightness(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
