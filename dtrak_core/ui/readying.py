"""The engine, started when the app is opened, so that the first picture does not wait for it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import streamlit as st

from dtrak_core.errors import StudioError
from dtrak_core.jobs import launch

LATER = 0.5  # seconds after a page began: what it imports comes first


@st.cache_resource(max_entries=1, ttl=60, show_spinner=False)
def readied() -> None:
    """See to it, once a minute at most, that work asked for begins at once; STUDIO_READY=0 leaves it until then.

    Under Streamlit's server alone: whatever else runs a page, a test, does not start processes by that.
    """
    if os.environ.get("STUDIO_READY", "1") != "0" and "streamlit.web.bootstrap" in sys.modules:
        waiting = threading.Timer(LATER, _ready)
        waiting.daemon = True
        waiting.start()


def _ready() -> None:
    with contextlib.suppress(StudioError, OSError):  # a cache that is only read still shows what is in it
        launch.ready()
