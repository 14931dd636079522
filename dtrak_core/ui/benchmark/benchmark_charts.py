"""Pure functions from the numbers of an LDS to Plotly figures. The theme gives colours; symbols tell apart as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dtrak_core.ui.benchmark.finding_words import Costs

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
Line = tuple[list[Any], list[float]]


def standings(rows: Sequence[Mapping[str, Any]], floors: Mapping[str, float | None]) -> go.Figure:
    """Draw the LDS of each method with its interval and what chance gives it, by kind of target, and the noise floor.

    Args:
        rows: Rows of `standings.rows`, best first.
        floors: By kind of target, the LDS of a perfect attribution, None where it is not known.
    """
    shown = go.Figure()
    names = list(dict.fromkeys(row["label"] for row in rows))[::-1]
    kinds = list(dict.fromkeys(row["targets"] for row in rows))
    ends: list[tuple[float | None, float | None]] = []
    for row in rows:
        if row["by_chance"] is not None:
            height = _height(names.index(row["label"]), kinds.index(row["targets"]))
            ends += [(row["by_chance"]["low"], height), (row["by_chance"]["high"], height), (None, None)]
    shown.add_scatter(
        x=[x for x, _ in ends], y=[y for _, y in ends], mode="lines+markers", name="by chance", hoverinfo="skip",
        line={"width": 9, "color": "rgba(128, 128, 128, 0.3)"},
        marker={"symbol": "line-ns-open", "size": 9, "color": "gray"},  # a band so pale needs ends that are seen
    )  # fmt: skip
    for number, kind in enumerate(kinds):
        own = [row for row in rows if row["targets"] == kind]
        values = [row["lds"] for row in own]
        spans = [row["interval"] or (row["lds"], row["lds"]) for row in own]
        shown.add_scatter(
            x=values,
            y=[_height(names.index(row["label"]), number) for row in own],
            mode="markers",
            name=f"{kind} targets",
            marker={"size": 9, "symbol": SYMBOLS[number]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [end[1] - value for end, value in zip(spans, values, strict=True)],
                "arrayminus": [value - end[0] for end, value in zip(spans, values, strict=True)],
                "width": 0,
            },
            text=[row["label"] for row in own],
            hovertemplate="%{text}: %{x:.3f}<extra>%{fullData.name}</extra>",
        )
    span = [-0.6, len(names) - 0.4]
    for number, (kind, floor) in enumerate(floors.items()):
        if floor is not None:
            # In the legend, not beside the line, where its name would lie on other marks.
            shown.add_scatter(
                x=[floor, floor], y=span, mode="lines", name=f"reachable, {kind}",
                line={"dash": "dot" if number else "dash", "width": 1, "color": "gray"}, hoverinfo="skip",
            )  # fmt: skip
    shown.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=span)
    shown = _frame(shown, "LDS", "")
    return shown.update_layout(height=100 + 30 * len(names))


def lines(found: Mapping[str, Line], x: str, paper: Mapping[str, Line] | None = None) -> go.Figure:
    """Draw LDS over what was turned, a line for each name; the paper's own lines dashed."""
    shown = go.Figure()
    for number, (name, (places, values)) in enumerate(found.items()):
        marker = {"size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        shown.add_scatter(x=places, y=values, mode="lines+markers", name=name, marker=marker)
    for name, (places, values) in (paper or {}).items():
        shown.add_scatter(
            x=places, y=values, mode="lines+markers", name=name, line={"dash": "dot"}, marker={"symbol": "circle-open"}
        )
    return _frame(shown, x, "LDS")


def costs(found: Mapping[str, Costs], x: str) -> go.Figure:
    """Draw LDS with intervals over what was spent, a line for each name; those of "the authors' way" dotted.

    The legend names each method once: six names would take a third of the chart on a phone. What dashes and dots mean
    is said below the chart.
    """
    shown = go.Figure()
    seen: set[str] = set()
    for number, (name, line) in enumerate(found.items()):
        theirs, variant = name.endswith("way"), ", " in name
        method = name.partition(", ")[0]
        points = [point for _, point in line]
        ends = [(point.value if p is None else p for p in (point.low, point.high)) for point in points]
        below, above = zip(*ends, strict=True)
        values = [point.value for point in points]
        shown.add_scatter(
            x=[spent for spent, _ in line], y=values, mode="lines+markers", name=name,
            legendgroup=method, showlegend=method not in seen,
            line={"dash": "dot" if theirs else "dash" if variant else "solid"},
            marker={"size": 8, "symbol": "circle-open" if theirs else SYMBOLS[number % len(SYMBOLS)]},
            error_y={
                "type": "data", "symmetric": False, "width": 0, "thickness": 1,
                "array": [high - value for high, value in zip(above, values, strict=True)],
                "arrayminus": [value - low for low, value in zip(below, values, strict=True)],
            },
            text=[point.place for point in points],
            hovertemplate="%{y:.3f} for %{x:,.3~s}: %{text}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
        seen.add(method)
    return _frame(shown, x, "LDS").update_xaxes(type="log")


def columns(names: Sequence[str], values: Mapping[str, Sequence[float]]) -> go.Figure:
    """Draw bars of LDS, a group for each name and a colour for each kind of target."""
    shown = go.Figure()
    for kind, heights in values.items():
        shown.add_bar(x=list(names), y=list(heights), name=kind)
    return _frame(shown, "", "LDS").update_layout(barmode="group")


def scatter(ranks: np.ndarray, losses: np.ndarray, subsets: Sequence[int]) -> go.Figure:
    """Draw the predicted rank of each subset's loss against what was measured."""
    shown = go.Figure()
    shown.add_scatter(
        x=ranks,
        y=losses,
        mode="markers",
        marker={"size": 9},
        text=[f"subset {number}" for number in subsets],
        hovertemplate="%{text}: predicted rank %{x:g}, measured %{y:.5f}<extra></extra>",
        showlegend=False,
    )
    return _frame(shown, "predicted rank of the loss, lowest first", "measured loss")


def nearest_and_farthest(names: Sequence[str], values: np.ndarray) -> str:
    """Say of the first method which other one agrees with it most, and which least, with both numbers."""
    others = [(float(values[0, j]), names[j]) for j in range(1, len(names)) if np.isfinite(values[0, j])]
    if not others:
        return ""
    (least, farthest), (most, nearest) = min(others), max(others)
    least_of = f", least with {farthest} ({least:.2f})" if len(others) > 1 else ""
    return f"{names[0]} agrees most with {nearest} ({most:.2f}){least_of}.".replace("(-", "(−")


def matrix(names: Sequence[str], values: np.ndarray, text: str) -> go.Figure:
    """Draw how methods agree, two by two."""
    shown = go.Figure()
    shown.add_heatmap(
        z=values, x=list(names), y=list(names), zmin=0 if text == "share" else -1, zmax=1,
        texttemplate="%{z:.2f}", hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>", showscale=False,
        colorscale="Blues" if text == "share" else "RdBu",
    )  # fmt: skip
    shown.update_yaxes(autorange="reversed")
    return shown.update_layout(height=140 + 34 * len(names), margin={"l": 10, "r": 10, "t": 10, "b": 10})


def _height(place: int, number: int) -> float:
    """Return how high a method's mark stands: the first kind of target a little above its line, the second below."""
    return place + (0.16 if number == 0 else -0.16)


def _frame(shown: go.Figure, x: str, y: str) -> go.Figure:
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0}
    return shown.update_layout(
        xaxis_title=x, yaxis_title=y, legend=legend, height=340, margin={"l": 10, "r": 10, "t": 30, "b": 10}
    )
