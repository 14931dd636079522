"""Fixtures for all tests: an empty cache of their own, and small real pieces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

# Before numpy and torch are imported: several test processes with as many threads as cores slow each other many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fault_table
import numpy as np
import paper_table
import pytest
from fault_helpers import home, undisturbed, undisturbed_training, watch  # noqa: F401 - fixtures of the tests that harm jobs

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches a hub
os.environ["STUDIO_READY"] = "0"  # apps that tests start import torch when work is asked for
os.environ["STUDIO_WORKER_IDLE"] = "20"  # workers that tests start end themselves soon


@pytest.fixture(scope="session", autouse=True)
def small_grids() -> Iterator[None]:
    """Draw one picture of 16 where a training keeps its weights: those cost most of a training as small as tests'."""
    from dtrak_core.training import training  # which brings torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "GRID_SEEDS", training.GRID_SEEDS[:1])
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of faults and of the paper's settings, and write them where a variable names a document."""
    if fault_table.ROWS:
        terminalreporter.section("faults")
        terminalreporter.write_line(fault_table.table())
        if path := os.environ.get("STUDIO_FAULTS"):
            fault_table.write(Path(path))
    for title, rows in (("the paper's settings", paper_table.ROWS), ("families at true size", paper_table.SIZES)):
        if rows:
            terminalreporter.section(title)
            terminalreporter.write_line(paper_table.table(rows))
    if path := os.environ.get("STUDIO_PAPER"):
        paper_table.write(Path(path))


# Files that take longest, in seconds beside another one on two cores: begun first, so that no process works on at the
# end alone.
LONGEST = {
    "browser/test_core_path.py": 120, "browser/test_links.py": 127, "engine/test_faults.py": 85,
    "engine/test_cluster.py": 75, "engine/test_engine.py": 75, "commands/test_cli.py": 68, "models/test_lora.py": 45,
    "browser/test_shipped_lds.py": 40, "browser/test_looks.py": 40, "models/test_text_families.py": 40,
    "pages/test_attribution_page.py": 36, "counterfactual/test_counterfactual.py": 36,
    "browser/test_shipped_comparison.py": 35, "methods/test_planted.py": 35, "browser/test_resumed.py": 30,
    "commands/test_what_is_predicted.py": 26, "pages/test_counterfactual_page.py": 26, "api/test_notebook.py": 21,
    "test_old_cache.py": 20, "browser/test_uses.py": 70, "methods/test_traker.py": 12, "demo/test_portraits.py": 12,
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; each file's own order stays."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: -LONGEST.get(item.path.relative_to(tests).as_posix(), 0))


@pytest.fixture(scope="session", autouse=True)
def one_noise_a_target() -> Iterator[None]:
    """Have trainings of this process note no draws of targets, so that most tests look at a single noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "TARGET_SECONDS", 0.0)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty cache and no demo."""
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "no-demo"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny() -> ModelSettings:
    """Return a network of a few thousand parameters: folded, two levels, GroupNorm of 4."""
    return ModelSettings(channels=(8, 16), attention=(False, False), norm_groups=4)


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with the pictures of `pictures`, prepared once."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    images, labels = [], []
    for i in range(32):
        centre, radius = random.uniform(5, 11, 2), random.uniform(2, 5)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        colour = np.array([[230, 40, 40], [40, 200, 60], [50, 60, 220]])[i % 3] + random.integers(-30, 25, 3)
        images.append(np.where(disc[..., None], np.clip(colour, 0, 255), 255).astype(np.uint8))
        labels.append(i % 3)
    place = tmp_path_factory.mktemp("discs")
    np.savez(
        place / "discs.npz",
        x_train=np.stack(images[:24]),
        y_train=np.array(labels[:24]),
        x_test=np.stack(images[24:]),
        y_test=np.array(labels[24:]),
        classes=np.array(["red", "green", "blue"]),
    )
    with pytest.MonkeyPatch.context() as patch:
        _use(patch, place)
        settings = catalogue.source_settings("npz", place / "discs.npz", "discs", 16)
        catalogue.prepare(settings, place / "discs.npz")
    return place / "cache"


@pytest.fixture(scope="session")
def trained_discs(discs: Path, tiny: ModelSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with the checkpoint of `checkpoint`, trained once."""
    return _trained(tmp_path_factory.mktemp("trained"), discs, "small", lambda _: tiny)


@pytest.fixture(scope="session")
def trained_classes(discs: Path, tiny: ModelSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with a network that was told the classes of the discs, called `classes`."""
    from dtrak_core.training import presets  # which brings torch

    def told(stored: Dataset) -> ModelSettings:
        return ModelSettings(**tiny.model_dump() | presets.seen(stored, classes=True, grey=False))

    return _trained(tmp_path_factory.mktemp("classes"), discs, "classes", told)


def _trained(place: Path, discs: Path, name: str, model: Callable[[Dataset], ModelSettings]) -> Path:
    """Train a network of the discs, called so, in a copy of their cache; return that."""
    from dtrak_core.training import training  # which brings torch

    shutil.copytree(discs, place / "cache")
    with pytest.MonkeyPatch.context() as patch:
        _use(patch, place)
        stored = catalogue.by_name("discs")
        settings = TrainSettings(dataset=stored.digest, model=model(stored), epochs=2, batch_size=8)
        training.train(stored, settings, name, quiet)
    return place / "cache"


@pytest.fixture
def pictures(cache: Path, discs: Path) -> Dataset:
    """Return a stored dataset of 24 training and 8 held-out pictures of coloured discs, 16x16, three labels."""
    shutil.copytree(discs / "datasets", cache / "datasets")
    return catalogue.by_name("discs")


@pytest.fixture
def checkpoint(cache: Path, pictures: Dataset, trained_discs: Path) -> Checkpoint:
    """Return a small checkpoint of the pictures, called `small`."""
    shutil.copytree(trained_discs / "checkpoints", cache / "checkpoints")
    return checkpoints.by_name("small", pictures.digest)


def _use(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Take the cache of a place for the time of a patch, without the demo."""
    patch.setenv("STUDIO_CACHE", str(place / "cache"))
    patch.setenv("STUDIO_DEMO", str(place / "no-demo"))


@pytest.fixture
def demo_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test an empty cache beside the demo that ships."""
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
