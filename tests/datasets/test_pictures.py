"""The user's own folder: labels, metadata, held-out pictures, and each way it can be wrong."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core.commands import answers, cli
from dtrak_core.datasets import catalogue, content, pictures
from dtrak_core.engine import work
from dtrak_core.errors import DataError, NotFoundError, SettingsError
from dtrak_core.progress import quiet


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "demo"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of one colour each, in two class folders."""
    source = tmp_path / "mine"
    for i in range(12):
        path = source / ("cats", "dogs")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 + i, 12), (20 * i, 0, 255 - 20 * i)).save(path)
    return source


def prepare(source: Path, on_broken: str = "refuse") -> catalogue.Dataset:
    settings = catalogue.source_settings("folder", source, "mine", 8, on_broken)
    return catalogue.load(catalogue.prepare(settings, source))


def write_metadata(source: Path, *lines: str, header: str = "file_name,caption,contributor") -> None:
    (source / "metadata.csv").write_text("\n".join([header, *lines]), encoding="utf-8")


def test_class_folders_become_labels(folder: Path) -> None:
    dataset = prepare(folder)
    assert (len(dataset.train.rows), len(dataset.held_out.rows)) == (11, 1)
    for split in (dataset.train, dataset.held_out):
        for image, row in zip(split.images, split.rows, strict=True):
            number = int(Path(row["origin"]).stem)
            assert image.tolist() == np.full((8, 8, 3), (20 * number, 0, 255 - 20 * number)).tolist()
            assert row == {
                "origin": f"{('cats', 'dogs')[number % 2]}/{number:02}.png",
                "label": ("cats", "dogs")[number % 2],
                "name": f"{number:02}",
                "contributor": "",
                "family": "",
                "caption": "",
            }
    assert dataset.skipped == ()


