"""How every chart is drawn on a page: colours that stay, ink that is read on both themes, words for who cannot see it.

Whatever has a name of its own, above all a method, has one colour in every chart, dataset and theme. All colours keep a
contrast of 3 against both themes' ground; symbols and names tell apart as well.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dtrak_core.methods.methods import METHODS

PALETTE = (
    "#2478c4", "#d1495b", "#2a9134", "#8a63d2", "#b8720a", "#138a8a", "#b84fa0", "#7a7d85", "#5a7d1c", "#c4532a",
    "#4a6fe0", "#96681e",
)  # fmt: skip
GREY = "#7a7d85"
COLOURS = {one.label: PALETTE[place % len(PALETTE)] for place, one in enumerate(METHODS.values())} | {
    "Random": GREY,
    "Noise floor": "#96681e",
    "Lowest scores": "#5a7d1c",
    "generated targets": "#8a63d2",
    "held-out targets": "#b8720a",
    "generated pictures": "#8a63d2",
    "held-out pictures": "#b8720a",
    "running mean": "#2478c4",
    "every 20 steps": GREY,
    "all training pictures": GREY,
    "proponents shown": "#2a9134",
    "opponents shown": "#b84fa0",
}
OTHER = "#138a8a"  # of what is named by a dataset or a user: all that was taken of one contributor
INK = {"light": "#24262b", "dark": "#e6e8eb"}  # of ticks, titles and legend


def show(shown: go.Figure, key: str, alt: str, **selecting: Any) -> Any:
    """Draw a chart with its words for screen readers; without Plotly's toolbar, which would lie on the legend."""
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    axis = {"tickfont": {"color": ink}, "title_font": {"color": ink}}
    coloured(shown).update_xaxes(**axis).update_yaxes(**axis).update_layout(legend_font_color=ink)
    return st.plotly_chart(shown, key=key, alt=alt, config={"displayModeBar": False}, **selecting)


def coloured(shown: go.Figure) -> go.Figure:
    """Give each trace the colour of its name."""
    for place, trace in enumerate(shown.data):
        if trace.type in ("scatter", "bar", "box"):
            colour = of_name(trace.name or "", place)
            if trace.marker.color is None:
                trace.marker.color = colour
            if trace.type != "bar" and trace.line.color is None:
                trace.line.color = colour
    return shown


def of_name(name: str, place: int) -> str:
    """Return the colour of a trace: of its method or control, else the same for all of a kind, else by its place.

    Args:
        name: As in the legend; what follows the method's own label, as in "TRAK, the paper on CIFAR-2", may vary.
        place: Among the chart's traces; decides only where a name says nothing, in charts that always have as many.
    """
    if name.startswith("Without "):
        return OTHER
    return COLOURS.get(name) or COLOURS.get(name.partition(", ")[0]) or PALETTE[place % len(PALETTE)]
