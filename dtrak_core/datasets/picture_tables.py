"""Tables of facts about pictures: metadata.csv, metadata.jsonl, labels.json.

    metadata.csv, metadata.tsv      columns file_name and any of caption, contributor, label, name, family, split, ...
    metadata.jsonl                  one object a line with the same names (Hugging Face's imagefolder)
    labels.json beside data/        FiftyOne: {"classes": [...], "labels": {"name without ending": class}}

Paths are relative to the table's folder. `file_name` alone is needed; `text`, `prompt` and `description` are read as
captions where there is no column `caption`. Spelling of columns is forgiven, and what Excel and pandas do to tables:
semicolons or tabs, UTF-16, empty rows, an index column, NaN for nothing.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtrak_core.datasets.captions import decoded
from dtrak_core.datasets.source_files import SourceFile
from dtrak_core.errors import DataError, words_of

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")  # of one folder the first that is there is read
LABELS = "labels.json"
KNOWN = ("file_name", "caption", "contributor", "label", "name", "family", "split")
CAPTIONS = ("text", "prompt", "description")  # names for `caption`, the first that is there
NOTHING = ("nan", "NaN", "None", "null", "NULL", "<NA>", "N/A", "n/a", "#N/A")  # not NA, which may be a name
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


def read(tables: Iterable[SourceFile], pictures: Pictures) -> tuple[Facts, list[str]]:
    """Return what the tables say of each picture by its name, and notes on what they say of others.

    Raises:
        DataError: If a table cannot be read, or names a picture that is not there, or one twice.
    """
    facts: Facts = {}
    notes: list[str] = []
    for table in tables:
        if posixpath.basename(table.name).lower() == LABELS:
            notes += _add_labels(facts, table, pictures)
            continue
        for number, row in _rows(table):
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
    return facts, notes


def _rows(table: SourceFile) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table with their numbers; the columns of KNOWN by those names."""
    lines = decoded(table.read(), table.name)
    if table.name.lower().endswith(".jsonl"):
        numbered, columns = _json_lines(lines, table.name)
    else:
        numbered, columns = _csv_rows(lines, table.name)
    names = _known_names(columns, table.name)
    rows = []
    for number, values in numbered:
        row = {names[column]: _text(value) for column, value in values.items() if column in names}
        if not any(row.values()):
            continue
        if not row.get("file_name"):
            raise DataError(f"Row {number} of {table.name} has no file_name. Give one, or delete the row.")
        rows.append((number, row))
    return rows


def _known_names(columns: Sequence[str], table: str) -> dict[str, str]:
    """Return the name of each column: ours where it is one of ours in any spelling, else its own."""
    plain = {column: re.sub(r"[\s_-]+", "", column).casefold() for column in columns}
    ours = {re.sub("_", "", name): name for name in KNOWN}
    if "caption" not in plain.values():
        ours |= {next((name for name in CAPTIONS if name in plain.values()), "caption"): "caption"}
    # Without a name, or with this one, it is the index that pandas writes.
    named = {c: ours.get(plain[c], c.strip()) for c in columns if c.strip() and not re.fullmatch(r"Unnamed: \d+", c)}
    for name in named.values():
        if list(named.values()).count(name) > 1:
            raise DataError(f"{table} has the column '{name}' more than once. Keep one.")
    if "file_name" not in named.values():
        near = difflib.get_close_matches("file_name", columns, 1, 0.4) or [c for c in columns if "file" in c.lower()]
        meant = f" Is it '{near[0]}'? Rename it." if near else " Add it: the path of each picture."
        raise DataError(
            f"{table} has no column 'file_name'; it has: {', '.join([c for c in columns if c][:20]) or 'none'}.{meant}"
        )
    return named


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
        rows.append((number, row))
        columns |= dict.fromkeys(row)
    return rows, list(columns)


def _text(value: Any) -> str:
    """Return a value of a table as text; of several captions the first."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = value[0]
    if value is None or (isinstance(value, float) and value != value):
        return ""
    text = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).strip()
    return "" if text in NOTHING else text


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
        facts.setdefault(stems[stem], {}).setdefault("label", _text(value))
    are = "picture that is" if missing == 1 else "pictures that are"
    return [f"{table.name} names {missing:,} {are} not there."] if missing else []


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
