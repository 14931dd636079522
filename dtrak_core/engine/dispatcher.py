"""The engine's process on this host: gives the jobs of the index to Dask, until it has been idle for some time.

It outlives the app. What it has given away it follows: a job whose end its worker could not write down gets one
here, and one that the cluster has forgotten is given away again. With STUDIO_ENGINE it is a client of that
cluster, else it is the scheduler too (`cluster.py`). When it dies, its workers and their children die with it,
and the next one takes up what is unfinished.

Started by `launch.start`; by hand, to see what it prints: `python -m dtrak_core.engine.dispatcher`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from io import TextIOWrapper
from types import FrameType
from typing import Any

from distributed import Client, Future, fire_and_forget

from dtrak_core import store
from dtrak_core.engine import cluster, tasks
from dtrak_core.engine.children import default_threads
from dtrak_core.errors import EngineError, StudioError
from dtrak_core.jobs import eviction, job_files, job_index, jobs, launch

IDLE = 900.0  # seconds without a job after which the engine ends; STUDIO_WORKER_IDLE changes it
LOOK = 0.2  # seconds between two looks at the jobs given away
REREAD = 5.0  # seconds after which the index is read even if nobody has touched the lock


class Dispatcher:
    """The loop over the index, and what it keeps: its lock, and the jobs given away, by key and attempt."""

    def __init__(self, lock: TextIOWrapper, client: Client) -> None:
        self.lock = lock
        self.client = client
        self.version = launch.version()
        self.given: dict[tuple[str, int], Future[Any]] = {}

    def run(self) -> None:
        """Work until idle for too long, asked to end, without a cache folder, or without the cluster."""
        idle = seconds_idle()
        woken, looked, since = 0, 0.0, time.monotonic()
        while self.at_home():
            now, changed = time.monotonic(), (job_files.folder() / "lock").stat().st_mtime_ns
            ending = (job_files.folder() / "END").exists()
            ended = self.collect()
            if ended:
                with contextlib.suppress(OSError, StudioError):  # another process deletes at the same time
                    eviction.evict()
            if ending and not self.given:
                return self.hand_over()
            if not ending and (ended or changed != woken or now - looked > REREAD):
                woken, looked = changed, now
                launch.write_down(os.getpid(), self.version)
                for row in jobs.unfinished():
                    self.give(row)
                self.take_back()
            if self.wanted_ready():
                since = now
            if self.given:
                since = now
            elif now - since > idle and retired():
                return
            if self.client.status not in ("running", "connecting"):
                return  # the cluster has gone; what is unfinished waits for the next engine
            time.sleep(LOOK)

    def wanted_ready(self) -> bool:
        """Let this machine's worker have a child ready, if that was asked for; say whether it was."""
        wish = job_files.folder() / "READY"
        try:
            checkpoint = wish.read_text().strip()
        except FileNotFoundError:
            return False
        wish.unlink(missing_ok=True)
        if not self.given and not launch.address():
            root = str(store.root().resolve())
            fire_and_forget(self.client.submit(tasks.prepare, root, default_threads(), checkpoint, pure=False))
        return True

    def give(self, row: job_index.Row) -> None:
        """Give a job to Dask, unless it has been or is no longer wanted."""
        name = (row.key, row.attempt)
        if name in self.given:
            return
        if job_files.cancel_flag(job_files.folder() / row.key, row.attempt).exists():
            write_end(row.key, row.attempt, dict(tasks.STOPPED))
            return
        root = str(store.root().resolve())
        # The same key again, from an engine after this one, is the same task for a cluster that goes on.
        future = self.client.submit(
            tasks.run_job,
            root,
            row.key,
            row.attempt,
            row.job,
            default_threads(),
            -row.submitted,
            key=f"job-{row.key}-{row.attempt}",
            priority=-row.submitted,
            pure=False,
        )
        fire_and_forget(future)
        self.given[name] = future

    def take_back(self) -> None:
        """Take back what waits of jobs that are off the list: cancelled, then forgotten, and the wish to stop too."""
        gone = [future for (key, _), future in self.given.items() if job_index.row(key) is None]
        if gone:
            self.client.cancel(gone, force=True)  # `fire_and_forget` wants them as well

    def collect(self) -> bool:
        """Let go of what has ended, seeing to it that its end is written; say whether there was something."""
        ended = [name for name, future in self.given.items() if future.status != "pending"]
        for key, attempt in ended:
            future = self.given[key, attempt]
            if job_index.row(key) is None:  # forgotten: an end written now would be that of its next first attempt
                kept = True
            elif future.status == "finished":
                kept = write_end(key, attempt, future.result())
            elif future.status == "error":
                kept = write_end(key, attempt, {"state": "failed", "message": _reason(future)})
            else:  # cancelled or lost: the cluster has forgotten it
                kept = True
            if kept:
                del self.given[key, attempt]
        return bool(ended)

    def at_home(self) -> bool:
        """Say whether the cache is still the one that this process began in."""
        try:
            return (job_files.folder() / "engine.lock").stat().st_ino == os.fstat(self.lock.fileno()).st_ino
        except FileNotFoundError:
            return False

    def hand_over(self) -> None:
        """Make way for an engine of the code as it now is, if jobs wait for one; it waits for this one's lock.

        It works where whoever asked for it wants the work done, which may be elsewhere than this one.
        """
        with launch.locked():
            with contextlib.suppress(FileNotFoundError):
                os.environ["STUDIO_ENGINE"] = (job_files.folder() / "END").read_text()
            (job_files.folder() / "engine.json").unlink(missing_ok=True)
            (job_files.folder() / "END").unlink(missing_ok=True)
            if jobs.unfinished():
                launch.start()


