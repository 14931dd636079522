"""What is found in a folder or a zip: links, loops, hidden and system files, archives that mean harm."""

from __future__ import annotations

import errno
import functools
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtrak_core.datasets import content, pictures, source_files, sources
from dtrak_core.datasets.source_files import opened
from dtrak_core.errors import DataError, NotFoundError


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def found(source: Path) -> list[str]:
    with opened(source) as listing:
        return [file.name for file in listing.files]


def left_out(source: Path) -> dict[str, tuple[str, int]]:
    with opened(source) as listing:
        return {left.file: (left.reason, left.count) for left in listing.left_out}


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    store = write(tmp_path / "store", "cats/0.png", "cats/deep/1.png", "pool/2.png")
    source = write(tmp_path / "mine", "birds/3.png")
    (source / "cat").symlink_to(store / "cats")
    (source / "dog").mkdir()
    (source / "dog" / "2.png").symlink_to(Path("../../store/pool/2.png"))
    assert found(source) == ["birds/3.png", "cat/0.png", "cat/deep/1.png", "dog/2.png"]
    with opened(source) as listing:
        assert listing.files[1].read() == b"cats/0.png"
    assert left_out(source) == {}
    (tmp_path / "alias").symlink_to(source)
    assert found(tmp_path / "alias") == found(source)


def test_nothing_is_read_twice_and_loops_end(tmp_path: Path) -> None:
    source = write(tmp_path / "mine", "cat/0.png", "cat/deep/1.png")
    (source / "a-twin").symlink_to("cat")
    (source / "cat" / "deep" / "up").symlink_to("..")
    (source / "top").symlink_to(".")
    (source / "above").symlink_to("..")
    (source / "part").symlink_to("cat/deep")
    (source / "again.png").symlink_to("cat/0.png")
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "ring").symlink_to("ring")
    assert found(source) == ["cat/0.png", "cat/deep/1.png"]
    reasons = {file: reason for file, (reason, _) in left_out(source).items()}
    assert reasons == {
        "a-twin": "the same folder as 'cat', which is read",
        "cat/deep/up": "the same folder as 'cat', which is read",
        "top": "a link to a folder that holds the link itself",
        "above": "a link to a folder that holds the link itself",
        "part": "the same folder as 'cat/deep', which is read",
        "again.png": "the same file as 'cat/0.png', which is read",
        "gone.png": "a link that leads nowhere",
        "ring": "a link that leads nowhere",
    }


def test_links_that_overlap_outside_are_read_once(tmp_path: Path) -> None:
    store = write(tmp_path / "store", "cats/black/0.png", "cats/1.png")
    source = write(tmp_path / "mine", "x.png")
    (source / "a").symlink_to(store / "cats" / "black")
    (source / "b").symlink_to(store / "cats")
    assert found(source) == ["a/0.png", "b/1.png", "x.png"]
    assert left_out(source) == {"b/black": ("the same folder as 'a', which is read", 1)}


def test_hidden_and_system_files_are_counted_and_not_looked_at(tmp_path: Path) -> None:
    names = (
        ".hidden.png", ".git/a/1", ".git/2", "__MACOSX/cat/._0.png", "@eaDir/0.jpg", "cat/Thumbs.db",
        "cat/.ipynb_checkpoints/0-checkpoint.png", "cat/@eaDir/0.png/SYNO.jpg", "cat/desktop.ini", "cat/0.png",
    )  # fmt: skip
    source = write(tmp_path / "mine", *names)
    packed = tmp_path / "mine.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.write(source / name, name)
    for each in (source, packed):
        assert found(each) == ["cat/0.png"]
        assert {file: count for file, (_, count) in left_out(each).items()} == {
            ".hidden.png": 1, ".git/": 2, "__MACOSX/": 1, "@eaDir/": 1, "cat/Thumbs.db": 1,
            "cat/.ipynb_checkpoints/": 1, "cat/@eaDir/": 1, "cat/desktop.ini": 1,
        }  # fmt: skip
        assert left_out(each)[".git/"][0] == "a hidden folder, not looked at"
        assert left_out(each)["cat/@eaDir/"][0] == "a folder that the system made, not looked at"


def test_a_folder_of_one_file_is_counted_as_one(tmp_path: Path) -> None:
    with opened(write(tmp_path / "mine", "0.png", ".cache/1.png", ".git/a", ".git/b")) as listing:
        ((count, told),) = content.by_reason(listing.left_out).values()
    assert (count, told) == (3, [".cache/ (1 file)", ".git/ (2 files)"])


