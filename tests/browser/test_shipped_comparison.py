"""The shipped comparison in a real browser: a point and a picture open the pair, and nothing keeps anyone out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browser_helpers import fits, serious


def test_a_point_and_a_picture_open_the_pair(
    visit: Callable[..., Any], settle: Callable[[Any], None], shipped: str
) -> None:
    page = visit("/attribution", base=shipped)
    page.get_by_role("link", name="What if these had never been there?").click()
    page.get_by_role("button", name="Remove, retrain, compare").wait_for()  # the form is open, and filled in
    page.wait_for_load_state()
    assert "remove-by=" in page.url
    page.get_by_text("A new comparison").click()
    settle(page)
    dialog = page.get_by_role("dialog")
    points = page.locator(".st-key-boxes-l2 .point")
    points.first.wait_for()
    for i in range(points.count()):  # one may lie beneath another
        points.nth(i).click(force=True)
        settle(page)
        if dialog.count():
            break
    assert "pair=" in page.url, "what is opened can be sent"
    assert dialog.get_by_role("img", name="Original, ").count() == 1
    assert "Pixel l2" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    settle(page)
    assert "pair=" not in page.url
    cell = page.locator(".st-key-counterfactual-matrix button[data-key]").nth(2)
    name = cell.get_attribute("aria-label")
    cell.focus()
    page.keyboard.press("Enter")
    settle(page)
    assert dialog.get_by_role("img").count() == 2
    assert fits(page)
    assert serious(page) == []
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    settle(page)
    assert page.evaluate("document.activeElement.shadowRoot?.activeElement?.ariaLabel") == name, "focus comes back"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious(visit: Callable[..., Any], shipped: str, scheme: str, width: int) -> None:
    page = visit("/counterfactual", scheme, width, shipped)
    page.locator(".st-key-boxes-l2 .point").first.wait_for()
    assert serious(page) == []
    assert fits(page)
