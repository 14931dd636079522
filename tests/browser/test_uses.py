"""The five uses that the app is made for, each from a bare cache and with the time that it takes.

A newcomer, a researcher, a presenter and a rights-holder have the shipped demo; someone with 200 pictures has nothing.
"""

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

from dtrak_core import store
from dtrak_core.datasets import catalogue


@pytest.fixture
def fresh(tmp_path: Path, chromium: Any) -> Iterator[str]:
    """Serve the shipped demo with an empty cache beside it, to one test alone."""
    yield from serve(tmp_path / "fresh", store.PROJECT / "cache" / "demo")


@pytest.fixture
def bare(tmp_path: Path, chromium: Any) -> Iterator[str]:
    """Serve an empty cache, without the demo."""
    yield from serve(tmp_path / "cache", tmp_path / "no-demo")


def test_a_newcomer_sees_the_answer_at_once_and_looks_closer(
    visit: Callable[..., Any], fresh: str, record_property: Any
) -> None:
    begin = time.monotonic()
    page = visit("/", base=fresh)
    first = page.get_by_role("button", name=re.compile("D-TRAK proponent 1,"))
    first.wait_for()
    cold = time.monotonic() - begin
    first.click()
    page.get_by_role("dialog").get_by_text(re.compile("Rank 1 of")).wait_for()
    took("A newcomer, from an empty cache to the strongest training picture", begin, record_property)
    page.keyboard.press("Escape")
    page.goto(fresh)
    begin = time.monotonic()
    page.reload()
    first.wait_for()
    warm = time.monotonic() - begin
    record_property("cold_seconds", round(cold, 2))
    record_property("warm_seconds", round(warm, 2))
    # The aims are 6 s and 2 s on an idle machine; the limits allow for a busy one.
    assert cold < 20
    assert warm < 10


def test_a_researcher_finds_the_table_finished_and_takes_it_along(
    visit: Callable[..., Any], fresh: str, record_property: Any
) -> None:
    begin = time.monotonic()
    page = visit("/benchmark", base=fresh)
    chart = page.locator(".st-key-standings")
    chart.locator(".scatterlayer .trace").first.wait_for()
    labels = chart.locator(".yaxislayer-above text").all_text_contents()
    assert {"D-TRAK", "TRAK", "DAS", "Patches (NDA)", "Raw pixels, cosine"} <= set(labels)
    assert page.get_by_text("32 random parts").count() == 1
    with page.expect_download() as latex:
        page.get_by_role("button", name="LaTeX").click()
    assert latex.value.suggested_filename == "lds-demo.tex"
    took("A researcher, from an empty cache to the table of all methods in LaTeX", begin, record_property)


def test_a_presenter_walks_by_the_arrow_keys_and_sends_the_link(
    visit: Callable[..., Any], settle: Callable[[Any], None], profile: Any, fresh: str, record_property: Any
) -> None:
    profile.grant_permissions(["clipboard-read", "clipboard-write"], origin=fresh)
    begin = time.monotonic()
    page = visit("/", base=fresh)
    page.get_by_role("link", name="Present").click()
    page.get_by_text("1 of 4").wait_for()
    settle(page)
    assert not page.get_by_test_id("stSidebar").is_visible()
    width = page.get_by_role("img", name=re.compile("^The picture of ")).bounding_box()["width"]
    assert width == pytest.approx(400, abs=1)
    for step in (2, 3, 4):
        page.keyboard.press("ArrowRight")
        page.get_by_text(f"{step} of 4").wait_for()
        settle(page)
    took("A presenter, from an empty cache to the verdict", begin, record_property)
    assert serious_in_both_schemes(page) == {}
    page.set_viewport_size({"width": 390, "height": 900})
    settle(page)
    assert fits(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied").wait_for()
    sent = page.evaluate("navigator.clipboard.readText()")
    assert sent == page.url
    assert "present" not in sent
    assert {"dataset=", "checkpoint=", "sample=", "methods=", "rank-d-trak="} <= set(re.findall(r"[a-z-]+=", sent))


def test_a_rights_holder_brings_a_work_and_follows_it_to_what_it_helped_and_to_a_report(
    visit: Callable[..., Any], settle: Callable[[Any], None], fresh: str, tmp_path: Path, record_property: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(tmp_path / "none"))
        work = catalogue.by_name("openmoji-people").train.images[7]
    Image.fromarray(work).save(tmp_path / "mine.png")
    begin = time.monotonic()
    page = visit("/", base=fresh)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Copies").click()
    page.get_by_test_id("stButtonGroup").get_by_text("Is my work in it?", exact=True).click()
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.png")
    matches = page.get_by_role("group", name="Your work and the closest training pictures")
    matches.locator("button[data-key='7'][aria-pressed='true']").wait_for()
    helped = page.get_by_role("group", name="Generated pictures that it helped most")
    helped.get_by_role("button", name=re.compile("^Explain seed ")).first.wait_for()
    settle(page)
    with page.expect_download() as report:
        page.get_by_role("button", name="Page", exact=True).click()
    assert "openmoji-people" in report.value.suggested_filename
    page.get_by_role("link", name=re.compile("^Draw again without ")).click()
    page.get_by_role("button", name="Remove, retrain, compare").wait_for()
    settle(page)
    assert "7" in page.get_by_role("textbox", name="And these pictures").input_value()
    took("A rights-holder, from a picture to what it helped, a report and its removal", begin, record_property)


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
