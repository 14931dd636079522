"""CelebA and ArtBench from the user's files: the paper's draws, crops, captions; clear words where a file lacks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from dtrak_core import answers, artbench, celeba, datasets
from dtrak_core.errors import DataError, NotFoundError, StudioError
from dtrak_core.settings import DatasetSettings

COUNTS = (162_770, 19_867, 19_962)  # CelebA's partitions, in the order of its rows
STYLES = ("ukiyo_e", "post_impressionism", "baroque")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out CelebA's whole partition file, and one picture under the names of all that are drawn."""
    folder = tmp_path_factory.mktemp("celeba")
    (folder / celeba.PICTURES).mkdir()
    parts = np.repeat([0, 1, 2], COUNTS)
    lines = [f"{row + 1:06}.jpg {part}" for row, part in enumerate(parts)]
    (folder / celeba.PARTITIONS).write_text("\n".join(lines) + "\n")
    image = np.zeros((218, 178, 3), np.uint8)
    image[39:179, 19:159] = (200, 100, 50)  # the middle 140 x 140 pixels
    first = folder / "one.png"
    Image.fromarray(image).save(first)
    for part, size in celeba.PARTS.items():
        pool = np.flatnonzero(parts == part)
        train, _ = train_test_split(pool, train_size=size, random_state=42)
        for row in train:
            os.link(first, folder / celeba.PICTURES / f"{row + 1:06}.jpg")
    return folder


def test_celeba_is_the_papers_draw_and_crop(faces: Path) -> None:
    said: list[int] = []
    found = celeba.load(64, faces, lambda done, total: said.append(done))
    assert found.train.images.shape == (5000, 64, 64, 3)
    assert found.held_out.images.shape == (1000, 64, 64, 3)
    assert [row["origin"] for row in found.train.rows[:5]] == [48803, 28992, 118843, 86803, 153263]
    assert [row["origin"] for row in found.held_out.rows[:5]] == [167013, 179842, 176165, 167714, 180120]
    assert (found.train.images == (200, 100, 50)).all(), "the crop must hold the middle 140 pixels and nothing else"
    assert found.train.rows[0]["name"] == "048804.jpg"
    assert set(found.train.labels) == {""}
    assert said[-1] == 6000


def test_celeba_names_what_is_missing(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no list_eval_partition.txt\. Give --source with the folder"):
        celeba.load(64, tmp_path)
    table = (faces / celeba.PARTITIONS).read_text().splitlines()
    (tmp_path / celeba.PARTITIONS).write_text("\n".join(table))
    with pytest.raises(NotFoundError, match=r"'img_align_celeba' has no 048804.jpg"):
        celeba.load(64, tmp_path)
    (tmp_path / celeba.PARTITIONS).write_text("\n".join(table[:-30_000]))
    with pytest.raises(DataError, match="pictures in partition 1; CelebA has 19,867"):
        celeba.load(64, tmp_path)
    (tmp_path / celeba.PARTITIONS).write_text("one two three\n")
    with pytest.raises(DataError, match="is not CelebA's"):
        celeba.load(64, tmp_path)


def test_celeba_says_what_a_file_is_that_is_no_picture(faces: Path, tmp_path: Path) -> None:
    (tmp_path / celeba.PARTITIONS).write_bytes((faces / celeba.PARTITIONS).read_bytes())
    (tmp_path / celeba.PICTURES).mkdir()
    (tmp_path / celeba.PICTURES / "048804.jpg").write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")
    with pytest.raises(DataError) as error:
        celeba.load(64, tmp_path)
    assert str(error.value) == (
        "'048804.jpg' is an HTML page, not a picture. Its download went wrong: download it again. "
        "Unpack the archive again."
    )


@pytest.fixture
def paintings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out ArtBench's CSV and pictures in small: 3 styles of 12 training and 6 test rows, mixed."""
    folder = tmp_path / "art"
    random = np.random.default_rng(0)
    rows = [(style, "train", i) for style in STYLES for i in range(12)]
    rows += [(style, "test", i) for style in STYLES for i in range(6)]
    lines = ["name,artist,url,is_public_domain,length,width,label,split,cifar_index"]
    for place in random.permutation(len(rows)):
        style, split, i = rows[place]
        name = f"{split}-{i}.jpg"
        path = folder / "artbench-10-imagefolder" / style / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((256, 256, 3), 10 * STYLES.index(style) + i, np.uint8)).save(path, quality=95)
        lines.append(f"{name},artist-{i % 4},http://x,True,1,1,{style},{split},0")
    (folder / artbench.TABLE).write_text("\n".join(lines), encoding="utf-8")
    pool = [i for i, line in enumerate(lines[1:]) if ",test,0" in line and "baroque" not in line]
    styles = [lines[1 + i].split(",")[6] for i in pool]
    drawn, _ = train_test_split(pool, train_size=6, random_state=42, stratify=styles)
    plan = artbench.Plan(("post_impressionism", "ukiyo_e"), 16, 6, tuple(drawn[:5]))
    monkeypatch.setitem(artbench.PLANS, "artbench2", plan)
    return folder


