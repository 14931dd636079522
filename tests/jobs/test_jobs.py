"""States of jobs, told from their files; no worker runs here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrak_core import store
from dtrak_core.commands import cli
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.engine import child_main, children, dispatcher
from dtrak_core.errors import JobError, NotFoundError, SettingsError, StoreError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import eviction, job_files, job_index, job_kinds, jobs, launch, processes
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.settings import build, key_of
from dtrak_core.ui import panels, readying

A, B = "a" * 16, "b" * 16
DATASET = jobs.DatasetJob(dataset=DatasetSettings())
OTHER = jobs.DatasetJob(dataset=DatasetSettings(resolution=32))
EACH_KIND: list[jobs.Job] = [
    DATASET,
    jobs.TrainJob(train=TrainSettings(dataset=A, indices=(3, 1)), name="mine"),
    jobs.ImportJob(source="google/ddpm-cifar10-32", dataset=A, name="theirs"),
    jobs.ProbeJob(model=ModelSettings(), resolution=16, batch_size=32),
    jobs.SampleJob(checkpoint=B, seeds=(0, 7)),
    jobs.AttributeJob(features=(FeatureSettings(dataset=A, checkpoint=B),), targets=("seed:3", "upload:00ff")),
    jobs.EmbedJob(model="efficientnet-lite0", dataset=A, checkpoint=B, targets=("seed:3",)),
    jobs.FaderJob(features=FeatureSettings(dataset=A, checkpoint=B, parts="faders"), target="seed:3", bands=(1.0,)),
]


@pytest.fixture
def started(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the workers that would be started, and let this process be the living one."""
    calls: list[int] = []

    def start() -> None:
        calls.append(1)
        launch.write_down(os.getpid(), launch.version())

    monkeypatch.setattr(launch, "start", start)
    return calls


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def say(key: str, state: str, **values: Any) -> None:
    """Write a status as the worker does."""
    status = {"attempt": 1, "state": state, "done": 2, "total": 8, "unit": "pictures", "message": "", "artifacts": []}
    now = {"seconds_left": None, "started": time.time(), "beat": time.time()}
    place = job_files.folder() / key
    place.mkdir(parents=True, exist_ok=True)
    job_files.write_json(place / job_files.STATUS, status | now | values)


def published() -> tuple[str, str]:
    settings = DatasetSettings()
    key = key_of("datasets", settings)
    store.write_bytes(store.partial("datasets", key) / "train.json", b"[]")
    store.publish("datasets", key, settings)
    return "datasets", key


@pytest.mark.parametrize("job", EACH_KIND, ids=lambda job: job.kind)
def test_job_survives_its_file(job: jobs.Job) -> None:
    written = json.loads(json.dumps(job.model_dump(mode="json")))
    assert job_kinds.read_job(written) == job
    assert job_kinds.key_of_job(job_kinds.read_job(written)) == job_kinds.key_of_job(job)


