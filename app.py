"""D-TRAK Studio: which training pictures made this picture? Start with `streamlit run app.py`."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, panels

frame.configure()
page = st.navigation(frame.pages())
with panels.reported():
    panels.taken_up()
    if frame.sidebar():
        with frame.inside():
            page.run()
