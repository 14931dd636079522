"""Tables as CSV that a spreadsheet opens as data: no cell of a dataset or a user is taken for a formula there.

Spreadsheets run what begins with `=`, `+`, `-` or `@`, after blanks too, and their wide forms. A name that begins so
gets an apostrophe before it, which makes it text; numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"^[\s\x00]*[=+\-@＝＋－＠]|^[\t\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: object) -> object:
    """Return a value as it may stand in a cell: text that a spreadsheet would run gets an apostrophe before it.

    A carriage return becomes a line feed, for a reader would end the row there.
    """
    if isinstance(value, float):
        return float(value)  # a NumPy number would be written with its type
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").replace("\r", "\n")
    if isinstance(value, str) and _FORMULA.search(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as CSV (UTF-8, comma, a line feed after each row); None is an empty cell."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([cell(name) for name in columns])
    out.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()
