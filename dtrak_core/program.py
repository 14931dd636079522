"""How this program is called from a terminal, in words that can be copied, and where its own files lie.

In a checkout the package lies beside `app.py`, its pages and `cache/demo`. A wheel holds them in the package, in `app`.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import sys
from pathlib import Path

NAME = "dtrak-studio"
PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / "app"  # where a wheel puts what lies beside the package in a checkout
CHECKOUT = all((PACKAGE.parent / name).is_file() for name in ("pyproject.toml", "app.py"))
PROJECT = PACKAGE.parent if CHECKOUT else INSTALLED
AGAIN = "Install requirements.txt." if CHECKOUT else f"Install {NAME} again."  # where packages are missing


def command(words: str = "") -> str:
    """Return the command line that runs this code with these words.

    Where `dtrak` is installed for this code it is that, by its name where the shell finds it, else by its path: it
    runs from any folder. Otherwise it is `python -m dtrak_core`, to be called from the project's folder: the Python of
    a virtual environment inside the project is named by its path from there, for outside the environment plain
    `python` is another one or none. Elsewhere plain `python` is named where it is the one that runs.
    """
    script = Path(sys.executable).absolute().with_name("dtrak")  # not resolved: a link out of the environment
    runs = _named(script) if script.is_file() and _runs_this() else f"{_python()} -m dtrak_core"
    return " ".join(filter(None, (runs, words)))


def _runs_this() -> bool:
    """Say whether the environment's `dtrak` runs this code: of a checkout, only where it was installed with `-e`."""
    if not CHECKOUT:
        return True
    try:
        told = importlib.metadata.distribution(NAME).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return False
    facts = json.loads(told or "{}")
    return bool(facts.get("dir_info", {}).get("editable")) and facts.get("url") == PROJECT.as_uri()


def _python() -> str:
    runs = Path(sys.executable).absolute()
    return shlex.quote(str(runs.relative_to(PROJECT))) if runs.is_relative_to(PROJECT) else _named(runs, "python")


def _named(runs: Path, name: str = "") -> str:
    """Return how a shell calls a file: by its name, or the one given, where it finds it so, else by its path."""
    name = name or runs.name
    found = shutil.which(name)
    if found and Path(found).samefile(runs) and Path(found).parent == runs.parent:
        return name
    home = Path.home()
    return f"~/{shlex.quote(str(runs.relative_to(home)))}" if runs.is_relative_to(home) else shlex.quote(str(runs))
