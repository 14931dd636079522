"""Arrays of an .npz or .npy file that may come from anyone: header first, values only where they fit.

Arrays of Python objects are refused: reading them would run code that the file brings along. Shape and type are read
from the header, of bounded length, and compared with the bytes that there are before anything is allocated.
"""

from __future__ import annotations

import contextlib
import io
import math
import tokenize
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dtrak_core.datasets.content import MAX_BYTES
from dtrak_core.datasets.formats import what_it_is
from dtrak_core.datasets.source_files import ZIP_ERRORS
from dtrak_core.errors import DataError, words_of

MAX_HEADER = 10_000  # bytes; numpy's own bound
# What numpy raises on a header that is no Python literal, or one of another shape.
HEADER_ERRORS = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError, tokenize.TokenError)


@dataclass(frozen=True)
class Header:
    """What an array's header says, and the bytes of values that follow it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def count(self) -> int:
        """Return the number of entries along the first axis; 1 for a single value."""
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Return the bytes that its values take."""
        return math.prod(self.shape) * self.dtype.itemsize


def names(source: Path) -> list[str]:
    """Return the names of the arrays in a file; that of an .npy is the file's own.

    Raises:
        DataError: If it is neither .npz nor .npy; the sentence says what it is, where that can be told.
    """
    with _told(source):
        if is_single(source):
            return [source.stem]
        with zipfile.ZipFile(source) as archive:
            return list(members(archive))


def header(source: Path, name: str) -> Header:
    """Return what the header of an array says, checked against the bytes that follow.

    Raises:
        DataError: If the array is too large, of Python objects, or not what its header says.
    """
    with _told(source), _opened(source, name) as (file, size):
        return _header(file, size, name)


def read(source: Path, name: str) -> np.ndarray:
    """Return an array. It is read-only.

    Raises:
        DataError: As `header` does.
    """
    with _told(source), _opened(source, name) as (file, size):
        return _values(file, size, name)


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an .npz that is open, by name."""
    return {one.filename.removesuffix(".npy"): one for one in archive.infolist() if one.filename.endswith(".npy")}


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an .npz that is open. It is read-only.

    Raises:
        DataError: As `header` does; what is wrong with the archive itself raises one of `ZIP_ERRORS`.
    """
    with archive.open(member.filename) as file:  # by name, which an error tells better
        return _values(file, member.file_size, member.filename.removesuffix(".npy"))  # type: ignore[arg-type]


def _values(file: BinaryIO, size: int, name: str) -> np.ndarray:
    known = _header(file, size, name)
    count = int(np.prod(known.shape, dtype=object)) if known.shape else 1
    if not count or not known.dtype.itemsize:
        return np.zeros(known.shape, known.dtype)
    values = np.frombuffer(file.read(count * known.dtype.itemsize), known.dtype, count)
    found: np.ndarray = values.reshape(known.shape[::-1]).T if known.fortran else values.reshape(known.shape)
    return found


def _header(file: BinaryIO, size: int, name: str) -> Header:
    if size > MAX_BYTES:
        raise DataError(
            f"Array {name} takes {size / 2**30:.1f} GiB; at most {MAX_BYTES // 2**30} are allowed. "
            "Save fewer or smaller pictures."
        )
    start = file.read(12)
    wide = start[6:7] != b"\x01"  # from version 2 on the length has four bytes
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    if length > MAX_HEADER:
        raise DataError(f"Array {name} has a header of {length:,} bytes, no plain one. Save it again with numpy.savez.")
    text = io.BytesIO(start + file.read(max(0, length if wide else length - 2)))
    try:
        version = np.lib.format.read_magic(text)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = parse(text)
    except HEADER_ERRORS as error:
        raise DataError(
            f"Array {name} has no readable header ({words_of(error)}). Save it again with numpy.savez."
        ) from None
    if dtype.hasobject:
        raise DataError(
            f"Array {name} holds Python objects, which are not opened because that would run code from the file. "
            "Save it with a plain type such as uint8 or text."
        )
    least = min(shape, default=1)
    if least == 0:  # nothing follows, and numpy can make an array of it unless its other sides are out of all size
        beyond = math.prod(side or 1 for side in shape) * max(1, dtype.itemsize) > MAX_BYTES
    else:
        beyond = math.prod(shape) * dtype.itemsize > size - text.tell() or max(shape, default=0) > size
    if least < 0 or beyond:
        raise DataError(f"Array {name} is shorter than its header says. Save it again with numpy.savez.")
    return Header(name, shape, dtype, fortran)


@contextlib.contextmanager
def _opened(source: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open one array's bytes; their number is told too."""
    if is_single(source):
        with source.open("rb") as file:
            yield file, source.stat().st_size
        return
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as member:
            yield member, info.file_size  # type: ignore[misc]


def is_single(source: Path) -> bool:
    """Say whether a file is an .npy, one array, by its first bytes."""
    with source.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


@contextlib.contextmanager
def _told(source: Path) -> Iterator[None]:
    """Say of a file that cannot be opened what it is instead, or what is wrong with it."""
    try:
        yield
    except (OSError, *ZIP_ERRORS) as error:
        with source.open("rb") as file:
            head = file.read(4096)
        what = what_it_is(head) if not head.startswith(b"PK") else ""
        if what and head:
            raise DataError(f"'{source.name}' {what.replace('a picture', 'an .npz')}.") from None
        raise DataError(
            f"'{source.name}' is not an .npz or is damaged ({words_of(error)}). Save it again with numpy.savez."
        ) from None
