"""All jobs: what runs, what waits and where in the queue, what ended and how; their logs, and what can be done."""

from __future__ import annotations

import time

import streamlit as st

from dtrak_core.amounts import duration, moment
from dtrak_core.jobs import jobs, launch
from dtrak_core.jobs.jobs import JobState
from dtrak_core.ui import crisp, frame, leads, panels

POLL = 1.0  # seconds between two looks
SMALL = 48  # pixels of the picture beside a job
SHOWN = 12  # ended jobs before one asks for more
LOOKS = {
    "done": (":green-badge[:material/check: Done]", ""),
    "failed": (":red-badge[:material/error: Failed]", "Retry"),
    "cancelled": (":gray-badge[:material/block: Cancelled]", "Resume"),
    "interrupted": (":orange-badge[:material/warning: Interrupted]", "Resume"),
}


@st.fragment(run_every=POLL)
def panel() -> None:
    """Draw the list, again every second."""
    with panels.reported():
        panels.refused_here()
        found = jobs.listing()
        if any(job.state in ("queued", "interrupted") and _old(job) for job in found):
            jobs.recover()
        if not found:
            panels.nothing("No job has been started yet.", frame.GENERATE, "Draw pictures or train a model")
        _section("Running", [job for job in found if job.state == "running"])
        _section("Waiting", [job for job in found if job.state == "queued"])
        _ended([job for job in found if not job.active])
        st.caption(_engine())


def _section(title: str, going: list[JobState]) -> None:
    if not going:
        return
    st.header(f"{title} · {len(going)}", anchor=False)
    for job in going:
        with st.container(border=True):
            st.markdown(f"**{panels.plain(job.label)}**")
            panels.progress(job)
            since = job.started or job.submitted or time.time()
            tries = f" · attempt {job.attempt}" if job.attempt > 1 else ""
            where = f"number {job.position} in the queue · " if job.position else ""
            st.caption(f"{job.kind} · {where}{_ago(since)}{tries}")
            if job.state == "running":
                _log(job)


def _ended(ended: list[JobState]) -> None:
    if not ended:
        return
    st.header(f"Ended · {len(ended)}", anchor=False)
    more = len(ended) > SHOWN and st.toggle(f"Show all {len(ended)}", key="jobs-all")
    for job in ended if more else ended[:SHOWN]:
        badge, again = LOOKS.get(job.state, ("", ""))
        lead = leads.of(job)
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                if lead is not None and lead.picture is not None:
                    crisp.show(lead.picture, SMALL, f"What '{job.label}' is about")
                st.markdown(f"{badge} **{panels.plain(job.label)}**")
            if job.message and job.state != "done":
                st.markdown(panels.plain(job.message))
            facts = [job.kind, moment(job.finished) if job.finished else ""]
            if job.started and job.finished:
                facts.append(f"took {duration(job.finished - job.started)}")
            if job.total:
                facts.append(f"{job.done:,} of {job.total:,} {job.unit}")
            st.caption(" · ".join(fact for fact in facts if fact))
            with st.container(horizontal=True, vertical_alignment="center"):
                if lead is not None:
                    st.page_link(lead.page, label="Open", icon=":material/arrow_forward:", query_params=lead.link())
                if again:
                    icon = ":material/replay:" if again == "Retry" else ":material/play_arrow:"
                    st.button(
                        again, key=f"again-{job.key}", on_click=panels.asked, args=(jobs.resume, job.key), icon=icon
                    )
                remove = "Remove it from this list. What it made stays."
                st.button(
                    "Remove", key=f"remove-{job.key}", on_click=panels.asked, args=(jobs.forget, job.key), help=remove
                )
            _log(job)


def _log(job: JobState) -> None:
    """Offer the end of the log; it is read only while it is open."""
    if st.toggle("Log", key=f"log-{job.key}"):
        st.code(jobs.log_tail(job.key) or "The log is empty.", language=None, wrap_lines=True)


def _ago(moment_: float) -> str:
    return f"for {duration(time.time() - moment_)}"


def _old(job: JobState) -> bool:
    return time.time() - (job.submitted or 0.0) > 3


def _engine() -> str:
    """Say who does the work."""
    where = f"the cluster at {panels.plain(launch.address())}" if launch.address() else "this machine"
    facts = launch.written_down()
    if facts is None or not launch.lives():
        return f"No engine runs. It starts with the next job, on {where}."
    return f"The engine runs on {where} (process {facts['pid']}) and ends by itself when it has nothing to do."
