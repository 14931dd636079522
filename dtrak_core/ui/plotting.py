"""How every chart is drawn on a page: colours that stay, ink that is read on both themes, words for who cannot see it.

Whatever has a name of its own, above all a method, has one colour in every chart, dataset and theme, and eyes that lack
red or green cones tell them apart. All keep a contrast of 3 against both themes' ground; symbols and names tell too.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dtrak_core.methods.methods import METHODS

# Chosen together: any two are at least 12 apart in CIELAB as seen with full, without red and without green cones.
METHOD_COLOURS = {
    "d-trak": "#2478c4", "trak": "#d1495b", "d-trak-ensemble": "#687dfc", "trak-ensemble": "#c70f0a",
    "das": "#089fbc", "das-squared": "#006b86", "relative-if": "#ad30ae", "renormalised-if": "#fb51b0",
    "journey-trak": "#369cd9", "ek-fac": "#42a90d", "tracin-cp": "#129161", "gas": "#06711a",
    "gradient-dot": "#688ef0", "gradient-cosine": "#3c66fe", "nda": "#819989", "clip-dot": "#8b27de",
    "clip-cosine": "#7e4ed3", "lite0-dot": "#bd3b99", "lite0-cosine": "#d47d4d", "raw-pixel-dot": "#944861",
    "raw-pixel-cosine": "#d80538",
}  # fmt: skip
PALETTE = tuple(METHOD_COLOURS.values())  # in turn, of what has no name of its own
GREY = "#7a7d85"
COLOURS = {one.label: METHOD_COLOURS[name] for name, one in METHODS.items() if name in METHOD_COLOURS} | {
    "Random": GREY,
    "Noise floor": "#ea6b07",
    "Lowest scores": "#386e39",
    "generated targets": "#8b27de",
    "held-out targets": "#d47d4d",
    "running mean": "#2478c4",
    "every 20 steps": GREY,
    "all training pictures": GREY,
    "proponents shown": "#129161",
    "opponents shown": "#bd3b99",
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
OTHER = "#6d2aff"  # of what is named by a dataset or a user: all that was taken of one contributor
INK = {"light": "#24262b", "dark": "#e6e8eb"}  # of ticks, titles and legend


def show(shown: go.Figure, key: str, alt: str, **selecting: Any) -> Any:
    """Draw a chart with its words for screen readers; without Plotly's toolbar, which would lie on the legend."""
    ink = INK["dark" if st.context.theme.type == "dark" else "light"]
    axis = {"tickfont": {"color": ink}, "title_font": {"color": ink}}
    coloured(shown).update_xaxes(**axis).update_yaxes(**axis).update_layout(legend_font_color=ink)
    shown.update_coloraxes(colorbar_tickfont_color=ink)
    return st.plotly_chart(shown, key=key, alt=alt, config={"displayModeBar": False}, **selecting)


def coloured(shown: go.Figure) -> go.Figure:
    """Give each trace the colour of its name."""
    for place, trace in enumerate(shown.data):
        if trace.type in ("scatter", "bar", "box"):
            colour = of_name(trace.name or "", place)
            if trace.marker.color is None:
                trace.marker.color = colour
            if trace.type == "scatter" and trace.marker.symbol is None:
                trace.marker.symbol = symbol_of(trace.name or "", place)
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


def symbol_of(name: str, place: int) -> str:
    """Return the symbol of a trace's points, as `of_name` its colour: of those beside each other mostly another one."""
    names = list(COLOURS)
    known = name if name in COLOURS else name.partition(", ")[0]
    return SYMBOLS[(names.index(known) if known in COLOURS else place) % len(SYMBOLS)]
