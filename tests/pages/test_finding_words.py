"""A finding's sentence follows its numbers: a falling curve never rises in words."""

from __future__ import annotations

import pytest

from dtrak_core.ui.benchmark.finding_words import Point, agrees, cheaper, compare, trend


def curve(*values: float, width: float | None = 0.02) -> list[Point]:
    ends = [(None, None) if width is None else (v - width, v + width) for v in values]
    return [Point(f"{25 * (i + 1)} %", v, *end) for i, (v, end) in enumerate(zip(values, ends, strict=True))]


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ((0.1, 0.2, 0.4), 0.02, "X rises from 0.100 at 25 % to 0.400 at 75 %"),
        ((0.4, 0.3, 0.1), 0.02, "X falls from 0.400 at 25 % to 0.100 at 75 %"),
        ((0.1, 0.4, 0.1), 0.02, "X rises from 0.100 at 25 % to 0.400 at 50 %, then falls to 0.100 at 75 %"),
        ((0.10, 0.11), 0.02, "X goes from 0.100 at 25 % to 0.110 at 50 %, no more than its interval"),
        ((0.1, 0.4), None, "X goes from 0.100 at 25 % to 0.400 at 50 %, its interval is not known"),
        ((-0.05,), 0.02, "X: −0.050 at 25 %"),
    ],
)
def test_a_curve_in_words(values: tuple[float, ...], width: float | None, expected: str) -> None:
    assert trend("X", curve(*values, width=width)) == expected


def test_bars_in_words() -> None:
    a, b = curve(0.4, 0.1)
    assert compare([("b", b), ("a", a)]) == "highest is a with 0.400, beyond its interval above b with 0.100"
    assert "within its interval" in compare([("b", curve(0.4)[0]), ("a", curve(0.41)[0])])
    assert compare([("b", b)]) == "b: 0.100"


def test_what_as_good_an_answer_costs_in_words() -> None:
    low, high = curve(0.2, 0.4)
    theirs = {"A, theirs": [(30.0, low), (300.0, high)], "B, theirs": [(300.0, low)]}
    ours = {"A": [(1.0, low), (3.0, high), (9.0, high)], "B": [(1.0, low)], "C": [(290.0, high)]}
    assert cheaper(theirs, ours) == (
        "A, theirs: 0.400 at best, after 5 min. Ours: A has 0.400 after 3 s, a 100th of the time; "
        "B does not reach that (0.200 at most); C has 0.400 after 5 min."
    )


def test_whether_it_is_as_the_paper_has_it() -> None:
    (low,), (high,), (near,) = curve(0.1), curve(0.4), curve(0.39)
    assert agrees(high, low) == "yes"
    assert agrees(low, high) == "no, the other way round"
    assert agrees(high, near) == "not clear: within the intervals"
    assert agrees(*curve(0.4, 0.1, width=None)) == "not clear: the intervals are not known"
