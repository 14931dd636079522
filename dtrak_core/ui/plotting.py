"""How every chart is drawn on a page: colours that stay, ink that is read on both themes, words for who cannot see it.

A method has one colour in every chart, dataset and theme. All colours keep a contrast of 3 against both themes' ground;
symbols and names tell apart as well.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dtrak_core.methods import METHODS

PALETTE = (
    "#2478c4", "#d1495b", "#2a9134", "#8a63d2", "#b8720a", "#138a8a", "#b84fa0", "#7a7d85", "#5a7d1c", "#c4532a",
    "#4a6fe0", "#96681e",
)  # fmt: skip
RANDOM_COLOUR, FLOOR_COLOUR = "#7a7d85", "#96681e"
COLOURS = {one.label: PALETTE[place % len(PALETTE)] for place, one in enumerate(METHODS.values())} | {
    "Random": RANDOM_COLOUR,
    "Noise floor": FLOOR_COLOUR,
}
INK = {"light": "#24262b", "dark": "#e6e8eb"}  # of ticks, titles and legend


def show(shown: go.Figure, key: str, alt: str, **selecting: Any) -> Any:
    """Draw a chart with its words for screen readers; without Plotly's toolbar, which would lie on the legend."""
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    axis = {"tickfont": {"color": ink}, "title_font": {"color": ink}}
    coloured(shown).update_xaxes(**axis).update_yaxes(**axis).update_layout(legend_font_color=ink)
    return st.plotly_chart(shown, key=key, alt=alt, config={"displayModeBar": False}, **selecting)


def coloured(shown: go.Figure) -> go.Figure:
    """Give each trace the colour of its method, or the next one where it is of none."""
    for place, trace in enumerate(shown.data):
        if trace.type in ("scatter", "bar", "box"):
            colour = COLOURS.get(trace.name or "", PALETTE[place % len(PALETTE)])
            if trace.marker.color is None:
                trace.marker.color = colour
            if trace.type != "bar" and trace.line.color is None:
                trace.line.color = colour
    return shown
