"""One's own pictures: brought, looked at, prepared as a dataset, which is then chosen."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, panels
from dtrak_core.ui.pictures import adding

frame.framed()
st.title("Add pictures")
with panels.reported():
    adding.form()
