"""A job that is cancelled and resumed on the page that asked for it is followed to its result, without a reload."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtrak_core import store

TARGETS = "target-features"


@pytest.fixture
def held(app: str, served: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[contextlib.ExitStack]:
    """Hold what the targets' features are computed under, so that their job waits until the stack is closed."""
    monkeypatch.setenv("STUDIO_CACHE", str(served / "cache"))
    with contextlib.ExitStack() as locks:
        for features in store.listing("features"):
            locks.enter_context(store.computing(TARGETS, features.key))
        yield locks


def test_resume_is_followed_to_the_result(
    visit: Callable[..., Any], held: contextlib.ExitStack, settle: Callable[[Any], None]
) -> None:
    page = visit("/attribution?dataset=discs&sample=held-out%3A2")
    page.get_by_role("button", name="Compute").click()
    page.get_by_text(re.compile("Another job computes these")).first.wait_for(timeout=90_000)
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_role("button", name="Resume").first.click(timeout=30_000)
    page.get_by_role("progressbar").first.wait_for()
    held.close()
    page.get_by_role("button", name=re.compile("D-TRAK proponent 1,")).first.wait_for(timeout=60_000)
    page.get_by_role("progressbar").first.wait_for(state="detached")


def test_what_is_dismissed_is_offered_again(visit: Callable[..., Any], held: contextlib.ExitStack) -> None:
    page = visit("/attribution?dataset=discs&sample=held-out%3A3")
    page.get_by_role("button", name="Compute").click()
    page.get_by_role("button", name="Cancel").first.click(timeout=60_000)
    page.get_by_role("button", name="Dismiss").first.click(timeout=30_000)
    page.get_by_role("button", name="Compute").wait_for(timeout=10_000)
