"""Groups that were left out: predicted against measured, over the same targets, each model once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparison_helpers import BLACK, TARGETS, compared, controls
from scipy import stats

from dtrak_core.counterfactual import credits, left_out, work_sheet
from dtrak_core.models import targets
from dtrak_core.models.settings import SampleSettings
from dtrak_core.models.targets import Target
from dtrak_core.ui.credit import credit_charts

GROUPS = {f"person {g}": list(range(3 * g, 3 * g + 3)) for g in range(7)}
RANDOM = np.random.default_rng(5)
VALUES, EFFECTS = RANDOM.normal(size=(6, 30)), RANDOM.normal(size=(7, 6))


@pytest.fixture
def drawn(cache: Path) -> list[Target]:
    """Store the targets of the helpers' comparisons."""
    return [
        targets.publish_sample(SampleSettings(checkpoint="1" * 16, seed=targets.seed_of(name)), BLACK)
        for name in TARGETS
    ]


def left(names: list[str]) -> list[tuple[str, str, int, tuple[int, ...]]]:
    return [(f"contributor:{name}", "", 3, tuple(GROUPS[name])) for name in names]


def test_predictions_are_sums_and_measurements_are_beyond_nothing_removed(drawn: list[Target]) -> None:
    floor = np.arange(6) / 10
    removals = [*left(list(GROUPS)), ("noise_floor", "", 3, ()), *controls(1)]
    values = [*EFFECTS, floor, np.ones(6)]
    wide = np.concatenate([VALUES, np.zeros((6, 1000))], axis=1)
    found = left_out.check([compared(removals, np.array(values), seeds=(43, 44))], GROUPS, wide, drawn)
    by_name = {row.name: row for row in found.groups}
    for g, (name, members) in enumerate(GROUPS.items()):
        row = by_name[name]
        assert row.predicted == pytest.approx(sum(VALUES[z, i] for z in range(6) for i in members) / 6)
        assert row.measured == pytest.approx(float((EFFECTS[g] - floor).mean()))
        assert (row.pictures, row.models, row.targets) == (3, 2, 6)
    assert [(row.name, row.models) for row in found.random] == [("", 2)]
    pairs = [(row.predicted, row.measured) for row in found.groups]
    assert found.rho == pytest.approx(float(stats.spearmanr(pairs).statistic))
    assert "7 groups (14 models)" in left_out.sentence(found)


def test_a_model_in_two_comparisons_counts_once_and_other_removals_not_at_all(drawn: list[Target]) -> None:
    one = compared([*left(["person 0", "person 1"]), ("d-trak", TARGETS[0], 2, (0, 1))], EFFECTS[:3])
    other = compared(left(["person 1", "person 2"]), EFFECTS[1:3])
    found = left_out.check([one, other], GROUPS, VALUES, drawn)
    assert {row.name: row.models for row in found.groups} == {"person 0": 1, "person 1": 1, "person 2": 1}
    assert found.rho is None
    assert left_out.sentence(found) == "Too few groups were left out for a verdict: 3 of 6."


def test_only_targets_that_are_explained_are_compared(drawn: list[Target]) -> None:
    found = left_out.check([compared(left(["person 0"]), EFFECTS[:1])], GROUPS, VALUES[:2], drawn[:2])
    (row,) = found.groups
    assert row.targets == 2
    assert row.measured == pytest.approx(float(EFFECTS[0, :2].mean()))
    assert row.predicted == pytest.approx(float(VALUES[:2, :3].sum(1).mean()))
    none = left_out.check([compared(left(["person 0"]), EFFECTS[:1])], GROUPS, VALUES[:1], [drawn[0]][:0])
    assert none.groups == ()


def test_perfect_predictions_are_beyond_chance(drawn: list[Target]) -> None:
    effects = np.stack([VALUES[:, members].sum(1) for members in GROUPS.values()])
    found = left_out.check([compared(left(list(GROUPS)), effects)], GROUPS, VALUES, drawn)
    assert found.rho == pytest.approx(1)
    assert found.p == pytest.approx(1 / 5040), "one of the 7! orders"
    assert found.low is not None
    assert found.low < 0
    assert "by chance 95 % lie between −" in left_out.sentence(found)


