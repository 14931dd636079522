"""The shipped demo on the Overview, as a newcomer meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import streamlit as st
from page_helpers import galleries
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.jobs import asking
from dtrak_core.lds import standings
from dtrak_core.models import checkpoints
from dtrak_core.ui import readying

APP = str(store.PROJECT / "app.py")


@pytest.fixture
def fresh_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STUDIO_DEMO", raising=False)
    st.cache_data.clear()


def test_a_fresh_clone_opens_with_a_finished_answer(fresh_clone: None) -> None:
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert not at.exception
    assert not at.warning
    assert not at.error
    rows = galleries(at)["showcase"]["rows"]
    assert [row["title"] for row in rows] == ["D-TRAK", "TRAK"]
    said = " ".join(caption.value for caption in at.caption).replace("\\", "")
    assert "CC BY-SA 4.0" in said
    dataset = catalogue.by_name(catalogue.DEFAULT)
    assert catalogue.equal_pictures(dataset) == [], "each picture stands there once"
    # The picture that it opens with is one of those compared, and its comparison is a click away.
    (link,) = [one.proto for one in at.main.get("page_link") if one.proto.label == "See what it becomes without them"]
    assert link.page == "counterfactual"
    asked = parse_qs(link.query_string)
    assert asked["row"] == asked["sample"] == ["seed:10"]
    assert asked["comparison"] == [comparisons.by_name("demo").key]


def test_pictures_that_this_machine_draws_otherwise_are_said(
    fresh_clone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = openmoji.draw
    monkeypatch.setattr(openmoji, "draw", lambda code, size: np.clip(draw(code, size), 0, 253))
    at = AppTest.from_file(APP, default_timeout=60).run()
    (warning,) = at.warning
    assert "come out differently on this machine (by up to 2 of 255)" in warning.value
    assert "`make demo`" in warning.value


def test_what_benchmark_and_counterfactual_open_with_is_computed_while_another_page_is_seen(
    fresh_clone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = catalogue.by_name(catalogue.DEFAULT)
    readying.looked(dataset, checkpoints.by_name("demo", dataset.digest))
    asked: list[str] = []
    for module, name in ((standings, "rows"), (comparisons, "statistics"), (asking, "unusable")):
        compute = getattr(module, name)

        def counted(*given: Any, name: str = name, compute: Callable[..., Any] = compute, **named: Any) -> Any:
            asked.append(name)
            return compute(*given, **named)

        monkeypatch.setattr(module, name, counted)
    at = AppTest.from_file(APP, default_timeout=60).run()
    for page in ("benchmark", "counterfactual"):
        at.switch_page(f"pages/{page}.py").run()
        assert not at.exception
        assert at.main.get("plotly_chart"), page
        if page == "benchmark":
            at.toggle(key="table-squared").set_value(True).run()
    assert asked == [], "all of it stood ready, squared scores too"
    st.cache_data.clear()
    at.run()
    assert "statistics" in asked, "what is not ready, the page computes"
