"""The Streamlit server dies in the middle of a job that a browser asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from browser_helpers import serving
from engine_helpers import begun, until
from fault_helpers import Undisturbed, Watch, told

from dtrak_core.jobs import jobs


@pytest.mark.long
@pytest.mark.faults
def test_streamlit_server_killed(chromium: Any, home: Path, undisturbed: Undisturbed, watch: Watch) -> None:
    with contextlib.closing(chromium.new_context()) as browser:
        with serving(home, home / "no-demo") as (address, server):
            page = browser.new_page()
            page.goto(f"{address}/attribution?dataset=noise&checkpoint=small&sample=held-out:0")
            page.get_by_role("button", name="Compute").click(timeout=60_000)
            until(lambda: any(begun(job.key) for job in jobs.listing()), 120)
            key = next(job.key for job in jobs.listing() if begun(job.key))
            server.kill()
            server.wait()
            assert jobs.state(key).active, "the engine goes on without the server"
        with serving(home, home / "no-demo") as (address, _):
            page = browser.new_page()
            page.goto(f"{address}/attribution?dataset=noise&checkpoint=small&sample=held-out:0")
            page.get_by_role("progressbar").first.wait_for(timeout=60_000)
            assert jobs.wait(key).state == "done"
            page.get_by_role("progressbar").first.wait_for(state="detached", timeout=60_000)
    told(
        "kill -9 of the Streamlit server", "the job went on without it; the restarted page shows it and its end", watch
    )
