"""The worker process as those see it who ask for jobs: does it live, start it, ask an outdated one to end.

    cache/jobs/worker.json   which process it is: id, birth, version of its code
    cache/jobs/worker.lock   held by the worker as long as it lives, so that there is one
    cache/jobs/worker.log    what it printed
    cache/jobs/END           asks it to end after its job
    cache/jobs/lock          held for an instant by whoever asks for a job or starts a worker

The worker runs in a session of its own: it outlives the app and ends itself when idle
(`worker.py`). `jobs.py` uses nothing else of it, so that another engine can take its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtrak_core import processes, store

_STARTED: list[subprocess.Popen[bytes]] = []  # by this process, which collects them when they end


def folder() -> Path:
    """Return where the jobs are."""
    return store.root() / "jobs"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock under which jobs are asked for and workers started, by any process."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file that is replaced whole, None if there is no file."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found


def worker_lives() -> bool:
    """Say whether the worker that was last written down still runs."""
    facts = read_json(folder() / "worker.json")
    return facts is not None and processes.living(facts["pid"], facts["born"])


def write_worker(pid: int, version: str) -> None:
    """Write down which process is the worker, and the version of the code it started with."""
    facts = {"pid": pid, "born": processes.birth(pid), "version": version}
    if read_json(folder() / "worker.json") != facts:
        store.write_json(folder() / "worker.json", facts)


def ensure_worker() -> None:
    """Start a worker if none lives; ask one of another version of the code to end after its job. Hold the lock."""
    for worker in _STARTED:
        worker.poll()
    if not worker_lives():
        start_worker()
    elif (read_json(folder() / "worker.json") or {}).get("version") != processes.code_version():
        (folder() / "END").touch()


def start_worker() -> None:
    """Start a worker that outlives this process. Of two, the second leaves by itself."""
    env = {**os.environ, "STUDIO_CACHE": str(store.root().resolve()), "STUDIO_DEMO": str(store.demo_root().resolve())}
    with (folder() / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dtrak_core.worker"],
            cwd=store.PROJECT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _STARTED[:] = [worker for worker in _STARTED if worker.poll() is None] + [process]
    write_worker(process.pid, processes.code_version())