def test_artbench_is_drawn_by_style_with_artists_and_the_papers_captions(paintings: Path) -> None:
    found = artbench.load("artbench2", 64, paintings)
    assert found.train.images.shape == (16, 64, 64, 3)
    assert sorted(found.train.labels) == ["post_impressionism"] * 8 + ["ukiyo_e"] * 8
    assert sorted(found.held_out.labels) == ["post_impressionism"] * 3 + ["ukiyo_e"] * 3
    table = (paintings / artbench.TABLE).read_text().splitlines()[1:]
    for image, row in zip(found.train.images, found.train.rows, strict=True):
        name, artist, *_, label, split, _ = table[row["origin"]].split(",")
        assert (split, row["label"], row["contributor"]) == ("train", label, artist)
        assert row["caption"] == f"a {label.replace('_', ' ')} painting"
        shade = 10 * STYLES.index(label) + int(name.removeprefix("train-").removesuffix(".jpg"))
        assert abs(int(image.mean()) - shade) <= 1
    assert set(found.train.prompts) == {"a ukiyo e painting", "a post impressionism painting"}


@pytest.mark.parametrize("split_folders", [False, True])
def test_both_archives_of_artbench_are_read(paintings: Path, split_folders: bool) -> None:
    old = paintings / "artbench-10-imagefolder"
    if split_folders:
        for path in list(old.rglob("*.jpg")):
            new = paintings / "artbench-10-imagefolder-split" / path.name.split("-")[0] / path.parent.name / path.name
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)
    assert len(artbench.load("artbench2", 32, paintings).train.rows) == 16


def test_artbench_names_what_is_missing(paintings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match=r"'artbench2' is read from files of yours\. Give --source"):
        artbench.load("artbench2", 64, None)
    with pytest.raises(NotFoundError, match=r"has no ArtBench-10.csv\. Give --source"):
        artbench.load("artbench2", 64, tmp_path)
    with pytest.raises(DataError, match="12,500 are needed"):
        artbench.load("artbench5", 64, paintings)
    whole = (paintings / artbench.TABLE).read_text()
    (paintings / artbench.TABLE).write_text(whole.replace("artist", "who", 1))
    with pytest.raises(DataError, match="has no column artist"):
        artbench.load("artbench2", 64, paintings)
    lines = whole.splitlines()
    (paintings / artbench.TABLE).write_text("\n".join([lines[0], *lines[:0:-1]]))
    with pytest.raises(DataError, match="must be in the original order"):
        artbench.load("artbench2", 64, paintings)
    (paintings / artbench.TABLE).write_text(whole)
    next((paintings / "artbench-10-imagefolder" / "ukiyo_e").glob("train-*")).rename(tmp_path / "gone")
    for path in (paintings / "artbench-10-imagefolder" / "post_impressionism").glob("train-*"):
        path.unlink()
    with pytest.raises(NotFoundError, match="has no picture"):
        artbench.load("artbench2", 64, paintings)


def test_a_source_is_taken_for_the_papers_files_alone(cache: Path, paintings: Path) -> None:
    job = answers.dataset_job("artbench2", paintings, None, "refuse")
    assert (job.dataset.kind, job.dataset.resolution, job.source) == ("artbench2", 256, str(paintings))
    stored = datasets.load(datasets.prepare(job.dataset, Path(job.source)))
    assert stored.train.rows[0]["caption"].endswith("painting")
    assert datasets.by_name("artbench2").digest == stored.digest
    with pytest.raises(StudioError, match="is built in and has no source"):
        datasets.prepare(DatasetSettings(kind="cifar2", name="cifar2", resolution=32), paintings)
