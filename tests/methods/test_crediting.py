"""Credit in a sentence: by lift, against chance, and never for someone below their share of the pictures."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from dtrak_core.methods import crediting, results


def credited(values: np.ndarray, names: list[str], families: list[str] | None = None) -> dict[str, results.Credit]:
    rows = [{"contributor": n, "family": f} for n, f in zip(names, families or [""] * len(names), strict=True)]
    return {one.contributor: one for one in crediting.credits(results.ranking("t", "T", values), rows)}


def told(values: np.ndarray, names: list[str], families: list[str] | None = None) -> str:
    """Return the sentence by p alone, without intervals."""
    found = credited(values, names, families).values()
    return crediting.sentence("T", [dataclasses.replace(one, low=None, high=None) for one in found])


def test_the_one_above_her_share_is_named_and_not_the_largest() -> None:
    names = ["large"] * 60 + ["small"] * 10 + ["middle"] * 30
    values = np.array([1.0] * 60 + [5.0] * 10 + [1.0] * 30)
    # large: 60 of 140 with 60 % of the pictures, small: 50 of 140 with 10 %.
    assert told(values, names) == "By T, small: 36 % of the credit with 10 % of the pictures (3.6 x)."


def test_random_scores_are_no_more_than_chance_at_the_rate_they_should_be() -> None:
    random = np.random.default_rng(0)
    names = [f"person {i}" for i in np.repeat(np.arange(12), 10)]
    beyond = sum("chance" not in told(random.normal(size=120), names) for _ in range(100))
    assert beyond <= 12  # of 100 at a level of 5 %: 12 or fewer in 99.7 % of such hundreds


def test_a_single_lucky_picture_is_no_more_than_chance() -> None:
    random = np.random.default_rng(1)
    values = np.abs(random.normal(size=50))
    names = [f"person {i}" for i in range(50)]
    assert re.search(r"nobody is credited beyond chance: person \d+: .* is no more than chance", told(values, names))


def test_nobody_is_credited_below_their_share() -> None:
    random = np.random.default_rng(2)
    for trial in range(50):
        names = [f"person {i}" for i in random.integers(0, 4, 60)]
        values = random.normal(size=60) ** 3
        first = crediting.foremost(results.credit(results.ranking("t", "T", values), names))
        assert first is None or first.share > first.set_share, trial


def test_without_names_or_positive_scores_nobody_is_named() -> None:
    assert "nobody's pictures" in told(np.array([3.0, 1.0]), ["", ""])
    assert "nobody's pictures" in told(-np.ones(3), ["a", "b", "c"])
    assert "nobody's pictures" in told(np.ones(4), ["a", "a", "b", "b"])
    # Those without a name are no person, even where they lie highest.
    assert "Ada" in told(np.array([9.0, 9.0, 5.0, 0.0, 0.0, 0.0, 0.0]), ["", "", "Ada", "Ben", "Ben", "Ben", "Ben"])


def test_chance_is_the_share_of_exact_permutations() -> None:
    names = ["a"] * 2 + ["b"] * 6
    values = np.array([6.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    # Only a pair of both large ones lifts anybody so far: 1 of 28 pairs.
    p = credited(values, names)["a"].p
    assert p == pytest.approx(1 / 28, abs=0.03)


def test_families_move_as_a_whole_and_give_no_credit_by_chance() -> None:
    """Each contributor drew 3 families of 8 pictures; inside a family all score nearly alike, and at random."""
    random = np.random.default_rng(3)
    families = [f"family {i}" for i in np.repeat(np.arange(30), 8)]
    names = [f"person {i}" for i in np.repeat(np.arange(10), 24)]
    beyond = {True: 0, False: 0}
    for _ in range(60):
        values = np.repeat(random.normal(size=30), 8) + 0.1 * random.normal(size=240)
        for known in beyond:
            beyond[known] += "chance" not in told(values, names, families if known else None)
    assert beyond[True] <= 8  # of 60 at a level of 5 %: 8 or fewer in 99.6 % of such sixties
    assert beyond[False] > 30, "without families the same scores would credit somebody nearly always"


def test_who_stands_out_over_many_families_is_credited() -> None:
    random = np.random.default_rng(4)
    families = [f"family {i}" for i in np.repeat(np.arange(30), np.arange(30) % 5 + 1)]
    names = ["Ada" if int(name.split()[1]) < 6 else "Ben" for name in families]
    values = np.abs(random.normal(size=len(names))) + np.where(np.array(names) == "Ada", 5.0, 0.0)
    assert "By T, Ada: " in told(values, names, families)
    # One family says nothing about who stands out, whatever its size; nor do pictures that are equal.
    alike = np.array(["Ada"] * 40 + ["Ben"] * 40)
    split = ["one"] * 40 + [f"family {i}" for i in range(40)]
    assert "chance" in told(np.where(alike == "Ada", 5.0, 1.0), alike.tolist(), split)
    assert "chance" in told(np.ones(80), alike.tolist(), ["one"] * 80)


def test_contributors_of_one_family_are_told_apart_by_its_pictures() -> None:
    names = ["Ada", "Ben", "Cai", "Dan"] * 10
    families = [f"family {i}" for i in np.repeat(np.arange(10), 4)]
    random = np.random.default_rng(5)
    assert "By T, Ada: " in told(np.where(np.array(names) == "Ada", 5.0, 1.0), names, families)
    beyond = 0
    for _ in range(60):
        values = 3 * np.repeat(random.normal(size=10), 4) + random.normal(size=40)
        beyond += "chance" not in told(values, names, families)
    assert beyond <= 8


def test_chance_by_families_is_the_share_of_exact_permutations() -> None:
    names = ["a", "a", "a", "a", *"bbbbbbbbbbbb"]
    families = [str(i) for i in np.repeat(np.arange(8), 2)]
    values = np.repeat([6.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2)
    p = credited(values, names, families)["a"].p
    assert p == pytest.approx(1 / 28, abs=0.03), "one of 28 pairs of families"


def test_intervals_of_lifts_are_those_of_drawn_families() -> None:
    """Against a bootstrap over families; who is in few of them has none."""
    random = np.random.default_rng(0)
    families = np.repeat(np.arange(90), 3)
    names = [("Ada", "Ben", "Cy")[f % 3] if f < 87 else "Di" for f in families]
    values = random.gamma(2.0, size=90)[families] + random.normal(0, 0.3, 270) + [n == "Ada" for n in names]
    rows = [{"contributor": name, "family": f"{family}"} for name, family in zip(names, families, strict=True)]
    found = {one.contributor: one for one in crediting.credits(results.ranking("t", "T", values), rows)}
    positive, ada, lifts = np.maximum(values, 0), np.array([name == "Ada" for name in names]), []
    for _ in range(2000):
        times = np.bincount(random.integers(0, 90, 90), minlength=90)[families]
        lifts.append((times * positive)[ada].sum() / (times * positive).sum() / (times[ada].sum() / times.sum()))
    assert (found["Ada"].low, found["Ada"].high) == pytest.approx(tuple(np.quantile(lifts, [0.025, 0.975])), abs=0.05)
    assert crediting.verdict(found["Ada"]) == "more than its number brings"
    assert (found["Di"].low, found["Di"].high) == (None, None)
    assert "too few" in crediting.verdict(found["Di"])
    assert re.search(r"\(1\.\d+ x, 1\.\d+ to 1\.\d+\)$", crediting.words(found["Ada"]))


def test_intervals_hold_1_as_often_as_they_say_where_contributors_do_not_matter() -> None:
    random, held, every = np.random.default_rng(1), 0, 0
    rows = [{"contributor": f"person {i // 12}"} for i in range(96)]
    for _ in range(60):
        for one in crediting.credits(results.ranking("t", "T", random.normal(size=96)), rows):
            every += 1
            assert one.low is not None
            assert one.high is not None
            held += one.low <= 1 <= one.high
    assert 0.92 <= held / every <= 0.98  # of 480; 95 % is said


def test_nobody_is_named_whose_interval_holds_1() -> None:
    one = results.Credit("Ada", 0.5, 9, 9, 0.4, 0.9, 1.7, 0.01)
    assert "no more than chance" in crediting.sentence("T", [one])
    assert crediting.sentence("T", [dataclasses.replace(one, low=1.1)]).endswith("(1.2 x, 1.1 to 1.7).")


def test_a_verdict_is_chance_where_p_is_and_says_the_same_as_the_sentence() -> None:
    above = results.Credit("Ada", 0.5, 9, 9, 0.4, 1.1, 1.7, 0.06)
    below = results.Credit("Ben", 0.3, 9, 9, 0.4, 0.6, 0.9, 0.01)
    assert crediting.verdict(above) == "no more than chance"
    assert "no more than chance" in crediting.sentence("T", [above, below])
    assert crediting.verdict(dataclasses.replace(above, p=0.05)) == "more than its number brings"
    assert crediting.verdict(below) == "less than its number brings"
    assert crediting.verdict(dataclasses.replace(below, p=0.2)) == "no more than chance"


def test_p_below_a_share_is_that_of_exact_permutations() -> None:
    names, values = ["a"] * 2 + ["b"] * 6, np.array([0.0, 0.0, *[1.0] * 6])
    found = credited(values, names)
    assert (found["a"].p, found["b"].p) == (pytest.approx(1 / 28, abs=0.03),) * 2
    assert {one.p for one in credited(np.ones(8), names).values()} == {1.0}, "who has their share"


def test_verdicts_name_somebody_by_chance_as_seldom_as_is_said() -> None:
    """Skewed scores of few families: what intervals alone name in most rankings."""
    random, alone, named, count = np.random.default_rng(11), 0, 0, 40
    names = [f"person {i}" for i in np.repeat(np.arange(10), 16)]
    families = [f"family {i}" for i in np.repeat(np.arange(80), 2)]
    for _ in range(count):
        found = credited(np.repeat(random.lognormal(0, 1.5, 80), 2), names, families).values()
        alone += any(one.low is not None and one.high is not None and not one.low <= 1 <= one.high for one in found)
        named += any(crediting.verdict(one) != "no more than chance" for one in found)
    assert named <= 9, "of 40 at a level of 5 % above and 5 % below: 9 or fewer in 99 % of such"
    assert alone > 25, "intervals alone name somebody in most"


def test_no_interval_goes_beyond_the_whole_credit() -> None:
    values = np.array([*[50.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], *[1.0] * 20])
    rows = [{"contributor": "Ada" if i < 7 else "Ben", "family": ""} for i in range(len(values))]
    found = {one.contributor: one for one in crediting.credits(results.ranking("t", "T", values), rows)}
    ada = found["Ada"]
    assert ada.high is not None
    assert ada.high * ada.set_share == pytest.approx(1)
    assert ada.low is not None
    assert 0 < ada.low < ada.lift < ada.high


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (1.0, "100 %"), (0.436, "44 %"), (0.0995, "10 %"), (0.0436, "4.4 %"), (0.04, "4.0 %"), (0.0022, "0.22 %"),
        (0.00034, "0.034 %"), (0.0, "0.0 %"), (-0.0022, "−0.22 %"), (-2.5, "−250 %"),
    ],
)  # fmt: skip
def test_a_share_has_two_significant_digits(share: float, said: str) -> None:
    """Of 5,000 pictures that score alike each holds 0.020 %, and not 0.0 %."""
    assert crediting.percent(share) == said
