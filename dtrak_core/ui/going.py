"""Jobs as every page tells of them: how far they are, in the sidebar; that one has ended, and where it leads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import JobState
from dtrak_core.ui import frame, leads, panels

EVERY = 2.0  # seconds between two looks while a job goes
_ENDED = "_ended_job"
SAID = {"done": ("is done.", ":material/check:"), "failed": ("has failed.", ":material/error:")}


def chip(page: str, place: DeltaGenerator) -> None:
    """Tell of jobs that go and of the last that ended; say the end of one that the page does not show itself.

    Args:
        page: The page's address path, empty for the start.
        place: Where in the sidebar.
    """
    page = page or Path(frame.OVERVIEW).stem
    known = jobs.listing()
    going = {job.key for job in known if job.going}
    _say([job for job in known if job.key in panels.seen() - going], page)
    panels.seen().clear()
    panels.seen().update(going)
    panels.followed().clear()

    def panel() -> None:
        with panels.reported():
            now = jobs.listing()
            _show([job for job in now if job.going], page)
            if going - {job.key for job in now if job.going} - panels.followed():
                st.rerun()

    with place:
        st.fragment(run_every=EVERY if going else None)(panel)()


def _say(ended: Sequence[JobState], page: str) -> None:
    """Say that these have ended, those apart that the page itself followed and shows."""
    for job in ended:
        if job.state in SAID and job.key not in panels.followed() and page != Path(frame.JOBS).stem:
            words, icon = SAID[job.state]
            st.toast(f"**{panels.plain(job.label)}** {words}", icon=icon, duration="long")
            st.session_state[_ENDED] = job.key


def _show(going: Sequence[JobState], page: str) -> None:
    if going:
        first = going[0]
        share = f"{first.done / first.total:.0%}" if first.total else "waits" if first.state == "queued" else "begins"
        more = f" and {len(going) - 1} more" if len(going) > 1 else ""
        label = f"{panels.plain(first.label)}: {share}{more}"
        frame.link(frame.JOBS, label, ":material/progress_activity:")
    job = jobs.state(st.session_state.get(_ENDED, ""))
    lead = leads.of(job) if job.state in SAID else None
    if lead is None or Path(lead.page).stem == page:
        st.session_state.pop(_ENDED, None)
        return
    st.page_link(lead.page, label=f"Open: {panels.plain(job.label)}", icon=SAID[job.state][1], query_params=lead.link())
