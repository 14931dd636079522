"""The paper's draws, checked against the indices that the authors' notebooks print."""

from __future__ import annotations

import numpy as np
import pytest

from dtrak_core.datasets import subsets
from dtrak_core.errors import SettingsError

CIFAR10_LIKE = 10  # classes in the stand-in, where every ten rows in a row have one of each


def stand_in(count: int, classes: tuple[int, ...]) -> tuple[np.ndarray, list[int]]:
    """Rows of these classes in a set whose labels run 0, 1, ..., 9, 0, 1, ..., and their labels.

    The real order of CIFAR-10's labels needs the download, but where every class has the same count
    a stratified draw fixes the class of each place and the rank of its picture within the class. Row
    r of the real set is near rank r / 10, so the stand-in must come out near the real indices.
    """
    labels = np.arange(count) % CIFAR10_LIKE
    rows = np.flatnonzero(np.isin(labels, classes))
    return rows, labels[rows].tolist()


@pytest.mark.parametrize(
    ("count", "size", "begins", "offset"),
    [
        (162_770, 5_000, (48803, 28992, 118843, 86803, 153263), 0),
        (19_867, 1_000, (167013, 179842, 176165, 167714, 180120), 162_770),
    ],
    ids=["CelebA train", "CelebA val"],
)
def test_plain_draws_equal_the_papers(count: int, size: int, begins: tuple[int, ...], offset: int) -> None:
    drawn = subsets.draw(count, size, 42)
    assert tuple(drawn[:5] + offset) == begins
    assert len(set(drawn.tolist())) == size


@pytest.mark.parametrize(("seed", "begins"), [(42, (521, 737, 740, 660, 411)), (0, (993, 859, 298, 553, 672))])
def test_counterfactual_targets_equal_the_papers(seed: int, begins: tuple[int, ...]) -> None:
    rest, chosen = subsets.split(1000, 60, seed)
    assert tuple(chosen[:5]) == begins
    assert sorted([*rest, *chosen]) == list(range(1000))


def test_a_plain_draw_is_scikit_learns() -> None:
    from sklearn.model_selection import train_test_split

    expected, _ = train_test_split(np.arange(331), train_size=100, random_state=7)
    assert subsets.draw(331, 100, 7).tolist() == expected.tolist()


def test_a_stratified_draw_is_scikit_learns() -> None:
    from sklearn.model_selection import train_test_split

    random = np.random.default_rng(0)
    for seed in range(60):
        kinds = int(random.integers(1, 8))
        counts = random.integers(2, 9, kinds) if seed % 2 else np.full(kinds, random.integers(2, 9))  # remainders tie
        labels = random.permutation([f"class {k}" for k in np.repeat(range(kinds), counts)]).tolist()
        size = int(random.integers(kinds, len(labels) - kinds + 1))
        expected, _ = train_test_split(np.arange(len(labels)), train_size=size, random_state=seed, stratify=labels)
        assert subsets.draw(len(labels), size, seed, labels).tolist() == expected.tolist()
        for wrong in {kinds - 1, len(labels) - kinds + 1} - {0, len(labels)}:
            with pytest.raises(ValueError, match=r"number of classes|train_size|least populated"):
                train_test_split(np.arange(len(labels)), train_size=wrong, random_state=seed, stratify=labels)
            with pytest.raises(SettingsError, match=f"draw of {wrong} of {len(labels)} is not possible"):
                subsets.draw(len(labels), wrong, seed, labels)


def test_stratified_cifar2_draws_follow_the_papers() -> None:
    rows, labels = stand_in(10_000, (1, 7))
    val = rows[subsets.draw(len(rows), 1000, 42, labels)]
    assert (val[:5] % 10).tolist() == [7, 1, 1, 7, 7]  # the classes the notebook prints beside the indices
    assert np.abs(val[:5] - (7405, 5226, 1363, 6615, 7612)).max() < 150

    rows, labels = stand_in(50_000, (1, 7))
    train = rows[subsets.draw(len(rows), 5000, 42, labels)]
    paper = (17488, 17769, 25061, 7882, 4701, 38681, 11482, 37495, 39588, 5729)
    assert np.abs(train[:10] - paper).max() < 500
    assert np.bincount(train % 10).tolist() == [0, 2500, 0, 0, 0, 0, 0, 2500]

    for number, begins in ((0, (10392, 44460, 16163, 49891, 13381)), (8, (4871, 21837, 20107, 553, 20868))):
        drawn = train[subsets.subset("lds-val", number, 5000, (train % 10).tolist())]
        assert np.abs(drawn[:5] - begins).max() < 500
        assert np.bincount(drawn % 10).tolist() == [0, 1250, 0, 0, 0, 0, 0, 1250]


def test_stratified_cifar10_draws_follow_the_papers() -> None:
    _, labels = stand_in(10_000, tuple(range(10)))
    assert np.abs(subsets.draw(10_000, 1000, 42, labels)[:5] - (9128, 5468, 62, 2465, 2810)).max() < 250
    _, labels = stand_in(50_000, tuple(range(10)))
    for number, begins in ((0, (10936, 11178, 26489, 22034, 14307)), (8, (6591, 35601, 1087, 17631, 28857))):
        assert np.abs(subsets.subset("lds-val", number, 50_000, labels)[:5] - begins).max() < 500


def test_seeds_count_in_steps_of_two_and_lds_test_repeats_lds_val() -> None:
    assert [subsets.seed_of("lds-val", k) for k in (0, 1, 63, 255)] == [42, 44, 168, 552]
    assert [subsets.seed_of("lds-test", k) for k in (0, 255)] == [298, 808]
    assert [subsets.seed_of("retrain", k) for k in (0, 1023)] == [554, 2600]
    assert subsets.subset("lds-val", 130, 90).tolist() == subsets.subset("lds-test", 2, 90).tolist()
    with pytest.raises(SettingsError, match="no subset 256 of 'lds-val'"):
        subsets.seed_of("lds-val", 256)


def test_all_are_taken_in_order() -> None:
    assert subsets.draw(12, 12, 42, list("ab" * 6)).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("count", "size", "labels", "says"),
    [
        (10, 11, None, "11 of 10 pictures"),
        (10, 0, None, "0 of 10 pictures"),
        (10, 5, ["a"] * 9, "9 labels were given for 10 pictures"),
        (10, 5, ["a"] * 9 + ["b"], "stratified draw of 5 of 10 is not possible"),
    ],
)
def test_impossible_draws_are_refused(count: int, size: int, labels: list[str] | None, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        subsets.draw(count, size, 42, labels)


def test_complement_of_a_removal() -> None:
    assert subsets.complement(6, [4, 0]).tolist() == [1, 2, 3, 5]
    assert subsets.complement(3, []).tolist() == [0, 1, 2]
    with pytest.raises(SettingsError, match="Training example 6 cannot be removed"):
        subsets.complement(6, [6])
    with pytest.raises(SettingsError, match="-1 cannot be removed"):
        subsets.complement(6, [-1])
    with pytest.raises(SettingsError, match="twice"):
        subsets.complement(6, [2, 2])
