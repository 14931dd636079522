"""Pictures that are nearly equal: found by a perceptual hash, confirmed pixel by pixel. No torch here.

A perceptual hash (pHash) is the sign, against their median, of the 64 lowest coefficients of the cosine transform of a
picture's brightness at 32 x 32. What is encoded again, resized, or a little brighter keeps most of its bits. Pictures
that have few bits apart may still differ, in colour say, so a pair counts where its pixels lie close as well.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dtrak_core.datasets import duplicates
from dtrak_core.datasets.catalogue import Dataset

SIDE = 32  # pixels a side at which pictures are compared; smaller ones as they are
BITS, RMS = 6, 0.05  # of 64 bits, and of [-1, 1]: at most so far apart are two pictures that are nearly equal
_KEPT = 8  # coefficients a side
_BLOCK = 2**22  # pairs of a bucket that are compared at once, and numbers of their pixels
_SLACK = 1.01  # for rounding
# Of BITS + 1 parts of two hashes at least one is equal where at most BITS of their bits differ.
_PARTS = tuple(itertools.pairwise(np.linspace(0, 64, BITS + 2).astype(int).tolist()))


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


def pairs(images: Sequence[np.ndarray] | np.ndarray) -> list[Pair]:
    """Return the pairs of pictures that are equal or nearly so, the closest first.

    Of pictures that are equal by pixels each is paired with the first of them, and that one alone with others: k equal
    ones give k - 1 pairs, and `classes` of all pairs are the same.

    Args:
        images: Pictures of one size, (N, H, W, 3) uint8.
    """
    equal = duplicates.classes(images)
    chosen = np.unique(equal)
    codes, pixels, colours = _compared([images[i] for i in chosen])
    same = np.flatnonzero(equal != np.arange(len(equal)))
    found = [(equal[same], same, np.zeros(len(same), int), np.zeros(len(same)))]
    for part, here, members, apart in _blocks(codes):
        may = (apart <= BITS) & (here[:, None] < members) & (_between(colours, here, members) <= RMS * _SLACK)
        row, column = np.nonzero(may)
        first, second, bits = here[row], members[column], apart[row, column]
        new = ~_met_before(codes[first] ^ codes[second], part)
        first, second, bits = first[new], second[new], bits[new]
        far = _off(pixels, first, second)
        close = far <= RMS
        found.append((chosen[first[close]], chosen[second[close]], bits[close], far[close]))
    columns = [np.concatenate(each).tolist() for each in zip(*found, strict=True)]
    return sorted(itertools.starmap(Pair, zip(*columns, strict=True)), key=lambda p: (p.rms, p.bits, p.first, p.second))


def nearest(images: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other picture of each whose hash is near, however far its pixels lie, the first of several.

    Args:
        images: Pictures of one size, (N, H, W, 3) uint8.

    Returns:
        The other one's number, -1 where no hash is near, and the root mean square of the differences, NaN there.
    """
    equal = duplicates.classes(images)
    chosen = np.unique(equal)
    codes, pixels, colours = _compared([images[i] for i in chosen])
    partner, away, bits_of = np.full(len(chosen), -1), np.full(len(chosen), np.inf), np.full(len(chosen), 64)
    for _, here, members, apart in _blocks(codes):
        least = _between(colours, here, members)
        least[(apart > BITS) | (here[:, None] == members)] = np.inf
        guess = least.argmin(1)  # what is nearest by colour tells how far the nearest lies at most
        most = np.where(np.isfinite(least.min(1)), _off(pixels, here, members[guess]), -1)
        most = np.minimum(most, away[here])
        row, column = np.nonzero(least <= most[:, None] * _SLACK)
        own, other, bits = here[row], members[column], apart[row, column]
        far = np.append(_off(pixels, own, other), away[here])  # the nearest so far is compared with them
        own, other, bits = np.append(own, here), np.append(other, partner[here]), np.append(bits, bits_of[here])
        order = np.lexsort((other, bits, far, own))
        own, place = np.unique(own[order], return_index=True)
        partner[own], bits_of[own], away[own] = (each[order][place] for each in (other, bits, far))
    found, distance = np.full(len(equal), -1), np.full(len(equal), np.nan)
    some = partner >= 0
    found[chosen[some]], distance[chosen[some]] = chosen[partner[some]], away[some]
    same = np.flatnonzero(equal != np.arange(len(equal)))
    found[equal[same[::-1]]] = same[::-1]  # the first of equal ones has the second
    found[same], distance[same], distance[equal[same]] = equal[same], 0.0, 0.0
    return found, distance


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


def _compared(images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hashes, pixels and mean colours, (N, 3): those of two pictures are no farther apart than their pixels."""
    pixels = reduced(images)
    return hashes(images), pixels, pixels.reshape(len(pixels), -1, 3).mean(1)


def _blocks(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield pictures whose hashes agree in a part, by part: some, all that agree with them, and bits between these."""
    for number, (start, end) in enumerate(_PARTS):
        part = (codes >> np.uint64(start)) & np.uint64(2 ** (end - start) - 1)
        for members in _buckets(part):
            step = max(1, _BLOCK // len(members))
            for begin in range(0, len(members), step):
                here = members[begin : begin + step]
                yield number, here, members, np.bitwise_count(codes[here][:, None] ^ codes[members])


def _met_before(differ: np.ndarray, part: int) -> np.ndarray:
    """Say whether hashes that differ by these bits agree in an earlier part than this one."""
    found = np.zeros(len(differ), bool)
    for start, end in _PARTS[:part]:
        found |= (differ >> np.uint64(start)) & np.uint64(2 ** (end - start) - 1) == 0
    return found


def _between(colours: np.ndarray, here: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the root mean square of differences of mean colours, of some pictures (rows) and others (columns)."""
    squares = np.zeros((len(here), len(members)), np.float32)
    for channel in colours.T:
        squares += (channel[here][:, None] - channel[members]) ** 2
    return np.sqrt(squares / len(colours.T))


def _off(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the root mean square of differences of some rows (N, D) and others, shape (P,)."""
    step = max(1, _BLOCK // rows.shape[1])
    each = [
        np.sqrt(((rows[first[i : i + step]] - rows[second[i : i + step]]) ** 2).mean(1))
        for i in range(0, len(first), step)
    ]
    return np.concatenate(each or [np.empty(0)]).astype(np.float64)


def _buckets(part: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(part, kind="stable")
    parted = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
    return [members for members in parted if len(members) > 1]


def _small(image: np.ndarray) -> np.ndarray:
    if max(image.shape[:2]) <= SIDE:
        return np.asarray(image)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((SIDE, SIDE), Image.Resampling.BOX))


def _brightness(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
