"""The cache: how large it is and may be, what is in it by kind and by entry, and deleting it after one question."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted, duration, size
from dtrak_core.jobs import eviction, housekeeping
from dtrak_core.kinds import KINDS
from dtrak_core.ui import linked, panels

_FREED, _SAID = "_freed", "_limit_said"


def panel() -> None:
    """Draw the cache's size and limit, its kinds, and the entries of one kind."""
    rows = housekeeping.stored()
    own = housekeeping.own_bytes(rows)
    shipped = sum(row["bytes"] for row in rows) - own
    _limit(own, shipped)
    if freed := st.session_state.pop(_FREED, None):
        st.success(freed, icon=":material/check:")
    kinds = housekeeping.kinds(rows)
    if not kinds:
        st.write("The cache is empty.")
        return
    st.dataframe(
        [
            {
                "Kind": row["kind"],
                "What it is": row["about"],
                "Entries": row["entries"],
                "Size": size(row["bytes"]),
                "Last read": ago(row["used"]),
            }
            for row in kinds
        ],
        hide_index=True,
        width="stretch",
        alt="The cache by kind: entries and size",
    )
    names = [row["kind"] for row in kinds]
    kind = linked.bound(st.selectbox, "Entries of", names, key="kind")
    _entries(kind, [row for row in rows if row["kind"] == kind])


def _entries(kind: str, rows: list[dict[str, Any]]) -> None:
    """Draw the entries of a kind, and what can be deleted of them."""
    st.dataframe(
        [
            {
                "Name": row["name"] or row["key"],
                "Made by": row["origin"],
                "Size": size(row["bytes"]),
                "Made": row["date"][:16].replace("T", " "),
                "Last read": ago(row["used"]),
                "Ships with the app": row["shipped"],
                "Key": row["key"],
            }
            for row in rows
        ],
        hide_index=True,
        width="stretch",
        alt=f"The entries of {kind}: name, size and date",
    )
    mine = {row["key"]: row for row in rows if not row["shipped"]}
    if not mine:
        st.caption("All of these ship with the app and stay.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Delete one",
            list(mine),
            index=None,
            format_func=lambda key: " · ".join(filter(None, (mine[key]["name"], mine[key]["origin"], key))),
            placeholder="Choose an entry",
            key=f"doomed-{kind}",
        )
        with st.popover("Delete it", icon=":material/delete:", disabled=chosen is None):
            if chosen is not None:
                _question(kind, [chosen], mine[chosen]["bytes"], "chosen")
        with st.popover(f"Delete all {len(mine)}", icon=":material/delete_sweep:"):
            _question(kind, list(mine), sum(row["bytes"] for row in mine.values()), "all")


def _question(kind: str, keys: list[str], amount: int, which: str) -> None:
    """Ask once; the button deletes."""
    what = f"Delete {_entries_of(len(keys))} of {kind}, {size(amount)}?"
    it, them = ("It", "it") if len(keys) == 1 else ("They", "them")
    again = ", only computed again" if KINDS[kind].recomputable else f"; you would have to make or bring {them} anew"
    st.write(f"{what} {it} cannot be brought back{again}.")
    st.button("Delete", key=f"delete-{which}", on_click=_delete, args=(kind, keys))


def _delete(kind: str, keys: list[str]) -> None:
    with panels.noted(f"delete {kind}"):
        freed = housekeeping.deleted(kind, keys)
        st.session_state[_FREED] = f"Deleted {len(keys)} of {kind}: {size(freed)} freed."
        st.session_state.pop(f"doomed-{kind}", None)


def _entries_of(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _limit(own: int, shipped: int) -> None:
    """Show how much is used, and the limit with what it has done."""
    most = eviction.limit()
    with st.container(horizontal=True, gap="large", vertical_alignment="bottom"):
        where = f"In `{store.root()}`, besides {size(shipped)} that ship with the app."
        st.metric("In the cache", size(own), help=where, width="content")
        st.number_input(
            "Limit in GB, 0 for none",
            min_value=0.0,
            value=(most or 0) / 1e9,
            step=1.0,
            key="cache-limit",
            on_change=_set_limit,
            width=220,
            help=(
                "Beyond it, what has gone unread longest is deleted first: features, kernels, embeddings and retrained "
                "models, which can be computed again. Models, pictures and comparisons stay."
            ),
        )
    if said := st.session_state.pop(_SAID, None):
        st.info(said, icon=":material/info:")
    gone = eviction.evicted()
    if gone:
        with st.expander(f"Deleted for the limit: {_entries_of(len(gone))}, {size(sum(row['bytes'] for row in gone))}"):
            st.dataframe(
                [
                    {"When": row["date"][:16].replace("T", " "), "Kind": row["kind"], "Made by": row["origin"]}
                    | {"Size": size(row["bytes"]), "Key": row["key"]}
                    for row in gone
                ],
                hide_index=True,
                width="stretch",
                alt="What was deleted for the limit",
            )


def _set_limit() -> None:
    with panels.noted("limit"):
        st.session_state[_SAID] = _limited(float(st.session_state["cache-limit"]))


def _limited(number: float) -> str:
    """Set the limit in GB, 0 for none, and say what it did."""
    eviction.set_limit(int(number * 1e9) or None)
    gone, own = eviction.evict(), housekeeping.own_bytes(housekeeping.stored())
    if gone:
        return f"Deleted {len(gone)} of the least recently read entries, {size(sum(r['bytes'] for r in gone))}."
    if number and own > number * 1e9:
        return f"{size(own)} are in use, more than the limit, but none of it may be deleted automatically."
    return "No limit." if not number else f"The limit is {size(number * 1e9)}. Nothing had to be deleted."


def ago(timestamp: float) -> str:
    """Return how long ago a moment was."""
    seconds = time.time() - timestamp
    return f"{duration(seconds)} ago" if seconds < 86_400 else f"{counted(round(seconds / 86_400), 'day')} ago"
