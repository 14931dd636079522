"""With how many threads work goes on: one for each core that other programs leave free.

The threads of one operation wait for the slowest of them. Where another program has a core, the thread that shares it
holds up all others, at each of a network's hundreds of short loops: with one thread fewer they go on at once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

EVERY = 1.0  # seconds over which the use of the cores is averaged


def follower(most: int) -> Callable[[], None]:
    """Return what sets torch's threads, called between two operations, to `most` less the cores that others use.

    It acts once in EVERY seconds, and where torch is loaded. What others use is the time that the cores this process
    may use were busy, less its own, over the time that passed, to the nearest whole core; one thread is kept.

    Args:
        most: Number of threads on an idle machine.
    """
    process = psutil.Process()
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []
    now, looked, before, threads = time.monotonic, time.monotonic(), _used(process, allowed), most

    def follow() -> None:
        nonlocal looked, before, threads
        passed = now() - looked
        if most == 1 or passed < EVERY or "torch" not in sys.modules:
            return
        cores, total, own = _used(process, allowed)
        others = (total - before[1] - (own - before[2])) / passed
        looked, before = looked + passed, (cores, total, own)
        wanted = max(1, min(most, cores - int(others + 0.5)))
        if wanted != threads:
            sys.modules["torch"].set_num_threads(wanted)
            threads = wanted

    return follow


def _used(process: psutil.Process, allowed: list[int]) -> tuple[int, float, float]:
    """Return the number of cores that are looked at, the seconds they were busy since boot, and this process's own."""
    each = psutil.cpu_times(percpu=True)
    seen = [each[core] for core in allowed if core < len(each)] or each
    own = process.cpu_times()
    return len(seen), sum(_busy(core) for core in seen), own.user + own.system


def _busy(core: Any) -> float:
    """Return the seconds of a core in which something ran; a guest's are in the host's `user` already."""
    fields: dict[str, float] = core._asdict()
    return sum(value for name, value in fields.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
