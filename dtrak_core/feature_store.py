"""Stored features: shards of rows, and how they are read without torch.

Features of N training examples lie in shards 00000.npy, 00001.npy, ... of `SHARD` rows each.
In float32 a shard is the rows themselves; in float16 and int8 each row r is stored as
q = round(r / s) with its own scale s in 00000.scale.npy, so that nothing overflows:

    int8      s = max|r| / 127      error at most s / 2 an entry
    float16   s = max|r|            relative error at most 2^-11 of the larger entries

Readers never need more memory than one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from dtrak_core.files import write_array
from dtrak_core.store import Artifact

Storage = Literal["float32", "float16", "int8"]
SHARD = 128  # rows in a shard


def quantise(rows: np.ndarray, storage: Storage) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, K) as stored and their scales (n,), float32. float32 rows have scale 1."""
    if storage == "float32":
        return rows.astype(np.float32, copy=False), np.ones(len(rows), dtype=np.float32)
    largest = np.abs(rows).max(axis=1, initial=0)
    scales = (largest / 127 if storage == "int8" else largest).astype(np.float32)
    scales[scales == 0] = 1  # a row of zeros, or one too small for float32
    scaled = rows / scales[:, None]
    if storage == "int8":
        return np.clip(np.rint(scaled), -127, 127).astype(np.int8), scales
    return scaled.astype(np.float16), scales


def dequantise(stored: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """Return float32 rows from stored ones."""
    rows = stored.astype(np.float32)
    return rows if scales is None else rows * scales[:, None]


def write_shard(folder: Path, number: int, rows: np.ndarray, storage: Storage) -> None:
    """Write a shard, whole or not at all: the scales first, so that a shard that is there is complete."""
    stored, scales = quantise(rows, storage)
    if storage != "float32":
        write_array(folder / f"{number:05d}.scale.npy", scales)
    write_array(folder / f"{number:05d}.npy", stored)


def has_shard(folder: Path, number: int, rows: int, width: int, storage: Storage) -> bool:
    """Say whether a whole shard of this shape lies in a folder of unfinished work."""
    try:
        found: np.ndarray = np.load(folder / f"{number:05d}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    scaled = storage == "float32" or (folder / f"{number:05d}.scale.npy").exists()
    return scaled and found.shape == (rows, width) and found.dtype == storage


def shape(artifact: Artifact) -> tuple[int, int]:
    """Return (N, K) of stored features."""
    return artifact.manifest["rows"], artifact.manifest["width"]


def blocks(artifact: Artifact, rows: int = 1024) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, features (n, K) float32) in order, n at most `rows`."""
    for start, stored, scales in _shards(artifact):
        for begin in range(0, len(stored), rows):
            piece = slice(begin, begin + rows)
            yield start + begin, dequantise(stored[piece], None if scales is None else scales[piece])


def columns(artifact: Artifact, width: int = 1024) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first column, features (N, w) float32) in order, w at most `width`."""
    shards = list(_shards(artifact))
    for start in range(0, shape(artifact)[1], width):
        piece = slice(start, start + width)
        yield start, np.concatenate([dequantise(stored[:, piece], scales) for _, stored, scales in shards])


def target_feature(artifact: Artifact) -> np.ndarray:
    """Return the feature of a target (K,), float64."""
    scales = artifact.array("00000.scale.npy") if "00000.scale.npy" in artifact.manifest["files"] else None
    return dequantise(artifact.array("00000.npy"), scales)[0].astype(np.float64)


def _shards(artifact: Artifact) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """Yield (first row, stored rows, scales) of each shard, as memory maps checked against the manifest."""
    start = 0
    for name in sorted(n for n in artifact.manifest["files"] if not n.endswith(".scale.npy")):
        scale = f"{name.removesuffix('.npy')}.scale.npy"
        scales = np.asarray(artifact.array(scale)) if scale in artifact.manifest["files"] else None
        stored = artifact.array(name)
        yield start, stored, scales
        start += len(stored)
