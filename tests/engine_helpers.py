"""What tests of the engine share: its real processes, work that takes a while, waiting with an end."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.settings import DatasetKind
from dtrak_core.jobs import job_files, jobs, processes

LARGE = 100  # pictures of a folder that takes several seconds to read


def large_folder(folder: Path, count: int = LARGE) -> Path:
    """Fill a folder with many large pictures, which are one file on the disk."""
    pixels = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "000.png", compress_level=1)
    for i in range(1, count):
        (folder / f"{i:03d}.png").hardlink_to(folder / "000.png")
    return folder


def dataset_job(source: Path, name: str) -> jobs.DatasetJob:
    kind: DatasetKind = "npz" if source.suffix == ".npz" else "folder"
    settings = catalogue.source_settings(kind, source, name, 16)
    return jobs.DatasetJob(dataset=settings, source=str(source))


def emptied(cache: Path) -> Iterator[Path]:
    """Yield an empty cache; afterwards take it away, upon which its engine must end."""
    yield cache
    found = engine_process()
    shutil.rmtree(cache, ignore_errors=True)
    if found is not None:
        until(lambda: not processes.living(*found), 15)


def engine_process() -> tuple[int, str] | None:
    """Return id and birth of the engine's process that was last written down."""
    facts = job_files.read_json(job_files.folder() / "engine.json")
    return None if facts is None else (facts["pid"], facts["born"])


def below(pid: int, word: str) -> list[int]:
    """Return the children of a process whose command line holds a word."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for each in (task / "children").read_text().split():
            if word in Path(f"/proc/{each}/cmdline").read_text():
                found.append(int(each))
    return found


def worker() -> int:
    """Return the Dask worker under the living engine, waiting until there is one."""
    found = engine_process()
    assert found is not None
    until(lambda: below(found[0], "spawn_main") != [])
    return below(found[0], "spawn_main")[0]


def child() -> int:
    """Return the process that does the work, under the worker, waiting until there is one."""
    parent = worker()
    until(lambda: below(parent, "dtrak_core.engine.child_main") != [])
    return below(parent, "dtrak_core.engine.child_main")[0]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    """Wait for a condition; return how long it took, or fail."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"still not so after {seconds} s: {jobs.listing()}"
        time.sleep(0.02)
    return time.monotonic() - begin


def begun(key: str) -> bool:
    now = jobs.state(key)
    return now.state == "running" and now.done > 0
