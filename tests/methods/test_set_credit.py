"""Credit over a set: against plain sums, whatever the order, and never more than the numbers carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from dtrak_core.errors import SettingsError
from dtrak_core.methods import set_credit, set_words
from dtrak_core.methods.methods import METHODS

NAMES = ["Ada"] * 5 + ["Ben"] * 3 + [""] * 2 + ["Cy"] * 10
ROWS: list[dict[str, Any]] = [{"contributor": name, "name": f"disc {i}"} for i, name in enumerate(NAMES)]
VALUES = np.random.default_rng(7).normal(0.1, 1.0, (9, 20))


def groups(credit: set_credit.SetCredit) -> dict[str, set_credit.Group]:
    return {group.name: group for group in credit.groups}


def rows_of(names: list[str], families: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"contributor": n, "family": f} for n, f in zip(names, families or [""] * len(names), strict=True)]


def test_shares_are_plain_sums_of_positive_means() -> None:
    credit = set_credit.over(VALUES, ROWS)
    mean = [sum(float(VALUES[z, i]) for z in range(9)) / 9 for i in range(20)]
    total = sum(m for m in mean if m > 0)
    assert [g.share for g in credit.groups] == sorted((g.share for g in credit.groups), reverse=True)
    for name in ("Ada", "Ben", "Cy", "not given"):
        own = [i for i, n in enumerate(NAMES) if (n or "not given") == name]
        group = groups(credit)[name]
        assert sorted(group.members.tolist()) == own
        assert [mean[i] for i in group.members] == sorted((mean[i] for i in own), reverse=True)
        assert group.share == pytest.approx(sum(max(mean[i], 0) for i in own) / total)
        assert group.summed == pytest.approx(sum(mean[i] for i in own) / total)
        assert group.set_share == len(own) / 20
        assert group.lift == pytest.approx(group.share * 20 / len(own))
        assert group.supporting == sum(mean[i] > 0 for i in own)
        place = [g.name for g in credit.groups].index(name)
        for z in range(9):
            positive = sum(max(float(v), 0) for v in VALUES[z])
            assert credit.helped[z, place] == pytest.approx(sum(max(float(VALUES[z, i]), 0) for i in own) / positive)
    squares = sum(max(m, 0) ** 2 for m in mean)
    assert credit.sources == pytest.approx(total**2 / squares)
    assert credit.group_sources == pytest.approx(1 / sum(g.share**2 for g in credit.groups))


def test_intervals_are_of_resampled_targets() -> None:
    random, lifts = np.random.default_rng(99), []
    ada = np.array([name == "Ada" for name in NAMES])
    for _ in range(3000):
        drawn, own = VALUES[random.integers(0, 9, 9)].mean(0), VALUES.mean(0)
        positive = np.maximum(own + (drawn - own) * (9 / 8) ** 0.5, 0)
        lifts.append(positive[ada].sum() / positive.sum() / ada.mean())
    group = groups(set_credit.over(VALUES, ROWS))["Ada"]
    tail = stats.norm.cdf(stats.t.ppf(0.025, 8))
    assert (group.low, group.high) == pytest.approx(tuple(np.quantile(lifts, [tail, 1 - tail])), abs=0.1)


def test_intervals_hold_the_lift_of_all_targets_as_often_as_they_say() -> None:
    """Percentiles of plain resamples held it in 85 % with 6 targets, and hold it in 93 % as they are stretched."""
    random, held, which = np.random.default_rng(7), 0, np.arange(100) % 5
    for _ in range(200):
        mean = random.normal(0.3, 0.6, 100)
        lifts = np.bincount(which, np.maximum(mean, 0)) / np.maximum(mean, 0).sum() * 5
        values = mean + random.normal(0, 0.5, (6, 5))[:, which] + random.normal(0, 0.8, (6, 100))
        low, high = set_credit._interval(values, which, 5) * 5
        held += int(((low <= lifts) & (lifts <= high)).sum())
    assert 900 <= held <= 970, "of 1,000; plain percentiles hold about 850"


def test_no_order_changes_anything() -> None:
    once = set_credit.over(VALUES, ROWS)
    random = np.random.default_rng(1)
    targets, pictures = random.permutation(9), random.permutation(20)
    again = set_credit.over(VALUES[targets], ROWS)
    for one, other in zip(once.groups, again.groups, strict=True):
        assert (one.name, one.share, one.low, one.high, one.p) == (
            other.name,
            other.share,
            other.low,
            other.high,
            other.p,
        )
    assert np.array_equal(once.helped[targets], again.helped)
    moved = set_credit.over(VALUES[:, pictures], [ROWS[i] for i in pictures])
    for name, group in groups(moved).items():
        assert (group.share, group.low, group.high) == pytest.approx(
            (groups(once)[name].share, groups(once)[name].low, groups(once)[name].high)
        )


def test_random_scores_are_no_more_than_chance() -> None:
    random, beyond, out = np.random.default_rng(0), 0, 0
    rows = rows_of([f"person {i // 6}" for i in range(48)])
    for _ in range(20):
        credit = set_credit.over(random.normal(size=(30, 48)), rows)
        beyond += sum(group.verdict in ("more", "less") for group in credit.groups)
        out += any(group.p is not None and group.p <= 0.05 for group in credit.groups)
    assert beyond <= 20, "of 160 groups at a level of 5 %: 20 or fewer nearly always"
    assert out <= 4, "of 20 sets: 4 or fewer in 99.7 % of such"


def test_who_helped_most_stands_out_and_is_said_first() -> None:
    values = np.random.default_rng(2).normal(size=(12, 100))
    values[:, 10:25] += 1.0
    names = ["Ben"] * 10 + ["Ada"] * 15 + [f"person {i // 15}" for i in range(75)]
    credit = set_credit.over(values, rows_of(names))
    ada = groups(credit)["Ada"]
    assert (ada.verdict, ada.p) == ("more", pytest.approx(1 / 401))
    told = set_words.sentences(credit, "T")
    assert told[1].startswith(f"Ada: {ada.share:.0%}".replace("%", " %") + " of the credit with 15 % of the pictures, ")
    assert f"{ada.lift:.1f} times ({ada.low:.1f} to {ada.high:.1f})." in told[1]
    assert any(line.startswith("Farther from the share") and "Ada" in line for line in told)
    assert not any(line.startswith("Ben:") and groups(credit)["Ben"].verdict == "chance" for line in told)


def test_p_is_the_share_of_exact_deals() -> None:
    names, mean = ["a"] * 2 + ["b"] * 6, np.array([6.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    credit = set_credit.over(np.tile(mean, (6, 1)), rows_of(names))
    assert groups(credit)["a"].p == pytest.approx(1 / 28, abs=0.03), "only one of 28 pairs has both large ones"
    alike = set_credit.over(np.tile(mean, (6, 1)), rows_of(names, ["one"] * 2 + ["two"] * 6))
    assert groups(alike)["a"].p == 1, "a family alone in its size cannot be dealt to anybody else"


def test_a_lift_that_does_not_repeat_is_chance() -> None:
    values = np.random.default_rng(3).normal(size=(12, 20)) + np.where(np.array(NAMES) == "Ada", 2.0, 0.0)
    assert groups(set_credit.over(values, ROWS))["Ada"].verdict == "more"
    halves = [values, values - np.where(np.array(NAMES) == "Ada", 4.0, 0.0)]
    credit = set_credit.over(values, ROWS, repeats=halves, repeated="both halves of the draws")
    assert groups(credit)["Ada"].verdict == "chance"
    assert groups(credit)["Ada"].repeats[0] == groups(credit)["Ada"].lift
    assert "both halves of the draws" in set_words.protocol(credit)


def test_few_targets_have_no_interval_and_say_so() -> None:
    credit = set_credit.over(VALUES[:5], ROWS)
    assert {(g.low, g.high, g.verdict) for g in credit.groups} == {(None, None, "unknown")}
    assert "Too few generated pictures to tell credit from chance: 5, and 6 are needed." in set_words.sentences(
        credit, "T"
    )


def test_what_the_model_never_saw_has_no_part() -> None:
    learned = [0, 1, 2, 5, 6, 10, 11, 12]
    some = set_credit.over(VALUES, ROWS, learned=learned)
    alone = set_credit.over(VALUES[:, learned], [ROWS[i] for i in learned])
    assert some.pictures == 8
    assert [(g.name, g.share, g.lift, g.low) for g in some.groups] == [
        (g.name, g.share, g.lift, g.low) for g in alone.groups
    ]
    assert {i for group in some.groups for i in group.members.tolist()} == set(learned)
    assert not some.means[[3, 4, 19]].any()


def test_pictures_are_grouped_by_what_they_have() -> None:
    rows = [
        {"contributor": "", "label": "red", "family": "x"},
        {"label": "blue", "family": ""},
        {"label": "", "family": "x"},
    ]
    assert set_credit.groupings(rows) == ("label", "family", "picture")
    assert set_credit.groupings([{}, {}]) == ("picture",)
    assert set_credit.names_of(rows, "label") == ["red", "blue", "not given"]
    assert set_credit.names_of(rows, "family") == ["x (#0 red)", "#1 blue", "x (#0 red)"]
    with pytest.raises(SettingsError, match=r"no contributor\. Group them by label or family or picture"):
        set_credit.over(np.ones((1, 3)), rows, "contributor")
    singly = set_credit.over(np.tile([3.0, 1.0, 0.0], (6, 1)), rows, "picture")
    assert [(g.name, g.lift, g.p) for g in singly.groups] == [
        ("#0 red", 2.25, None),
        ("#1 blue", 0.75, None),
        ("#2", 0, None),
    ]


def test_without_positive_scores_there_is_no_credit() -> None:
    credit = set_credit.over(-np.ones((6, 20)), ROWS)
    assert (credit.sources, {g.share for g in credit.groups}) == (0.0, {0.0})
    assert "there is no credit" in set_words.sentences(credit, "T")[0]


def test_squared_scores_and_shapes_that_do_not_fit_are_refused() -> None:
    assert "squares its scores" in set_credit.refusal(METHODS["das-squared"])
    assert [name for name in METHODS if set_credit.refusal(METHODS[name])] == ["das-squared"]
    for wrong in (VALUES[:, :19], VALUES[0], VALUES[:0], np.full((2, 20), np.nan)):
        with pytest.raises(SettingsError, match="20 training pictures"):
            set_credit.over(wrong, ROWS)
