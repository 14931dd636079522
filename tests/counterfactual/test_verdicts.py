"""Verdicts of a comparison: controls of the removal's own size alone, a model counted once, reasons for silence."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from comparison_helpers import TARGETS, Removal, compared, controls, named
from scipy import stats

from dtrak_core.counterfactual import comparison_document, comparisons, entries, verdicts


def test_a_removal_is_compared_with_random_ones_of_its_own_size_alone() -> None:
    """A contributor's 9 pictures beside 3 of each target: random removals of 9 do as much, those of 3 far less."""
    contributor: Removal = ("contributor:ada", "", 3, tuple(range(500, 509)))
    removals = [*named(), contributor, *controls(6, size=3), *controls(6, size=9)]
    random = np.random.default_rng(0)
    values = random.normal(size=(len(removals), 6))
    values[7 + 6 :] += 10  # random removals of 9
    values[6] += 10
    values[:6] += 1 + 2 * np.eye(6)
    found = comparisons.statistics(compared(removals, values))
    own = found["contributor:ada"]
    assert own.beyond is not None
    assert own.beyond.difference == pytest.approx(values[6].mean() - values[13:].mean())
    assert own.random == pytest.approx(values[13:].mean())
    assert (own.random_models, own.removed) == (6, (9,))
    assert found["d-trak"].removed == (3,)
    told = compared(removals, values, seeds=(43, 44))
    assert comparisons.taken(told) == "3, 9"
    assert comparisons.protocol(told, 3, 1200) == (
        "Removed: 3, 9 of 1,200 training pictures (0.25 % to 0.75 %). 6 targets, 24 models without random pictures, "
        "training seeds 43-44."
    )
    begun = dataclasses.replace(told, entries=told.entries[:6])
    assert comparisons.protocol(begun, 3, 1200) == "No removal has been trained yet. 6 targets."
    assert found["d-trak"].random == pytest.approx(values[7:13].mean())
    medians = comparisons.medians(compared(removals, values))
    assert {arm for arm in medians if arm.startswith("random")} == {"random:3", "random:9"}
    assert entries.label("random:9") == "Random, 9 removed"
    assert medians["random:9"]["l2"] > 5 > medians["random:3"]["l2"]


def test_without_a_random_removal_of_its_size_there_is_no_comparison_and_it_says_so() -> None:
    removals = [*named(), ("contributor:ada", "", 3, tuple(range(500, 509))), *controls(4, size=3)]
    found = comparisons.statistics(compared(removals, np.random.default_rng(1).normal(size=(11, 6))))
    own = found["contributor:ada"]
    assert (own.beyond, own.random, own.random_models) == (None, None, 0)
    assert "no random removal of 9 pictures" in own.reason
    assert found["d-trak"].beyond is not None


def test_groups_of_different_sizes_have_controls_of_theirs() -> None:
    sizes = (3, 4, 3, 5, 4, 3)
    removals: list[Removal] = [("d-trak", t, 3, tuple(range(10 * i, 10 * i + sizes[i]))) for i, t in enumerate(TARGETS)]
    arms = {n: np.random.default_rng(n).normal(n, 1, size=(2, 6)) for n in (3, 4, 5)}
    values = np.random.default_rng(2).normal(size=(6, 6))
    for n in arms:
        removals += controls(2, size=n)
    found = comparisons.statistics(compared(removals, np.concatenate([values, *arms.values()])))["d-trak"]
    expected = np.mean([values[i, i] - arms[n][:, i].mean() for i, n in enumerate(sizes)])
    assert found.beyond is not None
    assert found.beyond.difference == pytest.approx(expected)


@pytest.mark.parametrize("measure", ["l2", "cosine", "loss_change"])
def test_each_measure_has_its_own_direction(measure: str) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(12, 6))
    values[:6] += 5 * np.eye(6)
    found = comparisons.statistics(compared([*named(), *controls(6)], values), measure=measure)["d-trak"]
    square = values[:6]
    sums = [sum(square[o[b], b] for b in range(6)) for o in itertools.permutations(range(6))]
    assert found.specific_p == pytest.approx(np.mean(np.array(sums) >= np.trace(square) - 1e-9))
    own, others = np.trace(square) / 6, (square.sum() - np.trace(square)) / 30
    told = (own, others, values[6:].mean()) if measure != "cosine" else (1 - own, 1 - others, 1 - values[6:].mean())
    assert (found.own, found.others, found.random) == pytest.approx(told)
    assert found.beyond is not None
    assert found.beyond.low is not None
    assert found.beyond.high is not None
    assert found.beyond.low < found.beyond.difference < found.beyond.high
    assert found.beyond.difference == pytest.approx(told[0] - told[2])
    assert (found.beyond.high < 0) == (measure == "cosine")
    said = verdicts.sentence("d-trak", found, measure)
    assert said.startswith(f"D-TRAK: specific to the target (p = {found.specific_p:.2g}), more than random removal. ")


def test_seeds_of_an_arm_count_as_their_mean() -> None:
    values = np.random.default_rng(4).normal(size=(8, 6))
    one, three = (
        comparisons.statistics(compared([*named(), *controls(2)], values, seeds=seeds))["d-trak"]
        for seeds in ((43,), (43, 44, 45))
    )
    assert one.specific_p == three.specific_p
    assert one.beyond is not None
    assert three.beyond is not None
    assert dataclasses.astuple(one.beyond) == pytest.approx(dataclasses.astuple(three.beyond))
    assert (three.targets, three.models, three.random_models) == (6, 6, 2)


