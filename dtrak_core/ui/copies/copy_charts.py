"""Pure functions from near-copies to Plotly figures."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dtrak_core.methods.copies import Copies

_BINS = 30


def ratios(found: Copies) -> go.Figure:
    """Draw how ρ of generated pictures is spread, beside that of held-out ones, in shares."""
    own = np.array([one.ratio for one in found.found])
    edges = np.linspace(0, max(float(own.max()), float(found.reference.max())) + 1e-9, _BINS + 1)
    shown = go.Figure()
    for name, values in (("generated pictures", own), ("held-out pictures", found.reference)):
        shares = np.histogram(values, edges)[0] / len(values)
        shown.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=shares,
            name=name,
            hovertemplate="ρ about %{x:.2f}: %{y:.0%}<extra></extra>",
        )
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0}
    shown.update_layout(legend=legend, height=260, margin={"l": 10, "r": 10, "t": 30, "b": 10}, bargap=0.1)
    shown.update_xaxes(title="ρ: distance to the nearest training picture,<br>as part of its surroundings")
    return shown.update_yaxes(title="share of the pictures", tickformat=".0%")
