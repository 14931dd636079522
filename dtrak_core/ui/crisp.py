"""Pictures at a width of one's own, sharp: what a browser enlarges itself, it blurs."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dtrak_core.datasets import thumbnails

SHARP = 3  # pixels sent for each CSS pixel, at most: a browser shrinks them, on screens of every density
MOST = 1460  # pixels a side above which Streamlit shrinks what it is given


def show(image: np.ndarray, width: int, alt: str, caption: str | None = None, *, fill: bool = False) -> None:
    """Draw a picture, its pixels as squares where there are fewer than it is wide.

    Args:
        image: Shape (H, W, 3), uint8.
        width: CSS pixels, less where there is no room for as many.
        alt: What is said in its place.
        caption: Markdown below it.
        fill: Take the width of what it stands in; `width` then is about that.
    """
    few = max(image.shape[:2]) < width
    data = thumbnails.png(image, min(SHARP * width, MOST) if few else None)
    with st.container(width="stretch" if fill else width):
        st.image(data, caption, "stretch", output_format="PNG", alt=alt)
