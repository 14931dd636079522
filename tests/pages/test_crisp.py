"""Pictures keep their pixels as squares: a browser shrinks what it is sent, and never enlarges it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import streamlit as st
from PIL import Image

from dtrak_core import store
from dtrak_core.datasets import thumbnails
from dtrak_core.ui import crisp


@pytest.mark.parametrize(
    ("side", "width"), [(16, 48), (32, 48), (32, 72), (32, 384), (131, 420), (64, 1400), (512, 320)]
)
def test_at_least_as_many_pixels_are_sent_as_a_dense_screen_shows(
    side: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(st, "image", lambda data, *_, **__: sent.append(data))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    crisp.show(image, width, "noise")
    shown = thumbnails.decode(sent[0])
    times = len(shown) // side
    assert np.array_equal(shown, image.repeat(times, 0).repeat(times, 1)), "each pixel is a square"
    assert len(shown) <= crisp.MOST, "Streamlit would blur it by shrinking it itself"
    assert len(shown) >= min(2 * width, crisp.MOST - side) or side >= width
    reduced = np.asarray(Image.fromarray(shown).resize((side, side), Image.Resampling.BOX))
    assert np.array_equal(reduced, image)


def test_every_page_shows_pictures_that_way() -> None:
    code = {
        path: path.read_text()
        for folder in ("dtrak_core/ui", "pages")
        for path in (store.PROJECT / folder).rglob("*.py")
    }
    assert [
        path.name for path, text in code.items() if re.search(r"\.image\($", text, re.M) or "st.image(" in text
    ] == ["crisp.py"]
