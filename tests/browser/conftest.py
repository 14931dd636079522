"""A real server on a small complete cache, and headless Chromium; skipped with a reason where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_store
from browser_helpers import FLAGS, NAMES, found_chromium, serve, settled

from dtrak_core import store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Start the machine's Chromium; without one skip, or fail where STUDIO_REQUIRE_BROWSER is set."""
    found = found_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found, why = None, "playwright is not installed"
    else:
        why = "no Chromium was found on this machine (looked for: " + ", ".join(NAMES) + ")"
    if found is None:
        if os.environ.get("STUDIO_REQUIRE_BROWSER"):
            pytest.fail(f"STUDIO_REQUIRE_BROWSER is set, but {why}")
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the cache that is served."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def app(served: Path, chromium: Any) -> Iterator[str]:
    """Serve the small cache."""
    place = served
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "no-demo"))
        small_store.build(place / "source")
    yield from serve(place / "cache", place / "no-demo")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    """Serve the shipped demo with an empty cache beside it, as a fresh clone does."""
    yield from serve(tmp_path_factory.mktemp("fresh"), store.PROJECT / "cache" / "demo")


@pytest.fixture(scope="session")
def profile(chromium: Any) -> Iterator[Any]:
    """Return the profile of all visits, whose cache keeps the app's code: a browser takes seconds to compile it."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def visit(profile: Any, app: str) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page as a newcomer's browser does, settled, without a single outside request."""
    pages, outside = [], []

    def open_page(path: str = "/", scheme: str = "light", width: int = 1280, base: str = app) -> Any:
        page = profile.new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        kept = profile.new_cdp_session(page)
        kept.send("Storage.clearDataForOrigin", {"origin": base, "storageTypes": "cookies,indexeddb,local_storage"})
        kept.detach()
        local = (base, base.replace("http", "ws"), "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(local) else outside.append(r.url))
        page.goto(base + path)
        settled(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert outside == []


@pytest.fixture
def settle() -> Callable[[Any], None]:
    """Return a function that waits until a page has come to rest."""
    return settled
