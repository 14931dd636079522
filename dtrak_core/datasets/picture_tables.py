"""Tables of facts about pictures: metadata.csv, metadata.jsonl, labels.json.

    metadata.csv, metadata.tsv      columns file_name and any of caption, contributor, label, name, family, split, ...
    metadata.jsonl                  one object a line with the same names (Hugging Face's imagefolder)
    labels.json beside data/        FiftyOne: {"classes": [...], "labels": {"name without ending": class}}

Paths are relative to the table's folder. `file_name` alone is needed; `text`, `prompt` and `description` are read as
captions where there is no column `caption`; whoever asks may name another column for a fact. Spelling of columns is
forgiven, and what Excel and pandas do to tables: semicolons or tabs, UTF-16, empty rows, an index column, NaN for
nothing.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from dtrak_core.datasets import table_cells
from dtrak_core.datasets.captions import decoded, whole
from dtrak_core.datasets.settings import Columns, Fact
from dtrak_core.datasets.source_files import SourceFile
from dtrak_core.errors import DataError, words_of

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")  # of one folder the first that is there is read
LABELS = "labels.json"
KNOWN: tuple[Fact, ...] = get_args(Fact)
CAPTIONS = ("text", "prompt", "description")  # names for `caption`, the first that is there
MOST_COMPARED = 5_000  # names among which a near match is looked for
Facts = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Pictures:
    """The names that a table may give: those of pictures, and of files that were left out already."""

    names: Sequence[str]
    left_out: Sequence[str]
    source: str
    _same: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.names, *self.left_out):
            for form in {name, _normal(name), _normal(name).casefold()}:
                self._same.setdefault(form, []).append(name)

    def find(self, name: str, folder: str) -> str | None:
        """Return the file that a table in this folder names: exactly, else in another spelling, if that is only one."""
        for base in dict.fromkeys((folder, "")):
            path = posixpath.normpath(posixpath.join(base, name))
            for form in (path, _normal(path), _normal(path).casefold()):
                found = self._same.get(form, [])
                if path in found or len(found) == 1:
                    return path if path in found else found[0]
        return None

    def near(self, name: str) -> str:
        """Return a hint at the picture that may have been meant, empty where none is near."""
        end = posixpath.basename(name).casefold()
        same_end = [known for known in self.names if posixpath.basename(known).casefold() == end]
        if len(same_end) == 1:
            return f" Did you mean '{same_end[0]}'?"
        found = difflib.get_close_matches(name, self.names[:MOST_COMPARED], 1, 0.8)
        return f" Did you mean '{found[0]}'?" if found else ""


def is_table(name: str) -> bool:
    """Say whether a file is a table that is read, by its name."""
    return posixpath.basename(name).lower() in (*TABLES, LABELS)


def chosen(files: Iterable[SourceFile]) -> tuple[list[SourceFile], list[SourceFile]]:
    """Return the tables that are read, and those that are not, because another one of their folder is."""
    by_folder: dict[str, list[SourceFile]] = {}
    labels: list[SourceFile] = []
    for file in files:
        if posixpath.basename(file.name).lower() == LABELS:
            labels.append(file)
        else:
            by_folder.setdefault(posixpath.dirname(file.name), []).append(file)
    order = [
        sorted(found, key=lambda f: TABLES.index(posixpath.basename(f.name).lower())) for found in by_folder.values()
    ]
    return [found[0] for found in order] + labels, [file for found in order for file in found[1:]]


def read(tables: Iterable[SourceFile], pictures: Pictures, chosen: Columns = ()) -> tuple[Facts, list[str]]:
    """Return what the tables say of each picture by its name, and notes on what they say of others.

    Args:
        tables: The tables that are read.
        pictures: What they may name.
        chosen: The column of each fact that is not told by the column of that name.

    Raises:
        DataError: If a table cannot be read or lacks a chosen column, or names a picture that is not there, or twice.
    """
    facts: Facts = {}
    notes: list[str] = []
    columned = False
    for table in tables:
        if posixpath.basename(table.name).lower() == LABELS:
            notes += _add_labels(facts, table, pictures)
            continue
        columned = True
        for number, row in _rows(table, dict(chosen)):
            where = f"Row {number} of {table.name}"
            given = row["file_name"].replace("\\", "/").removeprefix("./")
            name = pictures.find(given, posixpath.dirname(table.name))
            if name is None:
                raise DataError(
                    f"{where} names '{given}', which is no picture in '{pictures.source}'.{pictures.near(given)}"
                )
            if name in facts:
                raise DataError(f"{where} names '{given}' a second time. Keep one row for each picture.")
            facts[name] = row
    if not columned and (named := [f"'{column}'" for _, column in chosen if column]):
        raise DataError(
            f"'{pictures.source}' has no table ({', '.join(TABLES)}) that could hold the column {named[0]}. Add one, "
            "or choose no columns."
        )
    return facts, notes


def columns_of(tables: Iterable[SourceFile]) -> list[str]:
    """Return the columns of all tables, in order; of those whose rows stand by column.

    Raises:
        DataError: If a table cannot be read.
    """
    found: dict[str, None] = {}
    for table in _columned(tables):
        found |= dict.fromkeys(column.strip() for column in _parsed(table)[1] if column.strip())
    return list(found)


def taken(tables: Iterable[SourceFile], chosen: Columns = ()) -> dict[str, str]:
    """Return which column tells each fact of KNOWN, as `read` takes them; the errors are those of `read`."""
    found: dict[str, str] = {}
    for table in _columned(tables):
        told = _told(_parsed(table)[1], table.name, dict(chosen))
        found = {fact: column.strip() for fact, column in told.items() if fact in KNOWN} | found
    return found


def _columned(tables: Iterable[SourceFile]) -> list[SourceFile]:
    return [table for table in tables if posixpath.basename(table.name).lower() != LABELS]


def _rows(table: SourceFile, chosen: Mapping[Fact, str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table with their numbers; what is of KNOWN by those names."""
    numbered, columns = _parsed(table)
    told, key = _told(columns, table.name, chosen), chosen.get("file_name", "file_name")
    rows = []
    for number, values in numbered:
        row = {fact: table_cells.text(values[column]) for fact, column in told.items() if column in values}
        if not any(row.values()):
            continue
        if not row.get("file_name"):
            raise DataError(f"Row {number} of {table.name} has no {key}. Give one, or delete the row.")
        rows.append((number, row))
    labels = table_cells.without_points([row.get("label", "") for _, row in rows])
    return [(i, row | ({"label": label} if label else {})) for (i, row), label in zip(rows, labels, strict=True)]


