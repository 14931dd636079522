"""The index of jobs: what was asked, in which order, which attempt. SQLite, on the app's host alone.

    cache/jobs/index.db    one row a job: key, kind, label, job (JSON), attempt, submitted

Whoever asks for a job does so inside one write transaction, so that two who ask for equal work at the
same moment make one job. Workers never open it: write-ahead logging needs all its users on one host. It
holds wishes, not results; were it lost, nothing finished would be, since artifacts are found by key.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.jobs import job_files

_TABLE = """CREATE TABLE IF NOT EXISTS job (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL, job TEXT NOT NULL,
    attempt INTEGER NOT NULL, submitted REAL NOT NULL) WITHOUT ROWID"""
_COLUMNS = "key, kind, label, job, attempt, submitted"


@dataclass(frozen=True)
class Row:
    """A job as it was last asked for."""

    key: str
    kind: str
    label: str
    job: dict[str, Any]
    attempt: int
    submitted: float


@contextlib.contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """Hold the only write transaction; what happens inside is kept whole, or not at all if it raises.

    Raises:
        StoreError: If the cache folder cannot be written to.
    """
    with contextlib.ExitStack() as opened:
        with store.writable():
            job_files.folder().mkdir(parents=True, exist_ok=True)
            connection = opened.enter_context(contextlib.closing(_opened()))
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        with store.writable():
            connection.execute("COMMIT")


def put(connection: sqlite3.Connection, row: Row) -> None:
    """Write a job's row, in place of its last one."""
    values = (row.key, row.kind, row.label, json.dumps(row.job), row.attempt, row.submitted)
    connection.execute(f"INSERT OR REPLACE INTO job ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", values)


def rows() -> list[Row]:
    """Return all jobs, the one asked for first coming first."""
    return _select("ORDER BY submitted, key", ())


def row(key: str) -> Row | None:
    """Return a job, None if it was never asked for."""
    return next(iter(_select("WHERE key = ?", (key,))), None)


def drop(connection: sqlite3.Connection, key: str) -> None:
    """Forget a job."""
    connection.execute("DELETE FROM job WHERE key = ?", (key,))


def _select(clause: str, values: tuple[str, ...]) -> list[Row]:
    if not job_files.folder().is_dir() or not _path().exists():
        return []
    try:
        opened = _opened()
    except sqlite3.OperationalError:  # of a cache that is only read, the rows that are in the file itself
        opened = sqlite3.connect(f"{_path().absolute().as_uri()}?immutable=1", uri=True)
    with contextlib.closing(opened) as connection:
        found = connection.execute(f"SELECT {_COLUMNS} FROM job {clause}", values).fetchall()
    return [Row(key, kind, label, _values(job), attempt, at) for key, kind, label, job, attempt, at in found]


def _values(text: Any) -> dict[str, Any]:
    """Return a job's values, nothing where they cannot be read: whoever needs them is told by `read_job`."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _opened() -> sqlite3.Connection:
    """Open the index, made anew where it is missing or no database; a broken one is put aside."""
    try:
        return _connect()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, full or forbidden: the file itself is sound
            raise
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                _path().with_name(f"index.db{end}").rename(_path().with_name(f"index.db{end}.damaged"))
        return _connect()


def _connect() -> sqlite3.Connection:
    connection = sqlite3.connect(_path(), timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(_TABLE)
        columns = ", ".join(row[1] for row in connection.execute("PRAGMA table_info(job)"))
        if columns != _COLUMNS:  # of another version, or another program
            raise sqlite3.DatabaseError(f"the index has the columns {columns}")
    except BaseException:
        connection.close()
        raise
    return connection


def _path() -> Path:
    return job_files.folder() / "index.db"
