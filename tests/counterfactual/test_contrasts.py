"""Two methods of a comparison beside each other: p against scipy, a shared model counted once, what is not compared."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from comparison_helpers import Removal, compared, controls
from scipy import stats

from dtrak_core.counterfactual import comparison_document, contrasts
from dtrak_core.counterfactual.contrasts import Contrast
from dtrak_core.statistics import FEWEST

EIGHT = tuple(f"seed:{i}" for i in range(8))


def two(targets: tuple[str, ...] = EIGHT, size: int = 3, other: int = 3) -> list[Removal]:
    """Return what D-TRAK and TRAK remove for each target, no picture in common."""
    return [
        (method, target, 3, tuple(range(first + 10 * i, first + 10 * i + count)))
        for method, first, count in (("d-trak", 0, size), ("trak", 500, other))
        for i, target in enumerate(targets)
    ]


def values(targets: int, more: float, seed: int = 0) -> np.ndarray:
    """Return what the removals of `two` do: noise, and D-TRAK's so much more to their own targets."""
    found = np.random.default_rng(seed).normal(size=(2 * targets, targets))
    found[:targets] += more * np.eye(targets)
    return found


@pytest.mark.parametrize("measure", ["l2", "cosine", "loss_change"])
def test_p_is_that_of_scipy(measure: str) -> None:
    given = values(8, 1.5)
    one = contrasts.contrasts(compared(two(), given, EIGHT))[measure][0]
    own, other = np.diag(given[:8]), np.diag(given[8:])
    if measure == "cosine":
        own, other = 1 - own, 1 - other
    expected = stats.permutation_test(
        (own, other), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert (one.own, one.others) == (pytest.approx(own.mean()), pytest.approx(other.mean()))
    assert one.difference == pytest.approx(expected.statistic)
    assert one.p == pytest.approx(expected.pvalue)
    assert contrasts.larger(one, measure) == "d-trak"


def test_drawn_signs_agree_with_all_of_them() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, 14)
    groups = [[place] for place in range(14)]
    sums = np.array(list(itertools.product((1, -1), repeat=14))) @ differences
    every = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    assert contrasts.sign_p(differences, groups) == pytest.approx(every, abs=0.02)


def test_chance_is_below_a_twentieth_in_a_twentieth_of_all_comparisons() -> None:
    drawn = np.random.default_rng(1).normal(size=(2000, 8))
    groups = [[place] for place in range(8)]
    found = [contrasts.sign_p(each, groups) for each in drawn]
    assert 0.04 < np.mean([p is not None and p < 0.05 for p in found]) < 0.06


def test_targets_that_share_a_model_are_one_observation() -> None:
    """D-TRAK names the same pictures for targets 0 and 1, TRAK for 1 and 2: their signs change together."""
    removals, given = two(), values(8, 1.0)
    removals[1] = ("d-trak", EIGHT[1], 3, removals[0][3])
    removals[10] = ("trak", EIGHT[2], 3, removals[9][3])
    given[1], given[10] = given[0], given[9]
    one = contrasts.contrasts(compared(removals, given, EIGHT))["l2"][0]
    difference = np.diag(given[:8]) - np.diag(given[8:])
    sums = np.array([difference[:3].sum(), *difference[3:]])
    told = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=6)]
    assert (one.targets, one.observations) == (8, 6)
    assert one.p == pytest.approx(np.mean(np.array(told) >= abs(sums.sum()) - 1e-9))


def test_several_training_seeds_are_averaged_first() -> None:
    given = values(8, 0.8)
    once, twice = (contrasts.contrasts(compared(two(), given, EIGHT, seeds))["l2"][0] for seeds in ((43,), (43, 44)))
    assert (once.difference, once.p, once.observations) == (
        pytest.approx(twice.difference),
        twice.p,
        twice.observations,
    )


def test_only_removals_of_equally_many_pictures_are_compared() -> None:
    assert contrasts.contrasts(compared(two(other=4), values(8, 3.0), EIGHT))["l2"] == []


