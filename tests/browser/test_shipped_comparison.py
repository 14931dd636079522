"""The shipped comparison in a real browser: a point opens its target, and nothing keeps anyone out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from browser_helpers import fits, serious


def chosen(page: Any) -> str:
    return str(page.get_by_test_id("stSelectbox").filter(has_text="Target").locator("input").input_value())


def in_sight(page: Any, one: Any) -> bool:
    box = one.bounding_box()
    return bool(box and box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"])


def test_a_point_opens_its_target_and_the_list_still_chooses(
    visit: Callable[..., Any], settle: Callable[[Any], None], shipped: str
) -> None:
    page = visit("/counterfactual", base=shipped)
    chart = page.locator(".st-key-boxes-l2")
    chart.locator(".point").first.wait_for()
    before = chosen(page)
    points = chart.locator(".point")
    for i in range(points.count()):
        points.nth(i).click(force=True)
        settle(page)
        if chosen(page) != before:
            break
    clicked = chosen(page)
    assert clicked != before
    # What the click changed is told in sight, without scrolling, at 1280 x 900; the pictures themselves stand above.
    told = page.get_by_text(f"Pictures of {clicked} stand above the charts")
    assert in_sight(page, told)
    original = page.get_by_role("button", name=f"Original picture of {clicked}")
    assert original.bounding_box()["y"] < told.bounding_box()["y"]
    box = page.get_by_test_id("stSelectbox").filter(has_text="Target").locator("input")
    box.scroll_into_view_if_needed()
    box.click()
    box.press_sequentially(before)
    page.wait_for_timeout(500)
    box.press("Enter")
    settle(page)
    assert chosen(page) == before, "the point that is still selected does not choose again"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious(visit: Callable[..., Any], shipped: str, scheme: str, width: int) -> None:
    page = visit("/counterfactual", scheme, width, shipped)
    page.locator(".st-key-boxes-l2 .point").first.wait_for()
    assert serious(page) == []
    assert fits(page)
