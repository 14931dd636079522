"""The user's own .npz: accepted forms, and each way it can be wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core import archives, arrays, datasets, store
from dtrak_core.errors import DataError

CIFAR2 = store.PROJECT.parent / "shared" / "data" / "cifar2.npz"
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def all_images(path: Path, resolution: int = 8) -> tuple[np.ndarray, list[str]]:
    """Return pictures and labels of both splits in the order of the file."""
    content = archives.load(path, resolution)
    images = np.concatenate([content.train.images, content.held_out.images])
    rows = content.train.rows + content.held_out.rows
    order = np.argsort([row["origin"] for row in rows])
    return images[order], [rows[i]["label"] for i in order]


@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES.transpose(0, 3, 1, 2), np.asfortranarray(IMAGES), IMAGES / 255, (IMAGES / 255).astype(np.float32)],
    ids=["NHWC", "NCHW", "fortran", "float64", "float32"],
)
@pytest.mark.parametrize("names", [("x_train", "y_train"), ("images", "labels")])
def test_accepted_forms_hold_the_same_pictures(tmp_path: Path, images: np.ndarray, names: tuple[str, str]) -> None:
    found, labels = all_images(saved(tmp_path, **{names[0]: images, names[1]: LABELS}))
    assert np.array_equal(found, IMAGES)
    assert labels == [str(label) for label in LABELS]


@pytest.mark.parametrize(
    "images", [IMAGES[..., 0], IMAGES[..., :1], IMAGES[:, None, :, :, 0]], ids=["NHW", "1", "N1HW"]
)
def test_grey_pictures_become_rgb(tmp_path: Path, images: np.ndarray) -> None:
    found, _ = all_images(saved(tmp_path, images=images, labels=LABELS))
    assert np.array_equal(found, np.repeat(IMAGES[..., :1], 3, axis=3))


@pytest.mark.parametrize("labels", [np.array(["a", "b", "c"])[LABELS], np.array([b"a", b"b", b"c"])[LABELS]])
def test_text_labels(tmp_path: Path, labels: np.ndarray) -> None:
    assert all_images(saved(tmp_path, images=IMAGES, labels=labels))[1] == list("abc" * 4)


def test_column_of_labels_with_class_names(tmp_path: Path) -> None:
    path = saved(tmp_path, images=IMAGES, labels=LABELS[:, None], classes=np.array(["x", "y", "z"]))
    assert all_images(path)[1] == list("xyz" * 4)


def test_a_file_without_test_pictures_holds_one_in_ten_out(tmp_path: Path) -> None:
    different = np.repeat(IMAGES, 4, axis=0) ^ np.tile(np.arange(4, dtype=np.uint8), 12)[:, None, None, None]
    path = saved(tmp_path, images=different, labels=np.repeat(LABELS, 4))
    content = archives.load(path, 8)
    held_out = [row["origin"] for row in content.held_out.rows]
    assert (len(held_out), len(content.train.rows)) == (5, 43)
    assert sorted(held_out + [row["origin"] for row in content.train.rows]) == list(range(48))
    assert [row["origin"] for row in archives.load(path, 8).held_out.rows] == held_out


def test_test_pictures_and_names_of_the_file_are_used(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        x_train=IMAGES,
        y_train=LABELS,
        f_train=np.array([f"train/{i}" for i in range(12)]),
        x_test=IMAGES[:3],
        y_test=LABELS[:3],
    )
    steps: list[tuple[int, int]] = []
    content = archives.load(path, 8, lambda done, total: steps.append((done, total)))
    assert [row["name"] for row in content.train.rows[:2]] == ["train/0", "train/1"]
    assert np.array_equal(content.held_out.images, IMAGES[:3])
    assert steps == [(i, 15) for i in range(1, 16)]


@pytest.mark.skipif(not CIFAR2.exists(), reason="cifar2.npz is kept beside the project and is not there")
def test_cifar2_beside_the_project_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    settings = datasets.source_settings("npz", CIFAR2, "cifar2-jpeg", 32)
    dataset = datasets.load(datasets.prepare(settings, CIFAR2))
    assert (dataset.train.images.shape, dataset.held_out.images.shape) == ((5000, 32, 32, 3), (1000, 32, 32, 3))
    assert {label: dataset.train.labels.count(label) for label in set(dataset.train.labels)} == {
        "automobile": 2500,
        "horse": 2500,
    }
    with np.load(CIFAR2) as arrays:
        assert np.array_equal(dataset.train.images, arrays["x_train"])
        assert dataset.train.rows[4999]["name"] == str(arrays["f_train"][4999])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"pictures": IMAGES},
            "'mine.npz' has the arrays pictures; expected x_train and y_train, or images and labels.",
        ),
        ({"images": IMAGES, "labels": LABELS[:-1]}, "Array labels has 11 entries, images has 12 pictures."),
        ({"images": IMAGES, "labels": LABELS, "f_train": LABELS[:3]}, "Array f_train has 3 entries, images has 12"),
        ({"images": IMAGES[:7], "labels": LABELS[:7]}, "'mine.npz' has only 7 pictures in images; at least 8"),
        ({"images": IMAGES, "labels": LABELS, "x_test": IMAGES}, "'mine.npz' has x_test alone; give both"),
        (
            {"images": IMAGES, "labels": LABELS, "x_test": IMAGES, "y_test": LABELS[:2]},
            "Array y_test has 2 entries, x_test has 12 pictures.",
        ),
        (
            {"images": IMAGES.astype(object), "labels": LABELS},
            "Array images holds Python objects, which are not opened",
        ),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, "Array labels holds Python objects"),
        ({"images": IMAGES, "labels": LABELS / 2}, "Array labels is float64[12]; expected one number or text"),
        ({"images": IMAGES, "labels": np.tile(LABELS, (2, 1)).T}, "Array labels is int64[12, 2]; expected one"),
        (
            {"images": IMAGES, "labels": LABELS, "classes": ["a", "b"]},
            "Array labels has the label 2, but classes names",
        ),
        ({"images": IMAGES.astype(np.int64), "labels": LABELS}, "Array images is of type int64; expected uint8"),
        ({"images": IMAGES.astype(float), "labels": LABELS}, "Array images has values from 0 to 255; floats must lie"),
        ({"images": IMAGES * np.nan, "labels": LABELS}, "Array images has values from nan to nan; floats must lie"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, "Array images has shape (12, 8, 8, 2); expected (N, H, W, 3)"),
        ({"images": IMAGES.reshape(12, -1), "labels": LABELS}, "Array images has shape (12, 192); expected"),
        ({"images": IMAGES[:, :0], "labels": LABELS}, "Array images has shape (12, 0, 8, 3); expected"),
        ({"images": np.uint8(3), "labels": LABELS}, "Array labels has 12 entries, images has 1 pictures."),
    ],
)
def test_wrong_arrays(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    path = saved(tmp_path, **given)
    with pytest.raises(DataError) as error:
        archives.load(path, 8)
    assert str(error.value).startswith(says)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = saved(tmp_path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    for data in (b"", b"not a zip", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"'mine\.npz' is not an \.npz or is damaged"):
            archives.load(path, 8)
    flipped = bytearray(whole)
    flipped[600] ^= 255
    path.write_bytes(bytes(flipped))
    with pytest.raises(DataError, match=r"'mine\.npz' is not an \.npz or is damaged"):
        archives.load(path, 8)


def member(shape: tuple[int, ...], data: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (member((10**6, 10**6, 1000, 3), b"123"), "Array images is shorter than its header says"),
        (b"\x93NUMPY\x01\x00\x05\x00abcde", "Array images has no readable header"),
        (b"", "Array images has no readable header"),
    ],
)
def test_headers_are_checked_before_values(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(DataError) as error:
        archives.load(path, 8)
    assert str(error.value).startswith(says)


def test_a_zip_bomb_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "mine.npz", images=np.zeros((2000, 64, 64, 3), np.uint8), labels=np.zeros(2000))
    assert (tmp_path / "mine.npz").stat().st_size < 200_000
    monkeypatch.setattr(arrays, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match=r"Array images takes 0\.0 GiB; at most"):
        archives.load(tmp_path / "mine.npz", 8)
