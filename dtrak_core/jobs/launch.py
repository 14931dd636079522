"""The engine's process on this host, as those see it who ask for jobs: does it live, start it, ask an old one to end.

    cache/jobs/engine.json   which process it is: id, birth, version of its code, address of its cluster
    cache/jobs/engine.lock   held by it as long as it lives, so that there is one
    cache/jobs/engine.log    what it printed
    cache/jobs/END           asks it to end after its jobs, for an engine of the cluster whose address is in it
    cache/jobs/READY         asks it to have a process ready that has imported what work needs, and has opened the model
                             of the digest in it
    cache/jobs/lock          held for an instant by whoever starts one; touched to wake it

It runs in a session of its own (`dispatcher.py`): it outlives the app and ends itself when idle.
STUDIO_ENGINE names a Dask scheduler that does the work, e.g. tcp://10.0.0.5:8786; empty, this machine does it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from dtrak_core import store
from dtrak_core.jobs import job_files, processes

_STARTED: list[subprocess.Popen[bytes]] = []  # by this process, which collects them when they end


def address() -> str:
    """Return the scheduler that does the work, empty for an engine on this machine."""
    return os.environ.get("STUDIO_ENGINE", "").strip()


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the lock under which the engine is started or let go, by any process of this host."""
    with contextlib.ExitStack() as opened:
        with store.writable():
            job_files.folder().mkdir(parents=True, exist_ok=True)
            file = opened.enter_context((job_files.folder() / "lock").open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lives() -> bool:
    """Say whether the engine that was last written down still runs."""
    facts = written_down()
    return facts is not None and processes.living(facts["pid"], facts["born"])


def written_down() -> dict[str, Any] | None:
    """Return what is written down of the engine: pid, born, version, address; None where nothing is."""
    fields = {"pid": int, "born": str, "version": str, "address": str}
    return job_files.read_json(job_files.folder() / "engine.json", fields)


def version() -> str:
    """Return what an engine must agree with: the code, and the address of its cluster."""
    return f"{processes.code_version()} {address()}".strip()


def write_down(pid: int, told: str) -> None:
    """Write down which process is the engine, and the version it started with."""
    facts = {"pid": pid, "born": processes.birth(pid), "version": told, "address": address()}
    if written_down() != facts:
        store.write_json(job_files.folder() / "engine.json", facts)


def ensure() -> None:
    """Start an engine if none lives, wake the one that does; one of another version is asked to end."""
    for process in _STARTED:
        process.poll()
    with store.writable(), locked():
        if not lives():
            start()
        elif (written_down() or {}).get("version") != version():
            store.write_bytes(job_files.folder() / "END", address().encode())
        wake()


def wake() -> None:
    """Have an engine that lives read the index at once."""
    with store.writable():
        (job_files.folder() / "lock").touch()


def readily() -> bool:
    """Say whether an engine is to live before anything is asked for: unless STUDIO_READY is 0."""
    return os.environ.get("STUDIO_READY", "1") != "0"


def ready(checkpoint: str = "") -> None:
    """Let an engine live, and its process of work import what it needs, before anything is asked for.

    Args:
        checkpoint: Digest of the model that is to be opened too; empty for none.

    Raises:
        StoreError: If the cache folder cannot be written to.
    """
    with store.writable():
        store.write_bytes(job_files.folder() / "READY", checkpoint.encode())
    ensure()


def start() -> None:
    """Start an engine that outlives this process. Of two, the second leaves by itself."""
    env = {**os.environ, "STUDIO_CACHE": str(store.root().resolve()), "STUDIO_DEMO": str(store.demo_root().resolve())}
    with (job_files.folder() / "engine.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dtrak_core.engine.dispatcher"],
            cwd=store.PROJECT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _STARTED[:] = [each for each in _STARTED if each.poll() is None] + [process]
    write_down(process.pid, version())