def test_controls_and_what_is_removed_whatever_the_target_are_not_compared() -> None:
    lowest: list[Removal] = [("bottom", t, 3, tuple(range(900 + 5 * i, 903 + 5 * i))) for i, t in enumerate(EIGHT)]
    contributor: Removal = ("contributor:ada", "", 3, (700, 701, 702))
    removals = [*two(), *lowest, contributor, *controls(2)]
    given = np.random.default_rng(2).normal(size=(len(removals), 8))
    found = contrasts.contrasts(compared(removals, given, EIGHT))
    assert {(one.method, one.other) for each in found.values() for one in each} == {("d-trak", "trak")}


def test_five_targets_are_too_few_and_it_is_said() -> None:
    five = EIGHT[: FEWEST - 1]
    found = contrasts.contrasts(compared(two(five), values(5, 4.0), five))
    assert found["l2"][0].p is None
    assert (
        contrasts.summary(found) == "No method is compared with another: 6 targets with models of their own are needed."
    )
    assert contrasts.sentence(found["l2"][0], "l2").endswith(
        "(no p, as 6 targets with models of their own are needed)."
    )


def test_what_is_not_finished_has_none() -> None:
    assert contrasts.contrasts(compared(two(), values(8, 4.0), EIGHT, missing=1)) == {}


def test_the_number_of_comparisons_counts() -> None:
    """With 8 targets p is at least 1/128: three measures leave that below 0.05, seven comparisons would not."""
    comparison = compared(two(), values(8, 6.0), EIGHT)
    found = contrasts.contrasts(comparison)
    assert [each[0].p for each in found.values()] == [1 / 128] * 3
    assert contrasts.summary(found) == (
        "Of 3 comparisons between two methods 3 are beyond chance: without what D-TRAK names, targets change more than "
        "without what TRAK names (pixel l2, cosine, loss)."
    )
    again = {f"{measure}{copy}": each for copy in range(3) for measure, each in found.items()}
    assert not any(contrasts.told_apart(again).values())
    assert contrasts.summary(again) == (
        "8 targets with models of their own cannot tell methods apart in 9 comparisons, whatever they show: at least "
        "9 are needed."
    )
    assert comparison_document.document(comparison)["contrasts"]["l2"][0]["p"] == 1 / 128


@pytest.mark.parametrize(("comparisons", "targets"), [(1, 6), (2, 7), (3, 7), (6, 8), (7, 9), (18, 10), (102, 12)])
def test_what_no_data_could_show_is_not_called_chance(comparisons: int, targets: int) -> None:
    """Differences that all lie on one side have the smallest p: from `targets` on it counts in so many comparisons."""
    for count in range(FEWEST, targets + 1):
        p = contrasts.sign_p(10 + np.arange(count) / 100, [[place] for place in range(count)])
        assert p == contrasts.least_p(count)
        found = {"l2": [Contrast("d-trak", "trak", count, count, 2.0, 1.0, 1.0, p)] * comparisons}
        told = contrasts.summary(found)
        if count < targets:
            assert told.startswith(f"{count} targets with models of their own cannot tell methods apart in ")
            assert f"at least {targets} are needed" in told
        else:
            assert f"{comparisons} {'is' if comparisons == 1 else 'are'} beyond chance: without what" in told
        weak = {"l2": [Contrast("d-trak", "trak", count, count, 2.0, 1.0, 1.0, 0.6)] * comparisons}
        assert ("none is beyond chance" in contrasts.summary(weak)) is (count == targets), "where data could tell"


def test_methods_that_name_the_same_are_not_told_apart() -> None:
    removals = [*two()[:8], *(("trak", owner, size, removed) for _, owner, size, removed in two()[:8])]
    given = values(8, 1.0)
    given[8:] = given[:8]
    one = contrasts.contrasts(compared(removals, given, EIGHT))["loss_change"][0]
    assert (one.difference, one.p) == (0.0, 1.0)
