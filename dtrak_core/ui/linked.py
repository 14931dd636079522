"""Widgets whose value stands in the address, as parameters of their page; what an address says wrongly is named.

Streamlit takes a default in place of a value that cannot be, and cleans the address, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dtrak_core.ui import panels

_LOOKED, _PLACE = "_linked_looked", "_linked_place"


def begin() -> None:
    """Begin a run: what is said of the address stands here, for widgets may lie in a closed popover."""
    st.session_state[_PLACE] = st.container()


def bound(widget: Callable[..., Any], *args: Any, key: str, **more: Any) -> Any:
    """Draw a widget of Streamlit's whose value stands in the address, and name what the address says wrongly.

    Args:
        widget: The function that draws it.
        args: Its arguments; the first is a label, as a rule.
        key: The parameter's name.
        more: Its other arguments.

    Returns:
        What the function returns.
    """
    asked = said(key)
    found = widget(*args, key=key, bind="query-params", **more)
    value, spoken = st.session_state[key], more.get("format_func") or str
    if isinstance(value, bool):
        spoken, asked = lambda on: str(on).lower(), [one.lower() for one in asked]
    shown = [str(spoken(one)) for one in (value if isinstance(value, list) else [value]) if one is not None]
    for one in asked:
        if one not in shown:
            wrong(args[0] if isinstance(args[0], str) else key, one, ", ".join(shown))
    return found


def page(pages: int, key: str, **more: Any) -> int:
    """Draw the choice of a page of pictures where there are several; return the one chosen, from 1."""
    if pages > 1:
        return min(int(bound(st.pagination, pages, key=key, **more)), pages)
    for one in said(key):
        if one != "1":
            wrong(key, one, "1")
    return 1


def said(name: str) -> list[str]:
    """Return what the address says of a parameter, at this session's first look; later it is what was chosen."""
    looked: set[str] = st.session_state.setdefault(_LOOKED, set())
    if name in looked:
        return []
    looked.add(name)
    return [one for one in st.query_params.get_all(name) if one]


def wrong(label: str, asked: str, shown: str) -> None:
    """Say that the address asks for what cannot be, and what is shown instead."""
    told = f"'{panels.plain(label)}' cannot be '{panels.plain(asked)}', as the address says; "
    st.session_state.get(_PLACE, st).warning(told + (f"showing '{panels.plain(shown)}'." if shown else "left out."))
