"""Stored features: shards of rows, and how they are read without torch.

Features of N training examples lie in shards 00000.npy, 00001.npy, ... of `shard_rows(N)` rows each; readers take
shards of any size, as older ones that did not grow with N. In float32 a shard is the rows themselves. Compact ones
hold q, with float32 scales beside it:

    float16   q = r / s          s = max|r| of the row: nothing overflows
    int8      q = round(r / t)   t = max|r| of the column, over the shard, / 127

The scale by column matters: a few projected coordinates collect the gradients of the last layer's
biases and are far larger than the rest, most of all for the squared output. With scales by row,
8 bits leave an error of 5.9 % of its features' norm; by column, 0.4 %.

Readers never need more memory than one block.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import numpy as np

from dtrak_core.files import crc32, write_array, write_json
from dtrak_core.store import Artifact, root, writable

Storage = Literal["float32", "float16", "int8"]
SHARD = 128  # rows in a shard, at least
BLOCK_BYTES = 2**27  # that a reader holds at a time: 1,024 rows of 32,768 numbers
KEPT_BYTES = 2**36  # disk for gradients that wait to be projected: 64 GiB hold a shard of the paper's largest network


def gradients_kept(each: int) -> int:
    """Return how many pictures' gradients, of `each` bytes, may wait on disk: `KEPT_BYTES`, or half of what is free."""
    there = next(folder for folder in (root(), *root().parents) if folder.exists())
    return max(1, min(KEPT_BYTES, shutil.disk_usage(there).free // 2) // each)


def scratch() -> IO[bytes]:
    """Open a file without a name in the cache folder, which ends with its process.

    Raises:
        StoreError: If the cache folder cannot be written to.
    """
    with writable():
        root().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=root())


def quantise(rows: np.ndarray, storage: Storage) -> tuple[np.ndarray, np.ndarray | None]:
    """Return rows (n, K) as stored, and the scales to multiply with: None, (n, 1), or (1, K)."""
    if storage == "float32":
        return rows.astype(np.float32, copy=False), None
    largest = np.abs(rows).max(axis=1 if storage == "float16" else 0, keepdims=True, initial=0)
    scales = (largest if storage == "float16" else largest / 127).astype(np.float32)
    scales[scales == 0] = 1  # only zeros, or all too small for float32
    if storage == "float16":
        return (rows / scales).astype(np.float16), scales
    return np.clip(np.rint(rows / scales), -127, 127).astype(np.int8), scales


def dequantise(stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """Return float32 rows from stored ones and their scales."""
    rows = stored.astype(np.float32)
    if scales is not None:
        rows *= scales
    return rows


def shard_rows(count: int) -> int:
    """Return how many rows a shard of `count` rows in all holds: a power of 2 near √count, from `SHARD` on."""
    return max(SHARD, 1 << count.bit_length() // 2)


def shard_sizes(count: int) -> list[int]:
    """Return how many rows each shard of `count` rows in all holds, the last what is left."""
    each = shard_rows(count)
    return [min(each, count - start) for start in range(0, count, each)]


def shard_path(folder: Path, number: int) -> Path:
    """Return the file that holds a shard's rows."""
    return folder / f"{number:05d}.npy"


def write_shard(folder: Path, number: int, rows: np.ndarray, storage: Storage) -> None:
    """Write a shard, whole or not at all: the scales first, so that a shard that is there is complete."""
    stored, scales = quantise(rows, storage)
    if scales is not None:
        write_array(folder / f"{number:05d}.scale.npy", scales)
    write_array(shard_path(folder, number), stored)


def seal(folder: Path, number: int, seconds: float) -> None:
    """Write beside a new shard what it took and the checksums of its files, until the features are published."""
    sums = {path.name: crc32(path) for path in _files(folder, number)}
    write_json(seal_path(folder, number), {"seconds": round(seconds, 3), "crc32": sums})


def seal_path(folder: Path, number: int) -> Path:
    """Return the file that says that a shard of unfinished work is whole: it goes once the work is published."""
    return folder / f"resume.{number:05d}.json"  # of `store.WORKING`


def has_shard(folder: Path, number: int, rows: int, width: int, storage: Storage) -> bool:
    """Say whether a whole shard of this shape, as it was sealed, lies in a folder of unfinished work."""
    former = folder / f"{number:05d}.json"  # the name of seals before 2026-11-28
    try:
        if former.exists():
            former.replace(seal_path(folder, number))
        sealed = json.loads(seal_path(folder, number).read_bytes())
        sums, _ = sealed["crc32"], float(sealed["seconds"])
        found: np.ndarray = np.load(shard_path(folder, number), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return False
    same = sums == {path.name: crc32(path) for path in _files(folder, number)}
    return same and found.shape == (rows, width) and found.dtype == storage


def seconds_of(folder: Path, count: int) -> float:
    """Return the seconds that `count` sealed shards took together."""
    paths = [seal_path(folder, number) for number in range(count)]
    return sum(float(json.loads(path.read_bytes())["seconds"]) for path in paths)


def _files(folder: Path, number: int) -> list[Path]:
    both = (shard_path(folder, number), folder / f"{number:05d}.scale.npy")
    return [path for path in both if path.exists()]


def shape(artifact: Artifact) -> tuple[int, int]:
    """Return (N, K) of stored features."""
    return artifact.manifest["rows"], artifact.manifest["width"]


def blocks(artifact: Artifact, rows: int = 0, wanted: slice = slice(None)) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, features (n, K) float32) of a range of rows in order, over the borders of shards.

    Args:
        artifact: Stored features.
        rows: n, but for the last; 0 chooses as many as `BLOCK_BYTES` hold.
        wanted: The range, of step 1.
    """
    (count, width), held, filled = shape(artifact), np.empty((0, 0), np.float32), 0
    start, stop, _ = wanted.indices(count)
    each = rows or max(1, BLOCK_BYTES // (4 * max(1, width)))
    for first, stored, scales in _shards(artifact, start, stop):
        at, end = max(start + filled - first, 0), min(len(stored), stop - first)
        while at < end:
            if not filled:
                held = np.empty((min(each, stop - start), width), np.float32)
            piece = slice(at, min(end, at + len(held) - filled))
            there = filled + piece.stop - piece.start
            held[filled:there] = dequantise(stored[piece], _part(scales, piece, 0))
            at, filled = piece.stop, there
            if filled == len(held):
                yield start, held
                start, filled = start + filled, 0


def rows(artifact: Artifact, wanted: slice) -> np.ndarray:
    """Return a range of rows (n, K), float32."""
    none = np.empty((0, shape(artifact)[1]), np.float32)
    return np.concatenate([none, *(part for _, part in blocks(artifact, wanted=wanted))])


def columns(artifact: Artifact, width: int = 1024) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first column, features (N, w) float32) in order, w at most `width`."""
    shards = list(_shards(artifact))
    for start in range(0, shape(artifact)[1], width):
        piece = slice(start, start + width)
        yield start, np.concatenate([dequantise(s[:, piece], _part(scales, piece, 1)) for _, s, scales in shards])


def target_feature(artifact: Artifact) -> np.ndarray:
    """Return the feature of a target (K,), float64."""
    ((_, stored, scales),) = _shards(artifact)
    feature: np.ndarray = dequantise(stored, scales)[0].astype(np.float64)
    return feature


def cross_products(trained: Artifact, features: np.ndarray) -> np.ndarray:
    """Return Φ φ(z) for M targets' features (M, K), shape (M, N), float64, reading Φ block by block."""
    cross = np.empty((len(features), shape(trained)[0]))
    exact = features.astype(np.float64)
    for start, rows in blocks(trained):
        cross[:, start : start + len(rows)] = exact @ rows.astype(np.float64).T
    return cross


def _part(scales: np.ndarray | None, piece: slice, axis: int) -> np.ndarray | None:
    """Return the scales of a range of rows (axis 0) or columns (axis 1); those of the other axis serve all."""
    if scales is None or scales.shape[axis] == 1:
        return scales
    return scales[piece] if axis == 0 else scales[:, piece]


def _shards(
    artifact: Artifact, begin: int = 0, end: int | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Yield (first row, stored rows, scales) of the shards that hold rows from `begin` to `end`.

    They are memory maps checked against the manifest.
    """
    names, start = artifact.manifest["files"], 0
    for name in sorted(n for n in names if n.removesuffix(".npy").isdecimal()):
        scale, following = f"{name.removesuffix('.npy')}.scale.npy", start + names[name]["shape"][0]
        if following > begin and (end is None or start < end):
            yield start, artifact.array(name), np.asarray(artifact.array(scale)) if scale in names else None
        start = following
