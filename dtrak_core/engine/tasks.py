"""What runs on the workers of the engine, as Dask tasks: a job, and the parts of a job.

The task of a job writes its status, starts the children that do the work, begins again what was killed, and on
an engine of several workers first spreads the parts over them. Arrays never go through the engine: only this
module's small dictionaries do. Nothing here reads the job index, which is on the app's host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client, Future, get_client, get_worker, rejoin, secede

from dtrak_core.engine import children
from dtrak_core.engine.children import attend
from dtrak_core.engine.status import LOOK, Status
from dtrak_core.jobs import job_files, processes

LOADED = processes.code_version()  # what this process runs, whatever is on the disk by now
RETRIES = 3  # times that killed work begins again by itself
Spread = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any] | None]
STOPPED = {"state": "cancelled", "message": job_files.CANCELLED}


def run_job(root: str, key: str, attempt: int, job: dict[str, Any], threads: int, priority: float) -> dict[str, Any]:
    """Do a job to its end; return its last status.

    Args:
        root: The cache folder, the same on every host.
        key: The job's key.
        attempt: Number of the attempt.
        job: The job as JSON values.
        threads: With how many threads it is computed. The app's host decides, so that workers differ in speed alone.
        priority: Dask's priority of the job and all of its parts: who asked first is served first.
    """
    place = Path(root) / "jobs" / key
    place.mkdir(parents=True, exist_ok=True)
    before = job_files.read_status(place) or {}
    status = Status(place, _begun(attempt, before))
    order = {"root": root, "key": key, "attempt": attempt, "job": job, "threads": threads, "device": device()}
    flag = job_files.cancel_flag(place, attempt)
    if flag.exists():
        return status.end(STOPPED)
    if status.values["tries"] > RETRIES:
        return status.end(_worn_out("the worker that ran it ended"))
    status.write({})
    client = get_client()
    numbers = itertools.count()

    def spread(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        numbered = {i: part for part, i in zip(parts, numbers, strict=False)}
        return _side_by_side(client, order, numbered, flag, status, priority)

    workers = sum(client.nthreads().values())
    order |= {"workers": workers}

    def here(what: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return attend({**order, **what}, flag, status.tell, status.beat, spread)
        finally:
            shutil.rmtree(place / job_files.PASSES, ignore_errors=True)

    if workers > 1 and (end := _stages(here, spread)) is not None:
        return status.end(end)
    while True:
        answer = here({"do": "whole"})
        if answer["state"] != "died":
            return status.end(answer)
        if flag.exists():
            return status.end(STOPPED)
        status.values["tries"] += 1
        why = f"the process that did the work died ({answer['message']})"
        if status.values["tries"] > RETRIES:
            return status.end(_worn_out(why))
        again = f"Begun again ({status.values['tries']} of {RETRIES}): {why}."
        status.write({"message": again, "seconds_left": None})


def run_part(order: dict[str, Any], number: int) -> dict[str, Any]:
    """Do one part of a job; return the child's last answer.

    Raises:
        RuntimeError: If the child died, so that Dask begins the part again, on this worker or another.
    """
    place = Path(order["root"]) / "jobs" / order["key"]
    told: dict[str, Any] = {"done": 0, "total": 0, "message": ""}
    wrote = 0.0

    def beat() -> None:
        nonlocal wrote
        if time.monotonic() - wrote > LOOK:
            wrote = time.monotonic()
            with contextlib.suppress(OSError):
                job_files.write_json(place / f"part-{number}.json", told)

    answer = attend(order | {"device": device()}, job_files.cancel_flag(place, order["attempt"]), told.update, beat)
    (place / f"part-{number}.json").unlink(missing_ok=True)
    if answer["state"] == "died":
        raise RuntimeError(f"the process that did the work died ({answer['message']})")
    return answer


def prepare(root: str, threads: int, checkpoint: str) -> None:
    """Have a child at hand that has imported what work needs, and opened the model of this digest unless it is empty.

    Work that comes meanwhile waits for it.
    """
    wanted = {"do": "prepare", "root": root, "threads": threads, "device": device(), "checkpoint": checkpoint}
    children.prepare(wanted)


def device() -> str:
    """Return this worker's own device where the app's host has several GPUs, for STUDIO_DEVICE; else nothing."""
    name = str(get_worker().name)
    several = processes.gpus() > 1 and not os.environ.get("STUDIO_DEVICE")
    return f"cuda:{name}" if several and name.isdecimal() else ""


def _begun(attempt: int, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first status of a run; one that goes on after a lost worker counts as one more try."""
    again = before.get("attempt") == attempt
    return {
        "attempt": attempt,
        "state": "queued",
        "done": 0,
        "total": 0,
        "unit": "",
        "message": "Starting worker.",
        "seconds_left": None,
        "started": before.get("started") if again else None,
        "artifacts": [],
        "tries": before.get("tries", 0) + 1 if again else 0,
    }


