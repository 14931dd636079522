"""Where the pictures of a dataset are read from: built in, the user's copy of a published set, or the user's own.

What is read from files is known by a digest of them, so that a copy that was changed is not answered with what was
stored of it before.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from dtrak_core.datasets import artbench, celeba, cifar, emoji_schools, openmoji, pictures
from dtrak_core.datasets.content import Content
from dtrak_core.datasets.settings import DatasetKind, DatasetSettings
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.progress import Count
from dtrak_core.settings import digest_of

OWN_KINDS = ("folder", "npz")
FROM_FILES = ("celeba", "artbench2", "artbench5")  # built in, read from the user's copy


def digest(kind: DatasetKind, source: Path) -> str:
    """Return 16 hex digits of all that is read of a source: tables and pictures, for own pictures their names too.

    Raises:
        NotFoundError: If a file is not there.
        DataError: If the source is not of this kind, or a file cannot be read.
    """
    if kind in OWN_KINDS:
        return pictures.source_digest(kind, source)
    try:
        paths = celeba.files(source) if kind == "celeba" else artbench.files(kind, source)
        stats = [path.stat() for path in paths]
    except OSError as error:  # a folder of it is closed
        name = Path(error.filename or source).name
        raise DataError(f"'{name}' cannot be opened ({error.strerror or error}). Allow reading it.") from None
    # A page asks at every turn: files are read again when their size or time tells that they were written.
    states = [(stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns) for stat in stats]
    return _of_state(tuple(paths), tuple(states))


def read(settings: DatasetSettings, source: Path | None, on_progress: Count | None) -> Content:
    """Read the pictures that the settings ask for.

    Raises:
        SettingsError: If kind and source do not go together.
        NotFoundError: If a file is not there.
        DataError: If the source has changed since the settings were made, or cannot be read as asked.
    """
    kind = settings.kind
    if kind in OWN_KINDS:
        if source is None:
            raise SettingsError(f"Dataset '{settings.name}' is of kind {kind}; give the path of its pictures.")
        return pictures.load(settings, source, on_progress)
    if kind == "arrays":
        raise SettingsError(f"'{settings.name}' was given as arrays. Give them to dtrak_core.api.dataset again.")
    if kind in FROM_FILES:
        if source is None and settings.source_digest:
            raise SettingsError(f"'{settings.name}' was read from files that are to be read again; give their folder.")
        if source is not None and digest(kind, source) != settings.source_digest:
            raise DataError(f"'{source.name}' has changed since it was chosen. Choose it again.")
        if kind == "celeba":
            return celeba.load(settings.resolution, source, on_progress)
        return artbench.load(kind, settings.resolution, source, on_progress)
    if source is not None:
        raise SettingsError(f"'{kind}' is built in and has no source. Leave the path out.")
    if kind in ("openmoji-people", "openmoji-roles"):
        return openmoji.load(settings.resolution, on_progress, kind, settings.equal == "once")
    if kind == "emoji-schools":
        return emoji_schools.load(settings.resolution, on_progress)
    return cifar.load(kind, settings.resolution, on_progress)


@functools.lru_cache(maxsize=8)
def _of_state(paths: Sequence[Path], stats: Sequence[tuple[int, ...]]) -> str:
    """Return the digest of the contents of files, once for each state of them."""
    sums = []
    for path in paths:
        try:
            with path.open("rb") as file:
                sums.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"'{path.name}' cannot be opened ({error.strerror or error}). Allow reading it.") from None
    return digest_of(*sums)
