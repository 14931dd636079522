"""How the app looks in a real browser: room for names and pictures, headings of dialogs, a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from browser_helpers import serious_in_both_schemes

CUT = "all => all.filter(e => e.scrollHeight > e.clientHeight + 1).map(e => e.textContent)"


def test_names_and_pictures_have_room(visit: Callable[..., Any], shipped: str) -> None:
    """No name under a picture is cut, and no picture is larger than the target that it explains."""
    page = visit("/attribution", base=shipped)
    page.locator("button[data-key^='trak/']").nth(7).wait_for()

    def widths(keys: str) -> list[float]:
        found = page.locator(f".with-target button[data-key{keys}] img")  # below it credit shows some again
        return [float(one) for one in found.evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")]

    for width in (390, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(400)
        assert page.locator(".line").evaluate_all(CUT) == []
        (target,), others = widths("='target'"), widths("^='d-trak/'")
        assert len(others) == 8
        assert max(others) <= target, f"at {width} px"
        assert max(others[5:]) <= max(others[:5]) + 1  # the rule between them takes its room


def test_a_link_followed_on_a_phone_closes_the_sidebar(
    visit: Callable[..., Any], settle: Callable[[Any], None]
) -> None:
    page = visit("/", width=390)
    page.get_by_test_id("stExpandSidebarButton").click()
    link = page.get_by_test_id("stSidebar").get_by_role("link", name="Attribution")
    link.click()
    page.wait_for_url("**/attribution**")
    page.get_by_test_id("stExpandSidebarButton").wait_for()
    page.reload()
    settle(page)
    assert page.get_by_test_id("stExpandSidebarButton").is_visible(), "it stays closed"
    page.get_by_test_id("stExpandSidebarButton").click()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_test_id("stSidebar").get_by_role("link", name="Jobs").click()
    page.wait_for_url("**/jobs**")
    settle(page)
    assert not page.get_by_test_id("stExpandSidebarButton").is_visible(), "beside the page it stays open"


def test_headings_of_dialogs_skip_no_level(
    visit: Callable[..., Any], settle: Callable[[Any], None], shipped: str
) -> None:
    page = visit("/attribution?example=127", base=shipped)
    page.get_by_role("dialog").wait_for()
    assert serious_in_both_schemes(page) == {}
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.locator("button[data-key='target']").click()
    page.get_by_role("dialog").wait_for()
    settle(page)
    assert serious_in_both_schemes(page) == {}
