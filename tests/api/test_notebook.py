"""The notebook of docs/ runs, and prints what is stored in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

PROJECT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = PROJECT / "docs" / "notebook.ipynb"


def printed(notebook: Any) -> list[str]:
    """Return what each cell of code prints on stdout."""
    return [
        "".join(one.text for one in cell.outputs if one.output_type == "stream" and one.name == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("demo_cache")
def test_the_notebook_runs_and_prints_what_is_stored_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    stored = nbformat.read(NOTEBOOK, 4)
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()  # raises where a cell does
    assert printed(notebook) == printed(stored)
    drawn = [
        one.data["text/html"]
        for cell in notebook.cells
        for one in cell.get("outputs", ())
        if one.output_type == "execute_result" and "text/html" in one.data
    ]
    assert len(drawn) == 5  # two explanations, an LDS, a comparison, a function of one's own
    assert sum('alt="' in one for one in drawn) == 4


def test_the_stored_notebook_is_whole_and_small() -> None:
    stored = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [one for cell in cells for one in cell.outputs if one.output_type == "error" or "stderr" in one.values()]
    assert NOTEBOOK.stat().st_size < 250_000  # pictures of 32 pixels
