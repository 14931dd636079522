"""The address holds the view: dataset, checkpoint, target, methods, damping, comparison. It alone reopens it.

Every run reads what the address newly says (a link, Back or Forward), goes on from what this session kept for the
checkpoint where it says nothing new, and writes the whole at its end, at once: each writing is a step that Back undoes.
Widgets of the view are therefore not bound to the address by Streamlit, which leaves out what has its usual value and
drops a page's parameters on the way to another page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dtrak_core.amounts import whole
from dtrak_core.methods import certainty

_SEEN, _NOW, _KEPT, _OWNER = "_address_seen", "_address_now", "_address_kept", "_address_of"
_PAGES = "_address_pages"
EXAMPLE = "example"  # the opened picture: of one page and one moment
DRAWN = ("sampler", "sampling_steps", "guidance", "eta", "prompt")  # beside the target: how it was drawn
NUMBERED = ("take", "pictures", "mine")  # pages' own: training pictures by number, each of one dataset alone
RANK = "rank-"  # before a method's id: its damping


def fresh(name: str) -> str | None:
    """Return what the address says of this and did not say before in this session; None where nothing is new."""
    now = _said(name)
    return None if now is None or now == _state(_SEEN).get(name) else now


def enter(owner: str) -> bool:
    """Begin a run's view of a checkpoint (by digest); say whether it is another one than in the last run."""
    before = st.session_state.get(_OWNER)
    kept, now = _state(_KEPT).setdefault(owner, {}), _state(_NOW)
    new = {name: value for name in st.query_params if _of_owner(name) and (value := fresh(name)) is not None}
    if "sample" in new or not new.keys().isdisjoint(DRAWN):  # a target is named whole
        for name in DRAWN:
            kept.pop(name, None)
        new |= {name: value for name in DRAWN if (value := _said(name)) is not None}
    kept |= new
    for name in [name for name in now if _of_owner(name)]:
        del now[name]
    now |= kept
    st.session_state[_OWNER] = owner
    return bool(before != owner)


def of_dataset(name: str) -> None:
    """Leave out the pages' numbers of training pictures where they are of another dataset than the one chosen now.

    An address that names this dataset means its pictures.
    """
    if get("dataset", name) != name:
        for own in st.session_state.get(_PAGES, {}).values():
            for number in NUMBERED:
                own.pop(number, None)
    if _said("dataset") not in (None, name):
        for number in NUMBERED:
            st.query_params.pop(number, None)


def get(name: str, usual: str = "") -> str:
    """Return a parameter of this run's view."""
    return str(_state(_NOW).get(name, usual))


def ranks(methods: Iterable[str]) -> dict[str, float]:
    """Return the effective ranks over N that the address gives of these methods, by method: those of 1 to 95 %."""
    said = {method: rank(get(f"{RANK}{method}")) for method in methods}
    return {method: percent / 100 for method, percent in said.items() if percent is not None}


def rank(said: str) -> int | None:
    """Return an effective rank in percent of N as an address says it, None where it is not 1 to 95."""
    percent = whole(said)
    return percent if percent in certainty.PERCENT else None


def put(values: Mapping[str, str]) -> None:
    """Set parameters of the view: in the address at the end of the run, and kept for this checkpoint."""
    _state(_NOW).update(values)
    kept = _state(_KEPT).setdefault(st.session_state.get(_OWNER, ""), {})
    kept |= {name: value for name, value in values.items() if _of_owner(name)}


def drop(*names: str) -> None:
    """Take parameters out of the view."""
    kept = _state(_KEPT).setdefault(st.session_state.get(_OWNER, ""), {})
    for name in names:
        _state(_NOW).pop(name, None)
        kept.pop(name, None)


def view() -> dict[str, str]:
    """Return all parameters of this run's view."""
    return {name: str(value) for name, value in _state(_NOW).items()}


def leading(page: str) -> dict[str, str | list[str]]:
    """Return the parameters of a link to a page (by its file): this run's view, and the page's own as last left.

    A page writes its own parameters again when it is shown. A link without them would make that one step more.
    """
    own = st.session_state.get(_PAGES, {}).get(Path(page).stem, {})
    return own | view()


def leave(page: str) -> None:
    """Keep the parameters that are of this page alone, for links that lead back to it."""
    now = _state(_NOW)
    own = [name for name in st.query_params if name not in now and not _of_owner(name) and name != EXAMPLE]
    _state(_PAGES)[Path(page).stem] = {name: st.query_params.get_all(name) for name in own}


def write() -> None:
    """Write the view into the address where it is not there yet.

    After Back or Forward it is sent in any case: what a run before still wrote may meanwhile have come to this entry.
    """
    now = _state(_NOW)
    for name in [name for name in st.query_params if _of_owner(name) and name not in now]:
        del st.query_params[name]
    lacking = {name: value for name, value in now.items() if _said(name) != value}
    run = get_script_run_ctx()
    if lacking or (run is not None and run.is_history_navigation):
        st.query_params.update(lacking)
    st.session_state[_SEEN] = dict(now)


def _of_owner(name: str) -> bool:
    return name in ("sample", "comparison", *DRAWN) or name.startswith(RANK)


def _said(name: str) -> str | None:
    """Return a parameter of the address; several of one name, as older links have them, one a line."""
    found = st.query_params.get_all(name)
    return "\n".join(found) if found else None


def _state(name: str) -> dict[str, object]:
    found: dict[str, object] = st.session_state.setdefault(name, {})
    return found
