"""The engine on this machine, with real processes: work, cancel, kill, take up again. The work is large pictures."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import (
    LARGE,
    begun,
    child,
    dataset_job,
    emptied,
    engine_process,
    kill,
    large_folder,
    until,
    worker,
)

from dtrak_core import store
from dtrak_core.engine import child_main
from dtrak_core.errors import DataError
from dtrak_core.jobs import job_files, jobs, launch, processes
from dtrak_core.progress import SILENT, WINDOW, Pace


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_folder(tmp_path_factory.mktemp("large"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a file of 12 small pictures of two labels."""
    path = tmp_path / "small.npz"
    images = np.random.default_rng(1).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.array([0, 1] * 6))
    return path


@pytest.fixture
def home(cache: Path) -> Iterator[Path]:
    yield from emptied(cache)


def test_does_the_job_and_ends_when_idle(home: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_WORKER_IDLE", "0.5")
    job = dataset_job(small, "small")
    key, fresh = jobs.submit(job, "Prepare 'small'")
    assert fresh
    found = engine_process()
    assert found is not None
    assert os.getsid(found[0]) == found[0], "a session of its own"
    seen: list[jobs.JobState] = []
    now = jobs.wait(key, seen.append)
    assert (now.state, now.message, now.done, now.total, now.unit) == ("done", "", 12, 12, "pictures")
    assert seen[0].message == "Starting worker."
    ((kind, artifact),) = now.artifacts
    images = store.get(kind, artifact).array("train.npy")
    assert len(images) == store.get(kind, artifact).manifest["counts"]["train"]
    assert jobs.submit(job, "Prepare 'small'") == (key, False)
    until(lambda: not processes.living(*found))
    assert not launch.lives()
    store.delete(kind, artifact)
    assert jobs.submit(job, "Prepare 'small'") == (key, True)
    assert jobs.wait(key).state == "done"
    assert store.find(kind, artifact) is not None


def test_cancel_stops_within_two_seconds_and_the_queue_goes_on(home: Path, large: Path, small: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    second, _ = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    until(lambda: begun(key))
    assert jobs.state(second).position == 1
    assert "1 job before it" in jobs.state(second).message
    before = child()
    assert jobs.cancel(key)
    assert until(lambda: jobs.state(key).state == "cancelled", 4) < 2
    assert jobs.wait(second).state == "done"
    assert child() == before, "work that stops by itself keeps its process"
    assert [a.manifest["name"] for a in store.listing("datasets")] == ["small"]


def test_what_was_cancelled_in_the_queue_and_forgotten_is_not_done(home: Path, large: Path, small: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    second, _ = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    until(lambda: begun(key))
    assert jobs.cancel(second)
    jobs.forget(second)
    assert jobs.state(second).state == "idle"
    assert jobs.wait(key).state == "done"
    third, _ = jobs.submit(dataset_job(small, "third"), "Prepare 'third'")  # behind what would have been done
    assert jobs.wait(third).state == "done"
    assert sorted(a.manifest["name"] for a in store.listing("datasets")) == ["large", "third"]
    assert not (job_files.folder() / second).exists()
    assert jobs.submit(dataset_job(small, "small"), "Prepare 'small'") == (second, True)
    assert jobs.wait(second).state == "done"


def test_work_that_does_not_listen_is_killed(home: Path, large: Path, small: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    second, _ = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    until(lambda: begun(key))
    before = child()
    os.kill(before, signal.SIGSTOP)
    jobs.cancel(key)
    assert until(lambda: jobs.state(key).state == "cancelled", 9) < 2
    assert jobs.wait(second).state == "done"
    assert child() != before


def test_killed_work_begins_again_by_itself(home: Path, large: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    until(lambda: begun(key))
    kill(child())
    until(lambda: "SIGKILL" in jobs.state(key).message)
    now = jobs.wait(key)
    assert (now.state, now.attempt, now.done) == ("done", 1, LARGE)


def test_work_that_always_dies_fails_after_four_tries(home: Path, large: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    for _ in range(4):
        before = child()
        kill(before)
        until(lambda before=before: not processes.birth(before))
    now = jobs.wait(key)
    assert now.state == "failed"
    assert "begun 4 times" in now.message
    assert "SIGKILL" in now.message
    assert store.listing("datasets") == []
    assert jobs.resume(key)
    assert jobs.wait(key).state == "done"


def test_killed_engine_takes_all_with_it_and_the_next_takes_up(home: Path, large: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    until(lambda: begun(key))
    found, hands = engine_process(), (worker(), child())
    born = [processes.birth(pid) for pid in hands]
    assert found is not None
    kill(found[0])
    until(lambda: not any(map(processes.living, hands, born)), 5)
    assert jobs.state(key).state == "interrupted"
    assert jobs.recover() == [key]
    now = jobs.wait(key)
    assert (now.state, now.attempt, now.done) == ("done", 1, LARGE)


def test_failure_is_a_sentence(home: Path, small: Path) -> None:
    job = dataset_job(small, "small")
    small.unlink()
    key, _ = jobs.submit(job, "Prepare 'small'")
    now = jobs.wait(key)
    assert now.state == "failed"
    assert "small.npz" in now.message
    assert store.listing("datasets") == []


def test_engine_of_other_code_makes_way(home: Path, large: Path, small: Path) -> None:
    first, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    until(lambda: begun(first))
    found = engine_process()
    assert found is not None
    path = job_files.folder() / "engine.json"
    store.write_json(path, (job_files.read_json(path) or {}) | {"version": "0.0.0-0"})
    second, fresh = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    assert fresh
    assert jobs.state(first).state == "running", "its job is not taken from it"
    jobs.cancel(first)
    assert jobs.wait(second).state == "done"
    assert engine_process() not in (None, found)
    assert not processes.living(*found)


def test_errors_not_foreseen_have_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    def caught(error: Exception, cause: Exception | None = None) -> str:
        try:
            raise error from cause
        except Exception as raised:
            return child_main.sentence(raised)

    assert caught(DataError("Picture 'x.png' is broken.")) == "Picture 'x.png' is broken."
    assert capsys.readouterr().err == ""
    told = caught(KeyError("weights"))
    number = told.partition("(error ")[2][:6]
    assert "KeyError" in told
    assert f"Error {number}:" in (log := capsys.readouterr().err)
    assert "test_engine.py" in log
    assert "network" in caught(RuntimeError("cannot fetch"), socket.gaierror(-2, "Name or service not known"))
    assert "disk is full" in caught(OSError(errno.ENOSPC, "No space left on device"))
    assert "Memory" in caught(MemoryError())


def test_time_left_is_told_from_the_recent_rate() -> None:
    pace = Pace()
    assert pace.seconds_left(0.0) is None
    for second in range(3):
        pace.add(second, second * 2, 1000, "pictures")
    assert pace.seconds_left(2.0) is None, "too early to say"
    pace.add(SILENT, 6, 1000, "pictures")
    assert pace.seconds_left(SILENT) == pytest.approx((1000 - 6) / 2)
    assert pace.seconds_left(SILENT + 10) == pytest.approx((1000 - 6) / 2 - 10)
    for second in range(4, 60):  # five times as fast from here on
        pace.add(second, 6 + (second - 3) * 10, 1000, "pictures")
    done = 6 + 56 * 10
    assert pace.seconds_left(59.0) == pytest.approx((1000 - done) / 10)
    assert pace.marks[0][0] >= 59 - WINDOW - 1.5
    pace.add(60.0, 1, 50, "targets")
    assert pace.seconds_left(60.0) is None, "another unit begins anew"
