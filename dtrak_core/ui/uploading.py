"""A picture that is brought: one file, taken once, refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dtrak_core.errors import StudioError
from dtrak_core.models.targets import Target
from dtrak_core.ui import panels

MOST = 25  # MiB of a picture
ENDINGS = ["png", "jpg", "jpeg", "jfif", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2"]


def taken(label: str, key: str, keep: Callable[[bytes, str], Target]) -> Target | None:
    """Return the picture that was brought just now, or nothing; what cannot be kept is refused.

    Args:
        label: What the file is.
        key: Of the uploader.
        keep: Keeps a file's bytes, whose name it is told.
    """
    seen, file = f"_{key}-taken", st.file_uploader(label, type=ENDINGS, key=key, max_upload_size=MOST)
    if file is None or st.session_state.get(seen) == file.file_id:
        return None
    st.session_state[seen] = file.file_id
    if file.size > MOST * 2**20:  # the browser's own check may have been left out
        st.error(f"'{panels.plain(file.name)}' is too large: at most {MOST} MB are taken. Make it smaller.")
        return None
    try:
        return keep(file.getvalue(), file.name)
    except StudioError as error:
        st.error(panels.plain(error))
        return None
