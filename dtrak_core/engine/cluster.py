"""Where the work is done: workers on this machine, or a Dask cluster that someone else started.

On this machine the engine's process is the scheduler itself, on loopback and encrypted with a certificate of its
own, so that no other user of the machine can give it work; one worker process does one thing at a time.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
from cloudpickle import register_pickle_by_value, unregister_pickle_by_value  # type: ignore[import-untyped]
from distributed import Client, LocalCluster

from dtrak_core import store
from dtrak_core.errors import EngineError
from dtrak_core.jobs import job_files, processes

ANSWER = 15.0  # seconds within which a scheduler must answer
_QUIET = {
    "distributed.worker.daemon": False,  # work may start processes of its own, as data loaders do
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.nanny.pre-spawn-environ": {},
}
_HELP = "Give the workers the same package, version and shared folder (docs/cluster.md)."


@contextlib.contextmanager
def opened(address: str) -> Iterator[Client]:
    """Yield a client of the scheduler at `address`, which has been tried out, or of one on this machine if empty.

    Raises:
        EngineError: If it does not answer, or cannot do our work; with what to do.
    """
    if address:
        with _remote(address) as client:
            probe(client, address)
            yield client
        return
    with (
        dask.config.set(_QUIET),
        LocalCluster(
            n_workers=1 if os.environ.get("STUDIO_DEVICE") else max(1, processes.gpus()),  # a GPU each
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            security=True,
            local_directory=str(job_files.folder() / "scratch"),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def _remote(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"No Dask scheduler answers at '{address}' ({type(error).__name__}). Start one, or set STUDIO_ENGINE "
            "to its address, e.g. tcp://10.0.0.5:8786; empty, this machine does the work."
        ) from None
    with client:
        yield client


def probe(client: Client, address: str) -> dict[str, dict[str, Any]]:
    """Ask all workers and the scheduler for package, version and shared folder; return the workers' answers.

    Raises:
        EngineError: If there is no worker, or one of them cannot do our work.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise EngineError(f"The scheduler at '{address}' has no workers. Start some, then resume the job.")
    token = secrets.token_hex(8)
    place = job_files.folder() / f"probe-{token}"
    store.write_bytes(place, token.encode())
    module = __import__(__name__, fromlist=["_look"])
    register_pickle_by_value(module)  # so that the question reaches those who lack the package
    try:
        found = client.run(_look, str(place.resolve()))
        found["the scheduler"] = client.run_on_scheduler(_look, str(place.resolve()))
    finally:
        unregister_pickle_by_value(module)
        place.unlink(missing_ok=True)
    for who, answer in found.items():
        where = who if who == "the scheduler" else f"worker {who}"
        _refuse(where, address, answer, token)
    return {who: answer for who, answer in found.items() if who in workers}


def _look(path: str) -> dict[str, str]:
    """Say what is here; it uses nothing of this module, since it runs where the module may be missing.

    The version is that of the code which the process has loaded, where it has worked already: a worker that was not
    started again after the code on the disk was renewed, or moved, runs the older one.
    """
    import importlib
    import platform
    import socket
    import sys
    from pathlib import Path

    told = {"host": socket.gethostname(), "python": platform.python_version(), "version": "", "token": "", "error": ""}
    try:
        running = sys.modules.get("dtrak_core.engine.tasks")
        told["version"] = (
            running.LOADED if running else importlib.import_module("dtrak_core.jobs.processes").code_version()
        )
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) if name.startswith("dtrak_core.") else None
            if file and not Path(file).exists():
                raise ImportError(f"{name} was loaded from a file that is gone; start this process again")
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    if Path(path).exists():
        told["token"] = Path(path).read_text()
    return told


def _refuse(where: str, address: str, answer: dict[str, str], token: str) -> None:
    """Raise EngineError where an answer to the probe does not agree with this host."""
    of = f"{where} of '{address}' (on {answer['host']})"
    mine, python = processes.code_version(), platform.python_version_tuple()[:2]
    if answer["error"]:
        raise EngineError(f"{of[0].upper()}{of[1:]} cannot import dtrak_core ({answer['error']}). {_HELP}")
    if answer["version"] != mine:
        raise EngineError(f"{of[0].upper()}{of[1:]} has version {answer['version']} of the app, not {mine}. {_HELP}")
    if tuple(answer["python"].split("."))[:2] != tuple(python):
        raise EngineError(f"{of[0].upper()}{of[1:]} runs Python {answer['python']}, not {'.'.join(python)}. {_HELP}")
    if where != "the scheduler" and answer["token"] != token:
        folder = Path(store.root()).resolve()
        raise EngineError(f"{of[0].upper()}{of[1:]} does not see the cache folder {folder}. {_HELP}")
