"""What page tests share: open a page as a link does, read what a gallery was sent, pretend that a job runs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import small_store
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.jobs import job_files, launch

APP = str(store.PROJECT / "app.py")


def opened(page: str = "", /, **parameters: str) -> AppTest:
    """Open a page of the small dataset as a link does, with these address parameters."""
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"dataset": small_store.NAME, **parameters}.items():
        at.query_params[name] = value
    at.run()
    if page:
        at.switch_page(f"pages/{page}.py").run()
    assert not at.exception, at.exception[0].message
    return at


def galleries(at: AppTest) -> dict[str, dict[str, Any]]:
    """Return what each gallery was sent, by its widget key."""
    sent = {g.proto.id.rpartition("-")[2]: json.loads(g.proto.json) for g in at.get("bidi_component")}
    return {key: data[0] for key, data in sent.items() if data}


def running(monkeypatch: pytest.MonkeyPatch, key: str, **status: Any) -> None:
    """Pretend that a living worker has said this of a job."""
    monkeypatch.setattr(launch, "lives", lambda: True)
    told = {"attempt": 1, "state": "running", "done": 0, "total": 0, "unit": "", "message": "", "artifacts": []}
    told |= {"seconds_left": None, "started": time.time(), "beat": time.time()} | status
    place = job_files.folder() / key
    place.mkdir(parents=True, exist_ok=True)
    job_files.write_json(place / job_files.STATUS, told)


def address(at: AppTest) -> dict[str, str]:
    """Return the parameters of the address, of several values the first."""
    return {name: value if isinstance(value, str) else value[0] for name, value in at.query_params.items()}
