"""What runs, waits and has ended, and what the cache holds."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, linked, panels
from dtrak_core.ui.jobs import cache_list, job_list

frame.require()
st.title("Jobs")
going, cache = linked.bound(st.tabs, ["Jobs", "Cache"], key="list", on_change="rerun")
if going.open:
    with going:
        job_list.panel()
if cache.open:
    with cache, panels.reported():
        cache_list.panel()
