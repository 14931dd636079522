"""Pieces that several pages show: job progress, errors as sentences, empty states, provenance, words for numbers."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import duration, size
from dtrak_core.errors import JobError, StoreError, StudioError
from dtrak_core.jobs import incoming, jobs
from dtrak_core.jobs.jobs import Job, JobState
from dtrak_core.settings import NAME
from dtrak_core.ui import address

_LOG = logging.getLogger(__name__)
_WATCHED, _DISMISSED = "_watched", "_dismissed"
_REFUSED, _TOLD, _TOLD_ON = "_refused", "_refused_told", "_refused_on"  # by action; as the page shows them; which page
_SEEN, _FOLLOWED = "_seen_going", "_followed"
_POLL = 0.7  # seconds between two looks at a job's state
_SPECIAL = "\\`*_{}[]()<>#+-.!|~$:&"


def plain(text: object) -> str:
    """Return text of a dataset or a user so that Markdown shows it as it is."""
    line = " ".join(str(text).splitlines())  # a new line could begin a heading or a list
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in line)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Show an error as a sentence that stays; details of an unforeseen one go to the log under a short id."""
    try:
        yield
    except StudioError as error:
        st.error(plain(error), icon=":material/error:")
    except Exception as error:
        if reason := store.refusal(error):
            st.error(plain(reason), icon=":material/error:")
            return
        number = secrets.token_hex(3)
        _LOG.exception("Error %s on a page", number)
        st.error(
            f"Something failed that was not foreseen (error {number}). Reload the page; if it happens again, "
            f"look for {number} in the terminal where the app runs."
        )


@contextlib.contextmanager
def noted(action: str) -> Iterator[None]:
    """Keep what a callback was refused: what it draws itself is drawn over.

    Args:
        action: What was asked for: the refusal is gone once the same succeeds.
    """
    refusals = _refusals()
    try:
        yield
    except (StudioError, OSError) as error:
        if not (reason := str(error) if isinstance(error, StudioError) else store.refusal(error)):
            raise
        refusals[action] = reason
    else:
        refusals.pop(action, None)


def refused(page: str) -> None:
    """Show what callbacks of a page were refused, each until it is dismissed; of the page before nothing is left."""
    refusals = _refusals()
    if st.session_state.get(_TOLD_ON) != page:
        refusals.clear()
    st.session_state[_TOLD_ON], st.session_state[_TOLD] = page, dict(refusals)
    for number, reason in enumerate(dict.fromkeys(refusals.values())):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.error(plain(reason), icon=":material/error:")
            st.button("Dismiss", key=f"refused-{number}", on_click=_forget, args=(reason,))


def refused_here() -> None:
    """Draw the page anew where a fragment's callback was refused, or no longer is: the page says it."""
    if _refusals() != st.session_state.get(_TOLD, {}):
        st.rerun()


def _refusals() -> dict[str, str]:
    found: dict[str, str] = st.session_state.setdefault(_REFUSED, {})
    return found


def _forget(reason: str) -> None:
    for action in [action for action, said in _refusals().items() if said == reason]:
        del _refusals()[action]


def start(job: Job, label: str) -> None:
    """Ask for a job from a callback, and remember its key so that its end is announced."""
    with noted(jobs.key_of_job(job)):
        submit(job, label)


def started(job: Job, label: str) -> bool:
    """Ask for a job while a page is drawn, not from a callback; say whether it was taken.

    A refusal is shown there, for one that is kept for the next drawing would be followed by another at that drawing.
    """
    with reported():
        submit(job, label)
        return True
    return False


def submit(job: Job, label: str) -> None:
    """Ask for a job as `start` does; what it is refused is raised, for a callback that notes it with its own action."""
    key, _ = jobs.submit(job, label)
    _keys(_WATCHED).add(key)
    _keys(_SEEN).add(key)
    _keys(_DISMISSED).discard(key)


def asked(change: Callable[[str], object], key: str) -> None:
    """Change a job from a callback: resume, cancel, forget it."""
    with noted(key):
        change(key)


@st.cache_resource(max_entries=1, ttl=60, show_spinner=False)
def taken_up() -> None:
    """Let what was left by a crash or a restart go on, once a minute at most: no engine starts where nothing waits.

    Uploads that nobody took in for a day are deleted.
    """
    with contextlib.suppress(StoreError):  # a cache that is only read still shows what is in it
        jobs.recover()
        incoming.sweep({name for _, reads in jobs.live() for name in reads})


def announce(kinds: Sequence[str], done: str) -> list[str]:
    """Say once that a job of these kinds, watched in this session, has finished; return the keys of those jobs."""
    finished = []
    for key in list(_keys(_WATCHED)):
        state = jobs.state(key)
        if state.state == "done" and state.kind in kinds:
            _keys(_WATCHED).discard(key)
            st.success(done, icon=":material/check:")
            finished.append(key)
    return finished


