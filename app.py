"""D-TRAK Studio: which training pictures made this picture? Start with `dtrak app`."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, panels, readying

frame.configure()
page = st.navigation(frame.pages(), position="hidden")  # the sidebar's own links carry the view
with panels.reported():
    panels.taken_up()
    readying.readied()
    with frame.inside(page.url_path):
        if frame.sidebar(page.url_path):
            panels.refused()
            page.run()
