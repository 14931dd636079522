"""A new family of methods on the pages: offered, computed and shown, though no page knows of it."""

from __future__ import annotations

import method_family_helpers
import pytest
from page_helpers import galleries, opened

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import ScoreJob
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import quiet

Small = tuple[Dataset, Checkpoint]


@pytest.fixture(autouse=True)
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    method_family_helpers.add(monkeypatch)


def test_attribution_offers_it_and_shows_its_pictures(small: Small) -> None:
    at = opened("attribution", sample="seed:4", methods="constant")
    (row,) = galleries(at)["figure"]["rows"]
    assert (row["title"], row["note"]) == ("Constant", "Not computed for this picture yet.")
    assert any("**Constant** is ready for this model" in one.value for one in at.markdown)
    next(b for b in at.button if b.label == "Compute").click().run()
    job = jobs.job_of(jobs.listing()[0].key)
    assert isinstance(job, ScoreJob)
    work.run(job, quiet)
    (row,) = galleries(opened("attribution", sample="seed:4", methods="constant"))["figure"]["rows"]
    last = len(small[0].train.rows) - 1
    assert [item["key"] for item in row["parts"][0]["items"]] == [f"constant/{last - i}" for i in range(5)]


def test_counterfactual_offers_it(small: Small) -> None:
    assert "Constant" in opened("counterfactual").button_group(key="cf-methods").options
