"""An answer to keep: a page to print, tables, a picture, JSON, of one sheet, as buttons side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import streamlit as st

Sheet = TypeVar("Sheet")
KINDS = {
    ".html": ("Page", "text/html"),
    ".csv": ("CSV", "text/csv"),
    ".json": ("JSON", "application/json"),
    ".tex": ("LaTeX", "text/plain"),
    ".png": ("PNG", "image/png"),
}


def files(sheet: Sheet, writers: Mapping[str, Callable[[Sheet], bytes]], name: str, key: str) -> None:
    """Offer a sheet as files of the kinds that there is a writer for, which are written once asked for.

    Args:
        sheet: What they hold.
        writers: What writes it, by ending.
        name: What they are called, without an ending.
        key: Of the buttons, before the ending.
    """
    with st.container(horizontal=True):
        for ending, (label, kind) in KINDS.items():
            if ending not in writers:
                continue
            st.download_button(
                label,
                lambda write=writers[ending]: write(sheet),  # type: ignore[misc]
                f"{name}{ending}",
                kind,
                icon=":material/download:",
                on_click="ignore",
                key=f"{key}{ending}",
            )
