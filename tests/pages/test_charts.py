"""Charts are functions from data to figures: the data arrives, by training index and not by place."""

from __future__ import annotations

import dataclasses
import html
import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

from dtrak_core.methods import map_sheet, results
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import charts, plotting, rows
from dtrak_core.ui.map import map_chart


def test_the_score_curve_marks_the_shown_ones_by_index() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    found = results.ranking("d-trak", "D-TRAK", values)
    first, last = results.proponents(found, 4), results.opponents(found, 2)
    drawn = charts.score_curve(found, first, last, [str(i) for i in range(5000)])
    line, best, worst = drawn.data
    assert len(line.x) <= 2000
    assert (line.x[0], line.x[-1]) == (1, 5000)
    np.testing.assert_allclose(line.y, np.sort(values)[::-1][np.asarray(line.x) - 1])
    assert list(best.customdata) == np.argsort(-values)[:4].tolist()
    assert list(worst.customdata) == np.argsort(values)[:2].tolist()
    assert list(worst.x) == [5000, 4999]
    assert best.marker.symbol != worst.marker.symbol


def test_credit_bars_show_the_largest_first_from_the_top() -> None:
    names = ["a"] * 5 + ["b"] * 3 + ["c"]
    credits = results.credit(results.ranking("t", "T", np.arange(9.0)), names)
    drawn = charts.credit_bars(credits[:2])
    bars, sets = drawn.data
    assert list(bars.y) == [c.contributor for c in credits[:2]][::-1]
    assert list(bars.x) == [c.share for c in credits[:2]][::-1]
    assert list(sets.x) == [c.set_share for c in credits[:2]][::-1]
    assert list(bars.customdata) == [1, 0], "a click finds who it is"
    sure = dataclasses.replace(credits[0], low=0.5, high=2.0)
    error = charts.credit_bars([sure]).data[0].error_x
    ends = (sure.share - error.arrayminus[0], sure.share + error.array[0])
    assert ends == pytest.approx((0.5 * sure.set_share, 2.0 * sure.set_share))
    assert error.width == 0, "where no interval is known, nothing is drawn"


def test_the_loss_curve_keeps_every_line_of_the_metrics() -> None:
    lines = [{"step": 20 * i, "loss": 1 / i} for i in range(1, 61)]
    mean, raw = charts.loss_curve(lines).data
    assert list(raw.x) == [line["step"] for line in lines]
    assert list(raw.y) == [line["loss"] for line in lines]
    assert np.isclose(mean.y[-1], np.mean([1 / 58, 1 / 59, 1 / 60]))


def test_a_click_is_parsed_by_method_and_index() -> None:
    assert rows.parse("d-trak/12", ["d-trak"]) == ("d-trak", 12)
    assert rows.parse("target", ["d-trak"]) is None
    assert rows.parse("trak/12", ["d-trak"]) is None
    assert rows.parse("d-trak/../1", ["d-trak"]) is None


MARKUP = ["<b>bold</b>", "<a href='https://x.org'>x</a>", "A & B &lt;", "$x^2$", "two\nlines", "%{x}"]


