"""Threads follow the cores that other programs leave free."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dtrak_core.engine import child_main, free_cores

Core = namedtuple("Core", "user nice system idle iowait irq softirq steal guest guest_nice")


class Machine:
    """A clock, cores and a process whose times are told."""

    def __init__(self, cores: int, patch: pytest.MonkeyPatch) -> None:
        self.now, self.own, self.others, self.set = 100.0, 5.0, [20.0] * cores, []
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(psutil, "cpu_times", lambda percpu: [self.core(used) for used in self.others])
        patch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=self.times, cpu_affinity=self.allowed))
        patch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=self.set.append))

    def core(self, used: float) -> Core:
        """Idle and waiting times, and guests', which `user` holds, are no one's work."""
        share = self.own / len(self.others)
        return Core(used / 2 + share, used / 4, used / 8, self.now - used, self.now, 0, used / 8, 0, used / 2, used / 4)

    def times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.own * 0.75, system=self.own * 0.25)

    def allowed(self) -> list[int]:
        return list(range(len(self.others)))

    def pass_by(self, seconds: float, own: float, others: list[float]) -> None:
        """Let time pass in which this process and others, on each core, keep so many cores busy."""
        self.now += seconds
        self.own += own * seconds
        self.others = [used + seconds * busy for used, busy in zip(self.others, others, strict=True)]


@pytest.mark.parametrize(
    ("busy", "threads"),
    [
        ([0.0, 0.0, 0.0, 0.0], 4), ([0.4, 0.0, 0.0, 0.0], 4), ([0.6, 0.0, 0.0, 0.0], 3), ([0.5, 0.5, 0.3, 0.1], 3),
        ([1.0, 0.0, 1.0, 0.0], 2), ([1.0, 1.0, 1.0, 1.0], 1),
    ],
)  # fmt: skip
def test_there_is_a_thread_for_each_core_that_others_leave(
    busy: list[float], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(4, monkeypatch)
    follow = free_cores.follower(4)
    machine.pass_by(2.0, 1.5, busy)
    follow()
    assert machine.set == ([] if threads == 4 else [threads])
    follow()  # no time has passed
    machine.pass_by(1.5, 3.9, [0.0] * 4)
    follow()
    assert machine.set == ([] if threads == 4 else [threads, 4])


def test_never_more_threads_than_the_order_says(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(8, monkeypatch)
    few, one = free_cores.follower(3), free_cores.follower(1)
    machine.pass_by(2.0, 3.0, [1.0] * 4 + [0.0] * 4)
    few()
    one()
    assert machine.set == []
    machine.pass_by(2.0, 1.0, [1.0] * 6 + [0.0] * 2)
    few()
    one()
    assert machine.set == [2]


def test_it_looks_once_in_a_while_and_only_where_torch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    follow = free_cores.follower(2)
    machine.pass_by(free_cores.EVERY / 2, 1.0, [1.0, 0.0])
    follow()
    assert machine.set == []
    torch = sys.modules["torch"]
    monkeypatch.delitem(sys.modules, "torch")
    machine.pass_by(free_cores.EVERY, 1.0, [1.0, 0.0])
    follow()
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert machine.set == []
    follow()
    assert machine.set == [1]


def test_the_systems_own_times_tell_other_work_from_ours() -> None:
    """On whatever else runs here there is one core more of other work while another process spins."""
    process = psutil.Process()
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []

    def others() -> float:
        """Return the cores that others use while this process works too."""
        _, total, own = free_cores._used(process, allowed)
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            sum(range(1000))
        _, total_now, own_now = free_cores._used(process, allowed)
        return (total_now - total - (own_now - own)) / (time.monotonic() - began)

    def spinning() -> float:
        spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            while psutil.Process(spinner.pid).cpu_times().user < 0.2:
                time.sleep(0.05)
            return others()
        finally:
            spinner.kill()
            spinner.wait()

    assert -0.1 < others() < len(allowed or psutil.cpu_times(percpu=True)) + 0.1
    assert spinning() > 0.3


def test_whoever_follows_the_progress_follows_the_cores(tmp_path: Path) -> None:
    said: list[dict[str, object]] = []
    looks: list[int] = []
    on_progress = child_main._reporter(said.append, tmp_path / "flag", os.getppid(), lambda: looks.append(len(said)))
    for done in range(3):
        on_progress(done, 3, "steps", "")
    assert looks == [0, 1, 1]  # before the report, and where none is made
