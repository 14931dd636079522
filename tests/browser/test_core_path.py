"""The path a newcomer takes, in a real browser: see the answer, look closer, open an example, send the link."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from browser_helpers import fits, serious_in_both_schemes

LINK = "?dataset=discs"
PAGES = [
    "/",
    "/generate",
    "/generate?tab=Train+a+model",
    "/attribution",
    "/attribution?details=Keep+and+share",
    "/credit",
    "/copies",
    "/doctor",
    "/map",
    "/counterfactual",
    "/jobs",
    "/jobs?list=Cache",
]


def keys(page: Any) -> list[str]:
    """Return the keys of the figure's pictures, in reading order, once it is drawn."""
    page.locator("button[data-key*='/']").first.wait_for()
    buttons = page.locator("button[data-key*='/']")
    return [button.get_attribute("data-key") for button in buttons.all()]


def focused(page: Any) -> str | None:
    found: str | None = page.evaluate("document.activeElement?.shadowRoot?.activeElement?.dataset.key ?? null")
    return found


def same_rank_same_column(page: Any) -> None:
    places: dict[str, list[float]] = {}
    for button in page.locator(".with-target button[data-key*='/']").all():  # below it credit shows some again
        method = button.get_attribute("data-key").partition("/")[0]
        places.setdefault(method, []).append(button.bounding_box()["x"])
    assert set(places) == {"d-trak", "trak"}
    for first, second in zip(places["d-trak"], places["trak"], strict=True):
        assert abs(first - second) <= 2


def enlarged_without_smoothing(page: Any) -> None:
    image = page.locator("button[data-key^='d-trak/'] img").first
    facts = image.evaluate(
        "i => [getComputedStyle(i).imageRendering, i.src.slice(0, 15), i.naturalWidth, i.getBoundingClientRect().width]"
    )
    assert facts[:3] == ["pixelated", "data:image/png;", 16]
    assert facts[3] > 40


def linked(path: str) -> str:
    return path + ("&" if "?" in path else "?") + LINK.removeprefix("?")


def test_from_the_answer_to_an_example_and_back(visit: Callable[..., Any], settle: Callable[[Any], None]) -> None:
    page = visit("/" + LINK)
    first = page.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first
    index = first.get_attribute("data-key").partition("/")[2]
    first.click()
    page.wait_for_url("**/attribution**")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(f"#{index}").first.wait_for()
    assert "sample=seed" in page.url
    assert f"example={index}" in page.url
    assert "dataset=discs" in page.url
    dialog.get_by_text(re.compile("Rank 1 of")).wait_for()
    settle(page)
    pictures = dialog.locator(".side")
    large = pictures.first.bounding_box()["width"]
    assert abs(pictures.nth(1).bounding_box()["width"] - large) <= 1, "both are equally large"
    dialog.get_by_role("button", name="Flicker").click()
    places = [dialog.locator(".side img").nth(place).bounding_box() for place in (0, 1)]
    assert places[0] == places[1], "in one place, as large as before"
    assert abs(places[0]["width"] - large) <= 1
    pictures.first.wait_for(state="hidden")
    assert pictures.nth(1).is_visible()
    pictures.first.wait_for(state="visible")
    dialog.get_by_role("button", name="Hold").click()
    before = pictures.first.is_visible()
    dialog.get_by_role("button", name="Swap").click()
    assert pictures.first.is_visible() != before
    page.keyboard.press("ArrowRight")
    dialog.get_by_text(re.compile("Rank 2 of")).wait_for()
    dialog.get_by_role("button", name="Difference").click()
    assert pictures.get_by_role("img", name=re.compile("^Absolute difference")).count() == 1
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    settle(page)
    assert "example" not in page.url
    again = visit(page.url.removeprefix(page.url.split("/attribution")[0]))
    again.locator("button[data-key^='trak/']").first.wait_for()
    assert keys(again) == keys(page)
    assert len(keys(page)) >= 12
    same_rank_same_column(again)
    enlarged_without_smoothing(again)


def test_a_deep_link_opens_the_same_example(visit: Callable[..., Any]) -> None:
    page = visit(linked("/attribution?sample=seed:1&example=7&opponents=2"))
    page.get_by_role("dialog").get_by_text("#7").first.wait_for()
    assert page.get_by_role("heading", name="Attribution").count() == 1
    overview = page.get_by_role("link", name="Overview")
    overview.first.wait_for(state="attached")
    assert overview.count() == 1


def test_the_whole_path_by_keyboard(visit: Callable[..., Any], settle: Callable[[Any], None]) -> None:
    page = visit(linked("/attribution"))
    page.locator("button[data-key='seed:0']").focus()
    page.keyboard.press("ArrowRight")
    assert focused(page) == "seed:1"
    page.keyboard.press("Enter")
    page.wait_for_url("**sample=seed%3A1**")
    settle(page)
    assert focused(page) == "seed:1"
    assert page.locator("button[data-key='seed:1']").get_attribute("aria-pressed") == "true"
    rows = keys(page)
    page.locator(f"button[data-key='{rows[0]}']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    below = next(key for key in rows if key.startswith("trak/"))
    assert focused(page) == rows[rows.index(below) + 1]
    opened = focused(page)
    page.keyboard.press("Space")
    page.get_by_role("dialog").wait_for()
    settle(page)
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.wait_for_function("k => document.activeElement?.shadowRoot?.activeElement?.dataset.key === k", arg=opened)


@pytest.mark.parametrize("path", ["/", "/generate", "/attribution"])
def test_a_narrow_screen_does_not_scroll_sideways(visit: Callable[..., Any], path: str) -> None:
    page = visit(linked(path), width=390)
    page.locator("button[data-key]").first.wait_for()
    assert fits(page)


def test_axe_finds_nothing_serious(visit: Callable[..., Any], settle: Callable[[Any], None], app: str) -> None:
    page = visit(linked(PAGES[0]))
    for path in PAGES:
        page.goto(app + linked(path))
        settle(page)
        assert serious_in_both_schemes(page) == {}, path


def test_new_pictures_and_their_answer(visit: Callable[..., Any], settle: Callable[[Any], None]) -> None:
    """Generate draws with counted steps, another page says the end and leads back; a job explains the new picture."""
    page = visit(linked("/generate"))
    page.get_by_role("spinbutton", name="Pictures").fill("2")
    page.get_by_role("spinbutton", name="First seed").fill("50")
    page.get_by_role("button", name="Draw").click()
    page.get_by_role("progressbar").first.wait_for()
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_role("link", name="Benchmark").click()
    page.get_by_role("heading", name="Benchmark").wait_for()
    page.get_by_test_id("stToast").get_by_text("Draw 2 pictures with tiny").wait_for(timeout=90_000)
    sidebar.get_by_role("link", name="Open: Draw 2 pictures with tiny").click()
    page.get_by_role("button", name="Explain the picture of seed 51").click(timeout=90_000)
    page.wait_for_url("**/attribution**sample=seed%3A51**")
    page.get_by_text("only this picture is missing").first.wait_for()
    page.get_by_role("button", name="Compute").click()
    page.get_by_role("button", name=re.compile("TRAK proponent 1,")).first.wait_for(timeout=90_000)
    page.get_by_role("button", name=re.compile("^Training picture .* TRAK proponent 1,")).last.wait_for()
    settle(page)
    before = keys(page)
    page.reload()
    settle(page)
    assert keys(page) == before
