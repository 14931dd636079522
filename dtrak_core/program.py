"""How this program is called from a terminal, in words that can be copied: with the Python that it runs in."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent


def command(words: str = "") -> str:
    """Return the command line that runs `dtrak_core` with these words, to be called from the project's folder.

    The Python of a virtual environment inside the project is named by its path from there, for outside the environment
    plain `python` is another one or none. Elsewhere plain `python` is named where it is the one that runs.
    """
    return " ".join(filter(None, (f"{_python()} -m dtrak_core", words)))


def _python() -> str:
    runs = Path(sys.executable).absolute()  # not resolved: a virtual environment's Python is a link out of it
    if runs.is_relative_to(_PROJECT):
        return shlex.quote(str(runs.relative_to(_PROJECT)))
    found = shutil.which("python")
    return "python" if found and Path(found).samefile(runs) and Path(found).parent == runs.parent else _quoted(runs)


def _quoted(runs: Path) -> str:
    home = Path.home()
    return f"~/{shlex.quote(str(runs.relative_to(home)))}" if runs.is_relative_to(home) else shlex.quote(str(runs))