def _parsed(table: SourceFile) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Return the rows of a table with their numbers, by column, and its columns."""
    text = decoded(table.read(), table.name)
    return (_json_lines if table.name.lower().endswith(".jsonl") else _csv_rows)(text, table.name)


def _told(columns: Sequence[str], table: str, chosen: Mapping[Fact, str]) -> dict[str, str]:
    """Return which column tells each fact: the chosen one, else that of its name in any spelling; others by their own.

    Raises:
        DataError: If a chosen column is not there, two have one name, or none names the pictures.
    """
    plain = {column: re.sub(r"[\s_-]+", "", column).casefold() for column in columns}
    ours: dict[str, str] = {re.sub("_", "", name): name for name in KNOWN}
    if "caption" not in plain.values():
        ours |= {next((name for name in CAPTIONS if name in plain.values()), "caption"): "caption"}
    found: dict[str, str] = {}
    for wanted, name in chosen.items():
        column = next((one for one in columns if one.strip() == name.strip()), None) if name else ""
        if column is None:
            raise DataError(f"{table} has no column '{name}', chosen for {wanted}; it has: {_listed(columns)}.")
        if column:
            found[wanted] = column
    for number, column in enumerate(columns):
        fact = ours.get(plain[column], "")
        # Without a name, or with this one, it is the index that pandas writes.
        if not column.strip() or re.fullmatch(r"Unnamed: \d+", column):
            continue
        again = column in columns[:number]
        if not again and (fact in chosen or (not fact and column in found.values())):
            continue
        name = fact or column.strip()
        if again or (name in found and name not in chosen):
            raise DataError(f"{table} has the column '{name}' more than once. Keep one.")
        found.setdefault(name, column)
    if "file_name" not in found:
        near = difflib.get_close_matches("file_name", columns, 1, 0.4) or [c for c in columns if "file" in c.lower()]
        meant = f" Is it '{near[0]}'? Rename it." if near else " Add it: the path of each picture."
        raise DataError(f"{table} has no column 'file_name'; it has: {_listed(columns)}.{meant}")
    return found


def _listed(columns: Sequence[str]) -> str:
    return ", ".join([column for column in columns if column][:20]) or "none"


def _csv_rows(text: str, table: str) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    hint = re.match(r"sep=(.)\r?\n", text)  # a line that Excel understands
    if hint:
        text = text[hint.end() :]
    head = next((line for line in text.splitlines() if line.strip()), "")
    try:
        parted = {sep: next(csv.reader([head], delimiter=sep), []) for sep in (",", ";", "\t", "|")}
        separator = hint[1] if hint else max(parted, key=lambda sep: len(parted[sep]))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [(number, line) for number, line in enumerate((each for each in reader if each), start=1)]
    except csv.Error as error:
        raise DataError(f"{table} is not a comma-separated table ({words_of(error)}). Save it as CSV UTF-8.") from None
    columns = [column.strip() for column in lines[0][1]] if lines else []
    rows = []
    for number, line in lines[1:]:
        if any(line[len(columns) :]) or (len(line) < len(columns) and any(line)):
            raise DataError(f"Row {number} of {table} does not have {len(columns)} values. Quote values with commas.")
        rows.append((number, dict(zip(columns, line, strict=False))))
    return rows, columns


def _json_lines(text: str, table: str) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    rows: list[tuple[int, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"Row {number} of {table} is not JSON ({words_of(error)}). Write one object a line."
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f'Row {number} of {table} is no object like {{"file_name": "0.png"}}. Write one object a line.'
            )
        rows.append((number, {whole(column): value for column, value in row.items()}))
        columns |= dict.fromkeys(rows[-1][1])
    return rows, list(columns)


def _add_labels(facts: Facts, table: SourceFile, pictures: Pictures) -> list[str]:
    """Add FiftyOne's labels to the facts of the pictures; return a note on those that are not there."""
    try:
        content = json.loads(decoded(table.read(), table.name))
    except (ValueError, RecursionError):
        return [f"{table.name} is not JSON, and not read."]
    classes, labels = (content.get("classes"), content.get("labels")) if isinstance(content, dict) else (None, None)
    if not isinstance(labels, dict):
        return [f"{table.name} is not read: it has no labels by picture name, as FiftyOne writes them."]
    folder = posixpath.join(posixpath.dirname(table.name), "data", "")
    stems = {name.removeprefix(folder).rpartition(".")[0]: name for name in pictures.names if name.startswith(folder)}
    missing = 0
    for stem, value in labels.items():
        if stem not in stems:
            missing += 1
            continue
        if isinstance(value, int) and isinstance(classes, list):
            if not 0 <= value < len(classes):
                raise DataError(f"{table.name} gives '{stem}' the label {value}, but has only {len(classes)} classes.")
            value = classes[value]
        if not isinstance(value, str | int | None):
            raise DataError(
                f"{table.name} gives '{stem}' {json.dumps(value)[:60]}; expected one label for each picture."
            )
        facts.setdefault(stems[stem], {}).setdefault("label", table_cells.text(value))
    are = "picture that is" if missing == 1 else "pictures that are"
    return [f"{table.name} names {missing:,} {are} not there."] if missing else []


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