def _worn_out(why: str) -> dict[str, Any]:
    message = (
        f"It was begun {RETRIES + 1} times, and the last time {why}. SIGKILL usually means that memory ran out. "
        "What was finished is kept: resume goes on from there."
    )
    return {"state": "failed", "message": message}


def _stages(here: Callable[[Mapping[str, Any]], dict[str, Any]], spread: Spread) -> dict[str, Any] | None:
    """Do the parts of a job, stage by stage, on all workers; return its end if it ended early, else None."""
    number = 0
    while True:
        planned = here({"do": "stage", "stage": number})
        number += 1
        if planned["state"] != "done":
            return None if planned["state"] == "died" else planned  # the whole job will meet it again
        if planned["parts"] is None:
            return None
        if len(planned["parts"]) == 1:  # nothing to spread but passes within it
            done = here({"do": "part", "part": planned["parts"][0]})
            if done["state"] == "done":
                continue
            if done["state"] != "died":  # else a worker tries again
                return done
        if planned["parts"] and (end := spread(planned["parts"])) is not None:
            return end


def _side_by_side(
    client: Client,
    order: dict[str, Any],
    parts: Mapping[int, Mapping[str, Any]],
    flag: Path,
    status: Status,
    priority: float,
) -> dict[str, Any] | None:
    """Do parts, whose numbers no others of this job have, on all workers; return as `_stages`."""
    secede()  # this task only waits from here on; its place is for the parts, so that all workers are free
    try:
        return _awaited(client, parts, _given(client, order, parts, status, priority), flag, status)
    finally:
        _return(status)


def _return(status: Status) -> None:
    """Take this task's place on its worker again, which another job may hold for long; say meanwhile that it lives."""
    back = threading.Event()

    def live() -> None:
        while not back.wait(LOOK):
            status.beat()

    living = threading.Thread(target=live, daemon=True)
    living.start()
    try:
        rejoin()
    finally:
        back.set()
        living.join()


def _given(
    client: Client,
    order: Mapping[str, Any],
    parts: Mapping[int, Mapping[str, Any]],
    status: Status,
    priority: float,
) -> dict[int, Future[Any]]:
    """Give parts to the workers in turn; one that is free before another may take its parts."""
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    return {
        i: client.submit(
            run_part,
            {**order, "do": "part", "part": {**part, "workers": len(workers)}, "workers": 1},
            i,
            key=f"part-{order['key']}-{order['attempt']}-{status.values['tries']}-{i}",
            workers=[workers[i % len(workers)]],
            allow_other_workers=True,
            priority=priority,
            retries=RETRIES,
            pure=False,
        )
        for i, part in parts.items()
    }


def _awaited(
    client: Client,
    parts: Mapping[int, Mapping[str, Any]],
    futures: Mapping[int, Future[Any]],
    flag: Path,
    status: Status,
) -> dict[str, Any] | None:
    """Wait for the parts of a stage; return the job's end if one failed or it is cancelled, else None.

    Then the others are stopped: Dask takes back those that wait, and those at work look at the flag.
    """
    total = sum(part["weight"] for part in parts.values())
    while True:
        ended = {i for i, future in futures.items() if future.done()}
        end = STOPPED if flag.exists() else _failed([futures[i] for i in sorted(ended)])
        if end is not None:
            with contextlib.suppress(OSError):  # a full disk: they come to their end
                flag.touch()
            client.cancel([future for future in futures.values() if not future.done()])
            return end
        shares, now = _shares(status.place, set(parts) - ended), [parts[i] for i in sorted(set(parts) - ended)]
        done = sum(parts[i]["weight"] for i in ended) + sum(int(parts[i]["weight"] * s) for i, s in shares.items())
        at_work = sorted(shares)
        if at_work:
            about = f"{parts[at_work[0]]['about']}. {len(at_work)} at once, {len(ended)} of {len(parts)} done"
            unit = parts[at_work[0]]["unit"]
            status.tell({"state": "running", "done": done, "total": total, "unit": unit, "message": about})
        status.beat()
        if not now:
            return None
        time.sleep(LOOK)


def _failed(ended: Sequence[Future[Any]]) -> dict[str, Any] | None:
    """Return the end of a job by the first of these parts that failed, None where none did."""
    for future in ended:
        if future.status == "error":
            return _worn_out(str(future.exception()))
        answer = future.result()
        if answer["state"] != "done":
            return dict(answer)
    return None


def _shares(place: Path, numbers: set[int]) -> dict[int, float]:
    """Return how far each of these parts is, 0..1, of those that have begun."""
    found = {}
    for number in numbers:
        told = job_files.read_json(place / f"part-{number}.json", {"done": int, "total": int})
        if told is not None:
            found[number] = min(1.0, told["done"] / told["total"]) if told["total"] else 0.0
    return found
