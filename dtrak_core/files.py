"""Files that are whole or absent: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator
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
        try:
            np.save(file, array, allow_pickle=False)
        except OSError as error:
            if error.errno is None:  # numpy only says how much of how much it wrote: the disk took no more
                raise OSError(errno.ENOSPC, f"{path.name} could not be written whole ({error})") from error
            raise


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
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")  # hosts share folders
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file, on all hosts of a folder; `waiting` is called while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break  # it is still the file of that name: its last holder has not just taken it away
            except BlockingIOError:
                waiting()
                time.sleep(0.3)
            file.close()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def crc32(path: Path) -> str:
    """Return the checksum of a file, 8 hex digits."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            total = zlib.crc32(block, total)
    return f"{total:08x}"
