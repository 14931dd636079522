"""Own pictures looked at before they are prepared: some of them, how many there are, what is left out and why.

The same code reads them as when they are prepared. Of a large source not every picture is opened here: those that are
shown, and others until SECONDS have passed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import program
from dtrak_core.datasets import captions, npz, picture_tables, pictures
from dtrak_core.datasets.content import LeftOut, Split, prompt_of
from dtrak_core.datasets.images import decoded, fit
from dtrak_core.datasets.layout import HELD_OUT
from dtrak_core.datasets.settings import Columns, DatasetKind, DatasetSettings
from dtrak_core.datasets.source_files import Listing, SourceFile, opened
from dtrak_core.errors import DataError
from dtrak_core.settings import build

SHOWN = 24
SECONDS = 2.0  # in which pictures are opened beyond those shown, to find the broken ones
SMALL = 8  # pixels a side where only tables are of interest
LARGE = 256 * 2**20  # bytes of arrays of pictures that are not read for a look alone
BESIDE = 64 * 2**20  # bytes of tables, or of an array of labels, that are read for a look


@dataclass(frozen=True)
class Preview:
    """What own pictures are and would become.

    `shown` are at most SHOWN of them from all over the source, at the size asked for; `count` pictures are there, of
    which `opened` were opened; reading all takes `seconds` for each, as measured. `held_out` are named as such, none
    where one in ten will be. `labels`, `captions` and `contributors` count what is known of all; where a source has
    more texts beside pictures than SECONDS let it read, `captions` goes by those that were. `columns` are those of the
    tables, `taken` which of them tells each fact. `sizes` are width and height of the smallest and of the largest that
    were opened.
    """

    kind: DatasetKind
    digest: str
    shown: Split
    count: int
    opened: int
    seconds: float
    held_out: int
    labels: dict[str, int]
    captions: int
    contributors: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    taken: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    def disk(self, resolution: int) -> int:
        """Return the bytes that the prepared pictures take."""
        return self.count * resolution**2 * 3


@dataclass(frozen=True)
class Tables:
    """The columns of a source's tables, and which of them tells each fact by itself.

    `names` is the column that names the pictures, where the reader does not know it.
    """

    offered: tuple[str, ...]
    usual: dict[str, str]
    names: str = ""


def look(source: Path, resolution: int, columns: Columns = ()) -> Preview:
    """Look at a folder, a zip of one, or arrays.

    Args:
        source: The folder, or the file.
        resolution: Pixels a side of the square that pictures are fitted to.
        columns: Which columns of its tables tell what, where they are chosen.

    Raises:
        NotFoundError: If the source is not there.
        DataError: If it cannot be read so; one sentence says why, as when it is prepared.
        SettingsError: If pictures cannot be of this resolution.
    """
    build(DatasetSettings, resolution=resolution)
    kind = pictures.kind_of(source)
    digest = pictures.source_digest(kind, source)
    return (_arrays if kind == "npz" else _folder)(kind, digest, source, resolution, columns)


def tables(source: Path) -> Tables:
    """Return what a source's tables offer, also where they are in words that the reader does not know.

    Names and tables alone are read. The errors are those of `look`, without those of pictures and of arrays.
    """
    if pictures.kind_of(source) == "npz":
        return Tables((), {})
    with opened(source) as listing:
        _refuse_large(listing)
        held, _ = picture_tables.chosen(file for file in listing.files if picture_tables.is_table(file.name))
        try:
            pictures.planned(listing, source.name, SMALL)
            return Tables(tuple(picture_tables.columns_of(held)), picture_tables.taken(held))
        except DataError as error:
            offered = tuple(picture_tables.columns_of(held))
            for name in offered:
                columns: Columns = (("file_name", name),)
                with contextlib.suppress(DataError):
                    pictures.planned(listing, source.name, SMALL, columns)
                    taken = picture_tables.taken(held, columns)
                    return Tables(offered, {fact: one for fact, one in taken.items() if fact != "file_name"}, name)
            raise error from None


def _folder(kind: DatasetKind, digest: str, source: Path, resolution: int, columns: Columns) -> Preview:
    with opened(source) as listing:
        _refuse_large(listing)
        plan, held = pictures.planned(listing, source.name, resolution, columns)
        of_tables, taken = picture_tables.columns_of(held), picture_tables.taken(held, columns)
        count, left_out = len(plan.pictures), [*plan.left_out]
        first = np.linspace(0, count - 1, min(SHOWN, count)).astype(int).tolist()
        rest = sorted(set(range(count)) - set(first))
        images, rows, sizes = list[np.ndarray](), list[dict[str, Any]](), list[tuple[int, int]]()
        looked, began = 0, time.perf_counter()
        for number in [*first, *rest]:
            if looked >= len(first) and time.perf_counter() - began > SECONDS:
                break
            file, looked = plan.pictures[number], looked + 1
            try:
                picture = decoded(file.read(), file.name, resolution)
            except DataError as error:
                left_out.append(pictures.broken(file.name, error))
                continue
            sizes.append(picture.size)
            if len(images) < SHOWN:
                row, _ = plan.row_of(file)
                images.append(fit(picture, resolution))
                rows.append(row)
        unread = {left.file for left in left_out[len(plan.left_out) :]}
        held_out = sum(plan.sides.get(file.name) == HELD_OUT for file in plan.pictures if file.name not in unread)
        lost = len(left_out) - len(plan.left_out)
        pictures.refuse_few(source.name, count - held_out - lost, bool(held_out), left_out)
        if not sizes:
            first_lost = left_out[len(plan.left_out)]
            raise DataError(
                f"None of the {looked:,} pictures of '{source.name}' that were opened first can be read: "
                f"'{first_lost.file}' {first_lost.reason}."
            )
        seconds = (time.perf_counter() - began) / max(1, looked)
        facts = {file.name: plan.facts.get(file.name, {}) for file in plan.pictures if file.name not in unread}
        captioned = _captions(facts, plan.texts)
    return Preview(
        kind=kind,
        digest=digest,
        shown=_split(images, rows),
        count=count - lost,
        opened=looked,
        seconds=seconds,
        held_out=held_out,
        labels=_counted(told.get("label") or plan.places[name].label for name, told in facts.items()),
        captions=captioned,
        contributors=len({told.get("contributor") for told in facts.values()} - {None, ""}),
        left_out=tuple(left_out),
        notes=tuple(plan.notes),
        columns=tuple(of_tables),
        taken=tuple(taken.items()),
        sizes=tuple(dict.fromkeys((min(sizes, key=_area), max(sizes, key=_area)))),
    )


def _captions(facts: picture_tables.Facts, texts: Mapping[str, SourceFile]) -> int:
    """Return how many pictures have captions; texts that SECONDS leave unread are judged by those that are read."""
    told = sum(bool(row.get("caption")) for row in facts.values())
    beside = [texts[name] for name, row in facts.items() if name in texts and not row.get("caption")]
    began, read, found = time.perf_counter(), 0, 0
    for text in random.Random(0).sample(beside, len(beside)):
        if read >= SHOWN and time.perf_counter() - began > SECONDS:
            break
        read, found = read + 1, found + bool(captions.read(text))
    return told + round(len(beside) * found / max(1, read))


def _arrays(kind: DatasetKind, digest: str, source: Path, resolution: int, columns: Columns) -> Preview:
    if columns:
        raise DataError(f"'{source.name}' holds arrays, and no table whose columns could be chosen. Choose none.")
    looked, seconds = npz.look(source, resolution, BESIDE), 0.0
    shown, notes = _split([], []), list[str]()
    if looked.bytes_of_pictures() <= LARGE:
        times = [time.perf_counter()]
        content = npz.load(source, resolution, lambda *_: times.append(time.perf_counter()), most=SHOWN)
        # Up to the first picture the whole file is read, for all of them; from then on each takes its own time.
        seconds = (times[1] - times[0]) / sum(looked.sizes) + (times[-1] - times[1]) / (len(times) - 2)
        images = np.concatenate([content.train.images, content.held_out.images])
        shown, notes = Split(images[:SHOWN], [*content.train.rows, *content.held_out.rows][:SHOWN]), content.notes
    order = {part.pictures: looked.axes[part.pictures] for part in looked.parts}
    sizes = {(looked.headers[name].shape[axes[2]], looked.headers[name].shape[axes[1]]) for name, axes in order.items()}
    return Preview(
        kind=kind,
        digest=digest,
        shown=shown,
        count=sum(looked.sizes),
        opened=len(shown.rows),
        seconds=seconds,
        held_out=sum(looked.sizes[1:]),
        labels=_counted(row["label"] for part in npz.rows_of(source, looked) for row in part),
        captions=0,
        contributors=0,
        left_out=tuple(looked.left_out),
        notes=tuple(notes),
        sizes=tuple(sorted(sizes, key=_area)),
    )


def _refuse_large(listing: Listing) -> None:
    """Refuse tables that whoever only looks would have to read whole."""
    tables = [file for file in listing.files if picture_tables.is_table(file.name)]
    if (size := sum(file.size for file in tables)) > BESIDE:
        raise DataError(
            f"{tables[0].name} has {size / 2**20:,.0f} MiB, too much to be looked at first; at most {BESIDE // 2**20} "
            f"are. Prepare it with {program.command('dataset --source PATH --name NAME')}."
        )


def _counted(labels: Iterable[str]) -> dict[str, int]:
    """Return how often there is each label, the most frequent first."""
    return dict(Counter(label for label in labels if label).most_common())


def _split(images: Sequence[np.ndarray], rows: list[dict[str, Any]]) -> Split:
    return Split(np.stack(images) if images else np.empty((0, 8, 8, 3), np.uint8), rows)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def called(row: dict[str, Any]) -> str:
    """Return in a few words what a picture of a preview is."""
    return prompt_of(row) or str(row["name"])
