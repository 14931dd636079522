"""Jobs: long work outside the asking process. Submit, follow, cancel, resume.

What was asked stands in the index (`job_index.py`), how far it is and how it ended in files (`job_files.py`),
what it made in the store. A job whose newest attempt has no status yet is queued; one that runs without a living
engine is interrupted until an engine takes it up again. This module imports no torch and no Dask.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dtrak_core import program, store
from dtrak_core.errors import JobError, NotFoundError
from dtrak_core.jobs import job_files, job_index, launch
from dtrak_core.jobs.job_kinds import AttributeJob as AttributeJob
from dtrak_core.jobs.job_kinds import BaseJob as BaseJob
from dtrak_core.jobs.job_kinds import BenchmarkJob as BenchmarkJob
from dtrak_core.jobs.job_kinds import CounterfactualJob as CounterfactualJob
from dtrak_core.jobs.job_kinds import DatasetJob as DatasetJob
from dtrak_core.jobs.job_kinds import EmbedJob as EmbedJob
from dtrak_core.jobs.job_kinds import FaderJob as FaderJob
from dtrak_core.jobs.job_kinds import ImportJob as ImportJob
from dtrak_core.jobs.job_kinds import Job as Job
from dtrak_core.jobs.job_kinds import LdsJob as LdsJob
from dtrak_core.jobs.job_kinds import LookJob as LookJob
from dtrak_core.jobs.job_kinds import ProbeJob as ProbeJob
from dtrak_core.jobs.job_kinds import SampleJob as SampleJob
from dtrak_core.jobs.job_kinds import ScoreJob as ScoreJob
from dtrak_core.jobs.job_kinds import TrainJob as TrainJob
from dtrak_core.jobs.job_kinds import inputs as inputs
from dtrak_core.jobs.job_kinds import key_of_job as key_of_job
from dtrak_core.jobs.job_kinds import read_job
from dtrak_core.methods import embeddings

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

    @property
    def going(self) -> bool:
        """Say whether it waits, runs, or was interrupted, so that an engine takes it up again by itself."""
        return self.active or self.state == "interrupted"


def submit(job: Job, label: str) -> tuple[str, bool]:
    """Ask for a job, or join it if equal work waits, runs or is done with its artifacts in the store.

    A job that gives a name (a training, an import) is done again, which is quick where its work is done.

    Args:
        job: What to do, one of the classes above.
        label: What the user is told it is, e.g. `Train 'demo' for 60 epochs`.

    Returns:
        The job's key, and whether this call started it (an ended one runs again as its next attempt).
    """
    key = key_of_job(job)
    with job_index.transaction() as index:
        now = state(key)
        joined = (now.active and not _stopping(now)) or (now.state == "done" and _kept(now) and not _naming(job))
        if not joined:
            _write_job(index, key, job, label, now.attempt + 1)
    if not joined or now.active:
        launch.ensure()
    return key, not joined


def resume(key: str) -> bool:
    """Run an ended or interrupted job again, from what it had finished; say whether that was needed.

    Raises:
        NotFoundError: If no such job is known.
    """
    with job_index.transaction() as index:
        now = state(key)
        if now.active and not _stopping(now):
            return False
        _write_job(index, key, job_of(key), now.label, now.attempt + 1)
    launch.ensure()
    return True


def cancel(key: str) -> bool:
    """Ask a waiting, running or interrupted job to stop; say whether there was any. What it finished stays."""
    now = state(key)
    if now.going:
        place = job_files.folder() / key
        with store.writable():
            place.mkdir(exist_ok=True)
            job_files.cancel_flag(place, now.attempt).touch()
    return now.going


def forget(key: str) -> None:
    """Take an ended job off the list, with its log; what it made stays. A waiting or running one is left alone."""
    with job_index.transaction() as index:
        if not state(key).active:
            job_index.drop(index, key)
            shutil.rmtree(job_files.folder() / key, ignore_errors=True)
    launch.wake()


def state(key: str) -> JobState:
    """Return what is known of a job; `idle` if it was never asked for."""
    row = job_index.row(key)
    if row is None:
        return JobState(key)
    now = _judge(row, launch.lives())
    if now.state != "queued":
        return now
    return next((other for other in _queue(_known()) if other.key == key), now)


def listing() -> list[JobState]:
    """Return all jobs: what runs, then the queue in its order, then what ended, the newest first."""
    known = _known()
    running = [job for job in known if job.state == "running"]
    ended = [job for job in known if not job.active]
    return running + _queue(known) + sorted(ended, key=lambda job: -(job.finished or job.beat or job.submitted or 0.0))


def job_of(key: str) -> Job:
    """Return the settings of a job.

    Raises:
        NotFoundError: If no such job is known.
        JobError: If another version of the app has asked for it, whose words this one does not know.
    """
    row = job_index.row(key)
    if row is None:
        raise NotFoundError(f"Job '{key}' is not known. List the jobs with '{program.command('jobs list')}'.")
    return read_job(row.job)


def log_tail(key: str, lines: int = 40) -> str:
    """Return the last lines of a job's log, empty if it printed nothing."""
    return job_files.log_tail(job_files.folder() / key, lines)


