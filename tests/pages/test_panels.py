"""A job that a page follows: looked at again for as long as it goes, however often it is stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import streamlit as st

from dtrak_core.errors import StoreError
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import JobState
from dtrak_core.ui import panels
from dtrak_core.ui.jobs import job_list

KEY = "a" * 16


class Redrawn(BaseException):
    """The page is drawn anew."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float | None, Callable[[], None]]]:
    """Collect each fragment that a page draws: how often it runs by itself, and what it runs."""
    found: list[tuple[float | None, Callable[[], None]]] = []

    def fragment(run_every: float | None) -> Callable[[Callable[[], None]], Callable[[], None]]:
        return lambda panel: lambda: found.append((run_every, panel))

    def rerun() -> None:
        raise Redrawn

    monkeypatch.setattr(st, "fragment", fragment)
    monkeypatch.setattr(st, "rerun", rerun)
    monkeypatch.setattr(st, "session_state", {})
    monkeypatch.setattr(panels, "progress", lambda now: None)
    return found


def test_polls_exactly_while_the_job_goes(drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = JobState(KEY, state="running")
    monkeypatch.setattr(jobs, "state", lambda key: now)

    def becomes(state: str) -> None:
        """Let the job change, as a press on a button inside the panel does: only the panel runs again."""
        nonlocal now
        now = JobState(KEY, state=state)  # type: ignore[arg-type]
        with pytest.raises(Redrawn):
            drawn[-1][1]()
        panels.follow(KEY)

    panels.follow(KEY)
    drawn[-1][1]()
    assert drawn[-1][0] is not None
    for _ in range(2):
        becomes("cancelled")
        assert drawn[-1][0] is None, "nothing to look at"
        drawn[-1][1]()
        becomes("queued")
        assert drawn[-1][0] is not None, "a resumed job is looked at again"
        drawn[-1][1]()
    becomes("done")
    assert drawn[-1][0] is None


def test_a_dismissed_end_draws_the_page_anew(drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "state", lambda key: JobState(KEY, state="cancelled"))
    panels.follow(KEY)
    drawn[-1][1]()
    st.session_state.setdefault("_dismissed", set()).add(KEY)
    with pytest.raises(Redrawn):
        drawn[-1][1]()


def test_what_a_fragments_callback_is_refused_is_shown_by_the_page(
    drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fragment runs every second: what it said itself would be gone after one."""

    def refuse(key: str) -> None:
        raise StoreError("The disk is full.")

    said = list[str]()
    monkeypatch.setattr(st, "error", lambda words, icon: said.append(words))
    monkeypatch.setattr(jobs, "listing", list)
    fragment = job_list.panel.__wrapped__  # type: ignore[attr-defined]  # as Streamlit runs it again
    panels.refused("jobs")
    fragment()
    panels.asked(refuse, KEY)
    with pytest.raises(Redrawn):
        fragment()
    panels.refused("jobs")
    fragment()
    fragment()
    assert said == [panels.plain("The disk is full.")]
    panels.asked(lambda key: None, KEY)
    with pytest.raises(Redrawn):
        fragment()
    panels.refused("jobs")
    fragment()
    assert len(said) == 1
