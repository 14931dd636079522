"""ArtBench-2 and ArtBench-5 with the paper's styles and draws (Zheng et al. 2024); the artist is the contributor.

Read are ArtBench-10's 256 px picture folder and ArtBench-10.csv (columns name, artist, label, split), from a folder
that the user names. Training pictures are drawn from the rows of split `train`, held-out ones from `test`, stratified
by style. `origin` is the row of the CSV, from 0. A picture's caption is the paper's: "a ukiyo e painting".
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core.datasets import subsets
from dtrak_core.datasets.content import Content, Split, check_size, row_of
from dtrak_core.datasets.images import open_picture
from dtrak_core.errors import DataError, NotFoundError, words_of
from dtrak_core.progress import Count

TABLE = "ArtBench-10.csv"
COLUMNS = ("name", "artist", "label", "split")
FOLDERS = ("artbench-10-imagefolder", "artbench-10-imagefolder-split", "")  # below the folder named, or it itself
SEED = 42
LICENCE = "Fair use by its authors' terms; single pictures may be protected"
CREDIT = "ArtBench-10: Liao, Li, Liu, Keutzer, The ArtBench Dataset, 2022"
GET_IT = (
    f"Give --source with the folder that holds {TABLE} and artbench-10-imagefolder/ (the 256x256 ImageFolder archive), "
    "both linked from github.com/liaopeiyuan/artbench"
)


@dataclass(frozen=True)
class Plan:
    """What the paper takes: styles, sizes, and how its draw of held-out pictures begins."""

    styles: tuple[str, ...]
    train: int
    held_out: int
    held_out_begins: tuple[int, ...]


PLANS = {
    "artbench2": Plan(("post_impressionism", "ukiyo_e"), 5_000, 1_000, (58519, 45032, 42761, 58081, 58630)),
    "artbench5": Plan(
        ("post_impressionism", "ukiyo_e", "romanticism", "renaissance", "baroque"),
        12_500,
        1_000,
        (32382, 48318, 52045, 9845, 30933),
    ),
}


def load(kind: str, resolution: int, source: Path | None, on_progress: Count | None = None) -> Content:
    """Read the paper's part of ArtBench-10.

    Args:
        kind: `artbench2` or `artbench5`.
        resolution: Pixels a side; the paper has 256.
        source: Folder with the pictures and the CSV.
        on_progress: Called with the number of pictures read and their total.

    Raises:
        NotFoundError: If a file is not there; the sentence names it.
        DataError: If they would not fit into memory, the CSV is not ArtBench's, or a picture cannot be read.
    """
    plan = PLANS[kind]
    check_size(plan.train + plan.held_out, resolution)
    if source is None:
        raise NotFoundError(f"'{kind}' is read from files of yours. {GET_IT}.")
    rows, chosen = _drawn(plan, source)
    total, read, splits = sum(map(len, chosen)), 0, []
    for indices in chosen:
        images = np.empty((len(indices), resolution, resolution, 3), np.uint8)
        for place, i in enumerate(indices):
            path = _path(source, rows[i])
            images[place] = open_picture(path.read_bytes(), path.name, resolution)
            read += 1
            if on_progress is not None:
                on_progress(read, total)
        facts = [
            row_of(i, rows[i]["label"], name=Path(rows[i]["name"]).stem, contributor=rows[i]["artist"],
                   caption=caption(rows[i]["label"]))
            for i in indices
        ]  # fmt: skip
        splits.append(Split(images, facts))
    return Content(splits[0], splits[1], LICENCE, CREDIT)


def files(kind: str, source: Path) -> list[Path]:
    """Return all files that are read of a copy of ArtBench-10: the CSV, then the drawn pictures in order.

    The errors are those of `load`.
    """
    rows, chosen = _drawn(PLANS[kind], source)
    return [source / TABLE, *(_path(source, rows[i]) for indices in chosen for i in indices)]


def caption(label: str) -> str:
    """Return the paper's caption of a style."""
    return f"a {label.replace('_', ' ').lower()} painting"


def _table(source: Path) -> list[dict[str, str]]:
    path = source / TABLE
    if not path.is_file():
        raise NotFoundError(f"'{source.name}' has no {TABLE}. {GET_IT}.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet puts a mark before UTF-8
            reader = csv.DictReader(file, restval="")
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{TABLE} has no column {', '.join(missing)}. {GET_IT}.")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{TABLE} cannot be read ({words_of(error)}). Save it as CSV in UTF-8.") from None


def _drawn(plan: Plan, source: Path) -> tuple[list[dict[str, str]], list[list[int]]]:
    """Return the rows of the CSV, and those that are drawn for training and to be held out."""
    rows = _table(source)
    train, held_out = (
        _draw(rows, plan.styles, split, size) for split, size in (("train", plan.train), ("test", plan.held_out))
    )
    if tuple(held_out[: len(plan.held_out_begins)]) != plan.held_out_begins:
        raise DataError(
            f"The draw of held-out pictures begins with {', '.join(map(str, held_out[:5]))}, the paper's with "
            f"{', '.join(map(str, plan.held_out_begins))}. The rows of {TABLE} must be in the original order."
        )
    return rows, [train, held_out]


def _draw(rows: Sequence[dict[str, str]], styles: Sequence[str], split: str, size: int) -> list[int]:
    """Return the rows of the CSV that are drawn, in the order drawn."""
    pool = [i for i, row in enumerate(rows) if row["label"] in styles and row["split"] == split]
    if len(pool) < size:
        raise DataError(f"{TABLE} has {len(pool):,} rows of split '{split}' in these styles; {size:,} are needed.")
    drawn = subsets.draw(len(pool), size, SEED, [rows[i]["label"] for i in pool])
    return [pool[place] for place in drawn]


def _path(source: Path, row: dict[str, str]) -> Path:
    inside = [Path(row["label"]) / row["name"], Path(row["split"]) / row["label"] / row["name"]]
    for folder in FOLDERS:
        for each in inside:
            if (path := source / folder / each).is_file():
                return path
    raise NotFoundError(f"'{source.name}' has no picture {inside[0].as_posix()}. {GET_IT}.")
