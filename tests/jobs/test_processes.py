"""Processes: known by id and birth, also when the clock is set, and by nobody's id alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dtrak_core import program
from dtrak_core.jobs import processes

NOBODY = 2**22 + 1  # above Linux's highest id


@pytest.mark.skipif(sys.platform != "linux", reason="the boot and the ticks since it are Linux's to tell")
def test_a_birth_is_the_boot_and_the_ticks_since_it() -> None:
    """Engines that an earlier version wrote down so are known on."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    for pid in (os.getpid(), os.getppid()):
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert processes.birth(pid) == f"{boot}-{start}"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the time of a birth is what the system says")
def test_a_clock_that_is_set_makes_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    born, booted = processes.birth(os.getpid()), psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600)
    monkeypatch.setattr("psutil._pslinux.BOOT_TIME", booted + 3600, raising=False)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    assert psutil.Process().create_time() > time.time()
    assert processes.living(os.getpid(), born)


def test_who_has_ended_is_not_living() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    born = processes.birth(sleeper.pid)
    assert processes.living(sleeper.pid, born)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert processes.birth(sleeper.pid) == ""
    assert not processes.living(sleeper.pid, born)
    sleeper.wait()
    assert processes.birth(sleeper.pid) == ""


@pytest.mark.parametrize("pid", [0, -1, NOBODY])
def test_nobody_is_not_living(pid: int) -> None:
    assert processes.birth(NOBODY) == ""
    assert not processes.living(pid, processes.birth(os.getpid()))
    assert not processes.living(pid, "")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process can have all cores only")
def test_cores_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert processes.cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert processes.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_code_that_has_moved_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a worker of an older layout is not taken for one of this; pages that a wheel holds tell nothing."""
    package, found = tmp_path / "package", {}
    monkeypatch.setattr(program, "PACKAGE", package)
    monkeypatch.setattr(program, "INSTALLED", package / "app")
    for name in ("work.py", "engine/work.py", "engine/other.py", "app/app.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("WORK = 1\n")
        found[name] = processes.code_version()
        if name == "app/app.py":
            assert found.pop(name) == found["engine/other.py"]
    (package / "work.py").unlink()
    (package / "engine" / "other.py").rename(package / "work.py")
    assert processes.code_version() == found["engine/work.py"]
    (package / "work.py").rename(package / "engine" / "third.py")
    assert processes.code_version() not in found.values()
    assert len(set(found.values())) == 3
