"""Pure functions from a comparison of removals to Plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry, by_arm, label, of_size
from dtrak_core.counterfactual.removals import IDENTITY, RANDOM
from dtrak_core.ui.charts import words
from dtrak_core.ui.counterfactual.pairing import key_of

Measure = Literal["l2", "cosine", "loss_change", "latent_l2"]
AXES: dict[Measure, str] = {
    "l2": "pixel l2 (right: changed more)",
    "cosine": "cosine (left: changed more)",
    "latent_l2": "latent l2 (right: changed more)",
    "loss_change": "change of the loss (right: more)",
}


def boxes(comparison: Comparison, size: int, measure: Measure) -> go.Figure:
    """Draw a box an arm over all targets and draws, with every point; a point carries what names its picture."""
    shown = go.Figure()
    arms = by_arm([e for e in of_size(comparison.entries, size) if e.method != IDENTITY])
    for arm, own in reversed(arms.items()):  # the first stands at the top
        shown.add_box(
            x=[getattr(e, measure) for e in own],
            name=words(label(arm)),
            boxpoints="all",
            jitter=0.4,
            pointpos=0,
            customdata=[key_of(e) for e in own],
            text=[words(e.target) for e in own],
            hovertemplate="%{text}: %{x:.3f}<extra>%{fullData.name}</extra>",
            showlegend=False,
        )
    return shown.update_layout(
        xaxis_title=AXES[measure], height=90 + 46 * len(arms), margin={"l": 10, "r": 10, "t": 10, "b": 10}
    )


def told(comparison: Comparison, size: int, measure: Measure) -> str:
    """Return a chart of boxes in words, for screen readers: each arm's median."""
    arms = by_arm([e for e in of_size(comparison.entries, size) if e.method != IDENTITY])
    medians = [f"{label(arm)} {np.median([getattr(e, measure) for e in own]):.3f}" for arm, own in arms.items()]
    return f"{AXES[measure]}, medians: {', '.join(medians)}"


def doses(comparison: Comparison, measure: Measure) -> go.Figure:
    """Draw the median over targets against the number removed, one line a method.

    The numbers are those really removed, the median of them where they differ between targets: a contributor's pictures
    are as many as they are.
    """
    shown = go.Figure()
    removing = [e for e in comparison.entries if e.size and e.owner in ("", e.target)]
    for method in dict.fromkeys(e.method for e in removing):
        own: dict[int, list[Entry]] = {}
        for entry in (e for e in removing if e.method == method):
            own.setdefault(len(entry.removed) if method == RANDOM else entry.size, []).append(entry)
        points = sorted(
            (float(np.median([len(e.removed) for e in each])), float(np.median([getattr(e, measure) for e in each])))
            for each in own.values()
        )
        x, y = zip(*points, strict=True)
        shown.add_scatter(x=x, y=y, mode="lines+markers", name=words(label(method)))
    return shown.update_layout(
        xaxis_title="training pictures removed",
        yaxis_title=AXES[measure].partition(" (")[0],
        height=300,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
    )


def over_timesteps(found: Mapping[str, Sequence[tuple[int, float]]]) -> go.Figure:
    """Draw the median pixel l2 against the timestep at which the retrained model takes over, a line an arm."""
    shown = go.Figure()
    for arm, points in found.items():
        x, y = zip(*points, strict=True)
        shown.add_scatter(x=x, y=y, mode="lines+markers", name=words(label(arm)))
    return shown.update_layout(
        xaxis_title="timestep τ at which the retrained model takes over",
        yaxis_title="pixel l2",
        height=320,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
    )
