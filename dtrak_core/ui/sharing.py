"""The address, copied by one click: it names dataset, model, target, damping, methods and comparison."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_COPY = st.components.v2.component(
    "studio_copy_link",
    html='<div class="studio-copy"><button type="button" disabled>Copy link</button><span role="status"></span></div>',
    css=(Path(__file__).parent / "copy_link.css").read_text(),
    js=(Path(__file__).parent / "copy_link.js").read_text(),
    isolate_styles=False,
)


def button() -> None:
    """Draw the button in the sidebar. The browser itself reads the address, which the end of each run has written."""
    with st.sidebar:
        _COPY(key="copy-link", data=[])
