"""What tests of faults share: an undisturbed run to compare with, a reader who sees every half artifact, the table."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import emptied, engine_process, kill, until
from fault_table import record

from dtrak_core import store
from dtrak_core.datasets import catalogue
from dtrak_core.features.feature_store import seal_path
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import jobs
from dtrak_core.kinds import KINDS
from dtrak_core.models import checkpoints
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import training

PICTURES, TIMESTEPS = 300, 10
Sums = dict[str, dict[str, str]]


@dataclass
class Undisturbed:
    """A cache with a dataset and a checkpoint, the jobs that are harmed, and the checksums they must end with."""

    cache: Path
    attribute: jobs.AttributeJob
    train: jobs.TrainJob
    sums: Sums


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny: ModelSettings) -> Undisturbed:
    place = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "no-demo"))
        images = np.random.default_rng(5).integers(0, 256, (PICTURES + 4, 16, 16, 3), dtype=np.uint8)
        labels = np.arange(PICTURES + 4) % 2
        parts = {"x_train": images[:-4], "y_train": labels[:-4], "x_test": images[-4:], "y_test": labels[-4:]}
        np.savez(place / "noise.npz", **parts)
        settings = catalogue.source_settings("npz", place / "noise.npz", "noise", 16)
        dataset = catalogue.load(catalogue.prepare(settings, place / "noise.npz"))
        run = TrainSettings(dataset=dataset.digest, model=tiny, epochs=1, batch_size=32)
        training.train(dataset, run, "small", quiet)
        checkpoint = checkpoints.by_name("small", dataset.digest)
        features = FeatureSettings(
            dataset=dataset.digest, checkpoint=checkpoint.digest, num_timesteps=TIMESTEPS, proj_dim=256
        )
        attribute = jobs.AttributeJob(features=(features,), targets=("held-out:0",), pictures_per_batch=16)
        train = jobs.TrainJob(train=run.model_copy(update={"epochs": 4, "train_seed": 7}), name="harmed")
        shutil.copytree(place / "cache", place / "base")
    return Undisturbed(place / "base", attribute, train, _in_peace(place / "cache", attribute))


@pytest.fixture(scope="session")
def undisturbed_training(undisturbed: Undisturbed) -> Undisturbed:
    """Return the undisturbed run with the checksums of its training, which few tests harm."""
    return replace(undisturbed, sums=_in_peace(undisturbed.cache.parent / "cache", undisturbed.train))


def _in_peace(cache: Path, job: jobs.AttributeJob | jobs.TrainJob) -> Sums:
    """Do a job in a cache through the engine, so that the harm is the only difference; return what is stored then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(cache))
        patch.setenv("STUDIO_DEMO", str(cache.parent / "no-demo"))
        patch.setenv("OMP_NUM_THREADS", "1")
        assert jobs.wait(jobs.submit(job, "Undisturbed")[0]).state == "done"
        found = engine_process()
        assert found is not None
        kill(found[0])
        return checksums()


@pytest.fixture
def home(cache: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a cache with the dataset and the checkpoint; afterwards its engine must end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shutil.copytree(undisturbed.cache, cache)
    yield from emptied(cache)


@dataclass
class Watch:
    """Reads the store again and again, as pages do, and notes whatever is visible but not whole."""

    half: list[str] = field(default_factory=list)
    looks: int = 0

    def run(self, stop: threading.Event) -> None:
        root = store.root()
        while not stop.is_set():
            for kind in KINDS:
                for folder in (root / kind).glob("*[!a-z]") if (root / kind).is_dir() else ():
                    if folder.suffix == "" and (problem := _problem(folder)):
                        self.half.append(f"{kind}/{folder.name}: {problem}")
            self.looks += 1
            stop.wait(0.1)


def _problem(folder: Path) -> str:
    """Say what is not whole about a visible artifact; it may be deleted meanwhile, which is no problem."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        for name, facts in manifest["files"].items():
            if (folder / name).stat().st_size != facts["bytes"]:
                return f"{name} has not the size of its manifest"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}" if folder.exists() else ""
    return ""


@pytest.fixture
def watch(home: Path) -> Iterator[Watch]:
    found, stop = Watch(), threading.Event()
    thread = threading.Thread(target=found.run, args=(stop,))
    thread.start()
    yield found
    stop.set()
    thread.join()


def checksums() -> Sums:
    """Return the checksums of all arrays and weights that are stored, by artifact."""
    found: Sums = {}
    for kind in ("checkpoints", "features", "kernels", "target-features"):
        for artifact in store.listing(kind):
            artifact.verify()
            sums = {name: facts["crc32"] for name, facts in artifact.manifest["files"].items()}
            kept = {name: crc for name, crc in sums.items() if name.endswith((".npy", ".safetensors"))}
            found[f"{kind}/{artifact.key}"] = kept
    return found


def shards(job: jobs.AttributeJob) -> Path:
    return store.root() / "features" / f"{key_of('features', job.features[0])}.partial"


def after_first_shard(job: jobs.AttributeJob) -> dict[str, int]:
    """Wait for a whole shard; return the inodes of the shards' files that are finished."""
    until(lambda: seal_path(shards(job), 0).exists(), 120)
    return {path.name: path.stat().st_ino for path in shards(job).glob("[0-9]*.npy")}


def ends_as_if_nothing_had_happened(key: str, undisturbed: Undisturbed, finished: dict[str, int]) -> jobs.JobState:
    """Follow a harmed job to its end and compare; what was finished before must be the very same files."""
    now = jobs.wait(key)
    assert now.state == "done", now
    found = checksums()
    assert found.items() <= undisturbed.sums.items()
    made = [f"{kind}/{name}" for kind, name in now.artifacts]
    assert made
    assert all(found[name] == undisturbed.sums[name] for name in made)
    for kind, name in now.artifacts:
        if kind == "features":
            folder = store.get(kind, name).path
            assert {n: (folder / n).stat().st_ino for n in finished} == finished, "a finished shard was computed again"
    return now


def told(fault: str, happened: str, watch: Watch, lost: str = "nothing") -> None:
    """Enter a row of the table; visible half artifacts are counted, and there must be none."""
    assert watch.looks > 10
    record(fault, happened, lost, len(watch.half))
    assert watch.half == []


def harmed(path: Path, harm: str) -> None:
    """Cut a file in the middle, or turn one of its bits."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data if harm == "flipped bit" else data[: len(data) // 2])
