"""The tables of `make paper-dry-run`, for docs/reproduce.md: the paper's settings, and families at their true size."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROWS: list[dict[str, str]] = []
SIZES: list[dict[str, str]] = []
BEGIN, END = "<!-- table: printed by `make paper-dry-run` -->", "<!-- end of table -->"
SIZES_BEGIN, SIZES_END = "<!-- sizes: printed by `make paper-dry-run` -->", "<!-- end of sizes -->"


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as Markdown."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join(lines + [f"| {' | '.join(row[column] for column in columns)} |" for row in rows])


def write(path: Path) -> None:
    """Put the tables that were made where the last ones stand in a document."""
    where = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores, no GPU."
    for rows, begin, end in ((ROWS, BEGIN, END), (SIZES, SIZES_BEGIN, SIZES_END)):
        if rows:
            before, _, rest = path.read_text().partition(begin)
            _, _, after = rest.partition(end)
            path.write_text(f"{before}{begin}\n{table(rows)}\n\n{where}\n{end}{after}")
