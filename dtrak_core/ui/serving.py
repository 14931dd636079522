"""Streamlit's server in this process, which imports the pages' modules while it waits for the first visitor."""

from __future__ import annotations

import threading
import time

from streamlit.runtime import Runtime
from streamlit.web import cli

from dtrak_core import program
from dtrak_core.ui import readying


def serve(port: int) -> None:
    """Serve the app on this port, until this process is asked to end."""
    threading.Thread(target=_ahead, daemon=True).start()
    cli.main(["run", str(program.PROJECT / "app.py"), "--server.port", str(port)], standalone_mode=False)


def _ahead() -> None:
    while not Runtime.exists():  # with it the pages' components are noted as they are imported
        time.sleep(0.02)
    readying.imported()