def seconds_idle() -> float:
    """Return after how many seconds without a job the engine ends."""
    try:
        return max(0.0, float(os.environ.get("STUDIO_WORKER_IDLE") or IDLE))
    except ValueError:
        print(f"STUDIO_WORKER_IDLE is no number of seconds; {IDLE:g} is taken.", file=sys.stderr)
        return IDLE


def retired() -> bool:
    """Let an idle engine go, unless a job was asked for in this instant; say whether it may end."""
    with launch.locked():
        if jobs.unfinished():
            return False
        (job_files.folder() / "engine.json").unlink(missing_ok=True)
        return True


def write_end(key: str, attempt: int, end: dict[str, Any]) -> bool:
    """Write how a job ended where its worker did not; say whether an end is now written (a full disk refuses)."""
    place = job_files.folder() / key
    before = job_files.read_status(place) or {}
    if before.get("attempt", 0) > attempt:  # it was asked for again meanwhile
        return True
    same = before.get("attempt") == attempt
    if same and before["state"] in ("done", "failed", "cancelled"):
        return True
    empty = {"done": 0, "total": 0, "unit": "", "started": None, "artifacts": []}
    values = empty | (before if same else {}) | {"seconds_left": None} | end
    values |= {"attempt": attempt, "finished": time.time(), "beat": time.time()}
    try:
        place.mkdir(parents=True, exist_ok=True)
        job_files.write_json(place / job_files.STATUS, values)
    except OSError:
        return False
    return True


def refuse(message: str) -> None:
    """Let every unfinished job fail with this reason: they can be resumed when it is seen to."""
    for row in jobs.unfinished():
        write_end(row.key, row.attempt, {"state": "failed", "message": message})


def _reason(future: Future[Any]) -> str:
    error = future.exception()
    if type(error).__name__ == "KilledWorker":
        return "The worker that ran it died four times, usually because memory ran out. What was finished is kept."
    return f"The engine could not run it: {type(error).__name__}: {error}"


def main() -> int:
    """Run the engine, if it is the only one of this cache."""
    job_files.folder().mkdir(parents=True, exist_ok=True)
    with (job_files.folder() / "engine.lock").open("a") as lock:
        if not _alone(lock):
            print("Another engine runs already.", file=sys.stderr)
            return 0
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGINT, _leave)
        with launch.locked():
            (job_files.folder() / "END").unlink(missing_ok=True)
            launch.write_down(os.getpid(), launch.version())
        try:
            with cluster.opened(launch.address()) as client:
                dispatcher = Dispatcher(lock, client)
                dispatcher.run()
                # Closing politely takes seconds; the workers of this machine end with this process.
                os._exit(0)
        except EngineError as error:
            refuse(str(error))
            print(error, file=sys.stderr)
            with contextlib.suppress(FileNotFoundError):
                (job_files.folder() / "engine.json").unlink()
            return 1


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _alone(lock: TextIOWrapper) -> bool:
    """Take the lock that says there is one engine; one that is about to end is waited for."""
    until = time.monotonic() + 3
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
