"""CelebA and ArtBench from the user's files: the paper's draws, crops, captions; clear words where a file lacks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from dtrak_core.commands import answers
from dtrak_core.datasets import artbench, catalogue, celeba, cifar
from dtrak_core.datasets.content import Content
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError, NotFoundError, StudioError
from dtrak_core.settings import key_of

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


@pytest.mark.parametrize(
    "load",
    [
        lambda: cifar.load("cifar10", 512),
        lambda: celeba.load(512, None),
        lambda: artbench.load("artbench5", 512, Path("nowhere")),
    ],
)
def test_what_would_not_fit_into_memory_is_refused_before_anything_is_read(
    load: Callable[[], Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "_open", lambda *_: pytest.fail("downloaded"))
    monkeypatch.setattr(celeba, "_downloaded", lambda: pytest.fail("downloaded"))
    with pytest.raises(DataError, match=r"pictures of 512 x 512 take .* GiB; at most 4 are allowed"):
        load()


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


@pytest.mark.parametrize("size", [(64, 64), (1024, 1024)])
def test_celeba_of_another_size_is_not_cropped(faces: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / celeba.PARTITIONS).write_bytes((faces / celeba.PARTITIONS).read_bytes())
    (tmp_path / celeba.PICTURES).mkdir()
    Image.new("RGB", size).save(tmp_path / celeba.PICTURES / "048804.jpg")
    with pytest.raises(DataError, match=f"'048804.jpg' is {size[0]} x {size[1]} pixels; CelebA's aligned .* 178 x 218"):
        celeba.load(64, tmp_path)


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


def test_artbench_names_what_is_missing(paintings: Path, tmp_path: Path) -> None:
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
    stored = catalogue.load(catalogue.prepare(job.dataset, Path(job.source)))
    assert stored.train.rows[0]["caption"].endswith("painting")
    assert catalogue.by_name("artbench2").digest == stored.digest
    with pytest.raises(StudioError, match="is built in and has no source"):
        catalogue.prepare(DatasetSettings(kind="cifar2", name="cifar2", resolution=32), paintings)


def asked(folder: Path | None, name: str = "artbench2") -> catalogue.Dataset:
    """Prepare a set of files as the command line does."""
    job = answers.dataset_job(name, folder, 32, "refuse")
    return catalogue.load(
        catalogue.make_newest(catalogue.prepare(job.dataset, Path(job.source) if job.source else None))
    )


def drawn(folder: Path) -> Path:
    """Return a training picture that the draw takes."""
    return artbench.files("artbench2", folder)[1]


def test_a_corrected_table_of_artists_is_read_anew(cache: Path, paintings: Path) -> None:
    first, table = asked(paintings), paintings / artbench.TABLE
    whole = table.read_text(encoding="utf-8")
    assert asked(paintings).key == first.key, "the same copy is stored once"
    table.write_text(whole.replace("artist-1", "artist-9"), encoding="utf-8-sig")  # as a spreadsheet saves it
    second = asked(paintings)
    assert (second.digest, second.key == first.key) == (first.digest, False), "no picture has changed"
    assert "artist-9" in {row["contributor"] for row in second.train.rows}
    assert "artist-1" not in {row["contributor"] for row in second.train.rows}
    assert catalogue.by_name("artbench2").facts == second.facts != first.facts
    table.write_text(whole, encoding="utf-8")
    assert asked(paintings).key == first.key
    assert catalogue.by_name("artbench2").facts == first.facts


def test_a_replaced_painting_is_read_anew_even_with_its_old_size_and_time(cache: Path, paintings: Path) -> None:
    for path in artbench.files("artbench2", paintings)[1:]:
        Image.open(path).save(path, format="BMP")  # all of one size in bytes
    first, path = asked(paintings), drawn(paintings)
    before = path.stat()
    Image.fromarray(np.full((256, 256, 3), 250, np.uint8)).save(path, format="BMP")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = asked(paintings)
    assert second.digest != first.digest
    assert (second.train.images[0] == 250).all()


def test_a_copy_is_known_by_what_it_holds_not_by_its_place(cache: Path, paintings: Path, tmp_path: Path) -> None:
    first = asked(paintings)
    moved = paintings.rename(tmp_path / "moved")
    os.utime(drawn(moved))
    assert asked(moved).key == first.key


def test_a_set_from_before_copies_had_a_digest_opens_and_is_read_anew_when_asked(cache: Path, paintings: Path) -> None:
    first = asked(paintings)
    old = DatasetSettings(kind="artbench2", name="artbench2", resolution=32)
    manifest = json.loads((first_path := cache / "datasets" / first.key / "manifest.json").read_text())
    manifest |= {"key": key_of("datasets", old), "settings": old.model_dump(), "date": "2026-11-25T00:00:00+00:00"}
    first_path.write_text(json.dumps(manifest))
    first_path.parent.rename(cache / "datasets" / key_of("datasets", old))
    assert catalogue.by_name("artbench2").key == key_of("datasets", old)
    assert asked(None).key == key_of("datasets", old), "it is used without its copy"
    assert asked(paintings).key == first.key, "its copy is read anew"
    assert asked(None).key == catalogue.by_name("artbench2").key == first.key, "and is what the name means"


def test_a_copy_that_changes_between_question_and_answer_is_refused(cache: Path, paintings: Path) -> None:
    job = answers.dataset_job("artbench2", paintings, 32, "refuse")
    drawn(paintings).write_bytes(b"another")
    with pytest.raises(DataError, match="has changed since it was chosen"):
        catalogue.prepare(job.dataset, paintings)
    with pytest.raises(StudioError, match="give their folder"):
        catalogue.prepare(job.dataset)
    assert not list((cache / "datasets").glob("[0-9a-f]*"))


def test_settings_without_a_digest_get_that_of_the_copy(cache: Path, paintings: Path) -> None:
    bare, table = DatasetSettings(kind="artbench2", name="artbench2", resolution=32), paintings / artbench.TABLE
    first = catalogue.prepare(bare, paintings)
    table.write_text(table.read_text(encoding="utf-8").replace("artist-1", "artist-9"), encoding="utf-8")
    assert catalogue.prepare(bare, paintings).key != first.key


@pytest.mark.parametrize("text", [b"\xff\xfe bad", b'name,artist,label,split\n"' + b"x" * 200_000])
def test_a_table_of_artists_that_cannot_be_read_is_refused(paintings: Path, text: bytes) -> None:
    (paintings / artbench.TABLE).write_bytes(text)
    with pytest.raises(DataError, match=r"ArtBench-10.csv cannot be read .*Save it as CSV in UTF-8\."):
        artbench.files("artbench2", paintings)


@pytest.fixture
def few_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out CelebA in small: 40 and 10 pictures in the partitions that are drawn from, each of its own grey."""
    folder = tmp_path / "faces"
    (folder / celeba.PICTURES).mkdir(parents=True)
    parts = np.repeat([0, 1, 2], (40, 10, 5))
    lines = [f"{row + 1:06}.jpg {part}" for row, part in enumerate(parts)]
    (folder / celeba.PARTITIONS).write_text("\n".join(lines) + "\n")
    for row in range(len(parts)):
        grey = np.full((218, 178, 3), 4 * row, np.uint8)
        Image.fromarray(grey).save(folder / celeba.PICTURES / f"{row + 1:06}.jpg")
    monkeypatch.setattr(celeba, "PARTS", {0: 16, 1: 4})
    monkeypatch.setattr(celeba, "WHOLE", {0: 40, 1: 10})
    begins = {}
    for part, size in celeba.PARTS.items():
        rows, _ = train_test_split(np.flatnonzero(parts == part), train_size=size, random_state=42)
        begins[part] = tuple(rows[:5].tolist())
    monkeypatch.setattr(celeba, "BEGINS", begins)
    return folder


def test_a_face_that_is_replaced_is_read_anew_and_a_lacking_one_named(cache: Path, few_faces: Path) -> None:
    first, files = asked(few_faces, "celeba"), celeba.files(few_faces)
    assert len(files) == 1 + 16 + 4
    unused = sorted(set((few_faces / celeba.PICTURES).iterdir()) - set(files))
    unused[0].unlink()
    assert asked(few_faces, "celeba").key == first.key, "what is not drawn is not looked at"
    whole = files[1].read_bytes()
    Image.fromarray(np.full((218, 178, 3), 250, np.uint8)).save(files[1])
    second = asked(few_faces, "celeba")
    assert second.digest != first.digest
    assert (second.train.images[0] == 250).all()
    assert catalogue.by_name("celeba").digest == second.digest
    files[-1].unlink()
    with pytest.raises(NotFoundError, match=rf"'img_align_celeba' has no {files[-1].name}\. Give --source"):
        asked(few_faces, "celeba")
    assert asked(None, "celeba").key == second.key, "what is stored is used without the copy, and not downloaded"
    files[1].write_bytes(whole)
    (few_faces / celeba.PARTITIONS).write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"list_eval_partition\.txt cannot be read"):
        asked(few_faces, "celeba")
