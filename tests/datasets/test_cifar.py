"""CIFAR-2 and CIFAR-10 from a small archive laid out as the original, through torchvision's own download."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from dtrak_core.datasets import catalogue, cifar, subsets
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError

EACH = 100  # pictures in each of the six files
FOLDER = "cifar-10-batches-py"
# The order of the files in the original archive.
MEMBERS = ["data_batch_4", "test_batch", "data_batch_3", "batches.meta", "data_batch_2", "data_batch_5", "data_batch_1"]
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def picture(file: str, position: int) -> np.ndarray:
    """Return a picture (32, 32, 3) that tells which file it is from, and its place there."""
    image = np.full((32, 32, 3), 7, np.uint8)
    image[..., 0], image[..., 1] = MEMBERS.index(file), position
    return image


def labels_of(file: str) -> np.ndarray:
    """Return labels in an order of the file's own, ten of each class."""
    return np.random.default_rng(MEMBERS.index(file)).permutation(np.arange(EACH) % 10)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the archive, and let torchvision download it from a server on this machine."""
    path = tmp_path / "home" / "cifar-10-python.tar.gz"
    path.parent.mkdir()
    sums = {}
    with tarfile.open(path, "w:gz") as tar:
        for name in MEMBERS:
            if name == "batches.meta":
                content: dict[str, object] = {"label_names": CLASSES}
            else:
                images = np.stack([picture(name, i) for i in range(EACH)])
                content = {"data": images.transpose(0, 3, 1, 2).reshape(EACH, -1), "labels": labels_of(name).tolist()}
            data = pickle.dumps(content)
            sums[name] = hashlib.md5(data).hexdigest()
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )
    home = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=path.parent))
    threading.Thread(target=home.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{home.server_port}/{path.name}")
    yield path
    home.shutdown()
    home.server_close()


@pytest.fixture
def small_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the paper's sizes to the small archive; how its draws begin is worked out independently."""
    train, test = hub_labels(), labels_of("test_batch")
    cars = {name: np.flatnonzero(np.isin(labels, (1, 7))) for name, labels in (("train", train), ("test", test))}
    draws = {
        name: rows[subsets.draw(len(rows), size, 42, [train, test][name == "test"][rows].tolist())]
        for (name, rows), size in zip(cars.items(), (50, 10), strict=True)
    }
    ten = subsets.draw(EACH, 20, 42, test.tolist())
    plans = {
        "cifar2": dataclasses.replace(
            cifar.PLANS["cifar2"],
            train=50,
            held_out=10,
            train_begins=tuple(draws["train"][:5].tolist()),
            held_out_begins=tuple(draws["test"][:5].tolist()),
        ),
        "cifar10": dataclasses.replace(
            cifar.PLANS["cifar10"], train=500, held_out=20, held_out_begins=tuple(ten[:5].tolist())
        ),
    }
    monkeypatch.setattr(cifar, "PLANS", plans)


def hub_labels() -> np.ndarray:
    """Return training labels as the hub's copy has them: files in the archive's order."""
    return np.concatenate([labels_of(name) for name in MEMBERS if name.startswith("data_batch_")])


def prepare(kind: str, resolution: int = 32) -> catalogue.Dataset:
    settings = DatasetSettings(kind=kind, name=kind, resolution=resolution)
    return catalogue.load(catalogue.prepare(settings))


@pytest.mark.usefixtures("archive", "small_plans")
def test_cifar2(cache: Path) -> None:
    dataset = prepare("cifar2")
    assert Counter(dataset.train.labels) == {"automobile": 25, "horse": 25}
    assert Counter(dataset.held_out.labels) == {"automobile": 5, "horse": 5}
    files = [name for name in MEMBERS if name.startswith("data_batch_")]
    for image, row in zip(dataset.train.images, dataset.train.rows, strict=True):
        file, position = files[row["origin"] // EACH], row["origin"] % EACH
        assert np.array_equal(image, picture(file, position))
        assert row["label"] == CLASSES[labels_of(file)[position]]
        assert row["name"] == f"{row['label']} {row['origin']}"
    for image, row in zip(dataset.held_out.images, dataset.held_out.rows, strict=True):
        assert np.array_equal(image, picture("test_batch", row["origin"]))
    assert "Krizhevsky" in dataset.credit
    assert (cache / "downloads" / "cifar-10-python.tar.gz").is_file()


@pytest.mark.usefixtures("archive", "small_plans")
def test_cifar10_takes_all_in_order(cache: Path) -> None:
    dataset = prepare("cifar10", 16)
    assert dataset.train.images.shape == (500, 16, 16, 3)
    assert [row["origin"] for row in dataset.train.rows] == list(range(500))
    assert dataset.train.labels == [CLASSES[label] for label in hub_labels()]
    assert Counter(dataset.held_out.labels) == dict.fromkeys(CLASSES, 2)


@pytest.mark.usefixtures("archive", "small_plans")
def test_an_unpacked_archive_is_enough(cache: Path, archive: Path) -> None:
    first = prepare("cifar2")
    (cache / "downloads" / "cifar-10-python.tar.gz").unlink()
    assert cifar.batch_order(cache / "downloads") == (4, 3, 2, 5, 1)
    archive.unlink()  # nothing is downloaded again
    assert prepare("cifar2", 8).train.rows == first.train.rows


def test_an_archive_that_is_not_the_papers_is_refused(cache: Path, archive: Path) -> None:
    plan = dataclasses.replace(cifar.PLANS["cifar2"], train=50, held_out=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar, "PLANS", {"cifar2": plan})
        with pytest.raises(
            DataError, match=r"the paper's with 17488, 17769, 25061, 7882, 4701\. Not the original archive"
        ):
            prepare("cifar2")
    assert not (cache / "datasets").exists()


def test_no_network(cache: Path, archive: Path) -> None:
    archive.unlink()
    with pytest.raises(DataError, match="CIFAR-10 could not be downloaded") as error:
        prepare("cifar2")
    assert "put cifar-10-python.tar.gz into cache/downloads yourself" in str(error.value)
    assert not (cache / "datasets").exists()


def test_the_papers_plans() -> None:
    two, ten = cifar.PLANS["cifar2"], cifar.PLANS["cifar10"]
    assert [CLASSES[i] for i in two.classes] == ["automobile", "horse"]
    assert (two.train, two.held_out, ten.train, ten.held_out) == (5_000, 1_000, 50_000, 1_000)
    assert two.train_begins[:5] == (17488, 17769, 25061, 7882, 4701)
    assert two.held_out_begins == (7405, 5226, 1363, 6615, 7612)
    assert ten.held_out_begins == (9128, 5468, 62, 2465, 2810)
