"""Jobs: long work outside the asking process. Submit, follow, cancel, resume; the truth is in files.

    cache/jobs/<key>/job.json           what was asked, by whom called what, which attempt    (written by who asks)
    cache/jobs/<key>/CANCEL.<attempt>   the wish to stop this attempt, not the next           (written by who asks)
    cache/jobs/<key>/status.json        how far the attempt is, and how it ended              (written by the worker)
    cache/jobs/<key>/log.txt            what the work printed, and tracebacks

Each file has one writer and is replaced whole, so a reader never sees half of one. A job whose
newest attempt has no status yet is queued; one that runs without a living worker is interrupted.
Who does the work is `engine.py`'s business. This module imports no torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dtrak_core import engine, store
from dtrak_core.errors import NotFoundError
from dtrak_core.job_kinds import AttributeJob as AttributeJob
from dtrak_core.job_kinds import CounterfactualJob as CounterfactualJob
from dtrak_core.job_kinds import DatasetJob as DatasetJob
from dtrak_core.job_kinds import EmbedJob as EmbedJob
from dtrak_core.job_kinds import ImportJob as ImportJob
from dtrak_core.job_kinds import Job as Job
from dtrak_core.job_kinds import ProbeJob as ProbeJob
from dtrak_core.job_kinds import SampleJob as SampleJob
from dtrak_core.job_kinds import TrainJob as TrainJob
from dtrak_core.job_kinds import inputs as inputs
from dtrak_core.job_kinds import key_of_job as key_of_job
from dtrak_core.job_kinds import read_job

State = Literal["idle", "queued", "running", "done", "cancelled", "failed", "interrupted"]
STALE = 30.0  # seconds without a heartbeat after which a worker that still exists counts as lost


@dataclass(frozen=True)
class JobState:
    """What is known of a job. `position` is 1 for the next in the queue, 0 for a job that does not wait.

    `seconds_left` is None until there is a rate to tell it from. `message` is a plain sentence:
    what goes on, or why it ended. `artifacts` are (kind, key) of what a finished job made.
    """

    key: str
    kind: str = ""
    label: str = ""
    state: State = "idle"
    done: int = 0
    total: int = 0
    unit: str = ""
    message: str = ""
    attempt: int = 0
    position: int = 0
    seconds_left: float | None = None
    submitted: float | None = None
    started: float | None = None
    finished: float | None = None
    beat: float | None = None
    artifacts: tuple[tuple[str, str], ...] = ()

    @property
    def active(self) -> bool:
        """Say whether it waits or runs."""
        return self.state in ("queued", "running")


def submit(job: Job, label: str) -> tuple[str, bool]:
    """Ask for a job, or join it if equal work waits, runs or is done with its artifacts in the store.

    Args:
        job: What to do, one of the classes above.
        label: What the user is told it is, e.g. `Train 'demo' for 60 epochs`.

    Returns:
        The job's key, and whether this call started it (an ended one runs again as its next attempt).
    """
    key = key_of_job(job)
    with engine.locked():
        now = state(key)
        joined = (now.active and not _stopping(now)) or (now.state == "done" and _kept(now))
        if not joined:
            _write_job(key, job, label, now.attempt + 1)
        if not joined or now.active:
            engine.ensure_worker()
    return key, not joined


def resume(key: str) -> bool:
    """Run an ended or interrupted job again, from what it had finished; say whether that was needed.

    Raises:
        NotFoundError: If no such job is known.
    """
    with engine.locked():
        now = state(key)
        if now.active and not _stopping(now):
            return False
        _write_job(key, job_of(key), now.label, now.attempt + 1)
        engine.ensure_worker()
    return True


def cancel(key: str) -> bool:
    """Ask a waiting or running job to stop; say whether there was anything to stop. What it finished stays."""
    now = state(key)
    if now.active:
        cancel_flag(key, now.attempt).touch()
    return now.active


def state(key: str) -> JobState:
    """Return what is known of a job; `idle` if it was never asked for."""
    facts, status = read(key)
    if facts is None:
        return JobState(key)
    now = _judge(facts, status, engine.worker_lives())
    if now.state != "queued":
        return now
    return next((other for other in _queue() if other.key == key), now)


def listing() -> list[JobState]:
    """Return all jobs: what runs, then the queue in its order, then what ended, the newest first."""
    alive = engine.worker_lives()
    known = [_judge(facts, status, alive) for facts, status in _all()]
    running = [job for job in known if job.state == "running"]
    ended = [job for job in known if not job.active]
    return running + _queue() + sorted(ended, key=lambda job: -(job.finished or job.beat or job.submitted or 0.0))


def job_of(key: str) -> Job:
    """Return the settings of a job, or raise NotFoundError."""
    facts, _ = read(key)
    if facts is None:
        raise NotFoundError(f"Job '{key}' is not known. List the jobs with 'python -m dtrak_core jobs list'.")
    return read_job(facts["job"])


def log_tail(key: str, lines: int = 40) -> str:
    """Return the last lines of a job's log, empty if it printed nothing."""
    try:
        with (engine.folder() / key / "log.txt").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 400 * lines))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def recover() -> list[str]:
    """Start a worker if jobs wait for one; return the keys of interrupted jobs, which `resume` continues.

    To be called when the app starts, and from time to time while a job waits.
    """
    if not engine.folder().is_dir():
        return []
    with engine.locked():
        if _queue():
            engine.ensure_worker()
    return [job.key for job in listing() if job.state == "interrupted"]