def test_scores_that_say_nothing_are_within_chance_whatever_the_sizes_of_groups() -> None:
    """Random scores of positive mean sum to the more the larger a group is, and so does what is measured."""
    random, sizes, low = np.random.default_rng(3), (30, 45, 60, 70, 80, 95, 110, 120), 0
    for _ in range(200):
        scores = random.random(1000)
        rows = []
        for size in sizes:
            predicted = float(scores[random.choice(1000, size, replace=False)].sum())
            measured = 1e-4 * size + random.normal(0, 1e-4 * size**0.5)
            rows.append(left_out.LeftOut(str(size), size, predicted, measured, 1, 12))
        found = left_out._judged(tuple(rows), ())
        assert found.p is not None
        low += found.p <= 0.05
    assert 2 <= low <= 20, "of 200 at a level of 5 %: so many in 99.9 % of such"


def test_what_groups_of_unequal_size_change_is_ranked_for_each_picture(drawn: list[Target]) -> None:
    """The large group is predicted and measured to change more in all, and less for each of its pictures."""
    groups = GROUPS | {"person 0": list(range(30, 90))}
    values = np.concatenate([np.abs(VALUES) + 1, np.full((6, 60), 0.5)], axis=1)
    removals = [(f"contributor:{name}", "", len(own), tuple(own)) for name, own in groups.items()]
    effects = np.stack([values[:, own].sum(1) for own in groups.values()])
    found = left_out.check([compared(removals, effects)], groups, values, drawn)
    last = found.groups[-1]
    assert (last.name, last.pictures, last.predicted, last.predicted_each) == ("person 0", 60, 30, 0.5)
    assert last.measured == max(row.measured for row in found.groups) == pytest.approx(30)
    assert last.measured_each == pytest.approx(0.5)
    assert found.rho == pytest.approx(1)
    told = credits._document(found)
    assert [row["predicted_each"] for row in told["groups"]] == [row.predicted_each for row in found.groups]
    points = credit_charts.left_out(told["groups"], told["random"]).data[0]
    assert (points.x[-1], points.y[-1]) == (0.5, pytest.approx(0.5)), "drawn is what is ranked"
    assert "changed the loss for each picture in an order" in told["sentence"]
    effects[0] *= 10  # in all it changes the most now and before; for each picture the most only now
    swapped = left_out.check([compared(removals, effects)], groups, values, drawn)
    assert swapped.rho == pytest.approx(float(stats.spearmanr([1, 2, 3, 4, 5, 6, 7], [7, 1, 2, 3, 4, 5, 6]).statistic))


def test_a_works_removal_is_compared_with_random_ones_of_its_size(drawn: list[Target]) -> None:
    own, equal = left_out.LeftOut("work", 3, 0.0, 0.001, 2, 6, -0.002), left_out.LeftOut("", 3, 0.0, -0.002, 1, 6)
    told = work_sheet.measured(left_out.Check((own,), (equal,)))
    assert told.endswith(
        "2 models denoise 6 generated pictures with a loss that changes by +0.00100 beside another training seed's "
        "alone; without as many random pictures it changes by −0.00200."
    )
    assert "No model has been trained" in work_sheet.measured(left_out.Check((), (equal,)))
    many = compared([*left(["person 0"]), *controls(2, size=9)], RANDOM.normal(size=(3, 6)))
    checked = left_out.check([many], {"work": GROUPS["person 0"]}, np.zeros((6, 2000)), drawn)
    assert "random" not in work_sheet.measured(checked), "these take more pictures"


def test_random_ones_are_compared_by_the_targets_and_seeds_of_the_works_removal(drawn: list[Target]) -> None:
    """Targets differ more in what any removal changes than removals do."""
    hard = np.array([0.0, 0.0, 0.0, 5.0, 5.0, 5.0])  # what any removal changes
    work, wide = {"work": GROUPS["person 0"]}, np.zeros((6, 2000))
    removals = [*left(["person 0", "person 1"]), *controls(2)]
    values = np.stack([hard + 1, hard + 9, hard + 0.25, hard + 0.75])
    own = compared(removals[:1], values[:1, :3], TARGETS[:3], (43, 44))
    elsewhere = compared(removals[1:], values[1:, 3:], TARGETS[3:], (43, 44))
    (row,) = left_out.check([own, elsewhere], work, wide, drawn).groups
    assert (row.measured, row.by_random) == (pytest.approx(1.0), None), "no random model has drawn its targets"
    every = compared(removals[1:], values[1:], TARGETS, (43, 44))
    (row,) = left_out.check([own, elsewhere, every], work, wide, drawn).groups
    assert (row.measured, row.by_random) == (pytest.approx(1.0), pytest.approx(0.5))
    once = compared(removals[1:], values[1:], TARGETS, (43,))
    assert left_out.check([own, once], work, wide, drawn).groups[0].by_random is None, "nor by its second seed"
