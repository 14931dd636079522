"""The processes in which work is done, on the host of the worker that starts them.

Work runs in a child (`child_main.py`), never in the worker itself: it can be stopped for certain, gives its memory
back, the GPU's too, and when it crashes nothing else does. A child that has ended its work well waits a while
for the next, so that torch is imported once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.jobs import job_files, processes

LOOK = 0.2  # seconds between two looks at the child and the wish to cancel
GRACE = 1.2  # seconds from the wish to cancel to the kill, for work that does not listen
GRACE_SAVING = 60.0  # the same for work that has listened and is saving what it has
NICE = 5  # the page process comes first
# Dask sets these to 1 in its workers; the order says how many threads the work is to use.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Linux ends a child together with the thread that started it: this one lives as long as the process.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="children")
_IDLE: list[Child] = []
_IDLE_LOCK = threading.Lock()


class Child:
    """A process that does work. It gets a line of JSON for each order and answers with lines of JSON."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        env = {**os.environ, **processes.short_waits(), **dict.fromkeys(_THREADS, str(threads))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dtrak_core.engine.child_main", str(os.getpid())],
            cwd=store.PROJECT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders, self.answers = self.process.stdin, self.process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self.rest = b""
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, NICE)

    def order(self, order: Mapping[str, Any]) -> None:
        """Give it work. A child that has just died is noticed by whoever listens."""
        with contextlib.suppress(BrokenPipeError):
            self.orders.write(json.dumps(order).encode() + b"\n")
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

    def kill(self) -> str:
        """End it at once; return how it ended, in words."""
        self.process.kill()
        status = self.process.wait()
        self.answers.close()
        with contextlib.suppress(BrokenPipeError):
            self.orders.close()
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def attend(
    order: Mapping[str, Any],
    flag: Path,
    tell: Callable[[Mapping[str, Any]], None],
    beat: Callable[[], None],
    spread: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any] | None] = lambda parts: None,
) -> dict[str, Any]:
    """Have a child carry out an order, and stay with it to the end.

    Args:
        order: What `child_main.serve` reads.
        flag: The file whose existence asks to stop.
        tell: Called with each answer that says how far the work is.
        beat: Called some times a second.
        spread: Does parts that the child waits for; returns None, or the end of the job if it ended early.

    Returns:
        The last answer, whose `state` is done, failed or cancelled; or `died`, with how in `message`, where the
        child ended without a last word.
    """
    child, kill_at = _child(order["threads"]), 0.0
    child.order(order)
    try:
        while True:
            said = child.listen(LOOK)
            if said is None:
                return {"state": "died", "message": child.kill()}
            for answer in said:
                if answer["state"] == "stopping":
                    kill_at = time.monotonic() + GRACE_SAVING
                elif answer["state"] == "spread":
                    if (end := spread(answer["parts"])) is not None:
                        child.kill()
                        return end
                    child.order({"do": "go on"})
                    continue
                elif answer["state"] != "running":
                    _spare(child)
                    return answer
                tell(answer)
            if flag.exists():
                kill_at = kill_at or time.monotonic() + GRACE
                if time.monotonic() > kill_at:
                    child.kill()
                    return {"state": "cancelled", "message": job_files.CANCELLED}
            beat()
    except BaseException:
        child.kill()
        raise


def prepare(order: Mapping[str, Any]) -> None:
    """Have an idle child that imports what work needs, and opens a model; one that has waits for its next order anew.

    The order is as `child_main.serve` reads one to `prepare`.
    """
    child = _child(order["threads"])
    child.order(order)
    _spare(child)


def _child(threads: int) -> Child:
    """Return a living idle child with so many threads, or a new one."""
    with _IDLE_LOCK:
        while _IDLE:
            child = _IDLE.pop()
            if child.process.poll() is None and child.threads == threads:
                return child
            child.kill()
    return _STARTER.submit(Child, threads).result()


def _spare(child: Child) -> None:
    with _IDLE_LOCK:
        _IDLE.append(child)


def default_threads() -> int:
    """Return with how many threads work is done: OMP_NUM_THREADS where it is set, else the cores of this host."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list is of nested levels
    return int(first) if first.isdecimal() and int(first) > 0 else max(1, processes.cores())
