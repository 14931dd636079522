"""Names, digests and storing of datasets; made on small arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.datasets import catalogue, content
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StoreError
from dtrak_core.settings import digest_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "demo"))
    return tmp_path / "cache"


def npz(folder: Path, seed: int = 0, count: int = 20) -> Path:
    """Write an .npz of noise with two classes."""
    path = folder / f"noise{seed}.npz"
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        images=rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        labels=np.arange(count) % 2,
        classes=["even", "odd"],
    )
    return path


def prepared(path: Path, name: str = "noise", resolution: int = 8) -> store.Artifact:
    return catalogue.prepare(catalogue.source_settings("npz", path, name, resolution), path)


def test_nothing_stored() -> None:
    assert catalogue.names() == ["openmoji-people"]
    with pytest.raises(NotFoundError, match=r"'openmoji-people' has not been prepared yet\. Prepare it"):
        catalogue.by_name("openmoji-people")
    with pytest.raises(NotFoundError, match=r"no dataset 'nose'\. Available: openmoji-people\."):
        catalogue.by_name("nose")
    with pytest.raises(NotFoundError, match="digest 0123456789abcdef is not stored"):
        catalogue.by_digest("0123456789abcdef")


def test_a_dataset_is_stored_and_opened(tmp_path: Path) -> None:
    artifact = prepared(npz(tmp_path))
    dataset = catalogue.by_name("noise")
    assert catalogue.names() == ["noise", "openmoji-people"]
    assert (dataset.name, dataset.key, dataset.shipped) == ("noise", artifact.key, False)
    assert dataset.train.images.shape == (18, 8, 8, 3)
    assert dataset.held_out.images.shape == (2, 8, 8, 3)
    assert sorted(dataset.train.labels + dataset.held_out.labels) == ["even"] * 10 + ["odd"] * 10
    assert artifact.manifest["labels"] == ["even", "odd"]
    assert catalogue.by_digest(dataset.digest) is dataset
    assert dataset.settings == catalogue.source_settings("npz", tmp_path / "noise0.npz", "noise", 8)
    with np.load(tmp_path / "noise0.npz") as arrays:
        for split in (dataset.train, dataset.held_out):
            for image, row in zip(split.images, split.rows, strict=True):
                assert np.array_equal(image, arrays["images"][row["origin"]])
                assert row["label"] == ("even", "odd")[row["origin"] % 2]


def test_the_digest_is_of_pixels_and_labels(tmp_path: Path) -> None:
    dataset = catalogue.load(prepared(npz(tmp_path)))
    parts: list[bytes | str] = []
    for split in (dataset.train, dataset.held_out):
        parts += [str(split.images.shape), split.images.tobytes(), json.dumps([row["label"] for row in split.rows])]
    assert dataset.digest == digest_of(*parts)
    # Another name for the same pictures is another artifact with the same digest.
    again = prepared(npz(tmp_path), "noise-again")
    assert (again.manifest["digest"], again.key == dataset.key) == (dataset.digest, False)


def test_the_same_settings_are_stored_once(tmp_path: Path) -> None:
    path = npz(tmp_path)
    first = prepared(path)
    steps: list[tuple[int, int]] = []
    second = catalogue.prepare(
        catalogue.source_settings("npz", path, "noise", 8), path, lambda i, n: steps.append((i, n))
    )
    assert (second.key, steps) == (first.key, [])
    assert len(store.listing("datasets")) == 1


def test_the_newest_of_one_name_is_meant(tmp_path: Path) -> None:
    first, second = prepared(npz(tmp_path, 0)), prepared(npz(tmp_path, 1))
    assert catalogue.names() == ["noise", "openmoji-people"]
    assert catalogue.by_name("noise").key == second.key
    manifest = first.path / "manifest.json"
    later = json.loads(manifest.read_text()) | {"date": "2999-01-01T00:00:00+00:00"}
    manifest.write_text(json.dumps(later))
    assert catalogue.by_name("noise").key == first.key
    assert catalogue.by_digest(second.manifest["digest"]).key == second.key


@pytest.mark.parametrize("name", ["openmoji-people", "cifar2", "cifar10"])
def test_names_of_built_in_datasets_are_refused(name: str, tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)
    with pytest.raises(SettingsError, match=f"'{name}' is the name of a built-in dataset"):
        catalogue.source_settings("npz", path, name, 8)
    settings = catalogue.source_settings("npz", path, "noise", 8).model_copy(update={"name": name})
    with pytest.raises(SettingsError, match="built-in"):
        catalogue.prepare(settings, path)
    assert not cache.exists()


def test_kind_name_and_source_must_go_together(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'cifar2' is built in and has no source"):
        catalogue.prepare(DatasetSettings(kind="cifar2", name="cifar2"), tmp_path)
    with pytest.raises(SettingsError, match="'openmoji-people' is the name of a built-in dataset"):
        catalogue.prepare(DatasetSettings(kind="cifar2"))
    with pytest.raises(SettingsError, match="Dataset 'mine' is of kind folder; give the path"):
        catalogue.prepare(DatasetSettings(kind="folder", name="mine"))
    with pytest.raises(SettingsError, match="'cifar2' is built in"):
        catalogue.source_settings("cifar2", tmp_path, "mine", 16)
    with pytest.raises(SettingsError, match="Setting 'name' is 'My Pictures'"):
        catalogue.source_settings("npz", npz(tmp_path), "My Pictures", 16)


def test_a_source_that_changed_is_refused(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)
    settings = catalogue.source_settings("npz", path, "noise", 8)
    path.write_bytes(npz(tmp_path, 1).read_bytes())
    with pytest.raises(DataError, match=r"'noise0\.npz' has changed since it was chosen"):
        catalogue.prepare(settings, path)
    assert not cache.exists()


def test_cancelling_stores_nothing(tmp_path: Path, cache: Path) -> None:
    path = npz(tmp_path)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalogue.prepare(catalogue.source_settings("npz", path, "noise", 8), path, stop)
    assert not cache.exists()


def test_rows_that_were_tampered_with_are_found(tmp_path: Path) -> None:
    artifact = prepared(npz(tmp_path))
    rows = json.loads((artifact.path / "train.json").read_text())
    rows[0]["label"] = "odd" if rows[0]["label"] == "even" else "even"
    store.write_json(artifact.path / "train.json", rows)
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    manifest["files"]["train.json"] = store._describe(artifact.path / "train.json")
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="its manifest says"):
        catalogue.by_name("noise")


def test_a_shipped_dataset_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(npz(tmp_path))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "empty"))
    assert catalogue.by_name("noise").shipped


def test_image_digest_depends_on_shape_and_pixels() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert catalogue.image_digest(image) == digest_of("(4, 4, 3)", bytes(range(48)))
    assert catalogue.image_digest(image) != catalogue.image_digest(image.reshape(2, 8, 3))
    assert catalogue.image_digest(image[::-1]) == catalogue.image_digest(image[::-1].copy())


@pytest.mark.parametrize(
    ("labels", "by_number"),
    [
        (["10", "2", "-1", "1", "0"], ("-1", "0", "1", "2", "10")),
        (["10.0", "2.0", "1.5", "", "0"], ("0", "1.5", "2.0", "10.0")),
        (["10", "2", "02", "9" * 5000, "9" * 4999], ("02", "2", "10", "9" * 4999, "9" * 5000)),
        (["10", "2", "a"], ("10", "2", "a")),
        (["10", "2", "nan"], ("10", "2", "nan")),
        (["10", "2", "1_0"], ("10", "1_0", "2")),
    ],
)
def test_classes_that_are_numbers_stand_by_value(labels: list[str], by_number: tuple[str, ...]) -> None:
    assert content.classes_of(labels) == by_number
    assert content.classes_of(labels, ["b"]) == ("b", *by_number)
