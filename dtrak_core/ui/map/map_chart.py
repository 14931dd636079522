"""Pure functions from a map to Plotly figures: a dot a training picture, in colours that stay, rings around some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dtrak_core.methods.maps import Map
from dtrak_core.ui.charts import words
from dtrak_core.ui.plotting import SYMBOLS

HINDERED, NEITHER, HELPED = "#bd3b99", "#9aa0a8", "#129161"  # told apart without red or green cones
RINGS = {
    "proponents": ("circle-open", HELPED),
    "hits": ("diamond-open", "#6d2aff"),
    "chosen": ("square-open", "#ea6b07"),
}
_DRAWN = 2_000  # dots up to which each is a shape of its own; more are drawn by the graphics card
_LONGEST = 26  # letters of a name in the legend


@dataclass(frozen=True)
class Ring:
    """A mark around some training pictures: which one (`RINGS`), what the legend says, and their indices."""

    kind: str
    name: str
    indices: Sequence[int]


def by_names(found: Map, names: Sequence[str], colours: Mapping[str, str], texts: Sequence[str]) -> go.Figure:
    """Draw a map with a colour and a symbol for each name.

    Args:
        found: The map.
        names: Of each training picture (N,).
        colours: By name, in the legend's order; what has none is not drawn.
        texts: What is said of each training picture (N,).
    """
    shown = go.Figure()
    for place, (name, colour) in enumerate(colours.items()):
        own = np.array([row for row, index in enumerate(found.rows.tolist()) if names[index] == name], int)
        title = words(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")
        marker = {"color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)], "size": _size(found), "opacity": 0.9}
        _dots(shown, found, own, texts, title, marker)
    return _framed(shown)


def by_scores(found: Map, values: np.ndarray, texts: Sequence[str]) -> go.Figure:
    """Draw a map coloured by scores (N,): grey at 0, to either side up to the 95th percentile of their size."""
    own = values[found.rows]
    most = float(np.quantile(np.abs(own), 0.95)) or 1.0
    order = np.argsort(np.abs(own), kind="stable")  # the strongest are drawn last
    marker = {"color": own[order], "coloraxis": "coloraxis", "size": _size(found), "opacity": 0.9}
    shown = go.Figure()
    _dots(shown, found, order, texts, "training pictures", marker)
    bar = {"thickness": 10, "len": 0.6, "tickvals": [-most, 0, most], "ticktext": ["hindered", "0", "helped"]}
    shown.update_traces(showlegend=False)
    scale = [[0, HINDERED], [0.5, NEITHER], [1, HELPED]]
    return _framed(shown).update_layout(coloraxis={"cmin": -most, "cmax": most, "colorscale": scale, "colorbar": bar})


def ringed(shown: go.Figure, found: Map, rings: Sequence[Ring]) -> go.Figure:
    """Add rings around pictures that are on the map."""
    places = {index: place for place, index in enumerate(found.rows.tolist())}
    for ring in rings:
        own = [places[index] for index in ring.indices if index in places]
        symbol, colour = RINGS[ring.kind]
        marker = {"symbol": symbol, "color": colour, "size": _size(found) + 5, "line": {"width": 1.5}}
        if own:
            x, y = found.xy[own].T
            kind = go.Scatter if len(found.rows) <= _DRAWN else go.Scattergl
            shown.add_trace(kind(x=x, y=y, mode="markers", name=words(ring.name), marker=marker, hoverinfo="skip"))
    return shown


def _dots(shown: go.Figure, found: Map, own: np.ndarray, texts: Sequence[str], name: str, marker: object) -> None:
    kind = go.Scatter if len(found.rows) <= _DRAWN else go.Scattergl
    x, y = found.xy[own].T
    indices = found.rows[own].tolist()
    shown.add_trace(
        kind(
            x=x,
            y=y,
            mode="markers",
            name=name,
            marker=marker,
            customdata=indices,
            text=[words(texts[index]) for index in indices],
            hovertemplate="%{text}<extra></extra>",
        )
    )


def _size(found: Map) -> int:
    count = len(found.rows)
    return 8 if count <= 1_500 else 6 if count <= 6_000 else 4


def _framed(shown: go.Figure) -> go.Figure:
    shown.update_xaxes(visible=False).update_yaxes(visible=False, scaleanchor="x")
    legend = {"orientation": "h", "yanchor": "top", "y": -0.01, "x": 0, "itemsizing": "constant"}
    return shown.update_layout(
        legend=legend, height=560, margin={"l": 4, "r": 4, "t": 4, "b": 4}, hovermode="closest", uirevision="map"
    )
