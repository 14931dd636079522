"""The files of a job, as every host of the engine reads and writes them.

    cache/jobs/<key>/status.json        how far the attempt is, and how it ended       (written by who runs the job)
    cache/jobs/<key>/CANCEL.<attempt>   the wish to stop this attempt, not the next    (written by who asks)
    cache/jobs/<key>/part-<n>.json      how far one part of it is                      (written by who runs the part)
    cache/jobs/<key>/passes/            what pieces of a pass over features take and find, while it lasts   (both)
    cache/jobs/<key>/log.txt            what the work printed, and tracebacks

Each file has one writer and is replaced whole, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.files import temporary_of

STATUS = "status.json"
PASSES = "passes"
CANCELLED = "Cancelled. What was finished is kept."
STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted")
_MOMENT = (float, int, type(None))
_STATUS = {
    "attempt": int,
    "state": str,
    "done": int,
    "total": int,
    "unit": str,
    "message": str,
    "seconds_left": _MOMENT,
    "started": _MOMENT,
    "finished": _MOMENT,
    "beat": (float, int),
    "artifacts": list,
}


def folder() -> Path:
    """Return where the jobs are."""
    return store.root() / "jobs"


def read_json(path: Path, fields: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the JSON object in a file that is replaced whole, None where there is no file or it holds no such object.

    Args:
        path: The file.
        fields: Names that the object must have, each with the type or types of its value.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # a power cut or another program may have harmed it
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(n), of) for n, of in (fields or {}).items())
    return found if whole else None


def read_status(place: Path) -> dict[str, Any] | None:
    """Return the status in a job's folder, None where none is written, or not as this version writes it."""
    found = read_json(place / STATUS, _STATUS)
    if found is None or found["state"] not in STATES:
        return None
    pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in found["artifacts"])
    return found if pairs else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a small file whole. Not flushed to disk, since the next one comes within a second."""
    temporary = temporary_of(path)
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
