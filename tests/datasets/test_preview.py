"""Own pictures before they are prepared: what is said of them is what becomes of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dtrak_core.datasets import catalogue, npz, pictures, preview
from dtrak_core.errors import DataError

HEAD = "file,style,who,title"
COLUMNS = (("file_name", "file"), ("label", "style"), ("contributor", "who"), ("caption", "title"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a zip of 40 pictures of 12 x 10 and a table in words of its own, with a broken picture and a document."""
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        lines = [HEAD]
        for i in range(40):
            picture = io.BytesIO()
            Image.new("RGB", (12, 10), (6 * i, 0, 255 - 6 * i)).save(picture, "PNG")
            archive.writestr(f"art/{i:02}.png", picture.getvalue())
            lines.append(f"art/{i:02}.png,{'ab'[i % 2]},{('Ada', 'Ben', 'Cy')[i % 3]},a cup {i}")
        archive.writestr("metadata.csv", "\n".join(lines))
        archive.writestr("notes.pdf", b"%PDF")
        archive.writestr("art/x.png", b"<html>")
    return tmp_path / "mine.zip"


def test_a_look_says_what_preparing_stores(source: Path, cache: Path) -> None:
    seen = preview.look(source, 8, COLUMNS)
    settings = catalogue.source_settings("folder", source, "mine", 8, "skip", COLUMNS)
    stored = catalogue.load(catalogue.prepare(settings, source))
    rows = {row["origin"]: row for row in [*stored.train.rows, *stored.held_out.rows]}
    images = dict(zip([r["origin"] for r in stored.train.rows], stored.train.images, strict=True))
    images |= dict(zip([r["origin"] for r in stored.held_out.rows], stored.held_out.images, strict=True))
    assert (seen.count, seen.captions, seen.contributors) == (len(rows), 40, 3)
    assert seen.labels == {"a": 20, "b": 20} == {name: stored_labels(rows, name) for name in "ab"}
    assert set(seen.left_out) == set(stored.skipped)
    assert seen.digest == settings.source_digest
    assert seen.sizes == ((12, 10),)
    assert len(seen.shown.rows) == preview.SHOWN
    for image, row in zip(seen.shown.images, seen.shown.rows, strict=True):
        assert row == rows[row["origin"]]
        assert (image == images[row["origin"]]).all()
    assert rows["art/07.png"]["label"] == "b"
    assert rows["art/07.png"]["contributor"] == "Ben"
    assert rows["art/07.png"]["caption"] == "a cup 7"


def stored_labels(rows: dict[str, dict[str, str]], name: str) -> int:
    return sum(row["label"] == name for row in rows.values())


def test_columns_are_offered_where_the_table_cannot_be_read_as_it_is(source: Path) -> None:
    with pytest.raises(DataError, match="has no column 'file_name'; it has: file, style"):
        preview.look(source, 8)
    tables = preview.tables(source)
    assert (tables.offered, tables.usual, tables.names) == (tuple(HEAD.split(",")), {}, "file")
    seen = preview.look(source, 8, (("file_name", "file"),))
    assert dict(seen.taken) == {"file_name": "file"}
    assert seen.labels == {"art": 40}, "the folder, where no column tells it"


def test_a_table_that_is_known_says_what_it_tells(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "metadata.csv").write_text("File Name,prompt,maker\n0.png,a cup,me")
    tables = preview.tables(tmp_path)
    assert (tables.usual, tables.names) == ({"file_name": "File Name", "caption": "prompt"}, "")
    (tmp_path / "metadata.csv").write_text("picture,maker\nnowhere.png,me")
    with pytest.raises(DataError, match="has no column 'file_name'"):
        preview.tables(tmp_path)


