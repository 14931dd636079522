"""Files that are whole or absent: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtrak_core.errors import StoreError


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, whole or not at all.

    Raises:
        StoreError: If it holds values that are not finite.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StoreError(
            f"{path.name} would hold values that are not finite; nothing was written. Check the checkpoint."
        )
    with writing(path) as file:
        np.save(file, array, allow_pickle=False)


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[io.BufferedWriter]:
    """Open a temporary file beside `path` that takes its name when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def crc32(path: Path) -> str:
    """Return the checksum of a file, 8 hex digits."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            total = zlib.crc32(block, total)
    return f"{total:08x}"
