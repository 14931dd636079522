"""Badges: a method's p counts only once the number of measures is counted, and silence has a reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from comparison_helpers import TARGETS, compared, controls, named

from dtrak_core.counterfactual import badges, comparisons, crossed, taking_over
from dtrak_core.counterfactual.entries import Entry, beyond_floor, floors, outlined
from dtrak_core.counterfactual.verdicts import Verdict


def judged(**p: float | None) -> dict[str, Verdict]:
    return {measure: Verdict(6, 6, 6, (3,), 1.0, 0.5, 0.5, each) for measure, each in p.items()}


def test_each_p_is_multiplied_by_the_number_of_measures() -> None:
    alone = badges.badge(judged(l2=0.02))
    assert (alone.standing, alone.measures, alone.p) == (badges.BEYOND, ("l2",), 0.02)
    beside = badges.badge(judged(l2=0.02, cosine=0.5, loss_change=0.9))
    assert (beside.standing, beside.measures, beside.p) == (badges.CHANCE, (), pytest.approx(0.06))
    three = badges.badge(judged(l2=0.3, cosine=0.5, loss_change=0.01))
    assert (three.standing, three.measures, three.p) == (badges.BEYOND, ("loss_change",), pytest.approx(0.03))
    assert badges.badge(judged(l2=0.9, cosine=0.9)).p == 1.0
    assert badges.words(three) == "beyond chance (loss, p = 0.03)"


def test_by_chance_a_method_is_rarely_beyond_it() -> None:
    """Of independent measures without any effect, one method in twenty is called beyond chance."""
    drawn = np.random.default_rng(0).uniform(size=(4000, 3))
    found = [badges.badge(judged(l2=a, cosine=b, loss_change=c)).standing for a, b, c in drawn.tolist()]
    assert 0.035 < np.mean([one == badges.BEYOND for one in found]) < 0.06


def test_by_chance_a_removal_alike_for_all_targets_is_rarely_beyond_random_ones() -> None:
    """Its measures have no p but intervals, of which as many are judged: one of all in forty lies above by chance."""
    random, alike, found, apart = np.random.default_rng(2), [list(range(8))], [], []
    for _ in range(800):
        told = {}
        for measure in ("l2", "cosine", "loss_change"):
            common, models, chance = (random.normal(size=size) for size in (8, (13, 1), (13, 8)))
            values = common + models + chance
            beyond = crossed.beyond_random(values[:1], alike, [values[1:]], 3)
            told[measure] = Verdict(8, 1, 12, (3,), 1.0, None, 0.5, None, beyond)
        found.append(badges.badge(told).standing)
        apart.append(any(one.beyond is not None and (one.beyond.low or 0) > 0 for one in told.values()))
    assert 0.01 < np.mean([one == badges.BEYOND for one in found]) < 0.04  # 0.025, and two standard errors
    assert np.mean(apart) > 0.05, "by the intervals at 95 %"


def test_a_method_that_names_what_matters_is_told_from_one_that_does_not() -> None:
    removals = [*named(), *named(method="trak"), *controls(6)]
    removals[6:12] = [(m, owner, size, tuple(i + 300 for i in removed)) for m, owner, size, removed in removals[6:12]]
    values = np.random.default_rng(0).normal(size=(len(removals), 6))
    values[:6] += 6 * np.eye(6)
    values[6:12] = values[:6][::-1]
    comparison = compared(removals, values)
    found = badges.badges(comparison)
    assert {method: one.standing for method, one in found.items()} == {"d-trak": badges.BEYOND, "trak": badges.CHANCE}
    p = comparisons.statistics(comparison)["d-trak"].specific_p
    assert p is not None
    assert found["d-trak"].p == pytest.approx(3 * p), "three measures"
    assert badges.headline(comparison).startswith("D-TRAK (pixel l2, cosine, loss) names pictures that matter")
    assert badges.document(found)["trak"]["standing"] == "not beyond chance"


def test_removals_by_what_is_known_of_targets_are_spoken_of_as_such() -> None:
    removals = [*named(method="same:family"), *named(method="same:label"), *controls(6)]
    removals[6:12] = [(m, owner, size, tuple(i + 300 for i in removed)) for m, owner, size, removed in removals[6:12]]
    values = np.random.default_rng(0).normal(size=(len(removals), 6))
    values[:6] += 6 * np.eye(6)
    values[6:12] = values[:6][::-1]
    assert badges.headline(compared(removals, values)) == (
        "Without the target's family the picture changes more (pixel l2, cosine, loss) than without that of other "
        "targets, beyond chance. Without the target's label the picture changes no more, as far as these models tell, "
        "than without that of other targets."
    )


def test_a_removal_that_is_the_same_for_all_targets_is_compared_with_random_ones() -> None:
    removals = [("contributor:ada", "", 3, (500, 501, 502)), ("contributor:ben", "", 3, (600, 601, 602)), *controls(8)]
    values = np.random.default_rng(1).normal(size=(len(removals), 6))
    values[0] += 9
    found = badges.badges(compared(removals, values))
    assert found["contributor:ada"].standing == badges.BEYOND
    assert found["contributor:ben"].standing == badges.CHANCE
    assert {one.p for one in found.values()} == {None}
    told = badges.headline(compared(removals, values))
    assert "Without ada: the targets change more (pixel l2, cosine, loss) than without random pictures." in told
    assert "Without ben: no more, as far as these models tell," in told


def test_what_cannot_be_judged_says_why() -> None:
    few = compared(named(TARGETS[:3]), np.zeros((3, 3)), TARGETS[:3])
    assert [one.standing for one in badges.badges(few).values()] == [badges.TOO_FEW]
    assert badges.headline(few) == "No verdict: too few targets: 3, and 6 are needed."
    half = compared(named(), np.zeros((6, 6)), missing=1)
    (one,) = badges.badges(half).values()
    assert (one.standing, one.reason) == (badges.UNJUDGED, "not every model has drawn every target yet")
    lonely = compared([("contributor:ada", "", 3, (500, 501, 502))], np.zeros((1, 6)))
    assert [one.standing for one in badges.badges(lonely).values()] == [badges.UNJUDGED]


def test_the_floor_of_a_target_is_its_own_farthest_model() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    entries = [
        Entry(target, "noise_floor", draw, 0, (), black, value, 1 - value, 0.0)
        for target, values in (("seed:0", (1.0, 3.0)), ("seed:1", (2.0,)))
        for draw, value in enumerate(values)
    ]
    assert floors(entries, "l2") == {"seed:0": (3.0, 2), "seed:1": (2.0, 1)}
    assert floors(entries, "cosine") == {"seed:0": (-2.0, 2), "seed:1": (-1.0, 1)}
    assert outlined(floors(entries, "l2"), " in pixel l2") == (
        "Outlined: changed more in pixel l2 than by any of 2 trainings with nothing removed and another seed (noise "
        "floor). By chance one picture in 3 would be."
    )
    moved = Entry("seed:0", "trak", 0, 3, (1, 2, 3), black, 2.5, -2.5, 0.0)
    assert not beyond_floor(moved, 3.0, "l2")
    assert beyond_floor(moved, -2.0, "cosine")


def test_comparisons_that_take_over_elsewhere_are_one() -> None:
    whole = compared([*named(), *controls(2)], np.ones((8, 6)))
    other = compared([*named(method="trak"), *controls(2)], np.ones((8, 6)))

    def at(timestep: int) -> comparisons.Comparison:
        settings = whole.settings.model_copy(update={"take_over": timestep})
        entries = tuple(dataclasses.replace(e, l2=timestep * e.l2) for e in whole.entries)
        return dataclasses.replace(whole, settings=settings, entries=entries)

    late = {timestep: at(timestep) for timestep in (700, 300)}
    listed = [late[300], other, whole, late[700]]
    found = taking_over.kin(late[700], listed)
    assert {timestep: one.settings.take_over for timestep, one in found.items()} == {300: 300, 700: 700, 1000: 1000}
    assert list(found) == [300, 700, 1000]
    assert [one.settings.methods[0] for one in taking_over.heads(listed)] == ["d-trak", "trak"]
    assert taking_over.heads(listed)[0] is whole
    curves = taking_over.curves(late, 3, "l2")
    assert curves.keys() == {"d-trak", "random"}
    assert curves["d-trak"] == [(300, 300.0), (700, 700.0)]
