"""A stored artifact, and what tells that its folder is whole: the manifest.

What does not match its manifest is put aside (`<key>.damaged`), where nothing finds it, and reported: so a damaged
artifact never stands in the way of its own new computation. Where the cache is, is known here too.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import lzma
import os
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.files import crc32, expanded
from dtrak_core.program import CHECKOUT, NAME, PROJECT
from dtrak_core.settings import format_of

MANIFEST = "manifest.json"
USE_EVERY = 3600.0  # seconds between two notes that an artifact was read
CHECK_AT_ONCE = 64 * 2**20  # bytes up to which a file's checksum is checked when it is first opened
# By what a manifest says of a packed file: those that shipped before 2026-11-27 say true.
_UNPACKED: dict[object, Callable[[bytes], bytes]] = {True: zlib.decompress, "xz": lzma.decompress}
# What every manifest holds, and of each of its files.
_FIELDS = {"kind": str, "key": str, "settings": dict, "files": dict, "bytes": int, "date": str, "versions": dict}
_FACTS = {"bytes": int, "crc32": str}
_LOG = logging.getLogger(__name__)


def root() -> Path:
    """Return the cache folder: STUDIO_CACHE, else `cache` in a checkout, else the user's cache folder of the system."""
    if given := os.environ.get("STUDIO_CACHE"):
        return expanded(given)
    return PROJECT / "cache" if CHECKOUT else platformdirs.user_cache_path(NAME, appauthor=False)


def demo_root() -> Path:
    """Return the shipped part of the cache, which is only read (STUDIO_DEMO moves it, for its rebuild)."""
    return expanded(os.environ.get("STUDIO_DEMO") or PROJECT / "cache" / "demo")


class Manifest(dict[str, Any]):
    """The facts of an artifact. One that is missing means that the artifact is damaged, or of another version."""

    def __init__(self, facts: Mapping[str, Any], folder: Path) -> None:
        super().__init__(facts)
        self.folder = folder

    def __missing__(self, name: str) -> Any:
        raise damaged(self.folder, f"its manifest does not tell '{name}'")


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its kind, key, folder and manifest."""

    kind: str
    key: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings that made it, as plain JSON values."""
        settings: Mapping[str, Any] = self.manifest["settings"]
        return settings

    @property
    def outdated(self) -> bool:
        """Say whether its numbers would come out differently now, so that it answers nothing any more."""
        return bool(self.manifest.get("format") != format_of(self.kind, self.settings))

    @property
    def shipped(self) -> bool:
        """Say whether it belongs to the read-only demo."""
        return demo_root() in self.path.parents

    def array(self, name: str) -> np.ndarray:
        """Open an array as a read-only memory map after checking it against the manifest; a packed one is unpacked.

        Raises:
            StoreError: If the file is missing, torn, or not what the manifest says.
        """
        path = self.file(name)
        facts = self.manifest["files"][name]
        try:
            if facts.get("packed"):
                found: np.ndarray = np.load(io.BytesIO(self.read(name)), allow_pickle=False)
                found.flags.writeable = False
            else:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._damaged(f"{name} cannot be read ({error})") from None
        dtype, shape = facts.get("dtype"), facts.get("shape")
        if list(found.shape) != shape or str(found.dtype) != dtype:
            raise self._damaged(f"{name} holds {found.dtype}{list(found.shape)}, its manifest says {dtype}{shape}")
        return found

    def read(self, name: str) -> bytes:
        """Return what a file says; one that ships packed (demo/shipping.py) is unpacked.

        Raises:
            NotFoundError: If the manifest names no such file.
            StoreError: If it is missing or differs from the manifest.
        """
        found = self.file(name).read_bytes()
        return _UNPACKED[way](found) if (way := self.manifest["files"][name].get("packed")) else found

    def file(self, name: str) -> Path:
        """Return the path of a file, as it is stored, after checking its size and checksum.

        Raises:
            NotFoundError: If the manifest names no such file.
            StoreError: If it is missing or differs from the manifest.
        """
        facts = self.manifest["files"].get(name)
        if facts is None:
            raise NotFoundError(
                f"{self.kind}/{self.key} has no file '{name}'. Files: {', '.join(self.manifest['files'])}."
            )
        path = self.path / name
        try:
            size, changed = path.stat().st_size, path.stat().st_mtime_ns
        except FileNotFoundError:
            raise self._damaged(f"{name} is missing") from None
        if size != facts["bytes"]:
            raise self._damaged(f"{name} has {size:,} bytes, its manifest says {facts['bytes']:,}")
        if size <= CHECK_AT_ONCE and _checksum(path, size, changed) != facts["crc32"]:
            raise self._damaged(f"{name} does not have the checksum of its manifest")
        self._note_use()
        return path

    @property
    def used(self) -> float:
        """Return when it was last read, to the hour, as a timestamp; the folder's own time keeps it."""
        return self.path.stat().st_mtime

    def _note_use(self) -> None:
        with contextlib.suppress(OSError):  # not ours to write, or deleted in this instant
            if not self.shipped and time.time() - self.used > USE_EVERY:
                os.utime(self.path)

    def verify(self) -> None:
        """Check every file completely, whatever its size; raise StoreError at the first that differs."""
        for name, facts in self.manifest["files"].items():
            path = self.file(name)
            if facts["bytes"] > CHECK_AT_ONCE and crc32(path) != facts["crc32"]:
                raise self._damaged(f"{name} does not have the checksum of its manifest")
            if name.endswith(".npy"):
                self.array(name)

    def _damaged(self, what: str) -> StoreError:
        return damaged(self.path, what)


def opened(kind: str, key: str, folder: Path) -> Artifact | None:
    """Return the artifact in a folder, None where there is none; one whose manifest is broken is put aside."""
    if (folder.parent.name, folder.name) != (kind, key):  # a key that was typed, and leads to what is another's
        return None
    try:
        facts = json.loads((folder / MANIFEST).read_bytes())
    except IsADirectoryError:
        facts = None
    except (ValueError, RecursionError):  # a manifest is written whole, so one that is no JSON was harmed since
        facts = None
    except OSError:  # not there, or not ours to read
        return None
    whole = _holds(facts, _FIELDS) and all(_holds(one, _FACTS) for one in facts["files"].values())
    if whole and (facts["kind"], facts["key"]) == (kind, key):
        return Artifact(kind, key, folder, Manifest(facts, folder))
    _LOG.warning("%s", damaged(folder, "its manifest cannot be read"))
    return None


def damaged(folder: Path, what: str) -> StoreError:
    """Put an artifact's folder aside, where it cannot be used, and return what is to be said of it."""
    if demo_root() in folder.parents:
        mend = "Restore it with 'git checkout cache/demo'." if CHECKOUT else f"Install {NAME} again."
        return StoreError(f"The shipped demo is damaged: {what}. {mend}")
    put_aside(folder)
    where = f"cache/{folder.parent.name}/{folder.name}"
    return StoreError(f"Stored artifact {where} is damaged: {what}. It was put aside; compute it again.")


def put_aside(folder: Path) -> None:
    """Give a folder's name free, keeping what is in it, where the cache can be written to."""
    aside = folder.with_name(f"{folder.name}.damaged")
    with contextlib.suppress(OSError):
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)


def _holds(facts: Any, fields: Mapping[str, type]) -> bool:
    return isinstance(facts, dict) and all(isinstance(facts.get(name), of) for name, of in fields.items())


@functools.lru_cache(maxsize=4096)
def _checksum(path: Path, size: int, changed: int) -> str:
    """Checksum of a file, once for each size and time of change."""
    return crc32(path)
