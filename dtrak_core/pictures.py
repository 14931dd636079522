"""The user's own pictures: a folder of files, or an .npz (see archives.py).

A folder's class sub-folders become labels; an optional metadata.csv beside them has the columns
file_name (relative to the folder), caption and contributor, and may have label, name, family
and any others, which are kept as facts. One picture in ten is held out by a seeded draw.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import archives
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.images import SUFFIXES, open_picture
from dtrak_core.settings import DatasetSettings, digest_of
from dtrak_core.splits import MAX_BYTES, MIN_PICTURES, Content, Split, hold_out, row_of

METADATA = "metadata.csv"
REQUIRED = ("file_name", "caption", "contributor")


def load(settings: DatasetSettings, source: Path, on_step: Callable[[int, int], None] | None = None) -> Content:
    """Read a folder or an .npz into two splits.

    Args:
        settings: Kind, resolution, what to do with broken files, and the digest that the source had.
        source: The folder, or the .npz file.
        on_step: Told the number of pictures read and their total.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it has changed since, or cannot be read as asked; one sentence says why.
    """
    if source_digest(settings.kind, source) != settings.source_digest:
        raise DataError(f"'{source.name}' has changed since it was chosen. Choose it again.")
    if settings.kind == "npz":
        return archives.load(source, settings.resolution, on_step)
    return _load_folder(settings, source, on_step)


def source_digest(kind: str, source: Path) -> str:
    """Return 16 hex digits that change with any picture, file name or metadata.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it is not of this kind, or the folder holds no pictures.
    """
    if not source.exists():
        raise NotFoundError(f"There is no '{source.name}' at the path given. Check the path.")
    if kind == "npz":
        if not source.is_file():
            raise DataError(f"'{source.name}' is a folder; an .npz file was expected. Choose the kind 'folder'.")
        return digest_of(_sha256(source))
    if not source.is_dir():
        raise DataError(f"'{source.name}' is a file; a folder of pictures was expected. Choose the kind 'npz'.")
    files = [(_name(path, source), path) for path in _picture_files(source)]
    if (source / METADATA).is_file():
        files.append((METADATA, source / METADATA))
    return digest_of(*(part for name, path in files for part in (name, _sha256(path))))


def _load_folder(settings: DatasetSettings, source: Path, on_step: Callable[[int, int], None] | None) -> Content:
    paths = _picture_files(source)
    side = settings.resolution
    if len(paths) * side * side * 3 > MAX_BYTES:
        raise DataError(
            f"{len(paths):,} pictures of {side} x {side} take {len(paths) * side * side * 3 / 2**30:.1f} GiB; at most "
            f"{MAX_BYTES // 2**30} are allowed. Choose a smaller resolution or fewer pictures."
        )
    table = _metadata(source, {_name(path, source) for path in paths})
    images: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for i, path in enumerate(paths):
        name = _name(path, source)
        try:
            images.append(open_picture(path.read_bytes(), name, side))
            rows.append(_row(name, table.get(name, {})))
        except DataError as error:
            if settings.on_broken == "refuse":
                raise DataError(f"{error} Remove the file, or choose to skip broken files.") from None
            skipped.append(name)
        if on_step is not None:
            on_step(i + 1, len(paths))
    if len(rows) < MIN_PICTURES:
        left_out = f" ({len(skipped)} broken ones were skipped: {', '.join(skipped[:5])})" if skipped else ""
        raise DataError(
            f"'{source.name}' has only {len(rows)} readable pictures{left_out}; at least {MIN_PICTURES} are needed. "
            "Add pictures."
        )
    train, held_out = hold_out(Split(np.stack(images), rows))
    return Content(train, held_out, skipped=skipped)


def _picture_files(source: Path) -> list[Path]:
    """Return all picture files below a folder, in the order of their names; hidden ones are not looked at."""
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(source).parts)
    ]
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not found:
        other = f"; the {len(files)} files in it have other endings" if files else ""
        raise DataError(f"'{source.name}' holds no pictures{other}. Expected files ending in {', '.join(SUFFIXES)}.")
    return found


def _row(name: str, facts: dict[str, str]) -> dict[str, Any]:
    """Return a picture's row: facts of metadata.csv first, then what the path tells."""
    path = Path(name)
    folder = path.parts[0] if len(path.parts) > 1 else ""
    more = {column: value for column, value in facts.items() if column not in ("file_name", "label", "origin")}
    return row_of(name, facts.get("label") or folder, **({"name": path.stem} | more))


def _metadata(source: Path, known: set[str]) -> dict[str, dict[str, str]]:
    """Read metadata.csv, checked against the pictures that are there."""
    path = source / METADATA
    if not path.is_file():
        return {}
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{METADATA} is not a comma-separated table in UTF-8 ({error}). Save it as CSV UTF-8."
        ) from None
    for column in REQUIRED:
        if column not in columns:
            raise DataError(
                f"{METADATA} has no column '{column}'; it has: {', '.join(columns) or 'none'}. "
                f"Add the missing one of: {', '.join(REQUIRED)}."
            )
    table: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise DataError(
                f"Row {number} of {METADATA} does not have {len(columns)} values. Quote values with commas."
            )
        name = line["file_name"].strip().replace("\\", "/").removeprefix("./")
        if name not in known:
            raise DataError(f"Row {number} of {METADATA} names '{name}', which is no picture in '{source.name}'.")
        if name in table:
            raise DataError(f"Row {number} of {METADATA} names '{name}' a second time. Keep one row for each picture.")
        table[name] = {column: value.strip() for column, value in line.items()}
    return table


def _name(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
