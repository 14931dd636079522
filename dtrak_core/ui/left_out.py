"""What was assumed of a source of pictures, and which of its files are not among the pictures, and why."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from dtrak_core.datasets.content import LeftOut, by_reason
from dtrak_core.ui import panels


def show(notes: Iterable[str], left_out: Iterable[LeftOut]) -> None:
    """Draw the notes, and the files by reason."""
    for note in notes:
        st.caption(panels.plain(note))
    found = by_reason(left_out)
    if not found:
        return
    total = sum(count for count, _ in found.values())
    with st.expander(f"{total:,} {'file' if total == 1 else 'files'} of the source left out", icon=":material/block:"):
        for why, (count, files) in found.items():
            st.markdown(f"**{count:,}** {panels.plain(why)}")
            height = "content" if len(files) <= 5 else 200
            st.dataframe({"File": files}, hide_index=True, height=height, alt=f"Files left out: {why}")
