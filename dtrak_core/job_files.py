"""The files of a job, as every host of the engine reads and writes them.

    cache/jobs/<key>/status.json        how far the attempt is, and how it ended       (written by who runs the job)
    cache/jobs/<key>/CANCEL.<attempt>   the wish to stop this attempt, not the next    (written by who asks)
    cache/jobs/<key>/part-<n>.json      how far one part of it is                      (written by who runs the part)
    cache/jobs/<key>/log.txt            what the work printed, and tracebacks

Each file has one writer and is replaced whole, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtrak_core import store

STATUS = "status.json"
CANCELLED = "Cancelled. What was finished is kept."


def folder() -> Path:
    """Return where the jobs are."""
    return store.root() / "jobs"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file that is replaced whole, None if there is no file."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a small file whole. Not flushed to disk, since the next one comes within a second."""
    # Parts run on several hosts and in several threads of one process.
    who = f"{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{who}.tmp")
    try:
        temporary.write_text(json.dumps(values, allow_nan=False))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def cancel_flag(place: Path, attempt: int) -> Path:
    """Return the file whose existence asks this attempt of the job in `place` to stop."""
    return place / f"CANCEL.{attempt}"


def log_tail(place: Path, lines: int) -> str:
    """Return the last lines of a job's log, empty if it printed nothing."""
    try:
        with (place / "log.txt").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 400 * lines))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
