"""What the browser does beside every page (sidebar.js): closes the sidebar, reads the library of charts ahead."""

from __future__ import annotations

import functools
from pathlib import Path

import streamlit as st

_COMPONENT = st.components.v2.component(
    "studio_sidebar", html="<span></span>", js=(Path(__file__).parent / "sidebar.js").read_text(), isolate_styles=False
)


def draw() -> None:
    """Put it into the sidebar, where it takes no room."""
    _COMPONENT(key="closing", data=[_charts()])


@functools.cache
def _charts() -> list[str]:
    """Return the file of Streamlit's that holds the library of charts, by the name that the browser asks for."""
    return [file.name for file in (Path(st.__file__).parent / "static" / "static" / "js").glob("PlotlyChart.*.js")]
