"""The user's own folder: labels, metadata, held-out pictures, and each way it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core import datasets, pictures, splits
from dtrak_core.errors import DataError, NotFoundError, SettingsError


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


def prepare(source: Path, on_broken: str = "refuse") -> datasets.Dataset:
    settings = datasets.source_settings("folder", source, "mine", 8, on_broken)
    return datasets.load(datasets.prepare(settings, source))


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
    settings = datasets.source_settings("folder", folder, "mine", 8, "skip")
    artifact = datasets.prepare(settings, folder)
    dataset = datasets.load(artifact)
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
    monkeypatch.setattr(splits, "MAX_BYTES", 12 * 8 * 8 * 3 - 1)
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
    settings = datasets.source_settings("folder", folder, "mine", 8)
    datasets.prepare(settings, folder, lambda done, total: steps.append((done, total)))
    assert steps == [(i, 12) for i in range(1, 13)]


def test_rows_are_plain_json(folder: Path) -> None:
    settings = datasets.source_settings("folder", folder, "mine", 8)
    artifact = datasets.prepare(settings, folder)
    assert all(isinstance(row["origin"], str) for row in json.loads(artifact.file("train.json").read_bytes()))
