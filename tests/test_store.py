"""The store: whole or absent, never half; damage is found and put aside."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.errors import NotFoundError, StoreError
from dtrak_core.settings import SampleSettings, key_of

SETTINGS = SampleSettings(checkpoint="a" * 16, seed=5)
KEY = key_of("samples", SETTINGS)
ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def make(array: np.ndarray = ARRAY) -> store.Artifact:
    folder = store.partial("samples", KEY)
    store.write_array(folder / "a.npy", array)
    store.write_bytes(folder / "deep" / "b.bin", b"hello")
    return store.publish("samples", KEY, SETTINGS, note="made by a test")


def test_what_is_published_is_found_with_its_facts(cache: Path) -> None:
    assert store.find("samples", KEY) is None
    made = make()
    found = store.get("samples", KEY)
    assert found == made
    np.testing.assert_array_equal(found.array("a.npy"), ARRAY)
    assert found.file("deep/b.bin").read_bytes() == b"hello"
    assert found.settings == SETTINGS.model_dump(mode="json")
    assert found.manifest["note"] == "made by a test"
    written = [p for p in found.path.rglob("*") if p.is_file() and p.name != store.MANIFEST]
    assert found.manifest["bytes"] == sum(p.stat().st_size for p in written)
    assert {"dtrak-studio", "python", "numpy"} <= set(found.manifest["versions"])
    assert not (cache / "samples" / f"{KEY}.partial").exists()
    found.verify()


def test_unfinished_work_is_not_there(cache: Path) -> None:
    store.write_array(store.partial("samples", KEY) / "a.npy", ARRAY)
    assert store.find("samples", KEY) is None
    assert store.listing("samples") == []


def test_a_write_that_fails_leaves_nothing(cache: Path) -> None:
    folder = store.partial("samples", KEY)

    def write_half() -> None:
        with store.writing(folder / "a.npy") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert list(folder.iterdir()) == []


def test_values_that_are_not_finite_are_refused(cache: Path) -> None:
    folder = store.partial("samples", KEY)
    with pytest.raises(StoreError, match="not finite"):
        store.write_array(folder / "a.npy", np.array([1.0, np.inf]))
    assert list(folder.iterdir()) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-8]), "has 168 bytes, its manifest says 176"),
        (flip, "does not have the checksum"),
        (lambda p: p.unlink(), "is missing"),
    ],
    ids=["truncated", "flipped bit", "missing"],
)
def test_a_damaged_file_is_put_aside(cache: Path, damage: object, said: str) -> None:
    made = make()
    damage(made.path / "a.npy")  # type: ignore[operator]
    with pytest.raises(StoreError, match=said) as error:
        store.get("samples", KEY).array("a.npy")
    assert "compute it again" in str(error.value)
    assert str(cache) not in str(error.value)
    assert store.find("samples", KEY) is None
    assert (cache / "samples" / f"{KEY}.damaged").is_dir()
    np.testing.assert_array_equal(make().array("a.npy"), ARRAY)


def test_a_manifest_that_lies_about_the_shape_is_caught(cache: Path) -> None:
    made = make()
    path = made.path / store.MANIFEST
    path.write_text(path.read_text().replace('"shape": [\n    3,\n    4\n   ]', '"shape": [4, 3]'))
    with pytest.raises(StoreError, match=r"holds float32\[3, 4\], its manifest says float32\[4, 3\]"):
        store.get("samples", KEY).array("a.npy")


def test_an_unknown_file_is_named(cache: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no file 'c.npy'. Files: a.npy, deep/b.bin"):
        make().array("c.npy")


def test_nothing_stored_is_said(cache: Path) -> None:
    with pytest.raises(NotFoundError, match="Nothing is stored as samples/"):
        store.get("samples", KEY)


def test_publishing_twice_keeps_the_first(cache: Path) -> None:
    first = make()
    second = make(ARRAY + 1)
    assert second.manifest["date"] == first.manifest["date"]
    np.testing.assert_array_equal(second.array("a.npy"), ARRAY)
    assert not (cache / "samples" / f"{KEY}.partial").exists()


def test_deleting_frees_what_it_says(cache: Path) -> None:
    made = make()
    size = sum(p.stat().st_size for p in made.path.rglob("*") if p.is_file())
    assert store.delete("samples", KEY) == size
    assert store.find("samples", KEY) is None
    assert store.delete("samples", KEY) == 0


def test_the_shipped_demo_is_found_and_never_touched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    demo = cache.parent / "demo"
    (demo / "samples").mkdir(parents=True)
    made.path.rename(demo / "samples" / KEY)
    monkeypatch.setenv("STUDIO_DEMO", str(demo))
    found = store.get("samples", KEY)
    assert found.shipped
    assert [a.key for a in store.listing("samples")] == [KEY]
    assert store.delete("samples", KEY) == 0
    flip(found.path / "a.npy")
    with pytest.raises(StoreError, match="shipped demo is damaged"):
        store.get("samples", KEY).array("a.npy")
    assert found.path.is_dir()


def _publish(root: str, barrier: object) -> None:
    import os

    os.environ["STUDIO_CACHE"] = root
    barrier.wait()  # type: ignore[attr-defined]
    make()


def test_processes_that_publish_together_leave_one_whole_artifact(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=_publish, args=(str(cache), barrier)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    found = store.get("samples", KEY)
    found.verify()
    np.testing.assert_array_equal(found.array("a.npy"), ARRAY)