def recover() -> list[str]:
    """Start an engine if jobs wait for one or were interrupted; return the keys of the interrupted ones.

    To be called when the app starts, and from time to time while a job waits. An engine that starts takes up
    what the last one left, from what was finished.
    """
    known = _known()
    if any(job.state in ("queued", "interrupted") for job in known):
        launch.ensure()
    return [job.key for job in known if job.state == "interrupted"]


def wait(key: str, on_change: Callable[[JobState], None] | None = None, every: float = 0.2) -> JobState:
    """Follow a job until it no longer waits or runs, and return how it ended."""
    before, looked = None, time.monotonic()
    while True:
        now = state(key)
        if now != before and on_change is not None:
            on_change(now)
        if not now.going:
            return now
        if now.state in ("queued", "interrupted") and time.monotonic() - looked > 2:
            recover()
            looked = time.monotonic()
        before = now
        time.sleep(every)


def live() -> list[tuple[JobState, set[str]]]:
    """Return the jobs that wait, run or were interrupted, each with the digests and keys of what it reads.

    One that another version of the app has asked for cannot be read, and reads nothing: it ends with that sentence.
    """
    found = []
    for now in listing():
        if now.going:
            with contextlib.suppress(JobError):
                found.append((now, inputs(job_of(now.key))))
    return found


def unfinished() -> list[job_index.Row]:
    """Return the jobs that have not ended, the one asked for first coming first: for the engine."""
    return [row for row in job_index.rows() if not _ended(row)]


def _ended(row: job_index.Row) -> bool:
    status = _status(row)
    return status is not None and status["state"] in ("done", "failed", "cancelled")


def _status(row: job_index.Row) -> dict[str, Any] | None:
    """Return what is written of a job's newest attempt, None if it has not begun."""
    status = job_files.read_status(job_files.folder() / row.key)
    return status if status is not None and status["attempt"] == row.attempt else None


def _judge(row: job_index.Row, alive: bool) -> JobState:
    """Tell the state of a job from the index, its files, and whether an engine lives on this host."""
    status = _status(row)
    now = JobState(row.key, row.kind, row.label, "queued", attempt=row.attempt, submitted=row.submitted)
    flagged = job_files.cancel_flag(job_files.folder() / row.key, row.attempt).exists()
    if status is None:
        return replace(now, state="cancelled", message="Cancelled before it began.") if flagged else now
    told = {name: value for name, value in status.items() if name in JobState.__dataclass_fields__}
    now = replace(now, **told | {"artifacts": tuple((kind, key) for kind, key in status["artifacts"])})
    # A cluster goes on without the engine's process here; an engine on this machine does not.
    lost = not (alive or launch.address()) or time.time() - status["beat"] > STALE
    if now.active and flagged and (lost or now.state == "queued"):
        return replace(now, state="cancelled", message=job_files.CANCELLED, seconds_left=None)
    if now.state == "running" and lost:
        message = "The worker ended while this ran. What was finished is kept; the next one goes on from there."
        return replace(now, state="interrupted", message=message, seconds_left=None)
    if now.state == "running" and flagged:
        return replace(now, message="Stopping.", seconds_left=None)
    if now.seconds_left is not None:
        return replace(now, seconds_left=max(0.0, now.seconds_left - (time.time() - status["beat"])))
    return now


def _known() -> list[JobState]:
    alive = launch.lives()
    return [_judge(row, alive) for row in job_index.rows()]


def _queue(known: Sequence[JobState]) -> list[JobState]:
    """Return the waiting jobs, in order, each with its position and what it waits for."""
    idle = "Starting worker." if launch.lives() else "Waiting for a worker."
    running = sum(job.state == "running" for job in known)
    waiting = sorted((job for job in known if job.state == "queued"), key=lambda job: (job.submitted or 0.0, job.key))
    messages = [
        idle if before == 0 else f"Waiting: {before} {'job' if before == 1 else 'jobs'} before it."
        for before in range(running, running + len(waiting))
    ]
    return [replace(job, position=i + 1, message=messages[i]) for i, job in enumerate(waiting)]


def _stopping(now: JobState) -> bool:
    return job_files.cancel_flag(job_files.folder() / now.key, now.attempt).exists()


def _kept(now: JobState) -> bool:
    """Say whether all that a finished job made is still in the store."""
    return all(store.find(kind, key) is not None for kind, key in now.artifacts)


def _naming(job: Job) -> bool:
    """Say whether a job gives a name, which may have passed to another run since, to files that may have changed."""
    return isinstance(job, (TrainJob, ImportJob, BaseJob))


def _write_job(index: sqlite3.Connection, key: str, job: Job, label: str, attempt: int) -> None:
    if isinstance(job, (EmbedJob, BenchmarkJob, CounterfactualJob)):  # an engine may have begun with other weights
        job = job.model_copy(update={"clip_file": embeddings.place()})
    asked = job_index.Row(key, job.kind, label, job.model_dump(mode="json"), attempt, time.time())
    job_index.put(index, asked)
