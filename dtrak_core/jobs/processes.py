"""Processes as the job engine needs them: is the one that was written down still living, and who dies with whom.

A process id alone is reused sooner or later, so a process is known by its id and its birth.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import zlib
from pathlib import Path

import psutil

from dtrak_core import __version__, program

_PR_SET_PDEATHSIG = 1
# GCC's OpenMP: turns of a waiting thread (some 10 µs). LLVM's and Intel's: milliseconds. benchmarks/contention.py.
SHORT_WAITS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}


def birth(pid: int) -> str:
    """Return what tells a process from a later one of the same id; empty if none lives under it.

    On Linux this is the boot and the clock ticks from it to the birth: the time of day may be set meanwhile.
    """
    booted = psutil.boot_time()  # before the process is looked up, which is told by the same reading
    try:
        process = psutil.Process(pid)
        born = process.create_time()
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return ""
    except psutil.NoSuchProcess:
        return ""
    return f"{_boot()}-{round((born - booted) * os.sysconf('SC_CLK_TCK'))}" if _boot() else f"{born:.2f}"


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
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def short_waits() -> dict[str, str]:
    """Return what to add to the environment of a process that computes, before torch is loaded: no long spinning.

    OpenMP's threads spin where they wait for each other. Where another program has one of the cores, all spin until
    the thread that lost its core gets it back, at every barrier: a training step then takes a hundred times as long.
    With these limits a thread that has waited for a while sleeps. What the user has set stays.
    """
    return {} if any(name in os.environ for name in (*SHORT_WAITS, "OMP_WAIT_POLICY")) else dict(SHORT_WAITS)


def code_version() -> str:
    """Return the app's version with a checksum of its core's source, so that stale workers are known.

    Names count as the text does: code that has only moved is imported otherwise. The pages that a wheel holds do not:
    installed or not, one version is one.
    """
    total = 0
    for path in sorted(program.PACKAGE.rglob("*.py")):
        with contextlib.suppress(FileNotFoundError):
            if not path.is_relative_to(program.INSTALLED):
                name = path.relative_to(program.PACKAGE).as_posix().encode()
                total = zlib.crc32(b"\0".join((name, path.read_bytes(), b"")), total)
    return f"{__version__}-{total:08x}"


@functools.cache
def _boot() -> str:
    """Return what tells this boot from others, empty where the system does not say it (only Linux does)."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return ""