def test_keys_differ_between_jobs() -> None:
    assert len({job_kinds.key_of_job(job) for job in [*EACH_KIND, OTHER]}) == len(EACH_KIND) + 1


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_batch_size_is_in_no_key(one: int, two: int) -> None:
    first, second = (jobs.SampleJob(checkpoint=B, seeds=(1,), pictures_per_batch=n) for n in (one, two))
    assert job_kinds.key_of_job(first) == job_kinds.key_of_job(second)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"targets": ("seed:3",), "model": "efficientnet-lite0", "dataset": A}, "name it"),
        ({"targets": ("seed 3",), "model": "efficientnet-lite0", "dataset": A}, "targets"),
        ({"model": "resnet", "dataset": A}, "'resnet'"),
    ],
)
def test_refuses_what_cannot_be_done(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build(jobs.EmbedJob, **values)


def test_unknown_job_is_idle(cache: Path) -> None:
    assert jobs.state(A) == jobs.JobState(A)
    assert not jobs.state(A).active
    assert jobs.listing() == []
    assert jobs.recover() == []
    assert jobs.log_tail(A) == ""
    assert not jobs.cancel(A)
    with pytest.raises(NotFoundError, match="jobs list"):
        jobs.resume(A)


def test_equal_work_is_joined_and_other_work_queues(started: list[int]) -> None:
    key, fresh = jobs.submit(DATASET, "Prepare")
    assert fresh
    assert jobs.submit(DATASET, "Prepare once more") == (key, False)
    second, fresh = jobs.submit(OTHER, "Another")
    assert fresh
    assert started == [1]
    now = jobs.state(key)
    assert (now.state, now.position, now.message, now.label) == ("queued", 1, "Starting worker.", "Prepare")
    assert (jobs.state(second).position, jobs.state(second).message) == (2, "Waiting: 1 job before it.")
    say(key, "running")
    assert (jobs.state(second).position, jobs.state(second).message) == (1, "Waiting: 1 job before it.")
    assert [job.key for job in jobs.listing()] == [key, second]
    assert [row.key for row in jobs.unfinished()] == [key, second]


def test_many_ask_at_once_and_one_starts_it(started: list[int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: jobs.submit(DATASET, "Prepare"), range(24)))
    assert sum(fresh for _, fresh in answers) == 1
    assert len({key for key, _ in answers}) == 1
    assert started == [1]


def test_cancelled_in_the_queue_then_asked_for_again(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    assert jobs.cancel(key)
    assert jobs.state(key).state == "cancelled"
    assert not jobs.cancel(key)
    assert jobs.submit(DATASET, "Prepare") == (key, True)
    assert (jobs.state(key).state, jobs.state(key).attempt) == ("queued", 2)


def test_asked_for_again_while_it_stops(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "running")
    assert jobs.cancel(key)
    assert (jobs.state(key).state, jobs.state(key).message) == ("running", "Stopping.")
    assert jobs.submit(DATASET, "Prepare") == (key, True)
    say(key, "cancelled")  # the first attempt, of which nobody asks any more
    assert (jobs.state(key).state, jobs.state(key).attempt) == ("queued", 2)


def test_done_work_is_joined_as_long_as_it_is_stored(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    artifact = published()
    say(key, "done", artifacts=[list(artifact)])
    assert jobs.state(key).artifacts == (artifact,)
    assert jobs.submit(DATASET, "Prepare") == (key, False)
    store.delete(*artifact)
    assert jobs.submit(DATASET, "Prepare") == (key, True)
    assert jobs.state(key).state == "queued"


@pytest.mark.parametrize("job", [job for job in EACH_KIND if isinstance(job, jobs.TrainJob | jobs.ImportJob)])
def test_what_gives_a_name_is_done_again(started: list[int], job: jobs.Job) -> None:
    key, _ = jobs.submit(job, "Name")
    say(key, "done", artifacts=[list(published())])
    assert jobs.submit(job, "Name") == (key, True)  # its folder may have changed, its name gone to another run
    assert jobs.submit(job, "Name") == (key, False)


@pytest.mark.parametrize("state", ["failed", "cancelled", "interrupted"])
def test_ended_work_runs_again_when_asked(started: list[int], state: str) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, state, message="Picture 'x.png' is broken.")
    assert (jobs.state(key).state, jobs.state(key).message) == (state, "Picture 'x.png' is broken.")
    assert jobs.resume(key)
    assert not jobs.resume(key)
    assert (jobs.state(key).state, jobs.state(key).attempt) == ("queued", 2)


def test_running_without_its_worker_is_interrupted(started: list[int], sleeper: subprocess.Popen[bytes]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    launch.write_down(sleeper.pid, processes.code_version())
    say(key, "running", seconds_left=9.0)
    assert jobs.state(key).state == "running"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on, since nobody has collected it
    now = jobs.state(key)
    assert (now.state, now.done, now.seconds_left) == ("interrupted", 2, None)
    assert "goes on from there" in now.message
    assert jobs.recover() == [key]
    assert started == [1, 1], "the next engine takes it up"
    assert [row.attempt for row in jobs.unfinished()] == [1]


def test_an_interrupted_job_can_be_cancelled(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "running", beat=time.time() - jobs.STALE - 1)
    assert jobs.state(key).state == "interrupted"
    assert jobs.cancel(key)
    assert jobs.state(key).state == "cancelled"
    assert jobs.live() == [], "what it read may be deleted"
    assert not jobs.cancel(key)


def test_the_end_of_an_older_attempt_is_none_of_a_newer_one(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "failed")
    assert jobs.resume(key)
    say(key, "running", attempt=2)
    assert dispatcher.write_end(key, 1, {"state": "failed", "message": "The worker died."})
    assert jobs.state(key).state == "running"


def test_process_of_the_same_id_is_not_the_worker(started: list[int], sleeper: subprocess.Popen[bytes]) -> None:
    born = processes.birth(sleeper.pid)
    assert processes.living(sleeper.pid, born)
    assert not processes.living(sleeper.pid, born + "0")
    assert not processes.living(sleeper.pid, "")


def test_silent_worker_counts_as_lost(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "running", beat=time.time() - jobs.STALE - 1)
    assert jobs.state(key).state == "interrupted"
    say(key, "running", beat=time.time() - jobs.STALE / 3)
    assert jobs.state(key).state == "running"


def test_recover_starts_a_worker_for_those_who_wait(started: list[int]) -> None:
    jobs.submit(DATASET, "Prepare")
    (job_files.folder() / "engine.json").unlink()
    assert jobs.listing()[0].message == "Waiting for a worker."
    assert jobs.recover() == []
    assert started == [1, 1]


def test_worker_of_other_code_is_asked_to_end(started: list[int]) -> None:
    jobs.submit(DATASET, "Prepare")
    assert not (job_files.folder() / "END").exists()
    launch.write_down(os.getpid(), "0.0.1-0")
    jobs.submit(OTHER, "Another")
    assert (job_files.folder() / "END").exists()
    assert started == [1]


@pytest.mark.parametrize(("before", "asked"), [("", "tcp://10.0.0.5:8786"), ("tcp://10.0.0.5:8786", "")])
def test_the_next_engine_works_where_it_was_asked_for(
    started: list[int], monkeypatch: pytest.MonkeyPatch, before: str, asked: str
) -> None:
    monkeypatch.setenv("STUDIO_ENGINE", before)
    jobs.submit(DATASET, "Prepare")
    monkeypatch.setenv("STUDIO_ENGINE", asked)
    jobs.submit(OTHER, "Another")
    monkeypatch.setenv("STUDIO_ENGINE", before)  # as the engine that lives was started
    with (job_files.folder() / "engine.lock").open("a") as lock:
        dispatcher.Dispatcher(lock, SimpleNamespace()).hand_over()  # type: ignore[arg-type]
    assert (started, (launch.written_down() or {})["address"]) == ([1, 1], asked)
    assert not (job_files.folder() / "END").exists()
    dispatcher.Dispatcher.hand_over(SimpleNamespace())  # type: ignore[arg-type]
    assert launch.address() == asked, "END has gone meanwhile"


def test_an_engine_is_asked_to_be_ready_and_has_a_child_import_meanwhile(
    started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.ready("0123456789abcdef")
    assert started == [1]
    client, given = SimpleNamespace(submit=lambda *asked, **_: asked), []
    monkeypatch.setattr(dispatcher, "fire_and_forget", given.append)
    with (job_files.folder() / "engine.lock").open("a") as lock:
        engine = dispatcher.Dispatcher(lock, client)  # type: ignore[arg-type]
        assert engine.wanted_ready()
        assert not engine.wanted_ready(), "once for each wish"
    root = str(store.root().resolve())
    assert given == [(dispatcher.tasks.prepare, root, children.default_threads(), "0123456789abcdef")]

    child = SimpleNamespace(orders=[], threads=2, process=SimpleNamespace(poll=lambda: None))
    child.order = child.orders.append
    monkeypatch.setattr(children, "Child", lambda threads: child)
    monkeypatch.setattr(dispatcher.tasks, "device", lambda: "")
    for digest in ("0123456789abcdef", ""):
        dispatcher.tasks.prepare(root, 2, digest)
    wanted = {"do": "prepare", "root": root, "threads": 2, "device": ""}
    assert child.orders == [wanted | {"checkpoint": "0123456789abcdef"}, wanted | {"checkpoint": ""}], "the same child"
    assert children._IDLE == [child]
    children._IDLE.clear()

    said: list[dict[str, Any]] = []
    prepared: list[tuple[int, str]] = []
    monkeypatch.setattr(child_main, "_prepare", lambda *asked: prepared.append(asked))
    child_main.serve(io.StringIO("".join(json.dumps(order) + "\n" for order in child.orders)), said.append, os.getpid())
    assert (prepared, said) == ([(2, "0123456789abcdef"), (2, "")], []), "the answer to the first job is the first"


def test_the_app_readies_an_engine_under_its_server_alone(started: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[int] = []
    for name, value in {"LATER": 0.0, "AHEAD": 0.0, "imported": lambda: imported.append(1)}.items():
        monkeypatch.setattr(readying, name, value)
    monkeypatch.setenv("STUDIO_READY", "1")
    for bootstrap, wanted, expected in ((False, "1", []), (True, "0", []), (True, "1", [1])):
        readying.readied.clear()
        monkeypatch.setenv("STUDIO_READY", wanted)
        if bootstrap:
            monkeypatch.setitem(sys.modules, "streamlit.web.bootstrap", SimpleNamespace())  # type: ignore[arg-type]
        else:
            monkeypatch.delitem(sys.modules, "streamlit.web.bootstrap", raising=False)
        readying.readied()
        readying.readied()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(5)
        assert (started, imported) == (expected, expected)
    readying.readied.clear()


def test_idle_engine_may_end_only_without_a_queue(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    assert not dispatcher.retired()
    assert dispatcher.write_end(key, 1, {"state": "failed", "message": "No worker."})
    assert (jobs.state(key).state, jobs.state(key).message) == ("failed", "No worker.")
    assert dispatcher.write_end(key, 1, {"state": "cancelled", "message": ""}), "its end stands"
    assert jobs.state(key).state == "failed"
    assert dispatcher.retired()
    assert not launch.lives()


def test_cluster_that_refuses_fails_all_that_wait(started: list[int]) -> None:
    keys = [jobs.submit(job, "Prepare")[0] for job in (DATASET, OTHER)]
    say(keys[0], "running")
    dispatcher.refuse("Worker 3 lacks the package.")
    found = [jobs.state(key) for key in keys]
    assert [(now.state, now.message) for now in found] == [("failed", "Worker 3 lacks the package.")] * 2
    assert [now.done for now in found] == [2, 0]


def test_jobs_of_a_cluster_go_on_without_a_process_here(started: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "running")
    (job_files.folder() / "engine.json").unlink()
    assert jobs.state(key).state == "interrupted"
    monkeypatch.setenv("STUDIO_ENGINE", "tcp://10.0.0.5:8786")
    assert jobs.state(key).state == "running"
    say(key, "running", beat=time.time() - jobs.STALE - 1)
    assert jobs.state(key).state == "interrupted"


def test_forgotten_job_leaves_no_trace_but_what_it_made(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    jobs.forget(key)
    assert jobs.state(key).state == "queued", "what waits is not forgotten"
    artifact = published()
    say(key, "done", artifacts=[list(artifact)])
    jobs.forget(key)
    assert jobs.state(key) == jobs.JobState(key)
    assert not (job_files.folder() / key).exists()
    assert store.find(*artifact) is not None


def test_broken_index_is_put_aside(started: list[int]) -> None:
    jobs.submit(DATASET, "Prepare")
    path = job_files.folder() / "index.db"
    for end in ("-wal", "-shm"):
        path.with_name(f"index.db{end}").unlink(missing_ok=True)
    path.write_bytes(b"not a database" * 100)
    assert jobs.listing() == []
    key, fresh = jobs.submit(DATASET, "Prepare")
    assert fresh
    assert jobs.state(key).state == "queued"
    assert path.with_name("index.db.damaged").exists()


def test_interrupted_transaction_keeps_nothing(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    row = job_index.row(key)
    assert row is not None

    def interrupted() -> None:
        with job_index.transaction() as index:
            job_index.put(index, replace(row, attempt=7))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert jobs.state(key).attempt == 1


def test_time_left_runs_down_between_two_beats(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    beat = time.time() - 4
    say(key, "running", seconds_left=10.0, beat=beat)
    left = jobs.state(key).seconds_left
    assert left is not None
    assert 10 - (time.time() - beat) <= left <= 6
    say(key, "running", seconds_left=1.0, beat=time.time() - 4)
    assert jobs.state(key).seconds_left == 0.0


def test_wait_returns_how_it_ended(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    seen: list[str] = []

    def on_change(now: jobs.JobState) -> None:
        seen.append(now.state)
        say(key, "running" if len(seen) == 1 else "done")

    assert jobs.wait(key, on_change, every=0.01).state == "done"
    assert seen == ["queued", "running", "done"]


def test_log_tail_gives_the_last_lines(started: list[int]) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    (job_files.folder() / key).mkdir()
    (job_files.folder() / key / "log.txt").write_text("".join(f"line {i}\n" for i in range(5000)))
    assert jobs.log_tail(key, 2) == "line 4998\nline 4999"


def test_live_jobs_tell_what_they_read(started: list[int]) -> None:
    features = FeatureSettings(dataset=A, checkpoint=B)
    key, _ = jobs.submit(jobs.AttributeJob(features=(features,)), "Attribute")
    ((now, reads),) = jobs.live()
    assert now.key == key
    assert reads == {A, B, key_of("features", features), key_of("kernels", features)}
    jobs.cancel(key)
    assert jobs.live() == []


def test_asking_for_jobs_imports_no_torch(cache: Path) -> None:
    code = "import sys, dtrak_core.jobs.jobs; print([m for m in ('torch', 'distributed') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=store.PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_benchmark_reads_the_features_of_all_its_functions(started: list[int]) -> None:
    base = FeatureSettings(dataset=A, checkpoint=B)
    measured = LdsSettings(dataset=A, checkpoint=B, targets=("seed:1",))
    recipes = (
        Recipe(method="trak", features=base),
        Recipe(method="das", features=base),
        Recipe(method="d-trak", features=base, model_output="interpolated", eta=0.5),
        Recipe(method="gas", features=base),  # whose run is not there
        Recipe(method="raw-pixel-dot"),
    )
    jobs.submit(jobs.BenchmarkJob(settings=measured, recipes=recipes), "Benchmark")
    ((_, reads),) = jobs.live()
    wanted = [
        base.model_copy(update={"model_output": "loss"}),
        base.model_copy(update={"model_output": "squared-output"}),
        base.model_copy(update={"model_output": "mean-output", "normalise": "timestep"}),
        base.model_copy(update={"model_output": "interpolated", "eta": 0.5}),
    ]
    assert reads == {A, B} | {key_of(kind, one) for kind in ("features", "kernels") for one in wanted}


GARBLED = {
    "empty": b"",
    "no JSON": b'{"attempt": 1,',
    "no text": b"\xff\xfe",
    "a list": b"[1]",
    "nothing": b"null",
    "no fields": b"{}",
    "another state": b'{"attempt": 1, "state": "paused", "done": 0, "total": 0, "unit": "", "message": "", '
    b'"beat": 1.0, "artifacts": []}',
    "words for numbers": b'{"attempt": 1, "state": "running", "done": "2", "total": 8, "unit": "", "message": "", '
    b'"beat": "now", "artifacts": []}',
    "artifacts of another form": b'{"attempt": 1, "state": "done", "done": 2, "total": 2, "unit": "", "message": "", '
    b'"beat": 1.0, "artifacts": ["samples"]}',
}


@pytest.mark.parametrize("content", GARBLED.values(), ids=GARBLED)
def test_a_garbled_status_reads_as_not_begun(started: list[int], content: bytes) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    other, _ = jobs.submit(OTHER, "Another")
    say(other, "running")
    place = job_files.folder() / key
    place.mkdir(exist_ok=True)
    (place / job_files.STATUS).write_bytes(content)
    assert [(job.key, job.state) for job in jobs.listing()] == [(other, "running"), (key, "queued")]
    assert {row.key for row in jobs.unfinished()} == {key, other}
    assert [now.key for now, _ in jobs.live()] == [other, key]
    assert dispatcher.write_end(key, 1, {"state": "failed", "message": "no"})
    assert jobs.state(key).message == "no"


@pytest.mark.parametrize("content", GARBLED.values(), ids=GARBLED)
def test_garbled_facts_of_the_engine_mean_that_none_lives(started: list[int], content: bytes) -> None:
    job_files.folder().mkdir(parents=True)
    (job_files.folder() / "engine.json").write_bytes(content)
    assert not launch.lives()
    jobs.submit(DATASET, "Prepare")
    assert started == [1]
    assert launch.lives()


OLDER = {
    "another field": '{"kind": "sample", "checkpoint": "bbbbbbbbbbbbbbbb", "seeds": [1], "colour": "red"}',
    "another kind": '{"kind": "paint"}',
    "no kind": "{}",
    "no object": "[]",
    "no JSON": "{",
    "empty": "",
}


@pytest.mark.parametrize("text", OLDER.values(), ids=OLDER)
def test_a_job_of_another_version_is_told_and_blocks_nothing(
    started: list[int], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    with job_index.transaction() as index:
        index.execute("INSERT INTO job VALUES (?, 'sample', 'Old', ?, 1, 1.0)", (A, text))
    assert {job.key for job in jobs.listing()} == {key, A}
    assert [now.key for now, _ in jobs.live()] == [key]
    assert panels.newest("sample", B) is None
    eviction.set_limit(1)
    assert eviction.evict() == []
    with pytest.raises(JobError, match="asked for by another version"):
        jobs.job_of(A)
    say(A, "failed")
    with pytest.raises(JobError, match="another version"):
        jobs.resume(A)
    assert cli.main(["jobs", "show", A, "--lines", "-5"]) == 1
    assert "--lines is -5" in capsys.readouterr().err
    assert cli.main(["jobs", "show", A]) == 0
    assert "Old" in capsys.readouterr().out
    assert cli.main(["jobs", "list"]) == 0
    assert cli.main(["jobs", "resume", A]) == 1
    capsys.readouterr()
    assert cli.main(["jobs", "forget", key]) == 1
    assert "The job 'Prepare' has not ended, so it stays on the list. Stop it first with" in capsys.readouterr().err
    assert cli.main(["jobs", "forget", A]) == 0
    assert [job.key for job in jobs.listing()] == [key]


def test_the_engine_ends_a_job_of_another_version_with_that_sentence(cache: Path) -> None:
    place = job_files.folder() / A
    place.mkdir(parents=True)
    said: list[dict[str, Any]] = []
    order = {"root": str(cache), "key": A, "attempt": 1, "job": {"kind": "paint"}, "threads": 1, "do": "whole"}
    out, err = os.dup(1), os.dup(2)
    try:
        child_main.serve(io.StringIO(json.dumps(order) + "\n"), said.append, os.getppid())
    finally:
        os.dup2(out, 1)
        os.dup2(err, 2)
    assert said == [
        {"state": "failed", "message": "This job was asked for by another version of the app. Ask for it again."}
    ]


def test_an_index_of_other_columns_is_put_aside(started: list[int]) -> None:
    job_files.folder().mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(job_files.folder() / "index.db")) as connection:
        connection.execute("CREATE TABLE job (key TEXT PRIMARY KEY, job TEXT)")
    assert jobs.listing() == []
    key, _ = jobs.submit(DATASET, "Prepare")
    assert [job.key for job in jobs.listing()] == [key]
    assert (job_files.folder() / "index.db.damaged").exists()


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("2,4", 2), ("many", None), ("0", None), ("", None)])
def test_threads_are_read_as_openmp_reads_them(monkeypatch: pytest.MonkeyPatch, told: str, threads: int | None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert children.default_threads() == (threads or processes.cores())


def test_seconds_that_are_no_number_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDIO_WORKER_IDLE", "soon")
    assert dispatcher.seconds_idle() == dispatcher.IDLE
    assert "STUDIO_WORKER_IDLE" in capsys.readouterr().err
    monkeypatch.setenv("STUDIO_WORKER_IDLE", "20")
    assert dispatcher.seconds_idle() == 20


def test_a_cache_that_is_only_read_shows_its_jobs_and_takes_no_new_ones(
    started: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, _ = jobs.submit(DATASET, "Prepare")
    say(key, "done", artifacts=[list(published())])

    def refused(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(job_index, "_connect", refused)
    assert [(job.key, job.state) for job in jobs.listing()] == [(key, "done")]
    with pytest.raises(StoreError, match="Set STUDIO_CACHE to a writable folder"):
        jobs.submit(OTHER, "Another")
    assert cli.main(["dataset", "--name", "cifar2"]) == 1
    assert "Set STUDIO_CACHE to a writable folder." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "added"),
    [
        ({}, {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}),
        ({"GOMP_SPINCOUNT": "7"}, set()),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, set()),
    ],
    ids=["nothing set", "turns set", "policy set"],  # a set has another order in each test process
)
def test_who_computes_does_not_spin_for_long(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], added: set[str]
) -> None:
    """Unless the user has said how to wait; the child's environment is what OpenMP reads when torch is loaded."""
    for name in (*processes.SHORT_WAITS, "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert set(processes.short_waits()) == added
    given: list[dict[str, str]] = []

    def started(*_: object, env: dict[str, str], **__: object) -> None:
        given.append(env)
        raise InterruptedError

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(InterruptedError):
        children.Child(2)
    waits = {name: given[0][name] for name in (*processes.SHORT_WAITS, "OMP_WAIT_POLICY") if name in given[0]}
    assert waits == (told or processes.SHORT_WAITS)
    assert given[0]["OMP_NUM_THREADS"] == "2"
