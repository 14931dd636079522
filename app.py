"""D-TRAK Studio: which training pictures made this picture? Start with `dtrak app`."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import about, frame, going, linked, panels, presenting, readying

frame.configure()
page = st.navigation(frame.pages(), position="hidden")  # the sidebar's own links carry the view
with panels.reported():
    panels.taken_up()
    readying.readied()
    linked.begin()
    if presenting.asked():
        presenting.show()
    else:
        about.head()
        with frame.inside(page.url_path):
            panels.refused(page.url_path)
            place = st.sidebar.container()
            there = frame.sidebar(page.url_path)
            going.chip(page.url_path, place)
            about.copying()
            presenting.link()
            about.foot()
            if there:
                page.run()
