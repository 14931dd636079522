"""Passes over stored features Φ (N, K) that are too large to be held, by this process or by several workers.

Inside `spread` a pass is cut into pieces of its rows, which workers read side by side, each its own. What they multiply
with and what they find lies in files of a folder that all of them see. Found parts are put together in the order of the
rows, so numbers differ from those of one process by rounding alone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.features import feature_store, sketch
from dtrak_core.progress import Progress
from dtrak_core.store import Artifact

PIECES = 2  # a worker in each pass: one that is quicker takes more
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Piece:
    """Rows `first` to `end` of a pass over features of this key: `gram` asks for ΦᵀΦ V, else Φ V and lengths.

    V (K, m) lies in the file `matrix`; ΦᵀΦ V (K, m), or Φ V with |φ_i| as a last column (n, m + 1), goes into `found`.
    """

    features: str
    first: int
    end: int
    gram: bool
    matrix: str
    found: str


@dataclass(frozen=True)
class Workers:
    """How many there are, the folder that they see, and what has pieces done by them and returns when all are."""

    count: int
    folder: Path
    work: Callable[[Sequence[Piece]], None]


_WORKERS: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextlib.contextmanager
def spread(workers: Workers | None) -> Iterator[None]:
    """Have the passes within done by these workers; by this process where there are none."""
    token = _WORKERS.set(workers)
    try:
        yield
    finally:
        _WORKERS.reset(token)


def product(features: Artifact) -> sketch.Product:
    """Return what multiplies with ΦᵀΦ in one pass over stored features."""
    workers = _WORKERS.get()
    if workers is None:
        return sketch.product_of(lambda: feature_store.blocks(features))

    def summed(v: np.ndarray, _on_rows: Callable[[int], None]) -> np.ndarray:
        total = np.zeros(v.shape, np.float32)
        for _, found in _pieces(workers, features, v, gram=True):
            total += found
        return total

    return summed


def rows_times(
    features: Artifact, v: np.ndarray, on_progress: Progress
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (first row, Φ V (n, m) float32, |φ_i| (n,)) in one pass over stored features, in order."""
    workers, rows = _WORKERS.get(), feature_store.shape(features)[0]
    if workers is None:
        for start, part in feature_store.blocks(features):
            on_progress(start, rows, "rows", "Directions of the pictures")
            yield start, part @ v, _lengths(part)
        return
    for start, found in _pieces(workers, features, v, gram=False):
        yield start, found[:, :-1], found[:, -1]


def carry_out(piece: Piece, on_progress: Progress) -> None:
    """Do a piece of a pass, and write what it finds.

    Raises:
        DataError: If a feature is not finite.
    """
    features, v, count = store.get("features", piece.features), np.load(piece.matrix), piece.end - piece.first
    blocks = feature_store.blocks(features, wanted=slice(piece.first, piece.end))

    def read() -> Iterator[tuple[int, np.ndarray]]:
        for start, part in blocks:
            on_progress(start - piece.first, count, "rows", "")
            yield start, part

    if piece.gram:
        found = sketch.product_of(read)(v, lambda _count: None)
    else:
        found = np.concatenate([np.column_stack([part @ v, _lengths(part)]) for _, part in read()])
    sketch.finite(found, "features")
    store.write_array(Path(piece.found), found.astype(np.float32, copy=False))


def _pieces(workers: Workers, features: Artifact, v: np.ndarray, gram: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Have a pass done; yield the first row of each piece, in order, and what was found."""
    rows, number = feature_store.shape(features)[0], next(_NUMBERS)
    matrix = workers.folder / f"{number}.npy"
    store.write_array(matrix, np.ascontiguousarray(v, np.float32))
    borders = np.linspace(0, rows, min(PIECES * workers.count, rows) + 1).astype(int).tolist()
    pieces = [
        Piece(features.key, first, end, gram, str(matrix), str(workers.folder / f"{number}-{first}-{end}.npy"))
        for first, end in itertools.pairwise(borders)
    ]
    workers.work(pieces)
    matrix.unlink()
    for piece in pieces:
        found = Path(piece.found)
        yield piece.first, np.load(found)
        found.unlink()


def _lengths(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(rows.astype(np.float64), axis=1)
    return found
