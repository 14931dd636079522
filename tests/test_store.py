"""The store: whole or absent, never half; damage is found and put aside."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import artifacts, files, store
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled, NotFoundError, StoreError
from dtrak_core.models import targets
from dtrak_core.models.settings import SampleSettings
from dtrak_core.progress import onward
from dtrak_core.settings import key_of

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


BROKEN = {
    "empty": b"",
    "no JSON": b'{"kind": "samples", ',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"3",
    "nothing": b"null",
    "no fields": b"{}",
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_manifest_is_put_aside_and_blocks_nothing(cache: Path, content: bytes) -> None:
    (make().path / store.MANIFEST).write_bytes(content)
    assert store.listing("samples") == []
    assert store.find("samples", KEY) is None
    assert (cache / "samples" / f"{KEY}.damaged" / "a.npy").exists()
    make().verify()
    assert [a.key for a in store.listing("samples")] == [KEY]


@pytest.mark.parametrize("name", ["kind", "key", "settings", "files", "bytes", "date", "versions"])
@pytest.mark.parametrize("value", [None, 7.5, "missing"], ids=str)
def test_a_manifest_without_what_every_one_tells_is_broken(cache: Path, name: str, value: object) -> None:
    path = make().path / store.MANIFEST
    facts = json.loads(path.read_bytes())
    if value == "missing":
        del facts[name]
    else:
        facts[name] = value
    path.write_text(json.dumps(facts))
    assert store.listing("samples") == []
    make().verify()


def test_a_fact_of_its_kind_that_is_missing_is_said_once(cache: Path) -> None:
    make()
    artifact = store.get("samples", KEY)
    with pytest.raises(StoreError, match=r"its manifest does not tell 'pixels'\. It was put aside; compute it again"):
        artifact.manifest["pixels"]
    assert artifact.manifest.get("pixels") is None
    assert store.find("samples", KEY) is None


def test_an_artifact_under_another_name_is_not_that(cache: Path) -> None:
    path = make().path
    shutil.copytree(path, path.with_name("0" * 16))
    assert store.find("samples", "0" * 16) is None
    assert store.find("samples", KEY) is not None


@pytest.mark.parametrize("kind", ["features", "samples"])
def test_a_key_that_leads_to_another_artifact_finds_and_harms_nothing(cache: Path, kind: str) -> None:
    make()
    assert store.find(kind, f"../samples/{KEY}") is None
    assert store.get("samples", KEY).key == KEY


def test_what_cannot_be_written_is_told_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(IsADirectoryError) as refused:
        store.write_json(tmp_path / "folder.json", 1)
    assert refused.value.filename == str(tmp_path / "folder.json")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize("what", ["a folder without a manifest", "a file", "a folder called as the manifest"])
def test_what_stands_at_the_place_of_an_artifact_makes_way(cache: Path, what: str) -> None:
    place = cache / "samples" / KEY
    place.parent.mkdir(parents=True)
    if what == "a file":
        place.write_bytes(b"?")
    else:
        (place / (store.MANIFEST if what.endswith("manifest") and "called" in what else "left")).mkdir(parents=True)
    assert store.listing("samples") == []
    make().verify()
    assert store.find("samples", KEY) is not None


def test_a_file_is_written_whole_though_its_folder_is_taken_away(cache: Path) -> None:
    folder = store.partial("samples", KEY)
    with store.writing(folder / "a.bin") as file:
        file.write(b"all of it")
        folder.rename(folder.with_name("published"))
    assert (folder / "a.bin").read_bytes() == b"all of it"
    with store.writing(folder / "b.bin") as file:
        file.write(b"more")
        shutil.rmtree(folder)
    assert [p.name for p in folder.iterdir()] == ["b.bin"]


def test_threads_that_make_the_same_do_not_disturb_each_other(cache: Path) -> None:
    """Without a lock, as two who upload one picture did: a thread's temporary file was another's."""
    for _ in range(12):
        with ThreadPoolExecutor(8) as pool:
            made = [each.result() for each in [pool.submit(make) for _ in range(8)]]
        assert {artifact.key for artifact in made} == {KEY}
        store.get("samples", KEY).verify()
        store.delete("samples", KEY)


def _publish(root: str, barrier: object, locked: bool) -> None:
    os.environ["STUDIO_CACHE"] = root
    for number in range(6):
        settings = SETTINGS.model_copy(update={"seed": number})
        key = key_of("samples", settings)
        barrier.wait(60)  # type: ignore[attr-defined]
        with store.computing("samples", key) if locked else contextlib.nullcontext() as found:
            if found is None:
                with (Path(root) / f"{number}.computed").open("a") as computed:
                    computed.write("x")
                folder = store.partial("samples", key)
                for name in "abc":
                    store.write_array(folder / f"{name}.npy", ARRAY)
                store.publish("samples", key, settings)


@pytest.mark.parametrize("locked", [True, False], ids=["computing", "without a lock"])
def test_processes_that_publish_together_leave_one_whole_artifact(cache: Path, locked: bool) -> None:
    cache.mkdir()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_publish, args=(str(cache), barrier, locked)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    found = store.listing("samples")
    assert len(found) == 6
    for artifact in found:
        artifact.verify()
        np.testing.assert_array_equal(artifact.array("a.npy"), ARRAY)
    assert {p.suffix for p in (cache / "samples").iterdir()} == {""}
    if locked:
        assert {p.read_text() for p in cache.glob("*.computed")} == {"x"}


def test_who_waits_is_told_and_may_stop(cache: Path) -> None:
    told: list[str] = []

    def cancel(_done: int, _total: int, _unit: str, message: str) -> None:
        told.append(message)
        raise Cancelled("stop")

    def second() -> None:
        with store.computing("samples", KEY, cancel):
            pass

    with store.computing("samples", KEY) as found, ThreadPoolExecutor(1) as pool:
        assert found is None
        with pytest.raises(Cancelled):
            pool.submit(second).result(30)
    assert told == ["Another job computes these samples"]
    with store.computing("samples", KEY) as found:
        assert found is None


def test_a_lock_ends_with_its_process(cache: Path) -> None:
    code = f"from dtrak_core import store\nwith store.computing('samples', '{KEY}'): print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=store.PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    with store.computing("samples", KEY) as found:
        assert found is None


def test_one_picture_uploaded_by_many_at_once_is_one(cache: Path, pictures: Dataset) -> None:
    data = thumbnails.png(np.full((16, 16, 3), 90, np.uint8))
    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: targets.keep_upload(pictures, data, "mine.png"), range(8)))
        assert len({target.id for target in found}) == 1
        store.delete("uploads", store.listing("uploads")[0].key)


REFUSALS = [
    (errno.EROFS, "samples", "cannot be written to (read-only file system). Set STUDIO_CACHE to a writable folder."),
    (errno.EACCES, "", "cannot be written to (permission denied). Set STUDIO_CACHE to a writable folder."),
    (errno.ENOTDIR, "samples", "a file stands where a folder is needed"),
    (errno.ENOSPC, "samples", "The disk is full. Delete what you do not need"),
    (errno.EROFS, "../elsewhere", ""),
    (errno.EIO, "samples", ""),
]


@pytest.mark.parametrize(("number", "place", "said"), REFUSALS, ids=lambda value: str(value)[:20])
def test_what_keeps_the_cache_from_being_written_to_is_said(cache: Path, number: int, place: str, said: str) -> None:
    error = OSError(number, os.strerror(number), str((cache / place).resolve()))
    assert (said in store.refusal(error)) if said else (store.refusal(error) == "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("attempt to write a readonly database", "Set STUDIO_CACHE to a writable folder."),
        ("unable to open database file", "Set STUDIO_CACHE to a writable folder."),
        ("disk I/O error", "Set STUDIO_CACHE to a writable folder."),
        ("database or disk is full", "The disk is full."),
        ("no such table: job", ""),
    ],
)
def test_what_keeps_the_index_from_being_written_to_is_said(cache: Path, words: str, said: str) -> None:
    reason = store.refusal(sqlite3.OperationalError(words))
    assert (said in reason) if said else (reason == "")


def test_an_index_that_cannot_be_opened_on_a_full_disk_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "full", lambda folder: folder == cache)
    assert store.refusal(sqlite3.OperationalError("disk I/O error")).startswith("The disk is full. Delete what you do")


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc/nowhere"])
def test_a_cache_that_cannot_be_a_folder_is_refused_and_read_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "cache"}.get(where, Path(where))
    monkeypatch.setenv("STUDIO_CACHE", str(place))
    assert store.find("features", KEY) is None
    shipped = store.listing("samples")
    assert shipped
    assert all(artifact.shipped for artifact in shipped)
    with pytest.raises(StoreError, match="Set STUDIO_CACHE to a writable folder"):
        store.partial("samples", KEY)
    with pytest.raises(StoreError, match="Set STUDIO_CACHE to a writable folder"), store.computing("samples", KEY):
        pass


def test_the_cache_lies_in_the_checkout_or_where_the_system_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDIO_CACHE", raising=False)
    assert store.root() == Path(__file__).resolve().parent.parent / "cache"
    monkeypatch.setattr(artifacts, "CHECKOUT", False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert store.root().name == "dtrak-studio"
    assert store.root().is_relative_to(tmp_path)
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "mine"))
    assert store.root() == tmp_path / "mine"


@pytest.mark.parametrize(
    ("checkout", "said"), [(True, "git checkout cache/demo"), (False, "Install dtrak-studio again")]
)
def test_a_damaged_demo_is_restored_from_where_it_came(
    checkout: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path))
    monkeypatch.setattr(artifacts, "CHECKOUT", checkout)
    folder = tmp_path / "samples" / KEY
    folder.mkdir(parents=True)
    assert said in str(artifacts.damaged(folder, "a file is missing"))
    assert folder.is_dir()


def test_long_names_are_written_on_hosts_of_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: f"ip-172-31-12-34.{'x' * 44}.compute.internal")
    path = tmp_path / f"{'ä' * 98}.png"
    files.write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]
    other = files.temporary_of(tmp_path / "other.png")
    assert other != files.temporary_of(path)
    assert other.match(files.TEMPORARY)


def test_progress_of_shared_work_never_goes_back() -> None:
    said: list[int] = []
    say = onward(lambda done, total, unit, message: said.append(done))
    for done in (10, 80, 20, 30, 90):
        say(done, 100, "training steps", "")
    assert said == [10, 80, 80, 80, 90]
