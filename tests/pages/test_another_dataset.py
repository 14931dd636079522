"""What was filled in or linked to for one dataset does not stand for the pictures of another that is chosen next."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import small_store
from page_helpers import address, galleries, opened
from PIL import Image
from streamlit.testing.v1 import AppTest

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import TrainJob
from dtrak_core.models import checkpoints, networks, sampling, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import training
from dtrak_core.ui import panels

Small = tuple[Dataset, Checkpoint]
OTHER = "few"


@pytest.fixture
def other(small: Small, tmp_path: Path) -> None:
    """Store a dataset without contributors, of fewer pictures, and a model of it that has drawn one."""
    place = tmp_path / OTHER
    place.mkdir()
    for i, picture in enumerate(small_store.images(12)[0]):
        Image.fromarray(picture).save(place / f"{i:03d}.png")
    stored = catalogue.load(catalogue.prepare(catalogue.source_settings("folder", place, OTHER, 16), place))
    settings = TrainSettings(dataset=stored.digest, model=small_store.NETWORK, epochs=1, batch_size=8)
    training.train(stored, settings, "mini", quiet)
    model = checkpoints.by_name("mini", stored.digest)
    (drawn,) = sampling.generate(networks.load_denoiser(model), [0], "ddim", 5, 0.0)
    targets.publish_sample(SampleSettings(checkpoint=model.digest, seed=0), drawn)


def form(at: AppTest) -> AppTest:
    at.session_state["new-comparison"] = True
    return at.run()


@pytest.mark.usefixtures("other")
def test_a_form_asks_for_nothing_of_another_dataset() -> None:
    at = form(opened("counterfactual", without="Ben"))
    at.text_input(key="cf-pictures").set_value("3,40").run()
    assert at.selectbox(key="cf-maker").value == "Ben"
    at.selectbox(key="dataset").set_value(OTHER).run()
    assert not at.error, "whose pictures and which was another dataset's"
    assert at.text_input(key="cf-pictures").value == ""
    assert [one for one in at.button if one.label == "Remove, retrain, compare"]


@pytest.mark.usefixtures("other")
def test_numbers_of_pictures_stay_with_their_dataset() -> None:
    at = opened("doctor", take="3-5")
    assert any("3 pictures taken" in one.value for one in at.markdown)
    at.switch_page("pages/jobs.py").run()
    doctor = [one.proto.query_string for one in at.get("page_link") if one.proto.label == "Doctor"]
    assert "take=3-5" in doctor[0]
    at.selectbox(key="dataset").set_value(OTHER).run()
    assert "take" not in next(one.proto.query_string for one in at.get("page_link") if one.proto.label == "Doctor")
    at = opened("doctor", take="3-5")
    at.selectbox(key="dataset").set_value(OTHER).run()
    assert "take" not in address(at)
    assert any("Take some pictures above" in one.value for one in at.markdown)
    at.query_params["dataset"], at.query_params["take"] = small_store.NAME, "7"
    at.run()
    assert address(at)["take"] == "7", "a link names its own dataset"


def test_a_link_that_names_pictures_names_their_target_at_once(small: Small) -> None:
    at = form(opened("counterfactual"))
    assert galleries(at)["choices"]["chosen"] == ["seed:0"]
    at.query_params["sample"], at.query_params["pictures"] = "seed:3", "3,7-9"
    at.run()
    assert galleries(at)["choices"]["chosen"] == ["seed:3"]


def test_what_shares_a_prompt_is_asked_of_models_with_prompts_alone(small: Small) -> None:
    at = form(opened("counterfactual"))
    at.session_state["cf-same"] = ["label"]
    at.run()
    assert not at.error


@pytest.mark.usefixtures("other")
def test_a_model_that_was_trained_is_offered_for_its_own_pictures(small: Small) -> None:
    _, checkpoint = small
    key, _ = jobs.submit(TrainJob(train=TrainSettings(**checkpoint.run.settings), name=small_store.MODEL), "Train")
    at = opened("generate", tab="Train a model")
    at.session_state["_trained"] = key
    offered = f"Use '{small_store.MODEL}'"
    with pytest.MonkeyPatch.context() as patch:
        state = dataclasses.replace(jobs.state(key), state="done")
        patch.setattr(jobs, "state", lambda asked: state if asked == key else jobs.JobState(asked))
        patch.setattr(panels, "newest", lambda *_: None)
        at.run()
        assert offered in [one.label for one in at.button]
        at.selectbox(key="dataset").set_value(OTHER).run()
        assert at.button
        assert offered not in [one.label for one in at.button]
