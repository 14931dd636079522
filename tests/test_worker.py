"""The worker with real processes: work, cancel, kill, resume. The slow work is a folder of large pictures."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core import datasets, engine, jobs, processes, store, work
from dtrak_core.errors import DataError
from dtrak_core.settings import DatasetKind
from dtrak_core.worker import SILENT, WINDOW, Pace

LARGE = 200  # pictures of a folder that takes several seconds to read


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of many large pictures."""
    folder = tmp_path_factory.mktemp("large")
    pixels = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "000.png", compress_level=1)
    for i in range(1, LARGE):
        (folder / f"{i:03d}.png").hardlink_to(folder / "000.png")
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a file of 12 small pictures of two labels."""
    path = tmp_path / "small.npz"
    images = np.random.default_rng(1).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.array([0, 1] * 6))
    return path


@pytest.fixture
def home(cache: Path) -> Iterator[Path]:
    """Give an empty cache; afterwards take it away, upon which its worker must end."""
    yield cache
    found = worker()
    shutil.rmtree(cache, ignore_errors=True)
    if found is not None:
        until(lambda: not processes.living(*found), 10)


def dataset_job(source: Path, name: str) -> jobs.DatasetJob:
    kind: DatasetKind = "npz" if source.suffix == ".npz" else "folder"
    settings = datasets.source_settings(kind, source, name, 16)
    return jobs.DatasetJob(dataset=settings, source=str(source))


def worker() -> tuple[int, str] | None:
    facts = engine.read_json(engine.folder() / "worker.json")
    return None if facts is None else (facts["pid"], facts["born"])


def child() -> int:
    """Return the process that does the work, under its living worker."""
    found = worker()
    assert found is not None
    return int(Path(f"/proc/{found[0]}/task/{found[0]}/children").read_text().split()[0])


def until(condition: Callable[[], bool], seconds: float = 20.0) -> float:
    """Wait for a condition; return how long it took, or fail."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"still not so after {seconds} s: {jobs.listing()}"
        time.sleep(0.02)
    return time.monotonic() - begin


def begun(key: str) -> bool:
    now = jobs.state(key)
    return now.state == "running" and now.done > 0


def test_does_the_job_and_ends_when_idle(home: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_WORKER_IDLE", "0.5")
    job = dataset_job(small, "small")
    key, fresh = jobs.submit(job, "Prepare 'small'")
    assert fresh
    found = worker()
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
    assert not engine.worker_lives()
    store.delete(kind, artifact)
    assert jobs.submit(job, "Prepare 'small'") == (key, True)
    assert jobs.wait(key).state == "done"
    assert store.find(kind, artifact) is not None


def test_cancel_stops_within_two_seconds_and_the_queue_goes_on(home: Path, large: Path, small: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    second, _ = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    until(lambda: begun(key))
    assert jobs.state(second).position == 1
    before = child()
    assert jobs.cancel(key)
    assert until(lambda: jobs.state(key).state == "cancelled", 4) < 2
    assert jobs.wait(second).state == "done"
    assert child() == before, "work that stops by itself keeps its process"
    assert [a.manifest["name"] for a in store.listing("datasets")] == ["small"]


def test_work_that_does_not_listen_is_killed(home: Path, large: Path, small: Path) -> None:
    key, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    second, _ = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    until(lambda: begun(key))
    before = child()
    os.kill(before, signal.SIGSTOP)
    jobs.cancel(key)
    assert 4 < until(lambda: jobs.state(key).state == "cancelled", 9) < 8
    assert jobs.wait(second).state == "done"
    assert child() != before


def test_killed_work_is_interrupted_and_resumes(home: Path, large: Path) -> None:
    job = dataset_job(large, "large")
    key, _ = jobs.submit(job, "Prepare 'large'")
    until(lambda: begun(key))
    os.kill(child(), signal.SIGKILL)
    now = jobs.wait(key)
    assert now.state == "interrupted"
    assert "SIGKILL" in now.message
    assert jobs.resume(key)
    until(lambda: begun(key))
    found, hand = worker(), child()
    assert found is not None
    born = processes.birth(hand)
    os.kill(found[0], signal.SIGKILL)
    until(lambda: not processes.living(hand, born), 3)  # the worker takes its child with it
    assert jobs.wait(key).state == "interrupted"
    assert jobs.recover() == [key]
    assert jobs.submit(job, "Prepare 'large'") == (key, True)
    now = jobs.wait(key)
    assert (now.state, now.attempt, now.done) == ("done", 3, LARGE)


def test_failure_is_a_sentence(home: Path, small: Path, tmp_path: Path) -> None:
    job = dataset_job(small, "small")
    small.unlink()
    key, _ = jobs.submit(job, "Prepare 'small'")
    now = jobs.wait(key)
    assert now.state == "failed"
    assert "small.npz" in now.message
    assert store.listing("datasets") == []


def test_worker_of_other_code_makes_way(home: Path, large: Path, small: Path) -> None:
    first, _ = jobs.submit(dataset_job(large, "large"), "Prepare 'large'")
    until(lambda: begun(first))
    found = worker()
    assert found is not None
    path = engine.folder() / "worker.json"
    store.write_json(path, (engine.read_json(path) or {}) | {"version": "0.0.0-0"})
    second, fresh = jobs.submit(dataset_job(small, "small"), "Prepare 'small'")
    assert fresh
    assert jobs.state(first).state == "running", "its job is not taken from it"
    jobs.cancel(first)
    assert jobs.wait(second).state == "done"
    assert worker() not in (None, found)
    assert not processes.living(*found)


def test_errors_not_foreseen_have_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    def caught(error: Exception, cause: Exception | None = None) -> str:
        try:
            raise error from cause
        except Exception as raised:
            return work.sentence(raised)

    assert caught(DataError("Picture 'x.png' is broken.")) == "Picture 'x.png' is broken."
    assert capsys.readouterr().err == ""
    told = caught(KeyError("weights"))
    number = told.partition("(error ")[2][:6]
    assert "KeyError" in told
    assert f"Error {number}:" in (log := capsys.readouterr().err)
    assert "test_worker.py" in log
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