def test_further_models_of_the_noise_floor_are_no_arm_of_a_removals_seeds() -> None:
    values = np.random.default_rng(4).normal(size=(10, 6))
    plain = compared([*named(), *controls(4)], values)
    floor = [dataclasses.replace(e, method="noise_floor", removed=(), owner="", train_seed=44) for e in plain.entries]
    further = plain.entries + tuple(floor[:6])
    found = comparisons.statistics(dataclasses.replace(plain, entries=further, expected=len(further)))
    assert found["d-trak"] == comparisons.statistics(plain)["d-trak"]


def test_with_shared_controls_p_is_uniform_where_removals_are_like_random_ones() -> None:
    """As in the comparison of a method that knows nothing: two random models and six of its own draw six targets."""
    random, found, held = np.random.default_rng(5), [], []
    removals = [*named(), *controls(2)]
    for _ in range(500):
        values = random.normal(size=6) + random.normal(size=(8, 1)) + random.normal(size=(8, 6))
        judged = comparisons.statistics(compared(removals, values))["d-trak"]
        assert judged.beyond is not None
        assert judged.beyond.low is not None
        assert judged.beyond.high is not None
        found.append(judged.specific_p)
        held.append(judged.beyond.low <= 0 <= judged.beyond.high)
    assert stats.kstest(found, "uniform").pvalue > 0.05
    assert 0.92 < np.mean(held)


def test_equal_removal_sets_are_one_model() -> None:
    removals = [
        (m, owner, size, named()[0][3] if i < 3 else removed) for i, (m, owner, size, removed) in enumerate(named())
    ]
    values = np.random.default_rng(6).normal(size=(12, 6))
    values[1] = values[2] = values[0]
    found = comparisons.statistics(compared([*removals, *controls(6)], values))["d-trak"]
    assert (found.targets, found.models, found.specific_p) == (6, 4, None)
    assert "only 4 different removals were named" in found.reason
    assert found.own == pytest.approx(np.mean([values[0, :3].mean(), *(values[i, i] for i in (3, 4, 5))]))


@pytest.mark.parametrize("count", [1, 5])
def test_below_six_targets_there_is_neither_p_nor_interval(count: int) -> None:
    few = TARGETS[:count]
    shown = compared([*named(few), *controls(8)], np.random.default_rng(7).normal(size=(count + 8, count)), few)
    found = comparisons.statistics(shown)["d-trak"]
    assert found.specific_p is None
    assert found.beyond is not None
    assert (found.beyond.low, found.beyond.high) == (None, None)
    assert f"too few targets: {count}, and 6 are needed" in comparisons.unjudged(shown) == found.reason
    assert all(row["l2_interval"] is None for row in comparisons.medians(shown).values())


def test_a_contributors_removal_is_one_model_for_all_targets() -> None:
    removals: list[Removal] = [("contributor:ada", "", 3, (1, 2, 3)), *controls(8)]
    values = np.random.default_rng(8).normal(size=(9, 6))
    values[0] += 9
    found = comparisons.statistics(compared(removals, values))["contributor:ada"]
    assert (found.targets, found.models, found.random_models) == (6, 1, 8)
    assert (found.specific_p, found.others) == (None, None)
    assert "named for all targets alike" in found.reason
    assert found.beyond is not None
    assert found.beyond.low is not None
    assert found.beyond.low > 0
    few = comparisons.statistics(compared([removals[0], *controls(2)], values[:3]))["contributor:ada"]
    assert few.beyond is not None
    assert few.beyond.low is None
    assert "too few random removals for an interval" in few.reason
    assert "without them; " in verdicts.sentence("contributor:ada", found, "l2")


def test_what_is_under_way_or_not_finite_has_no_verdict() -> None:
    values = np.random.default_rng(9).normal(size=(8, 6))
    half = compared([*named(), *controls(2)], values, missing=7)
    assert comparisons.unjudged(half) == comparisons.statistics(half)["d-trak"].reason == verdicts.UNFINISHED
    assert verdicts.verdicts(half.entries, TARGETS, 3, "l2")["d-trak"].reason == verdicts.UNFINISHED
    values[3, 2] = np.nan
    found = comparisons.statistics(compared([*named(), *controls(2)], values))["d-trak"]
    assert (found.specific_p, found.beyond, found.own) == (None, None, None)
    assert verdicts.sentence("d-trak", found, "l2") == "D-TRAK: no verdict, a model's values are not finite."


def test_the_document_holds_every_measure_and_method() -> None:
    removals = [*named(), *named(method="bottom"), *controls(2)]
    for i in range(6, 12):
        removals[i] = (*removals[i][:3], tuple(n + 200 for n in removals[i][3]))
    told = json.loads(
        json.dumps(comparison_document.document(compared(removals, np.random.default_rng(10).normal(size=(14, 6)))))
    )
    for measure in ("l2", "cosine", "loss_change"):
        assert set(told["statistics"][measure]) == {"d-trak", "bottom"}
        for one in told["statistics"][measure].values():
            assert 0 < one["specific_p"] <= 1
            assert set(one["beyond_random"]) == {"difference", "low", "high", "least", "most"}
            assert (one["targets"], one["models"], one["random_models"], one["reason"]) == (6, 6, 2, "")


def test_measures_do_not_hide_what_is_less_than_random() -> None:
    values = np.random.default_rng(11).normal(size=(12, 6))
    values[:6] -= 8
    judged = comparisons.statistics(compared([*named(), *controls(6)], values))["d-trak"]
    assert ", less than random removal. " in verdicts.sentence("d-trak", judged, "l2")
    values[:6] += 8
    judged = comparisons.statistics(compared([*named(), *controls(6)], values))["d-trak"]
    said = verdicts.sentence("d-trak", judged, "l2", quoted=str.upper)
    assert said.startswith("D-TRAK: not specific to the target (p = ")
    assert ", not more than random removal. " in said
    assert "95 % interval" in said
