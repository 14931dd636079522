"""The engine on a cluster: a scheduler and workers started by hand on loopback, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_helpers import emptied, until

from dtrak_core import store
from dtrak_core.commands import cli
from dtrak_core.counterfactual import comparisons
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.engine import cluster, tasks, work
from dtrak_core.engine.status import Status
from dtrak_core.errors import EngineError
from dtrak_core.features import kernel
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import job_files, jobs, launch, processes
from dtrak_core.models import checkpoints
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.training import training

Start = Callable[..., str]
# What workers import first: a kernel of 64 numbers a feature is sketched, and a child dies over the first piece of it.
LARGE = """
import os
import signal

from dtrak_core.features import kernel, passes

carry_out, kernel.LARGEST = passes.carry_out, 50


def dies_once(piece, on_progress):
    try:
        os.close(os.open(os.environ["DIED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return carry_out(piece, on_progress)
    os.kill(os.getpid(), signal.SIGKILL)


passes.carry_out = dies_once
"""


@pytest.fixture
def home(cache: Path) -> Iterator[Path]:
    yield from emptied(cache)


@pytest.fixture
def start(cache: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a scheduler with workers, and returns its address."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(workers: int, **env: str) -> str:
        file = tmp_path / f"scheduler-{len(running)}.json"
        shared = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
        all_env = {**os.environ, "PYTHONPATH": str(store.PROJECT), **env}
        first = [sys.executable, "-m", "distributed.cli.dask_scheduler", *shared, "--port", "0", "--no-dashboard"]
        running.append(subprocess.Popen(first, env=all_env, cwd=tmp_path, stderr=subprocess.DEVNULL))
        until(lambda: job_files.read_json(file) is not None)  # there and written
        own = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--local-directory", str(tmp_path)]
        for _ in range(workers):
            each = [sys.executable, "-m", "distributed.cli.dask_worker", *shared, *own]
            running.append(subprocess.Popen(each, env=all_env, cwd=tmp_path, stderr=subprocess.DEVNULL))
        found = job_files.read_json(file)
        assert found is not None
        address = str(found["address"])
        until(lambda: workers == 0 or _workers(address) == workers)
        return address

    yield begin
    for process in reversed(running):  # workers first: one whose scheduler has gone looks for it for 8 seconds
        process.terminate()
        process.wait(20)


def _workers(address: str) -> int:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


@pytest.fixture
def job(home: Path, tiny: ModelSettings, tmp_path: Path) -> jobs.CounterfactualJob:
    """A comparison of 4 trainings over features of 2 shards, of which nothing is computed yet."""
    images = np.random.default_rng(5).integers(0, 256, (160, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=images, y_train=np.arange(160) % 2, x_test=images[:4], y_test=[0, 1, 0, 1])
    settings = catalogue.source_settings("npz", tmp_path / "noise.npz", "noise", 16)
    dataset = catalogue.load(catalogue.prepare(settings, tmp_path / "noise.npz"))
    run = TrainSettings(dataset=dataset.digest, model=tiny, epochs=1, batch_size=32)
    training.train(dataset, run, "small", quiet)
    where = {"dataset": dataset.digest, "checkpoint": checkpoints.by_name("small", dataset.digest).digest}
    features = FeatureSettings(**where, num_timesteps=2, proj_dim=64)
    asked = {"targets": ("seed:3",), "methods": ("d-trak",), "remove": (40,), "random_draws": 1, "sampling_steps": 4}
    chosen = build(CounterfactualSettings, **where, features=(features,), encoder="efficientnet-lite0", **asked)
    return jobs.CounterfactualJob(settings=chosen, name="split")


def test_trainings_and_passes_are_split_over_two_workers_with_the_numbers_of_one(
    home: Path, job: jobs.CounterfactualJob, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "LARGEST", 50)
    shutil.copytree(home, tmp_path / "alone")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two workers on two cores
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(tmp_path / "alone"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        work.run(job, quiet)
        torch.set_num_threads(threads)
        alone = comparisons.read(job.settings)
    # Without stealing each worker keeps what it was given, however late its first process begins on a busy machine.
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "sitecustomize.py").write_text(LARGE)
    env = {"PYTHONPATH": f"{tmp_path / 'large'}:{store.PROJECT}", "DIED": str(tmp_path / "died")}
    monkeypatch.setenv("STUDIO_ENGINE", start(2, DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING="False", **env))
    key, _ = jobs.submit(job, "Compare")
    messages: list[str] = []
    now = jobs.wait(key, lambda state: messages.append(state.message))
    assert (now.state, now.message) == ("done", "")
    split = comparisons.read(job.settings)
    assert len(alone.entries) == len(split.entries) == 5
    for one, other in zip(alone.entries, split.entries, strict=True):
        assert (one.method, one.removed, one.l2, one.cosine) == (other.method, other.removed, other.l2, other.cosine)
        np.testing.assert_array_equal(one.image, other.image)
    lines = [line for line in jobs.log_tail(key, 400).splitlines() if "--- attempt" in line]
    assert sum("Training: " in line for line in lines) == 4
    assert sum("Training features" in line for line in lines) == 2
    (made,) = store.listing("kernels")
    assert made.manifest["form"] == "sketch"
    # Two passes for the directions and one for the pictures' part in them, in four pieces each, of which one died.
    assert sum("A pass over the features" in line for line in lines) == 3 * 4 + 1
    assert not (job_files.folder() / key / job_files.PASSES).exists()
    for what, processes_of in (("Training: ", 2), ("Training features", 2), ("A pass over the features", 3)):
        assert len({line.partition("process ")[2].split()[0] for line in lines if what in line}) == processes_of, lines
    assert any("2 at once" in message for message in messages)


@pytest.mark.parametrize(
    ("workers", "env", "said"),
    [
        (0, {}, "has no workers"),
        (1, {"PYTHONPATH": "without"}, "cannot import dtrak_core"),
    ],
)
def test_a_cluster_that_cannot_do_the_work_is_refused(
    home: Path, start: Start, workers: int, env: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "without").mkdir()  # before where the environment may have it installed
    (tmp_path / "without" / "dtrak_core.py").write_text("raise ModuleNotFoundError('none here')")
    address = start(workers, **env)
    with pytest.raises(EngineError, match=said), cluster.opened(address):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0.0.1-00000000"}, "has version 0.0.1-00000000"),
        ({"token": ""}, "does not see the cache folder"),
        ({"python": "2.7.18"}, "runs Python 2.7.18"),
    ],
)
def test_what_a_worker_answers_must_agree(
    home: Path, start: Start, change: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = start(1)
    with cluster.opened(address) as client:
        (answer,) = cluster.probe(client, address).values()
        assert answer["version"] == processes.code_version()
        monkeypatch.setattr(client, "run", lambda *_: {"tcp://w:1": answer | change})
        with pytest.raises(EngineError, match=said) as caught:
            cluster.probe(client, address)
        assert "shared folder (docs/cluster.md" in str(caught.value)


def test_a_worker_that_has_worked_tells_the_version_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster._look("/nowhere")["version"] == processes.code_version()
    monkeypatch.setattr(tasks, "LOADED", "0.0.1-00000000")
    assert cluster._look("/nowhere")["version"] == "0.0.1-00000000"


def test_a_worker_of_an_older_layout_does_not_pass_as_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files have moved: what it has not yet loaded, it would take from the new ones."""
    older = types.ModuleType("dtrak_core.tasks")
    older.__file__ = str(tmp_path / "tasks.py")
    monkeypatch.setitem(sys.modules, "dtrak_core.tasks", older)
    monkeypatch.delitem(sys.modules, "dtrak_core.engine.tasks")
    assert "dtrak_core.tasks was loaded from a file that is gone" in cluster._look("/nowhere")["error"]
    (tmp_path / "tasks.py").touch()
    assert cluster._look("/nowhere")["error"] == ""


def test_an_address_without_a_scheduler_fails_the_job_with_a_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 1.0)
    monkeypatch.setenv("STUDIO_ENGINE", "")  # so that it is taken back, which the command line does not
    assert cli.main(["engine", "--engine", "tcp://127.0.0.1:9"]) == 1
    assert "No Dask scheduler answers at 'tcp://127.0.0.1:9'" in capsys.readouterr().err
    assert launch.address() == "tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ({"status": "error", "exception": lambda: RuntimeError("it died")}, "the last time it died"),
        ({"status": "finished", "result": lambda: {"state": "failed", "message": "No such file."}}, "No such file."),
    ],
)
def test_a_part_that_fails_stops_those_at_work(tmp_path: Path, failed: dict[str, Any], said: str) -> None:
    """Dask cancels no task that runs; its child looks at the attempt's flag alone."""
    taken_back: list[Any] = []
    going = types.SimpleNamespace(done=lambda: False)
    futures = {0: going, 1: types.SimpleNamespace(done=lambda: True, **failed)}
    parts = {i: {"weight": 1, "about": "Training", "unit": "steps"} for i in futures}
    client = types.SimpleNamespace(cancel=taken_back.extend)
    flag = job_files.cancel_flag(tmp_path, 2)
    end = tasks._awaited(client, parts, futures, flag, Status(tmp_path, {"state": "running"}))  # type: ignore[arg-type]
    assert end is not None
    assert (end["state"], said in end["message"]) == ("failed", True)
    assert flag.exists()
    assert taken_back == [going]
