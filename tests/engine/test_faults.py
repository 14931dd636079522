"""What the real engine survives: kills, a full disk, damaged files, askers and cancels at the same instant.

Each test harms a job in the middle, lets it come to its end, and then compares every array it made, bit for bit,
with an undisturbed run. All the while a thread reads the store as a page would: whatever is visible must be whole.
`make faults` runs all of them and writes their table into docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import begun, child, engine_process, kill, until, worker
from fault_helpers import (
    Undisturbed,
    Watch,
    after_first_shard,
    checksums,
    ends_as_if_nothing_had_happened,
    harmed,
    shards,
    told,
)
from fault_table import record

from dtrak_core import store
from dtrak_core.errors import StoreError
from dtrak_core.jobs import jobs, processes
from dtrak_core.settings import key_of

pytestmark = pytest.mark.faults


@pytest.mark.long  # test_engine.py kills a child too
def test_child_killed(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    finished = after_first_shard(undisturbed.attribute)
    kill(child())
    begin = time.monotonic()
    until(lambda: "SIGKILL" in jobs.state(key).message)
    seen = time.monotonic() - begin
    ends_as_if_nothing_had_happened(key, undisturbed, finished)
    told("kill -9 of the process that does the work", f"noticed after {seen:.1f} s, begun again by itself", watch)


def test_worker_killed(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    finished = after_first_shard(undisturbed.attribute)
    hands, hand = worker(), child()
    born = processes.birth(hand)
    kill(hands)
    gone = until(lambda: not processes.living(hand, born), 5)
    ends_as_if_nothing_had_happened(key, undisturbed, finished)
    assert worker() != hands
    told("kill -9 of the Dask worker", f"its child ended after {gone:.1f} s; another worker took the job up", watch)


@pytest.mark.long  # test_engine.py kills an engine too
def test_scheduler_killed(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    finished = after_first_shard(undisturbed.attribute)
    found, hands = engine_process(), (worker(), child())
    born = [processes.birth(pid) for pid in hands]
    assert found is not None
    kill(found[0])
    gone = until(lambda: not any(map(processes.living, hands, born)), 5)
    assert jobs.state(key).state == "interrupted"
    ends_as_if_nothing_had_happened(key, undisturbed, finished)
    happened = f"worker and child ended after {gone:.1f} s; whoever looked next started another engine, which went on"
    told("kill -9 of the engine (scheduler)", happened, watch)


@pytest.mark.long
def test_all_killed(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    finished = after_first_shard(undisturbed.attribute)
    found = engine_process()
    assert found is not None
    for pid in (worker(), child(), found[0])[::-1]:
        with contextlib.suppress(ProcessLookupError):
            kill(pid)
    until(lambda: jobs.state(key).state == "interrupted", 2)
    ends_as_if_nothing_had_happened(key, undisturbed, finished)
    told(
        "kill -9 of engine, worker and child at once", "read as interrupted at once; taken up by the next engine", watch
    )


@pytest.mark.long
def test_child_killed_while_it_trains(home: Path, undisturbed_training: Undisturbed, watch: Watch) -> None:
    key, _ = jobs.submit(undisturbed_training.train, "Harmed")
    until(lambda: begun(key), 90)
    kill(child())
    until(lambda: "SIGKILL" in jobs.state(key).message)
    ends_as_if_nothing_had_happened(key, undisturbed_training, {})
    told(
        "kill -9 of a training",
        "begun again from its newest state; the weights are equal",
        watch,
        "steps since the state, under 30 s",
    )


@pytest.mark.long
def test_askers_at_the_same_instant(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    job = undisturbed.attribute.model_dump_json()
    sessions = [context.Process(target=_ask, args=(job, barrier, answers)) for _ in range(2)]
    for session in sessions:
        session.start()
    command = [sys.executable, "-c", _ASKING_COMMAND.format(job=job)]
    barrier.wait(60)
    done = subprocess.run(command, cwd=store.PROJECT, capture_output=True, text=True, timeout=280, check=False)
    for session in sessions:
        session.join(60)
    said = [answers.get(timeout=5) for _ in sessions] + [tuple(json.loads(done.stdout))]
    assert len({key for key, _ in said}) == 1, said
    assert sum(fresh for _, fresh in said) == 1, said
    ((key, _),) = {(key, True) for key, _ in said}
    ends_as_if_nothing_had_happened(key, undisturbed, {})
    assert jobs.log_tail(key, 400).count("--- attempt") == 1
    told(
        "two cold sessions and a command line ask for the same job at once", "one engine, one job, computed once", watch
    )


_ASKING_COMMAND = """
import json
from dtrak_core.jobs import jobs
key, fresh = jobs.submit(jobs.AttributeJob(**json.loads('{job}')), "By command")
print(json.dumps([key, fresh]))
"""


def _ask(job: str, barrier: Any, answers: Any) -> None:
    barrier.wait(60)
    answers.put(jobs.submit(jobs.AttributeJob(**json.loads(job)), "By session"))


@pytest.mark.parametrize("harm", ["truncated", "flipped bit"])
@pytest.mark.long
def test_shard_harmed_before_it_is_published(home: Path, undisturbed: Undisturbed, watch: Watch, harm: str) -> None:
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    after_first_shard(undisturbed.attribute)
    found = engine_process()
    assert found is not None
    kill(found[0])
    until(lambda: jobs.state(key).state == "interrupted")
    time.sleep(0.3)
    harmed(shards(undisturbed.attribute) / "00000.npy", harm)
    ends_as_if_nothing_had_happened(key, undisturbed, {})
    told(
        f"unfinished shard: {harm}",
        "found by its checksum when the job went on, and computed again",
        watch,
        "that shard",
    )


@pytest.mark.parametrize(
    "harm",
    [
        "truncated",
        pytest.param("flipped bit", marks=pytest.mark.long),
        "manifest: other shape",
        pytest.param("manifest: other checksum", marks=pytest.mark.long),
    ],
)
def test_finished_features_harmed(home: Path, undisturbed: Undisturbed, harm: str) -> None:
    for kind in ("features", "kernels", "target-features"):
        for name in undisturbed.sums:
            if name.startswith(f"{kind}/"):
                source = undisturbed.cache.parent / "cache" / name
                shutil.copytree(source, home / name)
    artifact = store.get("features", key_of("features", undisturbed.attribute.features[0]))
    if harm.startswith("manifest"):
        manifest = json.loads((artifact.path / "manifest.json").read_bytes())
        wrong = {"shape": [128, 255]} if "shape" in harm else {"crc32": "00000000"}
        manifest["files"]["00000.npy"] |= wrong
        (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    else:
        harmed(artifact.path / "00000.npy", harm)
    with pytest.raises(StoreError, match="put aside"):
        store.get("features", artifact.key).array("00000.npy")
    assert store.find("features", artifact.key) is None
    key, fresh = jobs.submit(undisturbed.attribute, "Again")
    assert fresh
    assert jobs.wait(key).state == "done"
    assert checksums().items() <= undisturbed.sums.items()
    record(
        f"finished features, {harm}",
        "refused and put aside when read; computed again when asked for",
        "that artifact",
        0,
    )


@pytest.mark.long
def test_disk_full_while_a_shard_is_written(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "small-disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system to fill needs the right to mount one")
    monkeypatch.setenv("STUDIO_CACHE", str(place / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "no-demo"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        shutil.copytree(undisturbed.cache, place / "cache")
        left = shutil.disk_usage(place).free
        (place / "ballast").write_bytes(bytes(max(0, left - 250_000)))
        watch, stop = Watch(), threading.Event()
        thread = threading.Thread(target=watch.run, args=(stop,))
        thread.start()
        key, _ = jobs.submit(undisturbed.attribute, "Harmed")
        now = jobs.wait(key)
        assert now.state == "failed"
        assert "disk is full" in now.message
        assert store.listing("features") == []
        (place / "ballast").unlink()
        assert jobs.resume(key)
        ends_as_if_nothing_had_happened(key, undisturbed, {})
        stop.set()
        thread.join()
        told("disk full while a shard is written", "failed with a sentence; done after room was made and resume", watch)
    finally:
        found = engine_process()
        if found is not None:
            kill(found[0])
            until(lambda: not processes.living(*found))
        time.sleep(0.5)
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.long
def test_cancel_in_the_instant_of_the_end(home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    ends: list[str] = []
    key, _ = jobs.submit(undisturbed.attribute, "Harmed")
    for delay in (None, 0.0, 0.02, 0.05, 0.1, 0.2):
        if delay is not None:
            for kind, name in [("target-features", n.split("/")[1]) for n in checksums() if n.startswith("target-f")]:
                store.delete(kind, name)
            assert jobs.resume(key)
        until(lambda: jobs.state(key).done == jobs.state(key).total > 0 or not jobs.state(key).active, 120)
        time.sleep(delay or 0.0)
        jobs.cancel(key)
        until(lambda: not jobs.state(key).active)
        ends.append(jobs.state(key).state)
        assert ends[-1] in ("done", "cancelled")
        if ends[-1] == "done":
            assert all(store.find(kind, name) is not None for kind, name in jobs.state(key).artifacts)
        checksums()  # verifies all that is visible
    jobs.resume(key)
    ends_as_if_nothing_had_happened(key, undisturbed, {})
    counted = " and ".join(f"{ends.count(end)} × {end}" for end in dict.fromkeys(ends))
    told("cancel in the instant of the end, six times", f"{counted}; done after resume", watch)