def test_pictures_without_folders_have_no_label(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in folder.rglob("*.png"):
        path.rename(flat / path.name)
    (flat / "deep" / "deeper").mkdir(parents=True)
    (flat / "00.png").rename(flat / "deep" / "deeper" / "00.PNG")
    dataset = prepare(flat)
    labels = {row["origin"]: row["label"] for split in (dataset.train, dataset.held_out) for row in split.rows}
    assert labels["deep/deeper/00.PNG"] == "deep"
    assert sorted(labels.values()) == [""] * 11 + ["deep"]


def test_metadata_gives_caption_contributor_label_and_more(folder: Path) -> None:
    write_metadata(
        folder,
        'cats/00.png,"A cat, asleep",Ada Löwe,,1998',
        "dogs/01.png,A dog,Ben,wolves,1999",
        header="\ufefffile_name,caption,contributor,label,year",
    )
    dataset = prepare(folder)
    rows = {row["origin"]: row for split in (dataset.train, dataset.held_out) for row in split.rows}
    cat, dog, other = rows["cats/00.png"], rows["dogs/01.png"], rows["cats/02.png"]
    assert (cat["caption"], cat["contributor"], cat["label"], cat["year"]) == (
        "A cat, asleep",
        "Ada Löwe",
        "cats",
        "1998",
    )
    assert (dog["caption"], dog["contributor"], dog["label"], dog["name"]) == ("A dog", "Ben", "wolves", "01")
    assert (other["caption"], other["contributor"], other["label"]) == ("", "", "cats")


@pytest.mark.parametrize(
    ("lines", "header", "says"),
    [
        (["cats/00.png,a,b"], "file,caption,contributor", "no column 'file_name'; it has: file, caption, contributor."),
        (["cats/99.png,a,b"], None, "Row 2 of metadata.csv names 'cats/99.png', which is no picture in 'mine'."),
        (["../secret.png,a,b"], None, "Row 2 of metadata.csv names '../secret.png', which is no picture in 'mine'."),
        (["cats/00.png,a,b", "cats/00.png,a,b"], None, "Row 3 of metadata.csv names 'cats/00.png' a second time."),
        (["cats/00.png,a, with comma,b"], None, "Row 2 of metadata.csv does not have 3 values."),
        (["cats/00.png,a"], None, "Row 2 of metadata.csv does not have 3 values."),
        (['cats/00.png,"a" b,c'], None, "metadata.csv is not a comma-separated table"),
        ([], "", "no column 'file_name'; it has: none."),
    ],
)
def test_wrong_metadata(folder: Path, cache: Path, lines: list[str], header: str | None, says: str) -> None:
    write_metadata(folder, *lines, header="file_name,caption,contributor" if header is None else header)
    with pytest.raises(DataError) as error:
        prepare(folder)
    assert says in str(error.value)
    assert not cache.exists()


def test_metadata_in_another_encoding(folder: Path) -> None:
    (folder / "metadata.csv").write_bytes("file_name,caption,contributor\ncats/00.png,ä,b".encode("latin-1"))
    with pytest.raises(DataError, match="Save it as CSV UTF-8"):
        prepare(folder)


def test_a_broken_file_is_refused_by_name(folder: Path, cache: Path) -> None:
    (folder / "dogs" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        prepare(folder)
    assert str(error.value).startswith("'dogs/03.png' is damaged or not a picture")
    assert "Remove the file, or choose to skip broken files." in str(error.value)
    assert str(folder) not in str(error.value)
    assert not cache.exists()


def test_a_broken_file_is_skipped_and_recorded(folder: Path) -> None:
    whole = (folder / "dogs" / "03.png").read_bytes()
    (folder / "dogs" / "03.png").write_bytes(whole[: len(whole) // 2])
    write_metadata(folder, "dogs/03.png,a,b", "dogs/05.png,c,d")
    settings = catalogue.source_settings("folder", folder, "mine", 8, "skip")
    artifact = catalogue.prepare(settings, folder)
    dataset = catalogue.load(artifact)
    (left,) = dataset.skipped
    assert (left.file, left.count) == ("dogs/03.png", 1)
    assert left.reason.startswith("is a PNG that is damaged")
    rows = {row["origin"]: row for split in (dataset.train, dataset.held_out) for row in split.rows}
    assert (len(rows), rows["dogs/05.png"]["caption"]) == (11, "c")


def test_too_few_pictures(folder: Path, cache: Path) -> None:
    for number in range(5):
        (folder / ("cats", "dogs")[number % 2] / f"{number:02}.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        prepare(folder, "skip")
    assert str(error.value).startswith(
        "'mine' has only 7 readable pictures (5 (cats/00.png, cats/02.png, cats/04.png, ...): is empty (0 bytes)"
    )
    assert "at least 8 are needed" in str(error.value)
    assert not cache.exists()


def test_sources_that_are_no_folder_of_pictures(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"'empty' holds no pictures\. Expected files ending in \.png,"):
        prepare(empty)
    (empty / "notes.heic").write_text("x")
    (empty / ".hidden.png").write_text("x")
    with pytest.raises(DataError) as error:
        prepare(empty)
    assert "'empty' holds no pictures; left out: 1 (.hidden.png): a hidden file, not looked at" in str(error.value)
    assert "1 (notes.heic): a HEIC picture (.heic), not read here: convert it to PNG or JPEG" in str(error.value)
    with pytest.raises(DataError, match=r"'00\.png' is a file; a folder of pictures was expected"):
        prepare(folder / "cats" / "00.png")
    with pytest.raises(NotFoundError, match="There is no 'nowhere' at the path given"):
        prepare(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="on_broken"):
        prepare(folder, "ignore")


def test_too_many_bytes_are_refused_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_BYTES", 12 * 8 * 8 * 3 - 1)
    monkeypatch.setattr(pictures, "open_picture", lambda *args: pytest.fail("a picture was read"))
    with pytest.raises(DataError, match="12 pictures of 8 x 8 take"):
        prepare(folder)


def test_the_source_digest_follows_names_contents_and_metadata(folder: Path) -> None:
    digests = [pictures.source_digest("folder", folder)]
    (folder / "cats" / "00.png").rename(folder / "dogs" / "00.png")
    digests.append(pictures.source_digest("folder", folder))
    Image.new("RGB", (9, 9)).save(folder / "dogs" / "00.png")
    digests.append(pictures.source_digest("folder", folder))
    write_metadata(folder)
    digests.append(pictures.source_digest("folder", folder))
    assert len(set(digests)) == 4
    (folder / "notes.txt").write_text("not a picture")
    digests.append(pictures.source_digest("folder", folder))  # the dataset tells that it was left out
    (folder / ".DS_Store").write_text("of the system")
    assert pictures.source_digest("folder", folder) == digests[-1]
    assert len(set(digests)) == 5


def test_progress_counts_files(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    settings = catalogue.source_settings("folder", folder, "mine", 8)
    catalogue.prepare(settings, folder, lambda done, total: steps.append((done, total)))
    assert steps == [(i, 12) for i in range(1, 13)]


def test_rows_are_plain_json(folder: Path) -> None:
    settings = catalogue.source_settings("folder", folder, "mine", 8)
    artifact = catalogue.prepare(settings, folder)
    assert all(isinstance(row["origin"], str) for row in json.loads(artifact.file("train.json").read_bytes()))


def shade(path: Path, level: int, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, 255 - level, 9)).save(path, kind)


def reasons(dataset: catalogue.Dataset) -> dict[str, str]:
    return {left.file: left.reason for left in dataset.skipped}


def test_test_folders_are_held_out_and_classes_are_labels(tmp_path: Path) -> None:
    for i in range(18):
        shade(tmp_path / "mine" / ("train", "train", "validation", "test")[i % 4] / "cd"[i % 2] / f"{i}.png", 9 * i)
    shade(tmp_path / "mine" / "cover.png", 200)
    dataset = prepare(tmp_path / "mine")
    held_out = {row["origin"].partition("/")[0] for row in dataset.held_out.rows}
    assert held_out == {"test", "validation"}
    assert {row["origin"].partition("/")[0] for row in dataset.train.rows} == {"train"}
    assert (set(dataset.train.labels), set(dataset.held_out.labels)) == ({"c", "d"}, {"c", "d"})
    assert reasons(dataset) == {"cover.png": "beside the train and test folders, in none of them"}
    assert all(row["origin"].endswith(f"/{row['name']}.png") for row in dataset.held_out.rows)


def test_every_file_left_out_is_named_with_its_reason(folder: Path) -> None:
    shade(folder / "cats" / "a.jfif", 1, "JPEG")
    shade(folder / "cats" / "b.AVIF", 2, "AVIF")
    for name in ("c.HEIC", "d.svg", "e.mp4", "f.cr2", "notes", "labels.csv", "inner.zip", ".DS_Store"):
        (folder / "cats" / name).write_bytes(b"x")
    dataset = prepare(folder)
    origins = {row["origin"] for split in (dataset.train, dataset.held_out) for row in split.rows}
    assert {"cats/a.jfif", "cats/b.AVIF"} < origins
    assert len(origins) == 14
    assert reasons(dataset) == {
        "cats/.DS_Store": "a hidden file, not looked at",
        "cats/c.HEIC": "a HEIC picture (.heic), not read here: convert it to PNG or JPEG",
        "cats/d.svg": "a drawing (.svg), not read here: convert it to PNG or JPEG",
        "cats/e.mp4": "a film",
        "cats/f.cr2": "a camera's raw file (.cr2), not read here: convert it to PNG or JPEG",
        "cats/inner.zip": "an archive inside the source is not opened: unpack it",
        "cats/labels.csv": "a table is read only where it is called metadata.csv or metadata.jsonl",
        "cats/notes": "no picture by its name: if it is one, give it its ending",
    }


def test_linked_class_folders_are_read(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cats", "dogs"):
        (linked / name).symlink_to(folder / name)
    one, other = prepare(folder), prepare(linked)
    assert (one.digest, reasons(other)) == (other.digest, {})


@pytest.mark.parametrize("around", ["", "my-dataset-main/images/"])
def test_a_zip_gives_what_its_folder_gives(folder: Path, tmp_path: Path, around: str) -> None:
    write_metadata(folder, "cats/00.png,A cat,Ada")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, f"{around}{path.relative_to(folder).as_posix()}")
    settings = catalogue.source_settings(pictures.kind_of(tmp_path / "mine.zip"), tmp_path / "mine.zip", "mine", 8)
    packed = catalogue.load(catalogue.prepare(settings, tmp_path / "mine.zip"))
    assert (packed.digest, packed.facts) == (prepare(folder).digest, prepare(folder).facts)
    assert packed.skipped == ()


def test_the_kind_of_a_source_is_seen_by_its_content(folder: Path, tmp_path: Path) -> None:
    arrays = np.zeros((9, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=arrays)
    (tmp_path / "a.npz").rename(tmp_path / "a.zip")
    np.save(tmp_path / "b.npy", arrays)
    (tmp_path / "b.npy").rename(tmp_path / "b.bin")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.write(folder / "cats" / "00.png", "0.png")
    for name, kind in (("a.zip", "npz"), ("b.bin", "npz"), ("c.npz", "folder"), ("mine", "folder")):
        assert pictures.kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("0.png", b"\x89PNG\r\n\x1a\n", "'0.png' is a single picture. Put it in a folder. A source is a folder, a zip"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "'a.7z' is a 7z archive, not a picture. Unpack it."),
        ("a.tar.gz", b"\x1f\x8b\x08", "'a.tar.gz' is a gzip archive, not a picture. Unpack it."),
        ("a.zip", b"PK\x03\x04 cut off", "'a.zip' is a zip archive that is damaged. Download or copy it again."),
        ("a.mat", b"MATLAB 5.0 MAT-file", "'a.mat' is a MATLAB file, not a picture."),
        ("a.pkl", b"\x80\x04\x95", "'a.pkl' is pickled Python, which is not opened: it can run code. A source is"),
        ("a.tar", bytes(range(1, 255)) + b"\0\0\0ustar", "'a.tar' is a tar archive, not a picture. Unpack it."),
        ("a.parquet", b"PAR1", "'a.parquet' is a Parquet table, not a picture. Save its pictures as files."),
        ("a.doc", b"what", "'a.doc' is no folder of pictures. A source is a folder, a zip of one"),
        ("a.zip", b"version https://git-lfs.github.com/spec/v1", "'a.zip' is a Git LFS pointer"),
        ("a.zip", b"<html>404", "'a.zip' is an HTML page"),
    ],
)
def test_a_source_of_another_kind_is_named(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        pictures.kind_of(tmp_path / name)
    assert str(error.value).startswith(says)


def test_a_zip_without_pictures(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.zip", b"PK")
        archive.writestr("notes.txt", b"x")
    with pytest.raises(DataError) as error:
        pictures.source_digest("folder", tmp_path / "a.zip")
    assert "'a.zip' holds no pictures; left out: 1 (inner.zip): an archive inside the source" in str(error.value)


def test_what_was_stored_before_reasons_were_kept_still_opens(folder: Path, cache: Path) -> None:
    settings = catalogue.source_settings("folder", folder, "mine", 8)
    place = catalogue.prepare(settings, folder).path / "manifest.json"
    manifest = json.loads(place.read_text())
    manifest["skipped"] = ["dogs/99.png"]
    del manifest["notes"]
    place.write_text(json.dumps(manifest))
    dataset = catalogue.by_name("mine")
    assert (reasons(dataset), dataset.notes) == ({"dogs/99.png": "could not be read"}, ())


def test_pictures_of_another_scale_are_said_to_be_dark(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 2, (8, 8), dtype=np.uint8)).save(
            tmp_path / f"mine/{i}.png"
        )
    assert prepare(tmp_path / "mine").notes == (
        "The pictures are nearly black: no value is above 1 of 255. Rescale them.",
    )


def test_the_command_line_names_what_was_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answers, "completed", lambda job, _: work.run(job, quiet))
    for i in range(70):
        (folder / "cats" / f"{i}.HEIC").write_bytes(b"x")
    (folder / "@eaDir").mkdir()
    for i in range(3):
        (folder / "@eaDir" / f"{i}.jpg").write_bytes(b"x")
    for i in range(30):
        shade(folder / f"label {i:02}" / "0.png", 5 * i)
    (folder / "test").mkdir()
    (folder / "train").mkdir()
    shade(folder / "test" / "0.png", 201)
    shade(folder / "train" / "0.png", 202)
    write_metadata(folder, "cats/00.png,a cat,Ada", "cats/02.png,another,")
    words = ["dataset", "--name", "mine", "--source", str(folder), "--resolution", "8"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "34: cats, dogs, label 00, label 01," in said
    assert "and 14 more (all of them: --json)" in said
    assert (
        "Left out, 70 files: a HEIC picture (.heic), not read here: convert it to PNG or JPEG\n  cats/0.HEIC," in said
    )
    assert "and 20 more (all of them: --json)" in said
    assert "Left out, 3 files: a folder that the system made, not looked at\n  @eaDir/ (3 files)" in said
    assert "The folders test, train are taken as labels" in said
    assert max(map(len, said.splitlines())) < 900
    assert cli.main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["left_out"] == {
        "a HEIC picture (.heic), not read here: convert it to PNG or JPEG": 70,
        "a folder that the system made, not looked at": 3,
    }
    assert len(answer["skipped"]) == 71
    assert answer["skipped"][0] == {
        "file": "@eaDir/",
        "reason": "a folder that the system made, not looked at",
        "count": 3,
    }
    assert len(answer["labels"]) == 34
    assert (answer["with_caption"], answer["with_contributor"]) == (2, 1)
    assert len(answer["notes"]) == 1


def test_a_pipe_is_no_source_and_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    monkeypatch.setattr("zipfile.is_zipfile", lambda _: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"'pipe.zip' is a device or pipe\. Give a folder"):
        pictures.kind_of(tmp_path / "pipe.zip")
