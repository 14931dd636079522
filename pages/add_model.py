"""A model made elsewhere: said what it is, then taken in, and chosen."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, panels
from dtrak_core.ui.model import adding

selection = frame.framed()
st.title("Add a model")
with panels.reported():
    adding.form(selection.dataset if selection else None)