def wait(key: str, on_change: Callable[[JobState], None] | None = None, every: float = 0.2) -> JobState:
    """Follow a job until it no longer waits or runs, and return how it ended."""
    before, looked = None, time.monotonic()
    while True:
        now = state(key)
        if now != before and on_change is not None:
            on_change(now)
        if not now.active:
            return now
        if now.state == "queued" and time.monotonic() - looked > 2:
            recover()
            looked = time.monotonic()
        before = now
        time.sleep(every)


def needed_by(names: set[str]) -> JobState | None:
    """Return a waiting or running job that reads one of these keys or digests, if there is one."""
    return next((job for job in listing() if job.active and inputs(job_of(job.key)) & names), None)


def cancel_flag(key: str, attempt: int) -> Path:
    """Return the file whose existence asks this attempt to stop."""
    return engine.folder() / key / f"CANCEL.{attempt}"


def read(key: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return a job's `job.json` and `status.json`, each None if it is not there."""
    return engine.read_json(engine.folder() / key / "job.json"), engine.read_json(engine.folder() / key / "status.json")


def write_status(key: str, values: Mapping[str, Any]) -> None:
    """Replace a job's status: for the worker alone. Not flushed to disk, since the next one comes within a second."""
    path = engine.folder() / key / "status.json"
    temporary = path.with_name(f".status.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(values, allow_nan=False))
    temporary.replace(path)


def next_in_queue() -> str | None:
    """Return the key of the job that has waited longest."""
    return next((job.key for job in _queue()), None)


def retire() -> bool:
    """Let an idle worker go, unless a job was submitted in this instant; say whether it may end."""
    with engine.locked():
        if _queue():
            return False
        (engine.folder() / "worker.json").unlink(missing_ok=True)
        return True


def _judge(facts: Mapping[str, Any], status: Mapping[str, Any] | None, alive: bool) -> JobState:
    """Tell the state of a job from its two files and whether a worker lives."""
    key, attempt = facts["key"], facts["attempt"]
    now = JobState(key, facts["kind"], facts["label"], "queued", attempt=attempt, submitted=facts["submitted"])
    flagged = cancel_flag(key, attempt).exists()
    if status is None or status["attempt"] != attempt:
        return replace(now, state="cancelled", message="Cancelled before it began.") if flagged else now
    told = {name: value for name, value in status.items() if name in JobState.__dataclass_fields__}
    now = replace(now, **told | {"artifacts": tuple((kind, key) for kind, key in status["artifacts"])})
    lost = not alive or time.time() - status["beat"] > STALE
    if now.active and flagged and (lost or now.state == "queued"):
        return replace(now, state="cancelled", message="Cancelled. What was finished is kept.", seconds_left=None)
    if now.state == "running" and lost:
        message = "The worker ended while this ran. What was finished is kept: resume goes on from there."
        return replace(now, state="interrupted", message=message, seconds_left=None)
    if now.state == "running" and flagged:
        return replace(now, message="Stopping.", seconds_left=None)
    if now.seconds_left is not None:
        return replace(now, seconds_left=max(0.0, now.seconds_left - (time.time() - status["beat"])))
    return now


def _queue() -> list[JobState]:
    """Return the waiting jobs, in order, each with its position and what it waits for."""
    alive = engine.worker_lives()
    known = [_judge(facts, status, alive) for facts, status in _all()]
    running = sum(job.state == "running" for job in known)
    waiting = sorted((job for job in known if job.state == "queued"), key=lambda job: (job.submitted or 0.0, job.key))
    idle = "Starting worker." if alive else "Waiting for a worker."
    messages = [
        idle if before == 0 else f"Waiting: {before} {'job' if before == 1 else 'jobs'} before it."
        for before in range(running, running + len(waiting))
    ]
    return [replace(job, position=i + 1, message=messages[i]) for i, job in enumerate(waiting)]


def _all() -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    for path in engine.folder().glob("*/job.json"):
        facts, status = read(path.parent.name)
        if facts is not None:
            yield facts, status


def _stopping(now: JobState) -> bool:
    return cancel_flag(now.key, now.attempt).exists()


def _kept(now: JobState) -> bool:
    """Say whether all that a finished job made is still in the store."""
    return all(store.find(kind, key) is not None for kind, key in now.artifacts)


def _write_job(key: str, job: Job, label: str, attempt: int) -> None:
    facts = {"key": key, "kind": job.kind, "label": label, "attempt": attempt, "submitted": time.time()}
    store.write_json(engine.folder() / key / "job.json", facts | {"job": job.model_dump(mode="json")})
    os.utime(engine.folder() / "lock")  # wakes the worker
