"""The process that does work: reads orders, carries them out, says how far it is and how it ended.

    python -m dtrak_core.engine.child_main <parent>   reads orders, answers {"state", ...}, each a line of JSON

An order names the cache (`root`), the job (`key`, `attempt`, `job`), the number of `threads` at most, and what to `do`:
`whole` does the job, `stage` plans the parts of one stage, `part` does one of them (parts.py). An order to `prepare`
names the cache, the threads, and the `checkpoint` to open, and is not answered. Where there are several `workers`, the
whole job's passes over features are answered as parts to `spread`; a line says that they are done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
import urllib.error
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from dtrak_core import store
from dtrak_core.engine import free_cores, parts
from dtrak_core.engine.work import run, run_part
from dtrak_core.errors import Cancelled, StudioError, out_of_memory
from dtrak_core.features import passes
from dtrak_core.features.passes import Piece, Workers
from dtrak_core.jobs import job_files, processes
from dtrak_core.jobs.job_kinds import DatasetJob, inputs, read_job
from dtrak_core.methods import embeddings
from dtrak_core.models import checkpoints, open_models
from dtrak_core.progress import Progress

IDLE = 120  # seconds without an order after which the process ends
SAY = 0.1  # seconds between two reports of progress
OFFLINE = ("ConnectionError", "ConnectError", "ConnectTimeout", "LocalEntryNotFoundError", "OfflineModeIsEnabled")


def sentence(error: BaseException) -> str:
    """Say what went wrong in words for the user; print the traceback to the log where words do not suffice."""
    if isinstance(error, StudioError):
        return str(error)
    number = secrets.token_hex(3)
    print(f"Error {number}:\n{''.join(traceback.format_exception(error))}", file=sys.stderr, flush=True)
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {type(e).__name__ for e in chain}
    if any(isinstance(e, (socket.gaierror, ConnectionError, urllib.error.URLError)) for e in chain) or names & set(
        OFFLINE
    ):
        return (
            f"The network was needed and could not be reached. Connect and resume the job (error {number} in its log)."
        )
    if reasons := [reason for e in chain if (reason := store.refusal(e))]:
        return reasons[0]
    if any(out_of_memory(e) for e in chain):
        return f"Memory did not suffice. Use fewer pictures at once or a smaller model (error {number} in the log)."
    return f"Something failed that was not foreseen: {type(error).__name__} (error {number} in the job's log)."


def serve(orders: TextIO, say: Callable[[dict[str, Any]], None], parent: int) -> None:
    """Carry out orders, one a line, until there are no more, or none comes for a while."""
    while True:
        signal.alarm(IDLE)  # whose default is to end the process: an idle one holds memory, a GPU's too
        line = orders.readline()
        signal.alarm(0)
        if not line:
            return
        order = json.loads(line)
        os.environ["STUDIO_CACHE"] = order["root"]
        if order.get("device"):
            os.environ["STUDIO_DEVICE"] = order["device"]
        if order["do"] == "prepare":
            _prepare(order["threads"], order["checkpoint"])
            continue
        place = job_files.folder() / order["key"]
        log = os.open(place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        if order["do"] != "stage":
            where = f"process {os.getpid()} on {socket.gethostname()}"
            what = f", {order['part']['about']}" if order["do"] == "part" else ""
            moment = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"--- attempt {order['attempt']}, {moment}, {where}{what}", flush=True)
        try:
            follow = free_cores.follower(order["threads"])
            on_progress = _reporter(say, job_files.cancel_flag(place, order["attempt"]), parent, follow)
            with passes.spread(_workers(order, place, orders, say)):
                answer = _carry_out(order, on_progress)
            say({"state": "done", "message": ""} | answer)
        except Cancelled:
            say({"state": "cancelled", "message": job_files.CANCELLED})
        except Exception as error:
            say({"state": "failed", "message": sentence(error)})


def _carry_out(order: dict[str, Any], on_progress: Progress) -> dict[str, Any]:
    """Do what an order says; return what belongs into the answer."""
    job = read_job(order["job"])
    if (place := getattr(job, "clip_file", None)) is not None:
        embeddings.take_from(place)
    open_models.release(but=inputs(job))
    if order["do"] == "stage":
        planned = parts.stage(job, order["stage"])
        return {"parts": None if planned is None else [dataclasses.asdict(part) for part in planned]}
    part = parts.read_part(order["part"]) if order["do"] == "part" else None
    if part is not None and part.piece is not None:
        passes.carry_out(part.piece, on_progress)
        return {}
    if not isinstance(job, DatasetJob):
        _import_torch(order["threads"])
    on_progress(0, 0, "", "")
    if part is not None:
        run_part(job, part, on_progress)
        return {}
    return {"artifacts": [[artifact.kind, artifact.key] for artifact in run(job, on_progress)]}


def _workers(
    order: dict[str, Any], place: Path, orders: TextIO, say: Callable[[dict[str, Any]], None]
) -> Workers | None:
    """Return the workers that passes of this order are spread over, by its parent; None where it is alone."""

    def work(pieces: Sequence[Piece]) -> None:
        say({"state": "spread", "parts": [dataclasses.asdict(part) for part in parts.of_pass(pieces)]})
        if not orders.readline():
            sys.exit(1)

    return Workers(order["workers"], place / job_files.PASSES, work) if order.get("workers", 1) > 1 else None


def _reporter(say: Callable[[dict[str, Any]], None], flag: Path, parent: int, follow: Callable[[], None]) -> Progress:
    """Return what follows the progress of a job: it reports, looks at the wish to cancel, its parent and the cores."""
    last = (0.0, "")

    def on_progress(done: int, total: int, unit: str, message: str) -> None:
        nonlocal last
        processes.leave_if_orphaned(parent)
        if flag.exists():
            say({"state": "stopping", "message": "Stopping."})
            raise Cancelled(job_files.CANCELLED)
        follow()
        now = time.monotonic()
        if now - last[0] >= SAY or unit != last[1] or done == total:
            say({"state": "running", "done": done, "total": total, "unit": unit, "message": message})
            last = (now, unit)

    return on_progress


def _import_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _prepare(threads: int, checkpoint: str) -> None:
    """Import what explaining a picture needs, torch and the libraries of networks, and open the model of a digest."""
    _import_torch(threads)
    from dtrak_core.features import features, kernel  # noqa: F401
    from dtrak_core.models import networks  # noqa: F401

    with contextlib.suppress(StudioError, OSError):  # the job that reads it will say what is wrong with it
        if checkpoint:
            open_models.ahead(checkpoints.by_digest(checkpoint))


def main(parent: int) -> None:
    """Serve the process whose id is given."""
    processes.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    open_models.keep()
    faulthandler.enable()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()

    serve(sys.stdin, say, parent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
