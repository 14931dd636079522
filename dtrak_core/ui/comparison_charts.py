"""Pure functions from a comparison of removals to Plotly figures."""

from __future__ import annotations

from typing import Literal

import numpy as np
import plotly.graph_objects as go

from dtrak_core import comparisons
from dtrak_core.comparisons import Comparison
from dtrak_core.removals import IDENTITY

Measure = Literal["l2", "cosine", "loss_change", "latent_l2"]
AXES: dict[Measure, str] = {
    "l2": "pixel l2 (right: changed more)",
    "cosine": "cosine (left: changed more)",
    "latent_l2": "latent l2 (right: changed more)",
    "loss_change": "change of the loss (right: known less)",
}


def boxes(comparison: Comparison, size: int, measure: Measure) -> go.Figure:
    """Draw a box a method over all targets and draws, with every point; a point carries its target's id."""
    shown = go.Figure()
    entries = [e for e in comparisons.of_size(comparison.entries, size) if e.method != IDENTITY]
    methods = list(dict.fromkeys(e.method for e in entries))
    for method in reversed(methods):  # the first stands at the top
        own = [e for e in entries if e.method == method]
        shown.add_box(
            x=[getattr(e, measure) for e in own],
            name=comparisons.label(method),
            boxpoints="all",
            jitter=0.4,
            pointpos=0,
            customdata=[e.target for e in own],
            text=[e.target for e in own],
            hovertemplate="%{text}: %{x:.3f}<extra>%{fullData.name}</extra>",
            showlegend=False,
        )
    return shown.update_layout(
        xaxis_title=AXES[measure], height=90 + 46 * len(methods), margin={"l": 10, "r": 10, "t": 10, "b": 10}
    )


def doses(comparison: Comparison, measure: Measure) -> go.Figure:
    """Draw the median over targets against the number removed, one line a method."""
    shown = go.Figure()
    sizes = sorted(comparison.settings.remove)
    removing = [e for e in comparison.entries if e.size]
    for method in dict.fromkeys(e.method for e in removing):
        values = {s: [getattr(e, measure) for e in removing if (e.method, e.size) == (method, s)] for s in sizes}
        there = [s for s in sizes if values[s]]
        medians = [float(np.median(values[s])) for s in there]
        shown.add_scatter(x=there, y=medians, mode="lines+markers", name=comparisons.label(method))
    return shown.update_layout(
        xaxis_title="training pictures removed",
        yaxis_title=AXES[measure].partition(" (")[0],
        height=300,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
    )
