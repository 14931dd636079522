"""Pictures that are equal by pixels: found, joined into families, never on both sides of a split of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dtrak_core.commands import answers, cli
from dtrak_core.counterfactual import removal_sets
from dtrak_core.datasets import catalogue, content, duplicates, memory, openmoji
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import Split, row_of
from dtrak_core.engine import work
from dtrak_core.progress import quiet


def noise(kinds: list[int], side: int = 8) -> np.ndarray:
    """Return pictures of noise, equal where their numbers are."""
    return np.stack([np.random.default_rng(k).integers(0, 256, (side, side, 3), dtype=np.uint8) for k in kinds])


def split(kinds: list[int], families: list[str] | None = None) -> Split:
    names = families or [""] * len(kinds)
    return Split(noise(kinds), [row_of(i, "", family=name) for i, name in enumerate(names)])


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_classes_are_the_first_equal_picture(kinds: list[int]) -> None:
    found = duplicates.classes(noise(kinds))
    assert found.tolist() == [kinds.index(kind) for kind in kinds]


def test_one_pixel_tells_large_pictures_apart() -> None:
    images = np.zeros((4, 100, 100, 3), np.uint8)
    images[1, 1, 2, 2] = 1  # between the pixels that are compared first
    images[3, 1, 2, 2] = 1
    assert duplicates.classes(images).tolist() == [0, 1, 0, 1]
    other = [np.zeros((4, 9, 3), np.uint8), np.zeros((9, 4, 3), np.uint8)]
    assert duplicates.classes(other).tolist() == [0, 1]


def test_between_splits() -> None:
    found = duplicates.between(noise([0, 1, 0, 2, 1, 0]), noise([5, 2, 5, 0]))
    assert (found.distinct, found.copies, found.leaked) == (3, 3, (1, 3))


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["", "a", "b", "c", "d"])), min_size=1, max_size=25))
def test_families_are_joined_as_by_walking_from_picture_to_picture(pairs: list[tuple[int, str]]) -> None:
    kinds, names = [k for k, _ in pairs], [n for _, n in pairs]
    rows = [row_of(i, "", family=name) for i, name in enumerate(names)]
    found = duplicates.families(rows, np.array([kinds.index(k) for k in kinds]))
    for i in range(len(pairs)):
        reached, new = {i}, {i}
        while new:
            new = {
                j
                for j in range(len(pairs))
                if any(kinds[j] == kinds[k] or (names[j] and names[j] == names[k]) for k in new)
            } - reached
            reached |= new
        alone = len(reached) == 1 and not names[i]
        assert (found[i] == "") == alone
        if not alone:
            assert {j for j in range(len(pairs)) if found[j] == found[i]} == reached
    assert all(name in found for name, own in zip(names, found, strict=True) if name and name == own)


@given(st.lists(st.integers(0, 15), min_size=8, max_size=60))
def test_what_is_held_out_is_not_trained_on(kinds: list[int]) -> None:
    train, held_out = content.hold_out(split(kinds))
    sides = [{kinds[row["origin"]] for row in side.rows} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sides[0]
    assert len(train.rows) + len(held_out.rows) == len(kinds)
    most, smallest = max(1, round(len(kinds) / 10)), min(kinds.count(kind) for kind in kinds)
    assert len(held_out.rows) <= most
    assert bool(held_out.rows) == (smallest <= most), "none where each is there more often than one in ten"


def test_without_equal_pictures_the_draw_is_what_it_was() -> None:
    train, held_out = content.hold_out(split(list(range(40))))
    drawn = sorted(np.random.RandomState(42).permutation(40)[:4].tolist())
    assert [row["origin"] for row in held_out.rows] == drawn
    assert [row["origin"] for row in train.rows] == [i for i in range(40) if i not in drawn]


def test_openmoji_of_today_holds_out_as_many_without_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {}  # every third portrait drawn like the one before: cheaper than drawing, and more equal ones

    def draw(hexcode: str, resolution: int) -> np.ndarray:
        number = flat.setdefault(hexcode, len(flat))
        return noise([number - (number % 3 == 2)], resolution)[0]

    monkeypatch.setattr(openmoji, "draw", draw)
    for kind, sizes in (("openmoji-people", (900, 98)), ("openmoji-roles", (432, 60))):
        content = openmoji.load(8, kind=kind)
        found = duplicates.between(content.train.images, content.held_out.images)
        assert (len(found.train), len(found.held_out)) == sizes
        assert found.copies > 100
        assert not found.leaked


@pytest.fixture
def folder(cache: Path, tmp_path: Path) -> Path:
    """Return a folder of 30 pictures, of which some are the same; of the same, some are in families of their own."""
    place = tmp_path / "mine"
    place.mkdir()
    lines = ["file_name,caption,contributor,family"]
    for i in range(30):
        # 2, 3, 4 are equal, and 10, 11: files of other sizes, which are equal only when resized.
        grey = {2: 90, 3: 90, 4: 90, 10: 140, 11: 140}.get(i)
        image = noise([i])[0] if grey is None else np.full((8 + i, 8 + i, 3), grey, np.uint8)
        Image.fromarray(image).save(place / f"{i:02d}.png")
        family = {2: "red", 20: "red", 4: "blue", 21: "blue", 27: "blue", 15: "green"}.get(i, "")
        lines.append(f"{i:02d}.png,picture {i},Ada,{family}")
    (place / "metadata.csv").write_text("\n".join(lines))
    return place


def opened(folder: Path) -> Dataset:
    settings = catalogue.source_settings("folder", folder, "mine", 8)
    return catalogue.load(catalogue.prepare(settings, folder))


def test_a_folder_with_equal_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = opened(folder)
    held = {row["origin"] for row in found.held_out.rows}
    assert not found.equal.leaked
    together = [{"02.png", "03.png", "04.png"}, {"10.png", "11.png"}]
    assert not any(same & held for same in together), "by this draw; they are looked at below"
    family = {row["origin"]: row["family"] for row in found.train.rows}
    assert family["10.png"] == family["11.png"] != ""
    assert {family[f"{i:02d}.png"] for i in (2, 3, 4, 20, 21)} == {"red"}, "equal pictures join both families"
    members = tuple(i for i, row in enumerate(found.train.rows) if row["family"] == "red")
    assert len(members) == 5
    outside = {row["origin"]: row["family"] for row in found.held_out.rows}
    assert outside == {"15.png": "green", "23.png": "", "27.png": "red"}, "one of its own, none, a joined one"
    order = np.array([*members[:1], *(i for i in range(len(family)) if i != members[0])])
    assert removal_sets.grouped(order, 1, found.train.rows, "family") == members, "removed together"
    assert cli.main(["dataset", "--name", "mine", "--source", str(folder), "--resolution", "8"]) == 0
    assert "training pictures differ by pixels" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "completed", lambda job, _: work.run(job, quiet))


def test_a_test_split_of_ones_own_is_kept_and_its_leak_is_said(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = list(range(20))
    np.savez(
        tmp_path / "own.npz",
        x_train=noise([*kinds, 0, 1]),
        y_train=np.zeros(22, int),
        x_test=noise([50, 3, 51, 19]),
        y_test=np.zeros(4, int),
    )
    words = ["dataset", "--name", "own", "--source", str(tmp_path / "own.npz"), "--resolution", "8"]
    assert cli.main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"train": 22, "held_out": 4}
    assert answer["equal_counts"] == {"train_distinct": 20, "train_copies": 2, "held_out_in_train": 2}
    assert answer["equal_pictures"] == (
        "20 of 22 training pictures differ by pixels: 2 stand there more than once. Equal pictures count as one "
        "family. 2 of 4 held-out pictures are training pictures too, by pixels. A held-out LDS leaves them out."
    )
    assert [row["family"] for row in catalogue.by_name("own").train.rows][-2:] == ["equal to 0", "equal to 1"]


def test_where_all_are_equal_none_is_held_out(cache: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=noise([3] * 12), labels=np.zeros(12, int))
    settings = catalogue.source_settings("npz", tmp_path / "one.npz", "one", 8)
    found = catalogue.load(catalogue.prepare(settings, tmp_path / "one.npz"))
    assert (len(found.train.rows), len(found.held_out.rows), found.equal.leaked) == (12, 0, ())
    assert catalogue.equal_pictures(found)[1].startswith("No picture is held out: each is there more often")


def test_arrays_without_pictures_to_hold_out_have_none_by_choice(cache: Path) -> None:
    assert catalogue.equal_pictures(catalogue.load(memory.keep(noise(list(range(12)))))) == []
    (said,) = catalogue.equal_pictures(catalogue.load(memory.keep(noise([0, *range(11)]))))
    assert said.startswith("11 of 12 training pictures differ by pixels: 1 stands there more than once.")


def test_the_papers_split_is_kept_and_its_leak_is_said(pictures: Dataset) -> None:
    paper = pictures.settings.model_copy(update={"kind": "cifar2"})
    equal = duplicates.Equal(pictures.equal.train, pictures.equal.held_out, (3,))
    told = catalogue.equal_pictures(Dataset(**{**vars(pictures), "settings": paper, "equal": equal}))
    assert told == [
        "1 of 8 held-out pictures is a training picture too, by pixels. The split is the paper's own and kept as it "
        "is, so its held-out LDS counts it too."
    ]
