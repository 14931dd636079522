"""The user's own .npz: accepted forms, and each way it can be wrong."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.datasets import arrays, catalogue, npz
from dtrak_core.errors import DataError

CIFAR2 = store.PROJECT.parent / "shared" / "data" / "cifar2.npz"
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def all_images(path: Path, resolution: int = 8) -> tuple[np.ndarray, list[str]]:
    """Return pictures and labels of both splits in the order of the file."""
    content = npz.load(path, resolution)
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
    names = np.array(["x", "y", "z"])
    for classes in (names, names[:, None], names[None]):
        path = saved(tmp_path, images=IMAGES, labels=LABELS[:, None], classes=classes)
        assert all_images(path)[1] == list("xyz" * 4)
        assert npz.load(path, 8).classes == ["x", "y", "z"]


def test_a_file_without_test_pictures_holds_one_in_ten_out(tmp_path: Path) -> None:
    different = np.repeat(IMAGES, 4, axis=0) ^ np.tile(np.arange(4, dtype=np.uint8), 12)[:, None, None, None]
    path = saved(tmp_path, images=different, labels=np.repeat(LABELS, 4))
    content = npz.load(path, 8)
    held_out = [row["origin"] for row in content.held_out.rows]
    assert (len(held_out), len(content.train.rows)) == (5, 43)
    assert sorted(held_out + [row["origin"] for row in content.train.rows]) == list(range(48))
    assert [row["origin"] for row in npz.load(path, 8).held_out.rows] == held_out


def test_test_pictures_and_names_of_the_file_are_used(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        x_train=IMAGES,
        y_train=LABELS,
        f_train=np.array([[f"train/{i}"] for i in range(12)]),
        x_test=IMAGES[:3],
        y_test=LABELS[:3],
    )
    steps: list[tuple[int, int]] = []
    content = npz.load(path, 8, lambda done, total: steps.append((done, total)))
    assert [row["name"] for row in content.train.rows[:2]] == ["train/0", "train/1"]
    assert np.array_equal(content.held_out.images, IMAGES[:3])
    assert steps == [(i, 15) for i in range(1, 16)]


@pytest.mark.skipif(not CIFAR2.exists(), reason="cifar2.npz is kept beside the project and is not there")
def test_cifar2_beside_the_project_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    settings = catalogue.source_settings("npz", CIFAR2, "cifar2-jpeg", 32)
    dataset = catalogue.load(catalogue.prepare(settings, CIFAR2))
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
        npz.load(path, 8)
    assert str(error.value).startswith(says)


NAMES = [
    ("X_train", "Y_train"), ("x", "y"), ("X", "y"), ("data", "labels"), ("image", "label"), ("imgs", "targets"),
    ("train_images", "train_labels"), ("images_train", "labels_train"), ("trainX", "trainY"), ("arr_0", "arr_1"),
    ("train/images", "train/labels"), ("x_train", "labels"), ("training_images", "training_labels"),
]  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
def test_names_of_other_programs(tmp_path: Path, names: tuple[str, str]) -> None:
    found, labels = all_images(saved(tmp_path, **{names[0]: IMAGES, names[1]: LABELS}))
    assert np.array_equal(found, IMAGES)
    assert labels == [str(label) for label in LABELS]


def test_validation_pictures_are_held_out_too(tmp_path: Path) -> None:
    parts = {"train": IMAGES, "val": IMAGES[:2] ^ 1, "test": IMAGES[2:5] ^ 2}
    arrays = {f"{part}_images": images for part, images in parts.items()}
    arrays |= {f"{part}_labels": LABELS[: len(images), None] for part, images in parts.items()}
    content = npz.load(saved(tmp_path, **arrays, label_names=["a", "b", "c"]), 8)
    assert np.array_equal(content.train.images, IMAGES)
    assert np.array_equal(content.held_out.images, np.concatenate([parts["test"], parts["val"]]))
    assert content.held_out.labels == list("abcab")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES.transpose(1, 2, 3, 0), LABELS),
        (IMAGES.transpose(1, 2, 3, 0), None),
        (np.concatenate([IMAGES, np.full((12, 8, 8, 1), 255, np.uint8)], axis=3), LABELS),
        (np.concatenate([IMAGES, np.full((12, 8, 8, 1), 255, np.uint8)], axis=3).transpose(0, 3, 1, 2), LABELS),
        (IMAGES / np.float32(255) * np.float32(1.0000001), LABELS),
        ((IMAGES / 255).astype(np.float16), LABELS),
        ((IMAGES / 255).astype(">f4"), LABELS),
        (IMAGES, LABELS.astype(np.float32)),
        (IMAGES, LABELS[None]),
        (IMAGES, np.eye(3)[LABELS]),
        (IMAGES, np.eye(3, dtype=bool)[LABELS]),
    ],
    ids=["HWCN", "HWCN alone", "RGBA", "4HW", "overshoot", "half", "big-endian", "float", "row", "one-hot", "bool"],
)  # fmt: skip
def test_more_forms_that_hold_the_same_pictures(tmp_path: Path, images: np.ndarray, labels: np.ndarray | None) -> None:
    given = {"images": images} if labels is None else {"images": images, "labels": labels}
    path = saved(tmp_path, **given)
    found, told = all_images(path)
    assert np.array_equal(found, IMAGES)
    assert told == ([""] * 12 if labels is None else [str(label) for label in LABELS])


def test_grey_pictures_with_their_number_last(tmp_path: Path) -> None:
    grey = IMAGES[:, :, :, 0].transpose(1, 2, 0)
    expected = np.repeat(IMAGES[..., :1], 3, axis=3)
    assert np.array_equal(all_images(saved(tmp_path, images=grey, labels=LABELS))[0], expected)
    path = saved(tmp_path, images=grey)
    assert np.array_equal(all_images(path)[0], expected)
    assert "The shape (8, 8, 12) of images can be read in two ways: taken as (H, W, N)." in npz.load(path, 8).notes
    assert np.array_equal(all_images(saved(tmp_path, images=IMAGES[..., 0]))[0], expected)


def test_transparent_pixels_are_laid_on_white(tmp_path: Path) -> None:
    clear = np.concatenate([IMAGES, np.zeros((12, 8, 8, 1), np.uint8)], axis=3)
    clear[:, 0, 0, 3] = 255
    found, _ = all_images(saved(tmp_path, images=clear, labels=LABELS))
    assert np.array_equal(found[:, 0, 0], IMAGES[:, 0, 0])
    assert (found[:, 1:] == 255).all()


@pytest.mark.parametrize("kind", [np.uint8, np.bool_])
def test_zeros_and_ones_are_read_as_black_and_white(tmp_path: Path, kind: type) -> None:
    path = saved(tmp_path, images=(IMAGES > 127).astype(kind), labels=LABELS)
    assert np.array_equal(all_images(path)[0], np.where(IMAGES > 127, 255, 0))
    assert npz.load(path, 8).notes == ["The pictures hold 0 and 1 alone: read as black and white, 0 and 255."]


def test_what_is_assumed_and_not_read_is_said(tmp_path: Path) -> None:
    content = npz.load(saved(tmp_path, images=IMAGES, ids=LABELS, other=IMAGES.astype(object)), 8)
    assert content.notes == ["The file has no labels (an array y_train or labels): the pictures have none."]
    assert [(left.file, left.reason) for left in content.skipped] == [
        ("ids", "an array that is not read"), ("other", "an array that is not read")
    ]  # fmt: skip
    strips = np.repeat(IMAGES[:, :3], 2, axis=2)[:, :, :, :3]
    content = npz.load(saved(tmp_path, images=strips, labels=LABELS), 8)
    assert content.notes == ["The shape (12, 3, 16, 3) of images can be read in two ways: taken as (N, H, W, C)."]
    content = npz.load(saved(tmp_path, images=IMAGES % 3, labels=LABELS), 8)
    assert content.notes == ["The pictures are nearly black: no value is above 2 of 255. Rescale them."]


def test_a_single_array(tmp_path: Path) -> None:
    path = tmp_path / "mine.npy"
    np.save(path, IMAGES)
    found, labels = all_images(path)
    assert np.array_equal(found, IMAGES)
    assert set(labels) == {""}
    np.save(path, IMAGES.astype(object))
    with pytest.raises(DataError, match="Array mine holds Python objects"):
        npz.load(path, 8)
    np.save(path, np.zeros((300, 200, 3), np.uint8))
    with pytest.raises(DataError, match=r"Array mine has shape \(300, 200, 3\).* It is one picture; at least 8"):
        npz.load(path, 8)
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="Array mine is shorter than its header says"):
        npz.load(path, 8)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"images": IMAGES * 2.0, "labels": LABELS}, "floats must lie in [0, 1]. Rescale it."),
        ({"images": IMAGES * 1.0}, "from 0 to 255; floats must lie in [0, 1]. Rescale it: images / 255."),
        ({"images": IMAGES / 127.5 - 1}, "from -1 to 1; floats must lie in [0, 1]. Rescale it: (images + 1) / 2."),
        ({"images": np.full((8, 8, 8, 3), np.inf)}, "Replace what is not a number."),
        ({"images": IMAGES.astype(np.int64), "labels": LABELS}, "Convert it: images.astype('uint8')."),
        ({"images": IMAGES.astype(np.uint16) * 257, "labels": LABELS}, "Convert it: (images / 257).astype('uint8')."),
        ({"images": IMAGES.astype(np.int16) - 9, "labels": LABELS}, "values go from -9 to 246. Rescale it to 0 to 255"),
        ({"images": IMAGES.astype(complex), "labels": LABELS}, "is of type complex128; expected uint8, or floats"),
        ({"images": IMAGES.reshape(12, -1), "labels": LABELS}, "reshape it: images.reshape(-1, 3, 8, 8) as CIFAR's"),
        ({"images": IMAGES[:, :, :, 0].reshape(12, -1), "labels": LABELS}, "reshape it: images.reshape(-1, 1, 8, 8)"),
        ({"images": IMAGES[None], "labels": LABELS}, "has 12 entries, images has 1 pictures"),
        ({"images": IMAGES, "labels": np.ones((12, 40))}, "Choose one of its 40 columns, such as labels[:, 0"),
        ({"images": IMAGES, "labels": LABELS + np.nan}, "for each picture; the numbers are not whole."),
        ({"images": IMAGES, "labels": LABELS, "val_images": IMAGES}, "has val_images alone; give both x_val and y_val"),
        ({"photos": IMAGES, "labels": LABELS}, "Rename photos with the shape (12, 8, 8, 3) to images"),
        ({f"a{i}": LABELS for i in range(99)}, " and 79 more; expected x_train and y_train, or"),
    ],
)  # fmt: skip
def test_the_next_step_is_told(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as error:
        npz.load(saved(tmp_path, **given), 8)
    assert says in str(error.value)
    assert len(str(error.value)) < 400


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"'mine\.npz' is a Git LFS pointer"):
        npz.load(path, 8)
    path.write_bytes(b"<!DOCTYPE html><html>404</html>")
    with pytest.raises(DataError, match=r"'mine\.npz' is an HTML page"):
        npz.load(path, 8)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = saved(tmp_path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    for data in (b"", b"not a zip", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"'mine\.npz' is not an \.npz or is damaged"):
            npz.load(path, 8)
    flipped = bytearray(whole)
    flipped[600] ^= 255
    path.write_bytes(bytes(flipped))
    with pytest.raises(DataError, match=r"'mine\.npz' is not an \.npz or is damaged"):
        npz.load(path, 8)


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
        npz.load(path, 8)
    assert str(error.value).startswith(says)


def test_an_array_of_no_pictures_is_none(tmp_path: Path) -> None:
    """Its other sides may be larger than the bytes of its member."""
    images = np.random.default_rng(0).integers(0, 256, (12, 160, 160, 3), dtype=np.uint8)
    path = saved(tmp_path, x_train=images, y_train=LABELS, x_test=images[:0], y_test=LABELS[:0])
    content = npz.load(path, 8)
    assert (len(content.train.rows), len(content.held_out.rows)) == (11, 1)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_val.npy", member((0, 2**40, 2**40, 3), b""))
    with pytest.raises(DataError, match="Array x_val is shorter than its header says"):
        arrays.header(path, "x_val")


@pytest.mark.parametrize(
    "header",
    [
        "(" * 5000, "{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 8, 8, 3)}", "{'descr': '|u1'}", "[1, 2",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10**9,)}", "{'descr': 'x9', 'shape': ()}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999, 99999999999)}", "\xff\0", "'" * 9,
        "{'descr': [('a', [('b', '|u1')])] * 9, 'fortran_order': False, 'shape': ()}", "{'descr': '<U4294967295'}",
    ],
)  # fmt: skip
def test_a_header_of_any_kind_is_refused_in_a_sentence(tmp_path: Path, header: str) -> None:
    text = header.encode("latin-1")
    for content in (
        b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little"),
        b"\x93NUMPY\2\0" + len(text).to_bytes(4, "little"),
    ):
        path = tmp_path / "mine.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content + text + bytes(8))
        with pytest.raises(DataError, match=r"^Array images "):
            npz.load(path, 8)


def test_a_long_header_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "mine.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", b"\x93NUMPY\2\0" + (2**31).to_bytes(4, "little") + bytes(10**6))
    monkeypatch.setattr(np.lib.format, "read_magic", lambda *args: pytest.fail("the header was parsed"))
    with pytest.raises(DataError, match="Array images has a header of 2,147,483,648 bytes"):
        npz.load(tmp_path / "mine.npz", 8)


@pytest.mark.parametrize(
    ("shape", "resolution", "says"),
    [
        ((300_000, 1, 1, 3), 512, "300,000 pictures of 512 x 512 take 219.7 GiB; at most 4 are allowed"),
        ((3_000_000, 1, 2), 8, "3,000,000 pictures are too many; at most 2,000,000"),
        ((8, 1, 5_000_000), 32, "Array images is 5,000,000 x 1: too long and thin to be cropped"),
    ],
)  # fmt: skip
def test_a_small_file_that_asks_for_much_is_refused_before_it_is_read(
    tmp_path: Path, shape: tuple[int, ...], resolution: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, images=np.zeros(shape, np.uint8))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(arrays, "read", lambda *args: pytest.fail("values were read"))
    with pytest.raises(DataError, match=says):
        npz.load(path, resolution)


def test_a_zip_bomb_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "mine.npz", images=np.zeros((2000, 64, 64, 3), np.uint8), labels=np.zeros(2000))
    assert (tmp_path / "mine.npz").stat().st_size < 200_000
    monkeypatch.setattr(arrays, "MAX_BYTES", 2**20)
    with pytest.raises(DataError, match=r"Array images takes 0\.0 GiB; at most"):
        npz.load(tmp_path / "mine.npz", 8)