def test_pipes_and_names_in_no_encoding(tmp_path: Path) -> None:
    source = write(tmp_path / "mine", "0.png")
    os.mkfifo(source / "pipe.png")
    (source / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    assert found(source) == ["0.png", "caf\\xe9.png"]
    assert left_out(source) == {"pipe.png": ("a device or pipe, not a file", 1)}


def test_a_zip_is_read_as_the_folder_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("cat")
        archive.writestr("cat/0.png", b"zero")
        archive.writestr("./cat\\1.png", b"one")
        archive.writestr("inner.zip", b"PK")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert found(path) == ["cat/0.png", "cat/1.png", "inner.zip"]
    with opened(path) as listing:
        assert [file.read() for file in listing.files[:2]] == [b"zero", b"one"]
    assert left_out(path) == {"link.png": ("a link inside an archive, which is not followed", 1)}


@pytest.mark.parametrize("name", ["../0.png", "cat/../../0.png", "/etc/0.png", "C:/0.png", "..\\0.png"])
def test_a_zip_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(DataError, match="which leads out of its folder"):
        found(tmp_path / "mine.zip")


def test_a_time_of_day_in_a_name_is_no_drive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("2024-05-01 10:30.png", b"")
    assert found(tmp_path / "mine.zip") == ["2024-05-01 10:30.png"]


def closed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let what is named so, and what lies in it, refuse to be looked at and opened; root is refused nothing."""

    def refusing(given: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, *others: Any, **named: Any) -> Any:
            if name in Path(os.fspath(path)).parts:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return given(path, *others, **named)

        return asked

    for owner, function in ((os, "stat"), (io, "open"), (os, "scandir")):
        monkeypatch.setattr(owner, function, refusing(getattr(owner, function)))


def test_what_may_not_be_looked_at_in_a_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "mine", "cat/0.png", "closed/1.png")
    write(tmp_path / "theirs", "2.png")
    (source / "theirs").symlink_to(tmp_path / "theirs")
    (source / "2.png").symlink_to(tmp_path / "theirs" / "2.png")
    closed(monkeypatch, "theirs")
    closed(monkeypatch, "1.png")  # whose folder may be listed
    denied = ("cannot be opened (Permission denied)", 1)
    assert found(source) == ["cat/0.png"]
    assert left_out(source) == {"closed/1.png": denied, "theirs": denied, "2.png": denied}
    assert pictures.source_digest("folder", source)


@pytest.mark.parametrize("name", ["mine", "mine.zip", "mine.npz", "mine.bin", "theirs/mine.zip"])
def test_a_source_that_cannot_be_opened_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = write(tmp_path, f"{name}/0.png" if name == "mine" else name) / name
    closed(monkeypatch, name.split("/")[0])
    said = rf"^'{source.name}' cannot be opened \(Permission denied\)\. Allow reading it\.$"
    for ask in (pictures.kind_of, functools.partial(pictures.source_digest, "npz"), found):
        with pytest.raises(DataError, match=said):
            ask(source)


def test_a_name_longer_than_any_is_not_there(tmp_path: Path) -> None:
    for ask in (pictures.kind_of, functools.partial(pictures.source_digest, "folder"), found):
        with pytest.raises(NotFoundError, match=r"There is no 'x{300}' at the path given"):
            ask(tmp_path / ("x" * 300))


def test_a_closed_folder_of_a_published_data_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, write(tmp_path, "celeba/list_eval_partition.txt").name)
    for kind in ("celeba", "artbench2"):
        with pytest.raises(DataError, match=r"cannot be opened \(Permission denied\)\. Allow reading it\."):
            sources.digest(kind, tmp_path / "celeba")


def test_a_bomb_a_locked_and_a_damaged_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(3_000_000))
        archive.writestr("1.png", bytes(2_000_000))
    monkeypatch.setattr(source_files, "MAX_BYTES", 4_000_000)
    with pytest.raises(DataError, match=r"'mine\.zip' unpacks to 0\.0 GiB; archives of at most"):
        found(path)
    monkeypatch.setattr(source_files, "MAX_BYTES", 8_000_000)
    monkeypatch.setattr(source_files, "MAX_FILE", 2_500_000)
    with opened(path) as listing:
        assert len(listing.files[1].read()) == 2_000_000
        with pytest.raises(DataError, match=r"'0\.png' has 3 MiB; no file of more than 2 is read"):
            listing.files[0].read()
    whole = path.read_bytes()
    path.write_bytes(
        whole.replace(b"PK\x03\x04\x14\0\0\0", b"PK\x03\x04\x14\0\1\0").replace(
            b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
        )
    )
    with pytest.raises(DataError, match="is protected by a password"):
        found(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"'mine\.zip' is not a zip archive or is damaged"):
        found(path)
    flipped = bytearray(whole)
    flipped[60] ^= 255
    path.write_bytes(bytes(flipped))
    monkeypatch.setattr(source_files, "MAX_FILE", 4_000_000)
    with opened(path) as listing, pytest.raises(DataError, match=r"'0\.png' in the archive is damaged"):
        listing.files[0].read()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"PK\1\2", b"PK\7\7"), (b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\xff"), (b"0.png", b"9.png")],
    ids=["directory", "version", "name"],
)
def test_a_damaged_zip_is_told_in_one_short_sentence(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"{i}.png", bytes(os.urandom(2000)))
    path.write_bytes(path.read_bytes().replace(old, new, 1))

    def read_all() -> list[bytes]:
        pictures.kind_of(path)
        with opened(path) as listing:
            return [file.read() for file in listing.files]

    with pytest.raises(DataError) as error:
        read_all()
    assert "damaged" in str(error.value)
    assert len(str(error.value)) < 250
