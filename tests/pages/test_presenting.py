"""Present mode: one picture and one method, step by step, in an address that opens the same; and the way out."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_helpers import compared, controls, named, publish
from page_helpers import address, opened
from streamlit.testing.v1 import AppTest

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.ui import address as ui_address

Small = tuple[Dataset, Checkpoint]


def press(at: AppTest, label: str) -> str:
    """Press a button; return the title of what is shown then."""
    next(one for one in at.button if one.label == label).click().run()
    assert not at.exception
    return str(at.title[0].value) if at.title else ""


def test_it_walks_from_the_picture_to_the_verdict_and_out(small: Small) -> None:
    dataset, checkpoint = small
    seeds = ("seed:1", "seed:2")
    took = [*named(seeds, "raw-pixel-cosine"), *controls(1)]
    publish(compared(took, np.ones((3, 2)), seeds, dataset=dataset.digest, checkpoint=checkpoint.digest), "pair")
    at = opened(present="1", methods="d-trak,raw-pixel-cosine")
    assert not at.sidebar.children, "the sidebar stays away"
    assert at.title[0].value == "Which training pictures made this one?"
    assert address(at)["sample"] == seeds[0], "one that was drawn again without its proponents"
    assert press(at, "On") == "D-TRAK names these"
    assert len(at.image) == 7
    assert press(at, "By Raw pixels, cosine") == "Raw pixels, cosine names these"
    assert press(at, "On") == "The same seed without the 3 pictures"
    assert len(at.image) == 3
    assert any("**Without 3 random ones**" in one.value for one in at.markdown)
    link = address(at)
    assert press(at, "On") == "Is it more than chance?"
    assert "No verdict: too few targets: 2, and 6 are needed." in [one.value for one in at.markdown]
    assert opened(**link).title[0].value == "The same seed without the 3 pictures"
    assert press(at, "Another picture") == "Which training pictures made this one?"
    assert address(at)["sample"] == seeds[1]
    assert press(at, "Leave") == "Which training pictures made this one?"
    assert at.sidebar.children
    assert not {"present", "step", "by"} & at.query_params.keys()


@pytest.mark.parametrize(("step", "title"), [("3", "Without them"), ("9", "Which training pictures made this one?")])
def test_what_was_not_tried_or_is_no_step_is_said(small: Small, step: str, title: str) -> None:
    at = opened(present="1", step=step)
    assert at.title[0].value == title
    if step == "3":
        assert [one.proto.label for one in at.get("page_link")] == ["What if these had never been there?"]


def test_an_effective_rank_is_1_to_95_percent() -> None:
    said = ("0", "1", "95", "96", "300", "-5", "2.5", "half", "", "9" * 5000)
    assert [ui_address.rank(one) for one in said] == [None, 1, 95, *[None] * 7]


def test_a_comparison_of_the_same_seed_drawn_otherwise_is_none_of_this_picture(small: Small) -> None:
    dataset, checkpoint = small
    drawn = SampleSettings(checkpoint=checkpoint.digest, seed=1, sampling_steps=3)
    targets.publish_sample(drawn, np.zeros((16, 16, 3), np.uint8))
    took = [*named(("seed:1", "seed:2"), "raw-pixel-cosine"), *controls(1)]
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest}
    publish(compared(took, np.ones((3, 2)), ("seed:1", "seed:2"), **where), "pair")
    asked = {"sample": "seed:1", "methods": "raw-pixel-cosine"}
    assert opened(present="1", step="3", **asked).title[0].value == "The same seed without the 3 pictures"
    assert opened(present="1", step="3", sampling_steps="3", **asked).title[0].value == "Without them"
    label = "See what it becomes without them"
    assert label in [one.proto.label for one in opened(**asked).get("page_link")]
    assert label not in [one.proto.label for one in opened(sampling_steps="3", **asked).get("page_link")]


def test_the_users_own_target_is_presented_and_is_theirs_on_the_way_out(small: Small) -> None:
    at = opened(present="1", sample="held-out:2")
    assert not at.warning
    assert any("kept out of training" in one.value for one in at.markdown)
    assert press(at, "Another picture")
    assert address(at)["sample"].startswith("seed:")
    at = opened(present="1", sample="held-out:2")
    press(at, "Leave")
    assert address(at)["sample"] == "held-out:2"


def test_what_the_address_names_and_is_not_here_is_said(small: Small) -> None:
    at = opened(present="1", sample="seed:900", checkpoint="nothing")
    said = [one.value.replace("\\", "") for one in at.warning]
    assert said == [
        "Checkpoint 'nothing' does not exist for this dataset; showing 'tiny'.",
        "The picture of seed 900 has not been generated with this checkpoint. Showing another picture.",
    ]
    assert address(at)["sample"] == "seed:900"


def test_a_link_to_a_dataset_that_is_not_here_says_so_and_leads_out(small: Small) -> None:
    at = opened(present="1", dataset="nothing")
    assert [one.value.startswith("There is no dataset 'nothing'") for one in at.error] == [True]
    assert press(at, "Leave")
    assert at.sidebar.children


def test_a_step_and_a_method_that_cannot_be_are_named(small: Small) -> None:
    at = opened(present="1", step="9", by="nosuch", eta="7", methods="trak")
    assert sorted(one.value for one in at.warning) == [
        "'Eta' cannot be '7', as the address says; showing '0'.",
        "'Method' cannot be 'nosuch', as the address says; showing 'TRAK'.",
        "'Step' cannot be '9', as the address says; showing '1'.",
    ]
    assert not at.run().warning
    assert not opened(present="1", step="2", by="trak", methods="trak").warning
