"""The worker: takes jobs from the queue, one after the other, until it has been idle for some time.

It does no work itself. A child process (`work.py`) does, and stays for the next job, so that torch is
imported once. The worker passes on what the child reports, watches for the wish to cancel, kills a child
that does not stop, and starts a new one for the rest of the queue. When it ends, so does the child.

Started by `engine.start_worker`, or by hand with `python -m dtrak_core worker`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from io import TextIOWrapper
from types import FrameType
from typing import Any

from dtrak_core import engine, jobs, processes

IDLE = 900.0  # seconds without a job after which the worker ends; STUDIO_WORKER_IDLE changes it
GRACE = 5.0  # seconds from the wish to cancel to the kill, for work that does not listen
GRACE_SAVING = 60.0  # the same for work that has listened and is saving what it has
NICE = 5  # the page process comes first
LOOK = 0.2  # seconds between two looks at the queue, the child, the wish to cancel
BEAT = 1.0  # seconds between two writes of an unchanged status
WINDOW = 20.0  # seconds over which the rate of the work is taken
SILENT = 3.0  # seconds of work before its rate says something


@dataclass
class Pace:
    """The rate of the work over its recent past, from which the time left is told."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)
    what: tuple[int, str] = (0, "")

    def add(self, now: float, done: int, total: int, unit: str) -> None:
        """Note how far the work is. Another unit or total begins anew."""
        if self.what != (total, unit):
            self.marks.clear()
            self.what = (total, unit)
        if not self.marks or done > self.marks[-1][1]:
            self.marks.append((now, done))
        while len(self.marks) > 3 and now - self.marks[1][0] > WINDOW:
            self.marks.popleft()

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds that the rest takes at the recent rate; None as long as there is no rate."""
        if len(self.marks) < 3 or self.marks[-1][0] - self.marks[0][0] < SILENT:
            return None
        (begin, first), (end, last) = self.marks[0], self.marks[-1]
        rate = (last - first) / (end - begin)
        return max(0.0, (self.what[0] - last) / rate - (now - end))


class Child:
    """The process that does the work. It gets a line of JSON for each job and answers with lines of JSON."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dtrak_core.work", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders, self.answers = self.process.stdin, self.process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self.rest = b""

    def order(self, key: str, attempt: int) -> None:
        """Give it a job. A child that has just died is noticed by whoever listens."""
        with contextlib.suppress(BrokenPipeError):
            self.orders.write(json.dumps({"key": key, "attempt": attempt}).encode() + b"\n")
            self.orders.flush()

    def listen(self, seconds: float) -> list[dict[str, Any]] | None:
        """Return what it said, after at most these seconds; None when it is dead and has said all."""
        if not select.select([self.answers], [], [], seconds)[0]:
            return []
        data = self.answers.read()
        if data == b"":
            return None
        *lines, self.rest = (self.rest + (data or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> int:
        """End it at once; return its exit status, negative for a signal."""
        self.process.kill()
        status = self.process.wait()
        self.orders.close()
        self.answers.close()
        return status


class Worker:
    """The loop over the queue, and what it keeps between jobs: its lock and its child."""

    def __init__(self, lock: TextIOWrapper) -> None:
        self.lock = lock
        self.child: Child | None = None
        self.exit = 0
        self.asked_to_end = False
        self.version = processes.code_version()

    def run(self) -> None:
        """Work until idle for too long, asked to end, or without a cache folder."""
        idle = float(os.environ.get("STUDIO_WORKER_IDLE") or IDLE)
        woken, looked, since = 0, 0.0, time.monotonic()
        while not self.asked_to_end and self.at_home():
            now, changed = time.monotonic(), (engine.folder() / "lock").stat().st_mtime_ns
            if (engine.folder() / "END").exists():
                if not jobs.retire():
                    self.hand_over()
                return
            if changed != woken or now - looked > 5:
                woken, looked = changed, now
                engine.write_worker(os.getpid(), self.version)
                if (key := jobs.next_in_queue()) is not None:
                    self.work_on(key)
                    woken, since = 0, time.monotonic()
                    continue
            if now - since > idle and jobs.retire():
                return
            time.sleep(LOOK)

    def work_on(self, key: str) -> None:
        """Have the child do one job, and write how far it is and how it ends."""
        facts, _ = jobs.read(key)
        if facts is None:
            return
        flag = jobs.cancel_flag(key, facts["attempt"])
        status: dict[str, Any] = {
            "attempt": facts["attempt"],
            "state": "queued",
            "done": 0,
            "total": 0,
            "unit": "",
            "message": "Starting worker.",
            "seconds_left": None,
            "started": None,
            "artifacts": [],
        }
        if self.child is not None and self.child.process.poll() is not None:
            self.child = None  # it died between two jobs
        self.child = self.child or Child()
        self.child.order(key, facts["attempt"])
        pace, kill_at, wrote, changed = Pace(), 0.0, 0.0, True
        while True:
            for answer in self.answers():
                changed = True
                status |= {name: value for name, value in answer.items() if name in status}
                if answer["state"] == "running":
                    status["started"] = status["started"] or time.time()
                    pace.add(time.monotonic(), status["done"], status["total"], status["unit"])
                elif answer["state"] == "stopping":
                    kill_at = time.monotonic() + GRACE_SAVING
                    status["state"] = "running"
                else:
                    status["done"] = status["total"] if status["state"] == "done" else status["done"]
                    return self.write(key, status | {"finished": time.time(), "seconds_left": None})
            if not self.at_home() or self.asked_to_end or self.child is None:
                return self.write(key, status | self.lost(flag.exists()))
            now = time.monotonic()
            if flag.exists():
                kill_at = kill_at or now + GRACE
                if now > kill_at:
                    return self.write(key, status | self.lost(cancelled=True))
            if now - wrote > (LOOK if changed else BEAT):
                self.write(key, status | {"seconds_left": pace.seconds_left(now)})
                wrote, changed = now, False

    def answers(self) -> list[dict[str, Any]]:
        """Return what the child has said; let go of it if it is dead."""
        assert self.child is not None
        said = self.child.listen(LOOK)
        if said is None:
            self.exit = self.child.kill()
            self.child = None
        return said or []

    def lost(self, cancelled: bool) -> dict[str, Any]:
        """End the child, and return the status of a job that it cannot finish."""
        why = "The worker was ended"
        if self.child is None:
            how = f"signal {signal.Signals(-self.exit).name}" if self.exit < 0 else f"exit status {self.exit}"
            why = f"The process that did the work died ({how}; SIGKILL mostly means that memory ran out)"
        else:
            self.child.kill()
            self.child = None
        state, message = "interrupted", f"{why}. What was finished is kept: resume goes on from there."
        if cancelled:
            state, message = "cancelled", "Cancelled. What was finished is kept."
        return {"state": state, "message": message, "seconds_left": None, "finished": time.time()}

    def write(self, key: str, status: dict[str, Any]) -> None:
        """Write a status; on a full disk or without a cache, say nothing: the job then reads as interrupted."""
        with contextlib.suppress(OSError):
            if self.at_home():
                jobs.write_status(key, status | {"beat": time.time()})

    def at_home(self) -> bool:
        """Say whether the cache is still the one that this worker began in."""
        try:
            return (engine.folder() / "worker.lock").stat().st_ino == os.fstat(self.lock.fileno()).st_ino
        except FileNotFoundError:
            return False

    def hand_over(self) -> None:
        """Start the next worker, with the code as it now is; it waits for this one's lock."""
        with engine.locked():
            engine.start_worker()

    def end(self, _signal: int, _frame: FrameType | None) -> None:
        """Leave at the next look."""
        self.asked_to_end = True


def main() -> int:
    """Run the worker, if it is the only one."""
    engine.folder().mkdir(parents=True, exist_ok=True)
    with (engine.folder() / "worker.lock").open("a") as lock:
        if not _alone(lock):
            print("Another worker runs already.", file=sys.stderr)
            return 0
        os.nice(NICE)
        worker = Worker(lock)
        with engine.locked():
            (engine.folder() / "END").unlink(missing_ok=True)
            engine.write_worker(os.getpid(), worker.version)
        signal.signal(signal.SIGTERM, worker.end)
        signal.signal(signal.SIGINT, worker.end)
        try:
            worker.run()
        finally:
            if worker.child is not None:
                worker.child.kill()
    return 0


def _alone(lock: TextIOWrapper) -> bool:
    """Take the lock that says there is one worker; a worker that is about to end is waited for."""
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
