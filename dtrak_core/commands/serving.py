"""The command that serves the app: the pages of a checkout, or those that a wheel holds."""

from __future__ import annotations

import contextlib
from typing import Annotated

import tyro

from dtrak_core.errors import SettingsError, StudioError
from dtrak_core.jobs import launch

Port = Annotated[int, tyro.conf.arg(metavar="PORT")]


def app(port: Port = 8501) -> None:
    """Serve the app in the browser, until Ctrl-C. STREAMLIT_SERVER_ADDRESS and the like change its other settings.

    Args:
        port: Where it listens, on this machine only.
    """
    if not 0 < port < 2**16:
        raise SettingsError(f"--port is {port}; ports are numbers from 1 to 65535.")
    if launch.readily():  # the engine starts while Streamlit does
        with contextlib.suppress(StudioError, OSError):  # a cache that is only read still shows what is in it
            launch.ready()
    from dtrak_core.ui import serving

    serving.serve(port)
