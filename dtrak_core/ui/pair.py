"""Two pictures compared at one size: side by side, in turn at the same place, or their absolute difference.

The browser switches between them itself, so that the eye misses no frame. In turn they change slower than thrice a
second, can be held, and begin held where the system asks for less motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from dtrak_core.datasets.thumbnails import address

HERE = Path(__file__).parent
SIDE = 512  # pixels above which a picture is reduced before it is sent

_COMPONENT = st.components.v2.component(
    "studio_pair",
    html='<div class="pair">\n</div>',
    css=(HERE / "pair.css").read_text(),
    js=(HERE / "pair.js").read_text(),
)


@dataclass(frozen=True)
class Side:
    """One of both pictures, uint8 (H, W, 3), and what it is: `name` is shown whole, `spoken` read aloud."""

    image: np.ndarray
    name: str
    spoken: str


def show(key: str, one: Side, other: Side) -> None:
    """Show two pictures; their difference only where both have the same size."""
    sides = [{"src": address(side.image, SIDE), "name": side.name, "spoken": side.spoken} for side in (one, other)]
    data = {"sides": sides, "difference": None}
    if one.image.shape == other.image.shape:
        apart = difference(one.image, other.image)
        told = f"Black where they are equal; on average {apart.mean() / 255:.0%} of the range of a colour apart."
        data["difference"] = {"src": address(apart, SIDE), "name": told, "spoken": f"Absolute difference. {told}"}
    _COMPONENT(key=key, data=[data])


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return |one - other| of two pictures, uint8 (H, W, 3) each."""
    return np.abs(one.astype(np.int16) - other.astype(np.int16)).astype(np.uint8)
