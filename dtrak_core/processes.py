"""Processes as the job engine needs them: is the one that was written down still living, and who dies with whom.

A process id alone is reused sooner or later, so a process is known by its id and its birth.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

from dtrak_core import __version__

_PR_SET_PDEATHSIG = 1
# GCC's OpenMP: turns of a waiting thread (some 10 µs). LLVM's and Intel's: milliseconds. benchmarks/contention.py.
SHORT_WAITS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}


def birth(pid: int) -> str:
    """Return what tells a process from a later one of the same id; empty if none lives under it."""
    if sys.platform != "linux":
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip()
    try:
        # The name, in brackets, may hold spaces: fields are counted after it. Third is the state, 22nd the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{_boot()}-{fields[19]}"


def living(pid: int, born: str) -> bool:
    """Say whether the process of this id and birth still runs."""
    return pid > 0 and born != "" and birth(pid) == born


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process when its parent ends (Linux), and leave now if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    leave_if_orphaned(parent)


def leave_if_orphaned(parent: int) -> None:
    """End this process at once if its parent is no longer the one given: where the kernel does not do it."""
    if os.getppid() != parent:
        os._exit(1)


def gpus() -> int:
    """Return how many NVIDIA GPUs this process may use, without loading anything for it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(part.strip() not in ("", "-1") for part in visible.split(","))
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def short_waits() -> dict[str, str]:
    """Return what to add to the environment of a process that computes, before torch is loaded: no long spinning.

    OpenMP's threads spin where they wait for each other. Where another program has one of the cores, all spin until
    the thread that lost its core gets it back, at every barrier: a training step then takes a hundred times as long.
    With these limits a thread that has waited for a while sleeps. What the user has set stays.
    """
    return {} if any(name in os.environ for name in (*SHORT_WAITS, "OMP_WAIT_POLICY")) else dict(SHORT_WAITS)


def code_version() -> str:
    """Return the app's version with a checksum of its core's source, so that stale workers are known."""
    total = 0
    for path in sorted(Path(__file__).parent.glob("*.py")):
        with contextlib.suppress(FileNotFoundError):
            total = zlib.crc32(path.read_bytes(), total)
    return f"{__version__}-{total:08x}"


@functools.cache
def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return ""
