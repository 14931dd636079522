"""Uploads: written piece by piece below a folder of ours, whatever their names say; limited, counted, swept away."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from dtrak_core import store
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError, StoreError
from dtrak_core.jobs import housekeeping, incoming, jobs, launch
from dtrak_core.jobs.incoming import Limits


@pytest.fixture(autouse=True)
def alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(launch, "ensure", lambda: None)
    return cache


class Piecewise(io.BytesIO):
    """A file that cannot be read at once."""

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 < size <= incoming.AT_ONCE
        return super().read(size)


def receive(*names: str, data: bytes = b"x", limits: Limits = incoming.PICTURES) -> Path:
    return incoming.receive([(name, Piecewise(data)) for name in names], limits, "pictures")


def held(source: Path) -> list[str]:
    top = store.root() / incoming.KIND / f"{incoming.key_of(str(source))}.partial"
    assert all(path.resolve().is_relative_to(top.resolve()) for path in top.rglob("*"))
    return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())


def test_a_file_alone_is_the_source_and_several_lie_in_a_folder() -> None:
    one, several = receive("mine.zip", data=b"PK" * 10**6), receive("0.png", "1.png", "metadata.csv")
    assert (one.name, one.read_bytes()) == ("mine.zip", b"PK" * 10**6)
    assert (several.name, held(several)) == ("pictures", ["pictures/0.png", "pictures/1.png", "pictures/metadata.csv"])
    folder = receive("photos/cat/0.png", "photos/dog/1.png")
    assert (folder.name, held(folder)) == ("photos", ["photos/cat/0.png", "photos/dog/1.png"])


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\pictures\\0.png", "pictures/0.png"),
        ("a/./b//../0.png", "a/b/0.png"),
        ("new\nline\0.png", "newline.png"),
    ],
)
def test_no_name_leads_out_of_the_folder(name: str, kept: str) -> None:
    assert held(receive(name, "other.png")) == sorted([f"pictures/{kept}", "pictures/other.png"])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((), "No file was uploaded"),
        (("..", "a.png"), "without a name"),
        (("a.png", "x/../a.png"), None),
        (("a.png", "./a.png"), "Two files are called 'a.png'"),
        (("a", "a/b.png"), "Two files are called 'a'"),
        (("ä" * 120,), "is too long: at most 200 bytes"),
    ],
)
def test_names_that_no_folder_can_hold_are_refused(names: tuple[str, ...], sentence: str | None) -> None:
    if sentence is None:
        assert held(receive(*names)) == ["pictures/a.png", "pictures/x/a.png"]
        return
    with pytest.raises(DataError, match=sentence):
        receive(*names)
    assert housekeeping.stored(incoming.KIND) == []


@pytest.mark.parametrize(
    ("sizes", "file"), [((1, 1), None), ((1, 3), "1.png"), ((2, 2, 2), "2.png")], ids=["fits", "one", "all"]
)
def test_what_is_too_large_is_refused_and_nothing_of_it_stays(sizes: tuple[int, ...], file: str | None) -> None:
    files = [(f"{i}.png", Piecewise(bytes(size * 2**20))) for i, size in enumerate(sizes)]
    limits = Limits(2, 5)
    if file is None:
        assert incoming.receive(files, limits, "pictures").is_dir()
        return
    with pytest.raises(DataError, match=f"'{file}' is too large: at most 2 MB a file, 5 MB in all are taken"):
        incoming.receive(files, limits, "pictures")
    assert not any((store.root() / incoming.KIND).iterdir())


def test_uploads_are_counted_and_deleted_like_all_else() -> None:
    source = receive("mine.zip", data=b"12345")
    (row,) = housekeeping.stored(incoming.KIND)
    assert (row["name"], row["bytes"], row["origin"]) == ("mine.zip", 5, "uploaded in the browser")
    assert housekeeping.own_bytes([row]) == 5
    assert housekeeping.deleted(incoming.KIND) == 5
    assert not source.exists()


def test_only_left_over_uploads_are_swept_away() -> None:
    old, asked, new = receive("old.zip"), receive("asked.zip"), receive("new.zip")
    settings = DatasetSettings(kind="folder", name="asked", source_digest="0" * 16)
    jobs.submit(jobs.DatasetJob(dataset=settings, source=str(asked)), "Prepare")
    for source in (old, asked):
        os.utime(source.parent, (time.time() - incoming.KEPT - 60,) * 2)
    needed = {name for _, reads in jobs.live() for name in reads}
    assert incoming.sweep(needed) == [incoming.key_of(str(old))]
    assert [one.exists() for one in (old, asked, new)] == [False, True, True]
    with pytest.raises(StoreError, match="is needed by the job 'Prepare'"):
        housekeeping.deleted(incoming.KIND, [incoming.key_of(str(asked))])


def test_what_was_taken_in_is_dropped_and_other_sources_stay(tmp_path: Path) -> None:
    source, mine = receive("a.zip"), tmp_path / "mine"
    mine.mkdir()
    for place in (source, mine, store.root(), store.root() / incoming.KIND):
        incoming.drop(str(place))
    assert not source.exists()
    assert mine.is_dir()
    assert (store.root() / incoming.KIND).is_dir()
