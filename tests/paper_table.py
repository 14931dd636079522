"""The table of `make paper-dry-run`: one row a setting of the paper, written into docs/reproduce.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROWS: list[dict[str, str]] = []
BEGIN, END = "<!-- table: printed by `make paper-dry-run` -->", "<!-- end of table -->"


def table() -> str:
    """Return the rows as Markdown."""
    columns = list(ROWS[0])
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join(lines + [f"| {' | '.join(row[column] for column in columns)} |" for row in ROWS])


def write(path: Path) -> None:
    """Put the table where the last one stands in a document."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    where = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores, no GPU."
    path.write_text(f"{before}{BEGIN}\n{table()}\n\n{where}\n{END}{after}")
