"""Pure functions from credit to Plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from dtrak_core.methods import crediting
from dtrak_core.methods.set_credit import Group
from dtrak_core.ui.charts import words

_LONGEST = 34  # letters of a name beside its bar


def shares(groups: Sequence[Group]) -> go.Figure:
    """Draw each group's share of the credit with its interval, beside its share of the training pictures."""
    listed = list(groups)[::-1]
    places, names = list(range(len(listed))), [words(_short(group.name)) for group in listed]
    shown = go.Figure()
    error = None
    if any(group.low is not None for group in listed):
        error = {
            "type": "data",
            "symmetric": False,
            "array": [0 if g.high is None else g.high * g.set_share - g.share for g in listed],
            "arrayminus": [0 if g.low is None else g.share - g.low * g.set_share for g in listed],
            "color": "gray",
            "thickness": 2,
            "width": 0,  # without ends, of which an unknown interval would show one
        }
    shown.add_bar(
        x=[group.share for group in listed],
        y=places,
        orientation="h",
        name="share of the credit",
        error_x=error,
        customdata=[group.name for group in listed],
        text=[f"{name}: {crediting.percent(g.share)} of the credit" for name, g in zip(names, listed, strict=True)],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    shown.add_scatter(
        x=[group.set_share for group in listed],
        y=places,
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "line": {"width": 1.5, "color": "#fff"}},  # it may lie on a bar
        name="share of the training pictures",
        customdata=[group.name for group in listed],
        text=[f"{n}: {crediting.percent(g.set_share)} of the pictures" for n, g in zip(names, listed, strict=True)],
        hovertemplate="%{text}<extra></extra>",
    )
    shown = _frame(shown, "share").update_xaxes(tickformat=".0%", rangemode="tozero")
    shown.update_yaxes(tickvals=places, ticktext=names)
    return shown.update_layout(height=100 + 30 * len(listed), hovermode="closest")


def left_out(groups: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw what scores predict for removals against what training without them has changed, both for each picture."""
    shown = go.Figure()
    for name, symbol, rows in (("groups", "circle", groups), ("Random", "x", random)):
        if rows:
            shown.add_scatter(
                x=[row["predicted_each"] for row in rows],
                y=[row["measured_each"] for row in rows],
                mode="markers",
                name=name,
                marker={"size": 10, "symbol": symbol},
                text=[words(_short(row["name"])) or f"{row['pictures']} random pictures" for row in rows],
                hovertemplate="%{text}<extra></extra>",
            )
    shown.add_hline(y=0, line_width=1, line_color="gray")
    shown = _frame(shown, "predicted for each picture left out: its mean score (the method's own scale)")
    return shown.update_layout(
        yaxis_title="measured change of the loss<br>for each picture left out", height=340, hovermode="closest"
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _frame(shown: go.Figure, x: str) -> go.Figure:
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0}
    return shown.update_layout(xaxis_title=x, legend=legend, margin={"l": 10, "r": 10, "t": 30, "b": 10})
