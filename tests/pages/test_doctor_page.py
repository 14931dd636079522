"""Doctor: what is ready is shown and can be taken, what is not is offered, and what is taken leads on."""

from __future__ import annotations

from typing import Any

from page_helpers import galleries, opened

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.jobs.question_jobs import TrialJob
from dtrak_core.methods import doctor
from dtrak_core.models.checkpoints import Checkpoint

Small = tuple[Dataset, Checkpoint]


def shown(at: Any) -> list[str]:
    (part,) = galleries(at)["suspects"]["rows"][0]["parts"]
    return [item["key"] for item in part["items"]]


def test_suspects_are_taken_tried_and_led_on(small: Small) -> None:
    dataset, checkpoint = small
    at = opened("doctor", check="Explains itself", take="3,50-51,900")
    last = len(dataset.train.rows) - 1
    said = f"The address names #900; the training pictures here are #0 to #{last}."
    assert [one.value.replace("\\", "") for one in at.warning] == [said]
    order = doctor.find("self", dataset, checkpoint).order
    assert shown(at) == [str(i) for i in order[:48]]
    assert set(galleries(at)["suspects"]["chosen"]) == {"3", "50", "51"}.intersection(shown(at))
    at.session_state["suspects-page-self"] = 2
    at.run()
    assert shown(at) == [str(i) for i in order[48:96]], "whatever 'Take the first 10 %' takes can be seen"
    at.button(key=next(b.key for b in at.button if b.label.startswith("Train without them"))).click().run()
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert isinstance(asked, TrialJob)
    assert asked.settings.removed == (3, 50, 51)
    (link,) = (each.proto for each in at.get("page_link") if each.proto.label.startswith("See generated"))
    assert "pictures=3%2C50-51" in link.query_string


def test_what_a_check_needs_is_offered_or_refused(small: Small) -> None:
    at = opened("doctor", check="Least helpful")
    at.button(key=next(b.key for b in at.button if b.label == "Compute")).click().run()
    (job,) = jobs.listing()
    asked: Any = jobs.job_of(job.key)
    assert isinstance(asked, AttributeJob)
    assert all(name.startswith("held-out:") for name in asked.targets)
    at.segmented_control(key="check").set_value("captions").run()
    assert "neither captions nor classes" in at.info[0].value
    at.segmented_control(key="check").set_value("duplicates").run()
    assert len(shown(at)) == 48
