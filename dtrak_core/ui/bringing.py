"""Where something that is added comes from: files from the browser, a path of this machine, a name on the hub.

What is uploaded is written into the cache at once and given back by Streamlit, which holds it in memory until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dtrak_core.errors import DataError
from dtrak_core.files import check_readable, expanded
from dtrak_core.jobs import incoming, jobs
from dtrak_core.jobs.incoming import Limits
from dtrak_core.jobs.jobs import Job, JobState
from dtrak_core.ui import local, panels

Way = Literal["files", "folder", "path", "hub"]


@dataclass(frozen=True)
class Asked:
    """What is asked for: `what` is part of keys, `title` the question, `ways` those that there are, in words."""

    what: str
    title: str
    ways: dict[Way, str]
    labels: dict[Way, str]
    limits: Limits
    several: bool


def choose(asked: Asked) -> None:
    """Draw the choice of a source, a path on this machine alone; `source` tells it from the next run on."""
    what = asked.what
    offered = {way: words for way, words in asked.ways.items() if way != "path" or local.here()}
    way = st.segmented_control(
        asked.title, list(offered), default=next(iter(offered)), format_func=offered.get, key=f"{what}-way",
        required=True,
    )  # fmt: skip
    key, label = f"{what}-{way}", asked.labels[way]
    if way in ("files", "folder"):
        key += f"-{number(what)}"  # another key empties the box
        given = st.file_uploader(
            f"{label} ({asked.limits})",
            accept_multiple_files="directory" if way == "folder" else asked.several,
            key=key,
            max_upload_size=asked.limits.file,
        )
        call, args = _receive, (what, key, asked.limits)
    else:
        given = st.text_input(label, key=key, placeholder={"path": "/data/…", "hub": "owner/name"}[way]).strip()
        call, args = _named, (what, way, key)
    st.button(
        "Look", key=f"{what}-look", icon=":material/visibility:", disabled=not given, on_click=call,
        args=args,
    )  # fmt: skip


def source(what: str) -> str:
    """Return the source that was chosen, an absolute path or a name on the hub; empty where none is."""
    return str(st.session_state.get(f"_{what}-source", ""))


def number(what: str) -> int:
    """Return how many sources this session has chosen so far: each is looked at anew."""
    return int(st.session_state.get(f"_{what}-turn", 0))


def forget(what: str) -> None:
    """Let another source be chosen; what was uploaded is deleted."""
    with panels.noted(f"forget {what}"):
        incoming.drop(st.session_state.pop(f"_{what}-source", ""))


def begin(what: str, job: Job, label: str) -> None:
    """Ask for the job that takes a source in, which `under_way` then follows; what it is refused is raised."""
    panels.submit(job, label)
    st.session_state[f"_{what}-job"] = jobs.key_of_job(job)


def under_way(what: str, taken_in: Callable[[JobState], None]) -> bool:
    """Follow the job that this session began; say whether it goes on. At its end the upload is deleted.

    Args:
        what: As in `Asked`.
        taken_in: Called once with the job's end, after which the page is drawn anew.
    """
    key = st.session_state.get(f"_{what}-job", "")
    if not key:
        return False
    state = panels.follow(key)
    if state.state == "done":
        del st.session_state[f"_{what}-job"]
        taken_in(state)
        forget(what)
        st.rerun()
    return state.going


def _receive(what: str, key: str, limits: Limits) -> None:
    held = st.session_state.get(key) or []
    files = held if isinstance(held, list) else [held]
    with panels.noted(f"look {what}"):
        try:
            _take(what, incoming.receive([(file.name, file) for file in files], limits, what))
        finally:
            run = get_script_run_ctx()
            for file in files if run is not None else []:  # out of memory: it is on the disk now, or refused
                run.uploaded_file_mgr.remove_file(run.session_id, file.file_id)
            st.session_state[f"_{what}-turn"] = number(what) + 1


def _named(what: str, way: Way, key: str) -> None:
    given = str(st.session_state.get(key, "")).strip()
    with panels.noted(f"look {what}"):
        if way == "hub":
            refuse_path(given)
            _take(what, given)
        else:
            if not local.here():
                raise DataError(local.ELSEWHERE)
            path = expanded(given)
            check_readable(path)
            _take(what, path.resolve())
        st.session_state[f"_{what}-turn"] = number(what) + 1


def refuse_path(name: str) -> None:
    """Refuse what is no name on the hub: a path would be opened, whoever names it.

    Raises:
        DataError: If it is none.
    """
    parts: Sequence[str] = name.split("/")
    if len(parts) != 2 or not all(part.strip(".~ ") for part in parts) or _stands_here(name):
        raise DataError(f"'{name}' is no name on the hub. Write owner/name, as at the top of the model's page there.")


def _stands_here(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # in a folder that may not be looked into, or longer than any name
        return True


def _take(what: str, found: Path | str) -> None:
    st.session_state[f"_{what}-source"] = str(found)
