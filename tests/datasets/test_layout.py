"""Wrappers, train and test folders, class folders: what the paths of pictures say of their label and side."""

from __future__ import annotations

import pytest

from dtrak_core.datasets import layout
from dtrak_core.errors import DataError


def read(*names: str) -> dict[str, tuple[str, str]]:
    return {name: (place.side, place.label) for name, place in layout.of(names, "mine").places.items()}


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "test"), ("Train", "VALIDATION"), ("training", "val"), ("train", "dev"), ("train2017", "val2017"),
        ("training_set", "test_set"), ("images_train", "images_test"), ("seg_train", "seg_test"), ("train", "held-out"),
        ("train", "test_images"), ("train", "Holdout"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["", "my-dataset-main/", "a/b/c/"])
def test_folders_to_train_and_test_on_stand_above_the_classes(folders: tuple[str, str], around: str) -> None:
    train, test = (f"{around}{folder}" for folder in folders)
    found = read(f"{train}/cat/0.png", f"{train}/dog/1.png", f"{test}/cat/2.png", f"{test}/dog/3.png")
    assert list(found.values()) == [("train", "cat"), ("train", "dog"), ("held-out", "cat"), ("held-out", "dog")]


def test_other_places_of_the_level() -> None:
    held = read("train/cat/0", "valid/cat/1", "test/cat/2")
    assert list(held.values()) == [("train", "cat"), ("held-out", "cat"), ("held-out", "cat")]
    below = read("cat/train/0", "cat/test/1", "dog/train/2", "dog/test/3")
    assert list(below.values()) == [("train", "cat"), ("held-out", "cat"), ("train", "dog"), ("held-out", "dog")]
    roboflow = read("train/images/0", "valid/images/1")
    assert list(roboflow.values()) == [("train", ""), ("held-out", "")]
    repeated = read("seg_train/seg_train/cat/0", "seg_test/seg_test/cat/1")
    assert list(repeated.values()) == [("train", "cat"), ("held-out", "cat")]
    letters = read("trainA/0", "trainB/1", "testA/2", "testB/3")
    assert list(letters.values()) == [("train", "A"), ("train", "B"), ("held-out", "A"), ("held-out", "B")]
    flat = read("train/0", "test/1")
    assert list(flat.values()) == [("train", ""), ("held-out", "")]


TINY_IMAGENET = ("train/n01/images/0", "train/n02/images/1", "val/images/2", "test/images/3")


@pytest.mark.parametrize(
    ("names", "labels", "of"),
    [
        (TINY_IMAGENET, ["n01", "n02", "", ""], ""),
        (("train/cat/0", "test/images/1"), ["cat", ""], ""),
        (("train/cat/0", "val/cat/images/1", "test/JPG/2"), ["cat", "cat", ""], "1 of "),
        (("train/cat/0", "test/data/cat/1"), ["cat", "cat"], None),
        (("train/images/cat/0", "test/cat/1"), ["cat", "cat"], None),
        (("train/0", "test/images/1"), ["", ""], None),
        (("train/set/0", "train/dog/1", "test/set/2"), ["set", "dog", "set"], None),
        (("train/set/0", "train/dog/1", "test/dog/2"), ["set", "dog", "dog"], None),
    ],
)
def test_a_folder_that_only_says_that_pictures_are_in_it_is_no_class_of_one_side(
    names: tuple[str, ...], labels: list[str], of: str | None
) -> None:
    found = layout.of(names, "mine")
    assert [place.label for place in found.places.values()] == labels
    assert [place.side for place in found.places.values()] == [layout.side_of(name.partition("/")[0]) for name in names]
    assert found.notes == ([] if of is None else [f"By their folders, {of}the pictures to hold out have no labels."])


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("cat/0", "test/1"), ["cat", "test"]),
        (("train/0", "bus/1"), ["train", "bus"]),
        (("train station/0", "test tube/1"), ["train station", "test tube"]),
        (("train/bus/0", "train/train/1"), ["bus", "train"]),
        (("contest/0", "training shoe/1"), ["contest", "training shoe"]),
    ],
)
def test_a_class_may_be_called_train_or_test(names: tuple[str, ...], labels: list[str]) -> None:
    found = layout.of(names, "mine")
    assert [(place.side, place.label) for place in found.places.values()] == [("", label) for label in labels]
    assert not found.notes


def test_classes_called_train_inside_train_and_test() -> None:
    found = read("train/train/0", "train/bus/1", "test/train/2", "test/bus/3")
    assert list(found.values()) == [("train", "train"), ("train", "bus"), ("held-out", "train"), ("held-out", "bus")]


def test_train_and_test_beside_another_folder_are_labels_and_that_is_said() -> None:
    found = layout.of(["train/0", "test/1", "docs/2"], "mine")
    assert [place.label for place in found.places.values()] == ["train", "test", "docs"]
    assert found.notes[0].startswith("The folders test, train are taken as labels, and trained on, because of other")


def test_train_and_test_with_the_same_classes_are_no_labels_whatever_stands_beside_them() -> None:
    found = layout.of(["train/cat/0", "test/cat/1", "extra/cat/2", "3"], "mine")
    assert {name: place.side for name, place in found.places.items()} == {
        "train/cat/0": "train",
        "test/cat/1": "held-out",
    }
    assert found.beside == ["extra/cat/2", "3"]


def test_the_folders_of_kohyas_trainers() -> None:
    found = read("img/10_sks painting/0", "reg/1_painting/1")
    assert list(found.values()) == [("", "sks painting"), ("", "painting")]


def test_pictures_beside_the_sides_belong_to_none() -> None:
    found = layout.of(["cover", "train/cat/0", "test/cat/1"], "mine")
    assert found.beside == ["cover"]
    assert set(found.places) == {"train/cat/0", "test/cat/1"}


def test_one_folder_alone() -> None:
    assert read("train/cat/0", "train/dog/1") == {"train/cat/0": ("", "cat"), "train/dog/1": ("", "dog")}
    alone = layout.of(["test/cat/0", "test/dog/1"], "mine")
    assert [place.label for place in alone.places.values()] == ["cat", "dog"]
    assert alone.notes == ["'test' is the only folder of pictures: they are trained on."]
    with pytest.raises(DataError, match="'mine' has the folders test, val, which are held out, and none to train on"):
        layout.of(["val/cat/0", "test/cat/1"], "mine")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("0.png", ""), ("images/0.png", ""), ("data/0.jpg", ""), ("cats/0.png", "cats"), ("w/images/0.png", ""),
        ("10_sks painting/0.png", "sks painting"), ("img/5_ohwx man/0.png", "ohwx man"), ("1_a b/0.png", "a b"),
        ("1998_europe/0.png", "1998_europe"), ("2_/0.png", "2_"), ("007/0.png", "007"), ("3_4/0.png", "3_4"),
    ],
)  # fmt: skip
def test_labels_of_a_single_folder(name: str, label: str) -> None:
    assert read(name) == {name: ("", label)}
