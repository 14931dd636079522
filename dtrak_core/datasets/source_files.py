"""The files of a source of pictures: a folder, or a zip archive that is read as the folder it holds.

Links to folders and files are followed, each folder and file once. Hidden files and those that systems leave behind
are not looked at, but counted. Nothing is unpacked: members of an archive are read one at a time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dtrak_core.datasets.content import MAX_BYTES, LeftOut
from dtrak_core.errors import DataError, words_of
from dtrak_core.files import NOWHERE, check_readable

SYSTEM = ("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
NOT_LOOKED_AT = "not looked at"
# What Python's reading of a damaged archive raises, RuntimeError for a password and a method that it does not know.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    IndexError,
    RuntimeError,
)
MAX_FILE = 512 * 2**20  # bytes of one file: no picture of images.MAX_PIXELS in RGB of 16 bits takes more, uncompressed


@dataclass(frozen=True)
class SourceFile:
    """One file: its path below the source, with `/` between folders, its size in bytes, and how to read it."""

    name: str
    size: int
    fetch: Callable[[], bytes]

    def read(self) -> bytes:
        """Return the content.

        Raises:
            DataError: If it is too large for a picture or a table of them, or cannot be read.
        """
        if self.size > MAX_FILE:
            raise DataError(
                f"'{self.name}' has {self.size / 2**20:,.0f} MiB; no file of more than {MAX_FILE // 2**20} is read. "
                "Make it smaller."
            )
        try:
            return self.fetch()
        except OSError as error:
            raise DataError(f"'{self.name}' cannot be opened ({error.strerror or error}). Allow reading it.") from None
        except ZIP_ERRORS as error:
            raise DataError(f"'{self.name}' in the archive is damaged ({words_of(error)}).") from None

    def digest(self) -> str:
        """Return the SHA-256 of the content; a file that cannot be read, as reading will say, is known by its size."""
        try:
            return hashlib.sha256(self.read()).hexdigest()
        except DataError:
            return str(self.size)


@dataclass(frozen=True)
class Listing:
    """All files of a source by the parts of their paths, and what was not looked at."""

    files: list[SourceFile]
    left_out: list[LeftOut]


@contextlib.contextmanager
def opened(source: Path) -> Iterator[Listing]:
    """List the files of a folder or a zip archive; those of an archive can be read while this is open.

    Raises:
        NotFoundError: If it is not there.
        DataError: If it cannot be opened, is neither a folder nor a zip archive, is damaged or protected, leads out of
            its folder, or unpacks to too much.
    """
    check_readable(source)
    if source.is_dir():
        yield _sorted(_of_folder(source))
        return
    with archive_of(source) as archive:
        yield _sorted(_of_archive(archive, source.name))


def archive_of(source: Path) -> zipfile.ZipFile:
    """Open a zip archive.

    Raises:
        DataError: If it is none, or is damaged.
    """
    try:
        return zipfile.ZipFile(source)
    except (OSError, *ZIP_ERRORS) as error:
        raise DataError(
            f"'{source.name}' is not a zip archive or is damaged ({words_of(error)}). Download or copy it again."
        ) from None


def _sorted(found: Listing) -> Listing:
    # By parts, not by text: the order of a folder's pictures decides which of them are held out.
    return Listing(
        sorted(found.files, key=lambda file: PurePosixPath(file.name).parts),
        sorted(found.left_out, key=lambda left: PurePosixPath(left.file).parts),
    )


def _not_looked_at(part: str, is_folder: bool) -> str:
    """Return why a file or folder of this name is not looked at; empty where it is."""
    kind = "folder" if is_folder else "file"
    if part.lower() in (SYSTEM if is_folder else SYSTEM_FILES):
        return f"a {kind} that the system made, {NOT_LOOKED_AT}"
    return f"a hidden {kind}, {NOT_LOOKED_AT}" if part.startswith(".") else ""


def _of_folder(source: Path) -> Listing:
    """Walk a folder: first what really lies in it, then what its links lead to, nothing twice."""
    found = Listing([], [])
    top = os.path.realpath(source)
    folders: dict[str, str] = {}  # real paths that were walked, and by which names
    files: dict[str, str] = {}
    links: list[tuple[str, str]] = []
    waiting = [("", top)]
    while waiting or links:
        if not waiting:
            name, path = links.pop(0)
            real = os.path.realpath(path)
            facts = _facts(found, name, real)
            if facts is None:
                continue
            if not stat.S_ISDIR(facts.st_mode):
                _add_file(found, files, name, real)
            elif os.path.commonpath([real, top]) == real:
                found.left_out.append(LeftOut(name, "a link to a folder that holds the link itself"))
            else:
                waiting.append((f"{name}/", real))
            continue
        prefix, real = waiting.pop()
        if real in folders:
            other = folders[real].rstrip("/")
            found.left_out.append(LeftOut(prefix.rstrip("/"), f"the same folder as '{other}', which is read"))
            continue
        folders[real] = prefix
        for entry in _entries(found, prefix, real):
            name = prefix + _shown(entry.name)
            is_folder = entry.is_dir(follow_symlinks=False)
            why = _not_looked_at(entry.name, is_folder)
            if why:
                count = sum(len(inside) for _, _, inside in os.walk(entry.path)) if is_folder else 1
                found.left_out.append(LeftOut(f"{name}/" if is_folder else name, why, count))
            elif entry.is_symlink():
                links.append((name, entry.path))
            elif is_folder:
                waiting.append((f"{name}/", f"{real}/{entry.name}"))
            else:
                _add_file(found, files, name, f"{real}/{entry.name}")
        links.sort()
    return found


def _entries(found: Listing, prefix: str, real: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(real) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        found.left_out.append(LeftOut(prefix or ".", f"a folder that cannot be opened ({error.strerror})"))
        return []


def _facts(found: Listing, name: str, real: str) -> os.stat_result | None:
    """Return what is known of a file or folder; None where it cannot be opened, which is then said."""
    try:
        return Path(real).stat()
    except OSError as error:
        nowhere = error.errno in NOWHERE
        why = "a link that leads nowhere" if nowhere else f"cannot be opened ({error.strerror})"
        found.left_out.append(LeftOut(name, why))
        return None


def _add_file(found: Listing, known: dict[str, str], name: str, real: str) -> None:
    if real in known:
        found.left_out.append(LeftOut(name, f"the same file as '{known[real]}', which is read"))
        return
    known[real] = name
    facts = _facts(found, name, real)
    if facts is None:
        return
    if stat.S_ISREG(facts.st_mode):
        found.files.append(SourceFile(name, facts.st_size, Path(real).read_bytes))
    else:
        found.left_out.append(LeftOut(name, "a device or pipe, not a file"))


def _shown(name: str) -> str:
    """Return a file's name as text: bytes of another encoding, which no text holds, are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _of_archive(archive: zipfile.ZipFile, source_name: str) -> Listing:
    found = Listing([], [])
    members = [info for info in archive.infolist() if info.filename and not info.is_dir()]
    total = sum(info.file_size for info in members)
    if total > MAX_BYTES:
        raise DataError(
            f"'{source_name}' unpacks to {total / 2**30:.1f} GiB; archives of at most {MAX_BYTES // 2**30} are read. "
            "Unpack it and give the folder."
        )
    # Of two members with one name the last is what unpacking would leave.
    for name, info in {info.filename.replace("\\", "/").removeprefix("./"): info for info in members}.items():
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", parts[0]):
            raise DataError(f"'{source_name}' holds '{name}', which leads out of its folder. Pack it anew.")
        if info.flag_bits & 1:
            raise DataError(f"'{source_name}' is protected by a password. Unpack it and give the folder.")
        folders = [i for i, part in enumerate(parts[:-1]) if _not_looked_at(part, is_folder=True)]
        why = _not_looked_at(parts[-1], is_folder=False)
        if folders:
            place = "/".join(parts[: folders[0] + 1]) + "/"
            found.left_out.append(LeftOut(place, _not_looked_at(parts[folders[0]], is_folder=True)))
        elif why:
            found.left_out.append(LeftOut(name, why))
        elif stat.S_ISLNK(info.external_attr >> 16):
            found.left_out.append(LeftOut(name, "a link inside an archive, which is not followed"))
        else:
            found.files.append(SourceFile(name, info.file_size, functools.partial(archive.read, info)))
    return Listing(found.files, _summed(found.left_out))


def _summed(left_out: list[LeftOut]) -> list[LeftOut]:
    """Return one entry for each folder that is not looked at, with the number of its files."""
    counts: dict[tuple[str, str], int] = {}
    for left in left_out:
        counts[left.file, left.reason] = counts.get((left.file, left.reason), 0) + left.count
    return [LeftOut(file, reason, count) for (file, reason), count in counts.items()]
