"""Pure functions from data to Plotly figures. Colours come from the page's theme; shape tells apart as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dtrak_core.amounts import counted
from dtrak_core.methods import crediting
from dtrak_core.methods.results import Credit, Entry, Ranking

_SEEN = 5  # points that make a line; of a training of one or two, nothing would be seen
_LINE = 2000  # points of a curve beyond which the middle is thinned out


def words(text: object) -> str:
    """Return text of a dataset or a user so that Plotly shows it as it is: no tag, no entity, no formula."""
    shown = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    return " ".join(shown.splitlines())


def loss_curve(lines: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the training loss over steps, with its running mean over a twentieth of the training."""
    steps = np.array([line["step"] for line in lines])
    losses = np.array([line["loss"] for line in lines])
    width = max(1, len(losses) // 20)
    padded = np.concatenate([np.full(width - 1, losses[0]), losses])
    mean = np.convolve(padded, np.ones(width) / width, mode="valid")
    mode = "lines" if len(lines) > _SEEN else "lines+markers"
    shown = go.Figure()
    shown.add_scatter(x=steps, y=mean, name="running mean", mode=mode, line={"width": 3}, zorder=1)
    shown.add_scatter(x=steps, y=losses, name="every 20 steps", mode=mode, line={"width": 1})
    top = float(np.quantile(losses, 0.98)) * 1.1
    return _frame(shown, "training step", "loss (lower is better)").update_yaxes(range=[0, top])


def score_curve(ranking: Ranking, first: Sequence[Entry], last: Sequence[Entry], names: Sequence[str]) -> go.Figure:
    """Draw all scores of a method from the highest to the lowest, with the shown ones marked."""
    ordered = ranking.values[ranking.order]
    count = len(ordered)
    places = np.arange(count)
    if count > _LINE:
        ends = _LINE // 4
        middle = np.linspace(ends, count - ends - 1, _LINE - 2 * ends).astype(int)
        places = np.concatenate([np.arange(ends), middle, np.arange(count - ends, count)])
    shown = go.Figure()
    shown.add_scatter(x=places + 1, y=ordered[places], mode="lines", name="all training pictures", hoverinfo="skip")
    for entries, label, symbol, from_end in (
        (first, "proponents shown", "circle", False),
        (last, "opponents shown", "diamond", True),
    ):
        if entries:
            shown.add_scatter(
                x=[count + 1 - e.rank if from_end else e.rank for e in entries],
                y=[e.score for e in entries],
                customdata=[e.index for e in entries],
                text=[f"#{e.index} {words(names[e.index])}" for e in entries],
                mode="markers",
                marker={"size": 10, "symbol": symbol},
                name=label,
            )
    shown.add_hline(y=0, line_width=1, line_color="gray")
    return _frame(shown, "rank among the training pictures", f"{words(ranking.label)} score (its own scale)")


def credit_bars(credits: Sequence[Credit]) -> go.Figure:
    """Draw each contributor's share of the positive score with its interval beside their share of the training set."""
    listed = list(credits)[::-1]
    places = list(range(len(listed)))[::-1]  # among those given
    names = [words(c.contributor) for c in listed]
    shown = go.Figure()
    shown.add_bar(
        x=[c.share for c in listed],
        y=names,
        orientation="h",
        name="share of the credit",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [0 if c.high is None else c.high * c.set_share - c.share for c in listed],
            "arrayminus": [0 if c.low is None else c.share - c.low * c.set_share for c in listed],
            "color": "gray",
            "thickness": 2,
            "width": 0,  # without ends, of which an unknown interval would show one
        },
        customdata=places,
        text=[f"{crediting.percent(c.share)} of the credit, {counted(c.count, 'picture')}" for c in listed],
        textposition="none",
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    shown.add_scatter(
        x=[c.set_share for c in listed],
        y=names,
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "line": {"width": 1.5, "color": "#fff"}},  # it may lie on a bar
        name="share of the training set",
        customdata=places,
        text=[f"{crediting.percent(c.set_share)} of the training pictures" for c in listed],
        hovertemplate="%{y}: %{text}<extra></extra>",
    )
    shown = _frame(shown, "share", "").update_xaxes(tickformat=".0%", rangemode="tozero")
    return shown.update_layout(height=90 + 28 * len(listed), hovermode="closest")


def _frame(shown: go.Figure, x: str, y: str) -> go.Figure:
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0}
    return shown.update_layout(
        xaxis_title=x, yaxis_title=y, legend=legend, height=300, margin={"l": 10, "r": 10, "t": 30, "b": 10}
    )
