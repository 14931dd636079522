"""Files that are whole or absent: written under a temporary name, flushed, renamed; and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dtrak_core.errors import DataError, NotFoundError, SettingsError, StoreError

LOOK = 0.1  # seconds between two looks at a lock that another one holds
TEMPORARY = ".*.tmp"  # names of files that are being written
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)  # what a path gives that leads to nothing
TRIES = 20  # times that a folder which vanishes is made again


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


def check_place(path: Path, folder: bool = False) -> None:
    """Refuse a file, or a folder for files, that cannot be written to: before hours go into what it is to hold.

    Raises:
        SettingsError: If it is a folder (a file), lies in a file, or where nothing may be written; or is called `-`.
    """
    if str(path) == "-":
        raise SettingsError("'-' would be the name of a folder. Give another one; --json answers on stdout.")
    if path.exists() and path.is_dir() != folder:
        there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise SettingsError(f"'{path}' is a {there}; a {wanted} is to be written. Give another name.")
    place = path.absolute() if folder else path.absolute().parent
    above = next(one for one in (place, *place.parents) if one.exists())
    if not above.is_dir():
        raise SettingsError(f"'{path}' cannot be written: '{above}' is a file. Give another name.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SettingsError(f"'{path}' cannot be written: nothing may be written into '{above}'. Give another place.")


def expanded(given: str | Path) -> Path:
    """Return a path with a home folder in place of its `~`; one of a user who is not known stays as it is."""
    path = Path(given)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def check_readable(path: Path) -> None:
    """Refuse a path that the user gave where it leads to nothing, or to a file or folder that may not be read.

    Raises:
        NotFoundError: If there is nothing.
        DataError: If it cannot be opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
        elif stat.S_ISREG(mode):  # a device or pipe is not opened: it may wait for what never comes
            path.open("rb").close()
    except OSError as error:
        if error.errno in NOWHERE:
            raise NotFoundError(f"There is no '{path.name}' at the path given. Check the path.") from None
        raise DataError(f"'{path.name}' cannot be opened ({error.strerror or error}). Allow reading it.") from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[io.BufferedRandom]:
    """Open a temporary file beside `path` that takes its name when the block ends without error.

    Another process may publish or drop the folder meanwhile, as one does that has finished the same work: the file
    is then written anew, from what is still open.
    """
    temporary = temporary_of(path)
    try:
        with _created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            while not _renamed(temporary, path):
                file.seek(0)
                with _created(temporary) as again:
                    shutil.copyfileobj(file, again)
                    again.flush()
                    os.fsync(again.fileno())
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is not None and Path(error.filename) == temporary:
            error.filename = str(path)  # the name that was asked for
        raise


def made(folder: Path) -> Path:
    """Make a folder that is not there yet; another process may take it, or one above it, away at any moment."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _created(path: Path) -> io.BufferedRandom:
    """Open a new file in a folder that may be taken away meanwhile."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return (made(path.parent) / path.name).open("w+b")
    return path.open("w+b")


def _renamed(path: Path, to: Path) -> bool:
    """Give a file its name; say whether it was still there."""
    try:
        path.replace(to)
    except FileNotFoundError:
        return False
    return True


def full(folder: Path) -> bool:
    """Say whether a folder is there and its disk takes no more."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < 2**16
    return False


def temporary_of(path: Path) -> Path:
    """Return the name under which this thread writes a file: hosts share folders, and threads a process.

    It is short however long the file's name and the host's are, which file systems would not take together.
    """
    whose = hashlib.sha256(f"{path.name} {socket.gethostname()}".encode()).hexdigest()[:16]
    return path.with_name(f".{whose}.{os.getpid()}.{threading.get_ident()}.tmp")


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file, on all hosts of a folder; `waiting` is called while another process or thread holds it."""
    made(path.parent)
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break  # it is still the file of that name: its last holder has not just taken it away
            except FileNotFoundError:
                pass  # taken away between the two looks
            except BlockingIOError:
                waiting()
                time.sleep(LOOK)
            opened.close()
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
