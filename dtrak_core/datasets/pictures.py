"""The user's own pictures: a folder of files or a zip of one, or arrays (see npz.py).

Class sub-folders become labels; test and validation folders are held out, else one picture in ten by a seeded draw
(layout.py). Captions and other facts come from tables (picture_tables.py) and from text beside a picture
(captions.py). Every file that is not taken is named, with the reason.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.datasets import captions, layout, npz, picture_tables
from dtrak_core.datasets.content import (
    MIN_PICTURES,
    Content,
    LeftOut,
    Split,
    by_reason,
    check_size,
    hold_out,
    notes_on,
    row_of,
)
from dtrak_core.datasets.formats import endings, what_it_is, why_left_out
from dtrak_core.datasets.images import open_picture
from dtrak_core.datasets.settings import Columns, DatasetKind, DatasetSettings
from dtrak_core.datasets.source_files import NOT_LOOKED_AT, Listing, SourceFile, archive_of, opened
from dtrak_core.errors import DataError
from dtrak_core.files import check_readable
from dtrak_core.progress import Count
from dtrak_core.settings import digest_of

READING = "3"  # raised when the same files are read otherwise: what was stored before is then read anew


@dataclass(frozen=True)
class Sorted:
    """The files of a folder by what they are for: pictures, tables, the text beside each picture, and the rest."""

    pictures: list[SourceFile]
    tables: list[SourceFile]
    texts: dict[str, SourceFile]
    left_out: list[LeftOut]


def load(settings: DatasetSettings, source: Path, on_progress: Count | None = None) -> Content:
    """Read a folder, a zip of one, or arrays into two splits.

    Args:
        settings: Kind, resolution, what to do with broken files, and the digest that the source had.
        source: The folder, or the file.
        on_progress: Called with the number of pictures read and their total.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it has changed since, or cannot be read as asked; one sentence says why.
    """
    if source_digest(settings.kind, source) != settings.source_digest:
        raise DataError(f"'{source.name}' has changed since it was chosen. Choose it again.")
    if settings.kind == "npz":
        return npz.load(source, settings.resolution, on_progress)
    with opened(source) as listing:
        plan, _ = planned(listing, source.name, settings.resolution, settings.columns)
        return _load(settings, source.name, plan, on_progress)


def kind_of(source: Path) -> DatasetKind:
    """Return the kind of the user's own pictures: `folder` for one, also zipped, `npz` for arrays.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it cannot be opened, or is a file of another kind; one sentence says of which.
    """
    check_readable(source)
    if source.is_dir():
        return "folder"
    if not source.is_file():  # before it is opened: a device gives bytes without end, a pipe waits for some
        raise DataError(f"'{source.name}' is a device or pipe. Give a folder, a zip of one, an .npz or an .npy.")
    if zipfile.is_zipfile(source):
        with archive_of(source) as archive:
            suffixes = {PurePosixPath(name).suffix.lower() for name in archive.namelist()}
        arrays = ".npy" in suffixes or source.suffix.lower() == ".npz"
        return "npz" if arrays and not suffixes & set(endings()) else "folder"
    if source.suffix.lower() in (".npz", ".npy"):
        return "npz"
    with source.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x93NUMPY"):
        return "npz"
    what = what_it_is(head)
    if head.startswith(b"PK"):
        what = "is a zip archive that is damaged. Download or copy it again"
    elif source.suffix.lower() in endings():
        what = "is a single picture. Put it in a folder"
    raise DataError(
        f"'{source.name}' {what or 'is no folder of pictures'}. A source is a folder, a zip of one, an .npz or an .npy."
    )


def source_digest(kind: str, source: Path) -> str:
    """Return 16 hex digits that change with any picture, caption, file name or table, and with how they are read.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it cannot be opened, is not of this kind, or the folder holds no pictures.
    """
    check_readable(source)
    if kind == "npz":
        if not source.is_file():
            raise DataError(f"'{source.name}' is a folder; an .npz file was expected. Choose the kind 'folder'.")
        return digest_of(READING, _sha256(source))
    if not source.is_dir() and not zipfile.is_zipfile(source):
        raise DataError(f"'{source.name}' is a file; a folder of pictures was expected. Choose the kind 'npz'.")
    with opened(source) as listing:
        found = _sorted(listing, source.name)
        if source.is_file():
            return digest_of(READING, _sha256(source))
        read = [*found.pictures, *found.tables, *dict.fromkeys(found.texts.values())]
        # Names of what was left out count too, since the dataset tells them; not of what systems leave behind.
        others = [left.file for left in found.left_out if not left.reason.endswith(NOT_LOOKED_AT)]
        return digest_of(READING, *(part for file in read for part in (file.name, file.digest())), *others)


def _sorted(listing: Listing, source_name: str) -> Sorted:
    """Sort the files of a source by what they are for; pictures by their endings, which this Pillow knows.

    Raises:
        DataError: If there is no picture among them; the sentence says what there is instead.
    """
    found = [file for file in listing.files if PurePosixPath(file.name).suffix.lower() in endings()]
    tables, doubled = picture_tables.chosen(file for file in listing.files if picture_tables.is_table(file.name))
    texts = captions.beside(listing.files, found)
    left_out = [*listing.left_out, *(LeftOut(file.name, "another table of its folder is read") for file in doubled)]
    second = captions.doubled(listing.files, texts)
    left_out += [LeftOut(file.name, "another text of its picture is read") for file in second]
    taken = {file.name for file in (*found, *tables, *doubled, *texts.values(), *second)}
    left_out += [LeftOut(file.name, why_left_out(file.name)) for file in listing.files if file.name not in taken]
    if not found:
        others = f"; left out: {_told(left_out)}" if left_out else ""
        raise DataError(
            f"'{source_name}' holds no pictures{others}. Expected files ending in .png, .jpg, .webp, .tif or another "
            f"of the {len(endings())} endings that are read."
        )
    return Sorted(found, tables, texts, left_out)


@dataclass(frozen=True)
class Plan:
    """What is to be read of a folder, before any picture is opened.

    `pictures` are those that are read, `places` the label of each by its folder, `facts` what tables say of each,
    `sides` where it belongs where that is told; `left_out` and `notes` are what is known of the rest already.
    """

    pictures: list[SourceFile]
    texts: dict[str, SourceFile]
    places: dict[str, layout.Place]
    facts: picture_tables.Facts
    sides: dict[str, str]
    left_out: list[LeftOut]
    notes: list[str]

    def row_of(self, file: SourceFile) -> tuple[dict[str, Any], LeftOut | None]:
        """Return a picture's row, and the text beside it where that is not its caption.

        Raises:
            DataError: If the text cannot be read.
        """
        told, text = self.facts.get(file.name, {}), self.texts.get(file.name)
        unused = None
        if text is not None:
            caption = captions.read(text)
            if told.get("caption") or not caption:
                why = "the table has the caption" if caption else "no caption: it is empty or holds numbers alone"
                unused = LeftOut(text.name, why)
            else:
                told = told | {"caption": caption}
        return _row(file.name, self.places[file.name].label, told), unused


def planned(listing: Listing, name: str, resolution: int, columns: Columns = ()) -> tuple[Plan, list[SourceFile]]:
    """Return what is to be read of a folder or zip that is open, and its tables.

    Args:
        listing: Its files.
        name: What the user calls it.
        resolution: Pixels a side.
        columns: Which columns of its tables tell what, where they are chosen.

    Raises:
        DataError: If it holds no pictures, too many, or a table that cannot be read so.
    """
    files = _sorted(listing, name)
    plan = layout.of([file.name for file in files.pictures], name)
    pictures = [file for file in files.pictures if file.name in plan.places]
    check_size(len(pictures), resolution)
    left_out = [*files.left_out]
    left_out += [LeftOut(beside, "beside the train and test folders, in none of them") for beside in plan.beside]
    known = picture_tables.Pictures([file.name for file in pictures], [left.file for left in left_out], name)
    facts, notes = picture_tables.read(files.tables, known, columns)
    sides, more = _sides(facts, plan)
    found = Plan(pictures, files.texts, plan.places, facts, sides, left_out, [*plan.notes, *notes, *more])
    return found, files.tables


def broken(name: str, error: DataError) -> LeftOut:
    """Return a picture that cannot be read, with the reason."""
    return LeftOut(name, str(error).removeprefix(f"'{name}' ").rstrip("."))


def refuse_few(name: str, count: int, holds_out: bool, left_out: Sequence[LeftOut]) -> None:
    """Refuse a source with too few pictures to train on; the sentence says what was left out of it."""
    if count < MIN_PICTURES:
        others = f" ({_told(left_out)})" if left_out else ""
        raise DataError(
            f"'{name}' has only {counted(count, 'readable picture')}{' to train on' if holds_out else ''}{others}; at "
            f"least {MIN_PICTURES} are needed. Add pictures."
        )


def _load(settings: DatasetSettings, name: str, plan: Plan, on_progress: Count | None) -> Content:
    left_out = [*plan.left_out]
    parts: dict[str, tuple[list[np.ndarray], list[dict[str, Any]]]] = {
        layout.TRAIN: ([], []),
        layout.HELD_OUT: ([], []),
    }
    texts: dict[str, LeftOut] = {}
    for i, file in enumerate(plan.pictures):
        row, unused = plan.row_of(file)
        texts |= {unused.file: unused} if unused else {}
        try:
            image = open_picture(file.read(), file.name, settings.resolution)
        except DataError as error:
            if settings.on_broken == "refuse":
                raise DataError(f"{error} Remove the file, or choose to skip broken files.") from None
            left_out.append(broken(file.name, error))
        else:
            images, rows = parts[plan.sides.get(file.name) or layout.TRAIN]
            images.append(image)
            rows.append(row)
        if on_progress is not None:
            on_progress(i + 1, len(plan.pictures))
    left_out += texts.values()
    (images, rows), (held_images, held_rows) = parts.values()
    refuse_few(name, len(rows), bool(held_rows), left_out)
    train = Split(np.stack(images), rows)
    splits = (train, Split(np.stack(held_images), held_rows)) if held_rows else hold_out(train)
    return Content(*splits, skipped=left_out, notes=plan.notes + notes_on(train.images))


def _sides(facts: picture_tables.Facts, plan: layout.Layout) -> tuple[dict[str, str], list[str]]:
    """Return the side of each picture, by the folders or else by a column `split`, and a note where that is unclear."""
    by_folder = {name: place.side for name, place in plan.places.items() if place.side}
    said = {name: row["split"] for name, row in facts.items() if row.get("split") and name in plan.places}
    if by_folder or not said:
        return by_folder, []
    by_table = {name: layout.side_of(value) for name, value in said.items()}
    strange = sorted({said[name] for name, side in by_table.items() if not side})
    held_out = list(by_table.values()).count(layout.HELD_OUT)
    if not held_out and not strange:
        return {}, []
    if strange or held_out == len(plan.places):
        why = f"it has {', '.join(strange[:5])}" if strange else "it holds out every picture"
        return {}, [f"The column 'split' is not followed, since {why}; one picture in ten is held out instead."]
    return by_table, []


def _row(name: str, label: str, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return a picture's row: what tables say of it first, then what its path tells."""
    more = {column: value for column, value in facts.items() if column not in ("file_name", "label", "origin")}
    more["name"] = more.get("name") or PurePosixPath(name).stem
    return row_of(name, facts.get("label") or label, **more)


def _told(left_out: Sequence[LeftOut]) -> str:
    """Return in a few words what was left out, and why."""
    found = by_reason(left_out)
    parts = [
        f"{count:,} ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''}): {why}"
        for why, (count, files) in found.items()
    ]
    return "; ".join(parts[:5])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
