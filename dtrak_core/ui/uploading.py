"""A picture or scores that are brought: one file, taken once, refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from dtrak_core.errors import StudioError
from dtrak_core.ui import panels

MOST = 25  # MiB of a picture
ENDINGS = ["png", "jpg", "jpeg", "jfif", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2"]

Kept = TypeVar("Kept")


def taken(
    label: str, key: str, keep: Callable[[bytes, str], Kept], endings: Sequence[str] = ENDINGS, most: int = MOST
) -> Kept | None:
    """Return what was kept of the file that was brought just now, or nothing; what cannot be kept is refused.

    Args:
        label: What the file is.
        key: Of the uploader.
        keep: Keeps a file's bytes, whose name it is told.
        endings: Of files that are taken.
        most: MiB of a file.
    """
    seen, file = f"_{key}-taken", st.file_uploader(label, type=endings, key=key, max_upload_size=most)
    if file is None or st.session_state.get(seen) == file.file_id:
        return None
    if file.size > most * 2**20:  # the browser's own check may have been left out
        st.error(f"'{panels.plain(file.name)}' is too large: at most {most} MB are taken. Make it smaller.")
        return None
    st.session_state[seen] = file.file_id
    try:
        return keep(file.getvalue(), file.name)
    except StudioError as error:
        st.session_state.pop(seen)  # tried again with what is changed beside it
        st.error(panels.plain(error))
        return None