@pytest.mark.parametrize("name", MARKUP)
def test_names_are_text_in_every_chart(name: str) -> None:
    found = results.ranking("t", "T", np.array([2.0, -1.0]))
    bars, sets = charts.credit_bars(results.credit(found, [name, "other"])).data
    shown = [*bars.y, *sets.y, *charts.score_curve(found, results.proponents(found, 1), [], [name, "o"]).data[1].text]
    for text in shown:
        assert not set(text) & {"<", ">", "$", "\n"}
    held = [html.unescape(text) for text in shown]
    assert " ".join(name.splitlines()) in held


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#0e1117"])
def test_colours_are_seen_on_both_themes(ground: str) -> None:
    for colour in plotting.PALETTE:
        low, high = sorted((luminance(colour), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_a_method_has_one_colour_whatever_stands_beside_it() -> None:
    alone = plotting.coloured(go.Figure([go.Box(x=[1.0], name="TRAK")]))
    beside = plotting.coloured(go.Figure([go.Scatter(x=[1.0], name=name) for name in ("Random", "D-TRAK", "TRAK")]))
    assert alone.data[0].marker.color == beside.data[2].marker.color
    assert len({trace.marker.color for trace in beside.data}) == 3


def test_nothing_of_a_comparison_has_a_methods_colour_that_is_no_method() -> None:
    """Boxes come from the first to the last as trainings end: no colour may hang on how many there are."""
    controls = ["Random", "Random, 90 removed", "Noise floor", "Lowest scores", "Without Ada", "Without D-TRAK"]
    found = {name: plotting.of_name(name, 0) for name in controls}
    assert found == {name: plotting.of_name(name, 5) for name in controls}
    assert not {*found.values()} & {plotting.COLOURS["D-TRAK"], plotting.COLOURS["TRAK"]}
    assert found["Random"] == found["Random, 90 removed"]
    assert len({found[name] for name in ("Random", "Noise floor", "Lowest scores", "Without Ada")}) == 4
    assert plotting.of_name("TRAK, the paper on CIFAR-2", 3) == plotting.COLOURS["TRAK"]


@pytest.mark.parametrize("ground", ["#ffffff", "#0e1117"])
def test_every_named_colour_and_all_ink_is_seen(ground: str) -> None:
    def contrast(colour: str) -> float:
        low, high = sorted((luminance(colour), luminance(ground)))
        return (high + 0.05) / (low + 0.05)

    of_maps = (*map_sheet.COLOURS, map_sheet.OTHER)
    assert min(map(contrast, [*plotting.COLOURS.values(), plotting.OTHER, *of_maps])) >= 3
    assert contrast(plotting.INK["light" if ground == "#ffffff" else "dark"]) >= 4.5


# Machado et al. 2009: what eyes without red cones, and without green ones, see of linear RGB.
CONES = {
    "all": np.eye(3),
    "no red": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "no green": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
}


def lab(colour: str, eyes: np.ndarray) -> np.ndarray:
    """Return a colour in CIELAB (D65) as these eyes see it."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.clip(eyes @ np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4), 0, 1)
    xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]) @ linear
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.0888])  # all are lighter than where the curve is a line
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", CONES)
def test_colours_of_methods_and_controls_are_told_apart_by_all_eyes(eyes: str) -> None:
    assert METHODS.keys() >= plotting.METHOD_COLOURS.keys()
    assert not [one.label for name, one in METHODS.items() if name not in plotting.METHOD_COLOURS and ":" not in name]
    controls = [plotting.COLOURS[name] for name in ("Random", "Noise floor", "Lowest scores")]
    found = [lab(one, CONES[eyes]) for one in (*plotting.METHOD_COLOURS.values(), *controls, plotting.OTHER)]
    apart = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(found, 2)]
    assert min(apart) >= 12
    assert np.linalg.norm(found[0] - found[1]) > 30, "D-TRAK and TRAK"


@pytest.mark.parametrize("eyes", CONES)
def test_colours_of_a_map_are_told_apart_by_all_eyes(eyes: str) -> None:
    names = [lab(one, CONES[eyes]) for one in (*map_sheet.COLOURS, map_sheet.OTHER)]
    ends = [lab(one, CONES[eyes]) for one in (map_chart.HINDERED, map_chart.NEITHER, map_chart.HELPED)]
    for found, least in ((names, 12), (ends, 18)):
        assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(found, 2)) >= least


def test_lines_beside_each_other_have_symbols_of_their_own() -> None:
    names = ("D-TRAK", "TRAK", "EfficientNet-Lite0, cosine", "Random", "Noise floor", "Lowest scores")
    shown = plotting.coloured(go.Figure([go.Scatter(x=[1.0], name=name) for name in names]))
    assert len({trace.marker.symbol for trace in shown.data}) == len(names)


def test_the_loss_of_a_short_training_is_seen() -> None:
    short, long = ([{"step": 20 * i, "loss": 1 / i} for i in range(1, count + 1)] for count in (1, 60))
    assert all("markers" in trace.mode for trace in charts.loss_curve(short).data)
    assert all(trace.mode == "lines" for trace in charts.loss_curve(long).data)