def test_columns_are_offered_without_reading_the_pictures(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole source was hashed once for each column that might name the pictures."""
    for at, name in ((pictures, "source_digest"), (preview, "decoded")):
        monkeypatch.setattr(at, name, lambda *_, what=name: pytest.fail(what))
    assert preview.tables(source).names == "file"
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("art/metadata.csv", "what,which,where\na,b,c")
    with pytest.raises(DataError, match="has no column 'file_name'; it has: what, which, where"):
        preview.tables(source)


def test_of_a_large_source_not_every_picture_is_opened(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "SECONDS", 0.0)
    seen = preview.look(source, 8, COLUMNS)
    assert seen.opened == preview.SHOWN
    assert len(seen.shown.rows) in (preview.SHOWN - 1, preview.SHOWN)


def test_arrays_are_shown_unless_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(30) % 3, x_test=images[:9], y_test=np.arange(9) % 3)
    seen = preview.look(tmp_path / "a.npz", 8)
    assert (seen.count, seen.held_out, seen.labels) == (39, 9, {"0": 13, "1": 13, "2": 13})
    assert (seen.shown.images[:24] == images[:24]).all()
    monkeypatch.setattr(preview, "LARGE", 100)
    assert (preview.look(tmp_path / "a.npz", 8).count, len(preview.look(tmp_path / "a.npz", 8).shown.rows)) == (39, 0)
    with pytest.raises(DataError, match="holds arrays, and no table"):
        preview.look(tmp_path / "a.npz", 8, (("label", "style"),))


def test_what_a_look_would_have_to_read_whole_is_limited(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few bytes of a zip may unfold to gigabytes, which the process that draws pages must not read."""
    monkeypatch.setattr(preview, "BESIDE", 2**20)
    with zipfile.ZipFile(source, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("art/metadata.csv", bytes(2**21))
    for call in (lambda: preview.look(source, 8, COLUMNS), lambda: preview.tables(source)):
        with pytest.raises(DataError, match="too much to be looked at first"):
            call()
    images = np.zeros((30, 8, 8, 3), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.zeros((30, 10**5)))
    with pytest.raises(DataError, match="Array labels has 23 MiB, at most 1 are read"):
        preview.look(tmp_path / "a.npz", 8)


def test_too_few_pictures_are_refused_before_they_are_prepared(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"has only 7 readable pictures \(1 \(7.png\): is empty"):
        preview.look(tmp_path, 8)
    assert pictures.kind_of(tmp_path) == "folder"


def test_broken_pictures_that_were_to_be_held_out_are_missed_there_alone(tmp_path: Path, cache: Path) -> None:
    for side, good, broken in (("train", 9, 0), ("test", 3, 2)):
        for i in range(good + broken):
            path = tmp_path / "mine" / side / "a" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 12), (20 * i, 0, 5 * good)).save(path) if i < good else path.write_bytes(b"<html>")
    seen = preview.look(tmp_path / "mine", 8)
    settings = catalogue.source_settings("folder", tmp_path / "mine", "mine", 8, "skip")
    stored = catalogue.load(catalogue.prepare(settings, tmp_path / "mine"))
    assert (seen.count - seen.held_out, seen.held_out) == (9, 3)
    assert (len(stored.train.rows), len(stored.held_out.rows)) == (9, 3)


def test_a_source_of_which_nothing_can_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone of a hub's dataset without git-lfs, of which not every file is opened."""
    for i in range(60):
        (tmp_path / f"{i:02}.png").write_text(
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{i:064}\nsize 9\n"
        )
    monkeypatch.setattr(preview, "SECONDS", 0.0)
    with pytest.raises(
        DataError, match=r"None of the 24 pictures of '.*' that were opened first can be read: '00.png' "
    ):
        preview.look(tmp_path, 8)


def test_boxes_beside_the_pictures_are_no_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(60):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i:02}.png")
        (tmp_path / f"{i:02}.txt").write_text("0 0.5 0.5 0.1 0.1" if i % 2 else "")
    assert preview.look(tmp_path, 8).captions == 0
    (tmp_path / "07.txt").write_text("a cup")
    (tmp_path / "metadata.csv").write_text("file_name,caption\n08.png,a bowl\n07.png,a jar")
    assert preview.look(tmp_path, 8).captions == 2
    (tmp_path / "09.txt").write_text("a plate")
    assert preview.look(tmp_path, 8).captions == 3
    for i in range(10, 60):
        (tmp_path / f"{i:02}.txt").write_text("a fork")
    monkeypatch.setattr(preview, "SECONDS", 0.0)
    assert 40 < preview.look(tmp_path, 8).captions <= 60, "most texts, by some of them"


def test_the_time_of_reading_arrays_is_that_of_a_real_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read once for all pictures, not for the few that are shown; a clock that only this work moves."""
    now = [0.0]

    def takes(seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            now[0] += seconds
            return work(*given)

        return timed

    monkeypatch.setattr(npz.arrays, "read", takes(100.0, npz.arrays.read))
    monkeypatch.setattr(npz, "fit", takes(0.25, npz.fit))
    monkeypatch.setattr(preview, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    images = np.zeros((2000, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=np.arange(2000) % 3, x_test=images[:9], y_test=np.zeros(9))
    seen = preview.look(tmp_path / "a.npz", 8)
    begun = now[0]
    npz.load(tmp_path / "a.npz", 8)
    assert 0.9 < seen.seconds * seen.count / (now[0] - begun) < 1.1
