"""A limit for the cache: what has not been read for longest and can be computed again goes first.

    cache/limit.json              the limit in bytes; no file, no limit
    cache/jobs/evicted.jsonl      what was deleted for its sake, one line each

Models that a user trained, pictures, samples and finished comparisons are never taken, nor what a live job needs,
nor what ships with the project. The engine looks after each job.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from typing import Any

from dtrak_core import store
from dtrak_core.errors import SettingsError
from dtrak_core.jobs import housekeeping, job_files, jobs
from dtrak_core.kinds import KINDS

_UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def limit() -> int | None:
    """Return the limit in bytes, None where there is none."""
    facts = job_files.read_json(store.root() / "limit.json", {"bytes": int})
    return None if facts is None else int(facts["bytes"])


def set_limit(number: int | None) -> None:
    """Set the limit in bytes, or take it away."""
    path = store.root() / "limit.json"
    with store.writable():
        if number is None:
            path.unlink(missing_ok=True)
        else:
            store.write_json(path, {"bytes": number})


def bytes_of(text: str) -> int | None:
    """Read a limit as people write it: `20 GB`, `500MB`, `none`.

    Raises:
        SettingsError: If it is not an amount, or has no unit: 20 bytes, where 20 GB were meant, would empty the cache.
    """
    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([kMGT]?B|[kMGT])\s*", text, re.IGNORECASE)
    unit = found.group(2).upper() if found else ""
    unit = unit if unit in _UNITS else f"{unit}B"
    if found is None or unit not in _UNITS:
        raise SettingsError(f"'{text}' is not an amount. Write it like 20GB or 500MB, or 'none' for no limit.")
    return int(float(found.group(1)) * _UNITS[unit])


def evict() -> list[dict[str, Any]]:
    """Delete what the limit asks for, the least recently read first; return what was deleted, as it is noted down."""
    most = limit()
    if most is None:
        return []
    rows = housekeeping.stored()
    total, live, gone = housekeeping.own_bytes(rows), jobs.live(), []
    for row in sorted(rows, key=lambda row: (row["used"], row["key"])):
        if total <= most:
            break
        if row["shipped"] or not KINDS[row["kind"]].recomputable or row["name"] == housekeeping.UNFINISHED:
            continue
        if housekeeping.needed_by(row["kind"], row["key"], live) is not None:
            continue
        store.delete(row["kind"], row["key"])
        total -= row["bytes"]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        gone.append({"date": now, **{name: row[name] for name in ("kind", "key", "origin", "bytes")}, "limit": most})
    if gone:
        path = job_files.folder() / "evicted.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in gone)
    return gone


def evicted(most: int = 100) -> list[dict[str, Any]]:
    """Return what was deleted for the limit's sake, the newest first."""
    try:
        lines = (job_files.folder() / "evicted.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in reversed(lines[-most:]):
        with contextlib.suppress(ValueError):  # a line that a power cut has left half
            found.append(json.loads(line))
    return found
