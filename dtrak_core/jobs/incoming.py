"""Files that come through the browser: written into the cache, until they are taken in or a day old.

    cache/incoming/<16 hex digits>.partial/NAME/...        one upload: a single file, or a folder of several

They are no artifacts: nothing is answered from them. Names are what a browser says, so they are cut to parts that stay
in the folder. Nothing is unpacked and nothing is executed here; a zip is read as it lies (source_files.py).
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dtrak_core import store
from dtrak_core.errors import DataError

KIND = "incoming"
AT_ONCE = 2**20  # bytes held in memory while a file is written
KEPT = 86_400  # seconds that an upload stays which nobody takes in
MAX_FILES = 20_000
MAX_NAME = 200  # bytes of one part of a name, below every file system's bound
_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Limits:
    """How many MiB an upload may have: each file, and all of them together."""

    file: int
    all: int

    def __str__(self) -> str:
        """Return them in words, in the units of the box that files are dropped on."""
        return f"{_words(self.file)} a file, {_words(self.all)} in all"


PICTURES = Limits(1024, 2048)
MODELS = Limits(2048, 2048)


def receive(files: Sequence[tuple[str, BinaryIO]], limits: Limits, called: str) -> Path:
    """Write files that were uploaded into the cache, a piece at a time.

    Args:
        files: Their names, with `/` between folders, and what they hold.
        limits: What they may have.
        called: The name of the folder that several are put in, where they do not come in one.

    Returns:
        The file, where there is one alone that lies in no folder; else the folder.

    Raises:
        DataError: If a name cannot be one of a file below the folder, or they are too large or too many.
        StoreError: If the cache cannot be written to.
    """
    if not files:
        raise DataError("No file was uploaded. Choose some.")
    if len(files) > MAX_FILES:
        raise DataError(f"{len(files):,} files are too many; at most {MAX_FILES:,} are taken. Upload a zip of them.")
    names = [_parts(name) for name, _ in files]
    folders = {parts[:depth] for parts in names for depth in range(1, len(parts))}
    if twice := [parts for parts, count in Counter(names).items() if count > 1 or parts in folders]:
        raise DataError(f"Two files are called '{'/'.join(twice[0])}'. Rename one, or upload a zip of their folders.")
    key = secrets.token_hex(8)
    place = store.partial(KIND, key).absolute()
    alone = names == [names[0][:1]]
    first = {parts[0] for parts in names}
    inside = () if alone or (len(first) == 1 and first == {parts[0] for parts in folders}) else (called,)
    total = 0
    try:
        with store.writable():
            for parts, (name, file) in zip(names, files, strict=True):
                taken = 0
                with store.writing(place.joinpath(*inside, *parts)) as kept:
                    while piece := file.read(AT_ONCE):
                        taken, total = taken + len(piece), total + len(piece)
                        if taken > limits.file * 2**20 or total > limits.all * 2**20:
                            raise DataError(f"'{name}' is too large: at most {limits} are taken. Make it smaller.")
                        kept.write(piece)
    except BaseException:
        store.delete(KIND, key)
        raise
    return place.joinpath(*(inside or names[0][:1]))


def key_of(source: str) -> str:
    """Return the key of the upload that a source lies in, empty where it is none."""
    top = store.root().absolute() / KIND
    path = Path(source)
    if source and path.is_absolute() and path.is_relative_to(top) and path != top:
        key = path.relative_to(top).parts[0].removesuffix(".partial")
        return key if _KEY.fullmatch(key) else ""
    return ""


def drop(source: str) -> None:
    """Delete the upload that a source lies in, once it is taken in; any other source stays."""
    if key := key_of(source):
        store.delete(KIND, key)


def sweep(needed: Collection[str]) -> list[str]:
    """Delete uploads that are older than a day, but for those of these keys; return the keys of what was deleted."""
    gone = []
    for place in store.entries(store.root() / KIND):
        key = place.name.removesuffix(".partial")
        if key in needed or not _KEY.fullmatch(key):
            continue
        with contextlib.suppress(FileNotFoundError):  # deleted in this instant
            if time.time() - place.stat().st_mtime > KEPT:
                store.delete(KIND, key)
                gone.append(key)
    return gone


def _words(mebibytes: int) -> str:
    return f"{mebibytes / 1024:g} GB" if mebibytes >= 1024 else f"{mebibytes} MB"


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of an uploaded file's name, as they may be parts of a path below a folder.

    Raises:
        DataError: If none are left, or one is too long.
    """
    cleaned = ("".join(c for c in part if c.isprintable()).strip() for part in re.split(r"[/\\]", name))
    parts = tuple(part for part in cleaned if part not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", part))
    if not parts:
        raise DataError("A file without a name was uploaded. Give it one.")
    if long := next((part for part in parts if len(part.encode()) > MAX_NAME), ""):
        raise DataError(f"The name '{long[:40]}…' is too long: at most {MAX_NAME} bytes are taken. Shorten it.")
    return parts
