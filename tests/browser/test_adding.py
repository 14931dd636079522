"""Someone with 200 pictures in a zip: from the click to a dataset, in a cache that holds nothing."""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_helpers import fits, serious_in_both_schemes, serve, took
from PIL import Image


@pytest.fixture
def bare(tmp_path: Path, chromium: Any) -> Iterator[str]:
    """Serve an empty cache, without the demo."""
    yield from serve(tmp_path / "cache", tmp_path / "no-demo")


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """Return a zip of 200 small pictures, with a table in words of its own and two files that are no pictures."""
    colours = np.random.default_rng(0).integers(0, 256, (200, 3))
    with zipfile.ZipFile(tmp_path / "My Pictures.zip", "w") as archive:
        lines = ["file_name,style,artist"]
        for i, colour in enumerate(colours):
            picture = io.BytesIO()
            Image.new("RGB", (24, 20), tuple(colour)).save(picture, "PNG")
            archive.writestr(f"works/{i:03}.png", picture.getvalue())
            lines.append(f"works/{i:03}.png,{('ink', 'oil')[i % 2]},{('Ada', 'Ben', 'Cy')[i % 3]}")
        archive.writestr("metadata.csv", "\n".join(lines))
        archive.writestr("works/broken.png", b"<html>gone</html>")
        archive.writestr("notes.pdf", b"%PDF")
    return tmp_path / "My Pictures.zip"


def test_from_a_zip_to_a_dataset(
    visit: Callable[..., Any],
    settle: Callable[[Any], None],
    bare: str,
    zipped: Path,
    tmp_path: Path,
    record_property: Any,
) -> None:
    page = visit("/", base=bare)
    page.get_by_role("link", name="Add pictures").click()
    page.get_by_role("heading", name="Add pictures").wait_for()
    settle(page)
    begin = time.monotonic()
    page.locator("input[type=file]").set_input_files(zipped)
    page.get_by_role("button", name="Look").click()
    page.get_by_text("200 pictures").wait_for()
    page.get_by_text("2 files of the source left out").wait_for()
    page.get_by_role("img", name=re.compile("^Picture 24: ")).wait_for()
    settle(page)
    page.set_viewport_size({"width": 390, "height": 900})
    settle(page)
    assert fits(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    assert serious_in_both_schemes(page) == {}
    for title, column in (("Label", "style"), ("Contributor", "artist")):
        page.get_by_role("combobox", name=title).click()
        page.get_by_role("option", name=column).click()
        settle(page)
    page.get_by_text(re.compile(r"Labels: (ink|oil) \(100\), (ink|oil) \(100\).*Contributors: 3")).wait_for()
    page.get_by_role("button", name="Prepare").click()
    page.get_by_text("'my-pictures' is prepared and chosen").wait_for()
    assert took("Someone with 200 pictures in a zip, from the click to a dataset", begin, record_property) < 60
    page.get_by_role("link", name="See the pictures").click()
    page.get_by_role("heading", name="my-pictures").wait_for()
    page.get_by_text("Contributors", exact=True).wait_for()
    assert "dataset=my-pictures" in page.url
    assert not any((tmp_path / "cache" / "incoming").iterdir()), "the upload goes once it is taken in"
