"""The table of `make faults`: one row a fault, printed at the end of the run and written into docs/reliability.md."""

from __future__ import annotations

import os
import platform
from pathlib import Path

ROWS: list[tuple[str, str, str, int]] = []
BEGIN, END = "<!-- table: printed by `make faults` -->", "<!-- end of table -->"


def record(fault: str, happened: str, lost: str, half: int) -> None:
    """Enter what a test has seen."""
    ROWS.append((fault, happened, lost, half))


def table() -> str:
    """Return the rows as Markdown."""
    lines = ["| fault | what happened | lost | visible half artifacts |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {fault} | {happened} | {lost} | {half} |" for fault, happened, lost, half in ROWS])


def write(path: Path) -> None:
    """Put the table where the last one stands in a document."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    where = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores."
    path.write_text(f"{before}{BEGIN}\n{table()}\n\n{where}\n{END}{after}")