def follow(key: str, beside: Callable[[], None] | None = None) -> JobState:
    """Show how far a job is, with Cancel or Resume; redraw the page when it ends, goes on again or is dismissed.

    Only a page that was drawn while the job was going looks again by itself, so the page is drawn anew whenever
    that changes: a press on Resume inside the panel would otherwise be followed by nobody.

    Args:
        key: Key of the job.
        beside: Drawn again at every look, for results that appear one by one.

    Returns:
        The state at the time of drawing.
    """
    state, hidden = jobs.state(key), dismissed(key)
    _keys(_FOLLOWED).add(key)
    if state.going:
        _keys(_WATCHED).add(key)

    def panel() -> None:
        with reported():
            now = jobs.state(key)
            progress(now)
            if beside is not None:
                beside()
            if now.state in ("queued", "interrupted") and time.time() - (now.submitted or 0) > 3:
                jobs.recover()
            if now.going != state.going or dismissed(key) != hidden:
                st.rerun()
            refused_here()

    st.fragment(run_every=_POLL if state.going else None)(panel)()
    return state


def offer(job: Job, button: str, label: str, before: Callable[[], None] | None = None) -> None:
    """Draw the button that asks for a job, or how far it is.

    Args:
        job: The job.
        button: Words on the button.
        label: What the job is called.
        before: Drawn above the button alone: what it costs.
    """
    key = jobs.key_of_job(job)
    if jobs.state(key).state in ("idle", "done") or dismissed(key):
        if before is not None:
            before()
        st.button(button, key=f"offer-{key}", icon=":material/play_arrow:", on_click=start, args=(job, label))
    else:
        follow(key)


def progress(now: JobState) -> None:
    """Draw one job: a counted bar with Cancel, or how it ended with Resume."""
    if now.active:
        with st.container(horizontal=True, vertical_alignment="center"):
            share = min(now.done / now.total, 1.0) if now.total else 0.0
            st.progress(share, text=counted(now))
            st.button("Cancel", key=f"cancel-{now.key}", on_click=asked, args=(jobs.cancel, now.key))
        return
    if now.state in ("idle", "done") or now.key in _keys(_DISMISSED):
        return
    if now.state == "failed":
        st.error(f"{plain(now.label)} failed. {plain(now.message)}")
        with st.expander("Log"):
            st.code(jobs.log_tail(now.key) or "The log is empty.", language=None)
    else:
        reached = f" at {now.done:,} of {now.total:,} {now.unit}" if now.total else ""
        word = "Cancelled" if now.state == "cancelled" else "Interrupted"
        st.warning(f"{word}{reached}. What was finished is kept.")
    with st.container(horizontal=True):
        resume = ":material/play_arrow:"
        st.button("Resume", key=f"resume-{now.key}", on_click=asked, args=(jobs.resume, now.key), icon=resume)
        st.button("Dismiss", key=f"dismiss-{now.key}", on_click=_keys(_DISMISSED).add, args=(now.key,))


def counted(now: JobState) -> str:
    """Return a running job's progress as text: what, how many of how many, time left."""
    parts = [now.message.rstrip(".")] if now.message else []
    if now.total:
        parts.append(f"{now.done:,} of {now.total:,} {now.unit}")
    if now.seconds_left is not None:
        parts.append(f"about {duration(now.seconds_left)} left")
    return plain(" · ".join(parts) or now.label)


def newest(kind: str, about: str) -> JobState | None:
    """Return the newest job of a kind that reads the thing of this digest, if it goes on or ended badly."""
    for job in jobs.listing():
        with contextlib.suppress(JobError):  # of another version of the app: of what, is not known
            if job.kind == kind and about in jobs.inputs(jobs.job_of(job.key)):
                return None if job.state == "done" or job.key in _keys(_DISMISSED) else job
    return None


def dismissed(key: str) -> bool:
    """Say whether this session has put a job's bad end out of sight."""
    return key in _keys(_DISMISSED)


def seen() -> set[str]:
    """Return the jobs that this session has last seen going, or has asked for since: to be changed by the caller."""
    return _keys(_SEEN)


def followed() -> set[str]:
    """Return the jobs whose end the page itself shows: to be emptied before a page is drawn."""
    return _keys(_FOLLOWED)


def _keys(name: str) -> set[str]:
    found: set[str] = st.session_state.setdefault(name, set())
    return found


def name_problem(name: str, noun: str, known: Collection[str], example: str) -> str:
    """Say what is wrong with the name that a user gives to a checkpoint, dataset or base; nothing if nothing is."""
    if not re.fullmatch(NAME, name):
        return f"Give a name of small letters, digits, dots and dashes, for example '{example}'."
    return f"There is a {noun} '{plain(name)}' already. Choose another name." if name in known else ""


def nothing(sentence: str, page: str, label: str) -> None:
    """Show an empty state with the one thing to do next."""
    with st.container(border=True):
        st.write(sentence)
        st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=address.leading(page))


def strip(facts: Mapping[str, Any]) -> None:
    """Show where a result comes from, as one line of small print."""
    st.caption(" · ".join(f"{plain(name)} {plain(value)}" for name, value in facts.items() if value not in ("", None)))


def made(artifact: store.Artifact) -> dict[str, str]:
    """Return date, duration, size and version of a stored artifact, for the small print."""
    facts = artifact.manifest
    seconds = facts.get("seconds")
    return {
        "made": facts["date"][:10],
        "in": duration(seconds) if seconds else "",
        "size": size(facts["bytes"]),
        "with version": facts["versions"]["dtrak-studio"],
    }
