"""One address, one view: over all pages, in a fresh browser, by Back and Forward, for two datasets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from browser_helpers import settled

PAGES = (
    "Overview",
    "Generate",
    "Attribution",
    "Credit",
    "Copies",
    "Doctor",
    "Map",
    "Counterfactual",
    "Benchmark",
    "Jobs",
)


def asked(page: Any) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def until(page: Any, **wanted: str) -> None:
    """Wait until the address says this and the page has come to rest."""
    for name, value in wanted.items():
        page.wait_for_function(
            "([name, value]) => new URLSearchParams(location.search).get(name) === value", arg=[name, value]
        )
    settled(page, 500)


def explained(page: Any, seed: int) -> None:
    """Wait until this seed's picture is the target."""
    page.get_by_role("button", name=re.compile(f"^The picture to explain: (.*, )?seed {seed}$")).wait_for()


def rows(page: Any) -> list[str]:
    page.locator("button[data-key*='/']").first.wait_for()
    return [b.get_attribute("aria-label") for b in page.locator("button[data-key*='/']").all()]


def go(page: Any, title: str) -> None:
    page.mouse.move(900, 5)  # the tooltip of one link covers those above it
    page.get_by_test_id("stSidebar").get_by_role("link", name=title).first.click()
    page.wait_for_url("**/?**" if title == "Overview" else f"**/{title.lower()}?**")
    settled(page, 500)


def test_the_view_goes_over_all_pages_and_back(visit: Callable[..., Any], shipped: str) -> None:
    page = visit("/attribution", base=shipped)
    until(page, methods="d-trak,trak")
    first = asked(page)
    assert {"dataset", "checkpoint", "sample", "rank-d-trak", "rank-trak"} <= first.keys()
    other = page.locator("button[data-key^='seed:'][aria-pressed='false']").first
    seed = int(other.get_attribute("data-key").removeprefix("seed:"))
    other.click()
    until(page, sample=f"seed:{seed}")
    explained(page, seed)
    slider = page.get_by_role("slider", name=re.compile("^D-TRAK: effective rank")).first
    slider.focus()
    page.keyboard.press("ArrowRight")
    until(page, **{"rank-d-trak": str(int(first["rank-d-trak"]) + 1)})
    view, shown = asked(page), rows(page)
    for title in PAGES:
        go(page, title)
        told = asked(page)
        assert {name: told.get(name) for name in view} == view, title
    for title in reversed(PAGES[2:-1]):  # one press a page
        page.go_back()
        page.wait_for_url(f"**/{title.lower()}?**")
        settled(page, 500)
    explained(page, seed)
    assert rows(page) == shown
    page.go_forward()
    page.wait_for_url("**/credit?**")
    fresh = visit(page.url.replace("/credit", "/attribution").removeprefix(shipped), base=shipped)
    explained(fresh, seed)
    assert rows(fresh) == shown


def test_back_gives_the_target_before_and_closes_a_dialog(visit: Callable[..., Any], shipped: str) -> None:
    page = visit("/attribution?sample=seed:34", base=shipped)
    page.locator("button[data-key='seed:33']").click()
    until(page, sample="seed:33")
    page.go_back()
    until(page, sample="seed:34")
    explained(page, 34)
    page.go_forward()
    until(page, sample="seed:33")
    explained(page, 33)
    go(page, "Overview")
    before = page.url
    steps = page.evaluate("history.length")
    for moment in ("at once", "while the page is drawn", "in the dialog"):
        page.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first.click()
        page.wait_for_url("**/attribution?**example=**", wait_until="commit")
        assert page.evaluate("history.length") == steps + 1, "the page and its dialog are one step"
        if moment == "while the page is drawn":
            page.wait_for_timeout(150)
        elif moment == "in the dialog":
            page.get_by_role("dialog").wait_for()
            settled(page)
        page.go_back()
        page.wait_for_function("location.pathname === '/'")
        explained(page, 33)
        page.wait_for_timeout(1000)  # a dialog that came back would be there by now
        settled(page)
        assert page.get_by_role("dialog").count() == 0, moment
        assert page.url == before, moment


def test_one_press_of_back_undoes_one_step_whatever_a_page_is_set_to(visit: Callable[..., Any], shipped: str) -> None:
    page = visit("/attribution?proponents=8", base=shipped)
    until(page, methods="d-trak,trak")
    steps = page.evaluate("history.length")
    for count, title in enumerate(("Counterfactual", "Attribution", "Overview"), 1):
        go(page, title)
        assert page.evaluate("history.length") == steps + count, title
        assert asked(page).get("proponents") == ("8" if title == "Attribution" else None), title
    page.go_back()
    page.wait_for_url("**/attribution?**proponents=8**")
    explained(page, int(asked(page)["sample"].removeprefix("seed:")))
    assert page.evaluate("history.length") == steps + 3


def test_two_datasets_keep_their_own_target_and_damping(visit: Callable[..., Any], shipped: str) -> None:
    page = visit("/attribution?sample=seed:40&rank-d-trak=30", base=shipped)
    explained(page, 40)
    page.get_by_role("combobox", name=re.compile("Dataset")).click()
    other = page.get_by_role("option").filter(has_not_text="openmoji-people").first  # whichever ships beside it
    name = other.inner_text()
    other.click()
    until(page, dataset=name, methods="d-trak,trak")
    view, shown = asked(page), rows(page)
    assert page.get_by_role("alert").count() == 0, "nobody asked for a seed of this model"
    assert view["rank-d-trak"] != "30"
    fresh = visit(page.url.removeprefix(shipped), base=shipped)
    assert rows(fresh) == shown
    until(fresh, **view)
    assert asked(fresh) == view
    page.get_by_role("combobox", name=re.compile("Dataset")).click()
    page.get_by_role("option", name="openmoji-people").click()
    until(page, dataset="openmoji-people", sample="seed:40", **{"rank-d-trak": "30"})
    explained(page, 40)


def test_a_click_on_overview_keeps_a_dataset_that_is_not_the_default(visit: Callable[..., Any]) -> None:
    page = visit("/?dataset=discs")
    page.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first.click()
    page.wait_for_url("**/attribution?**example=**")
    until(page, dataset="discs")
    explained(page, 0)
