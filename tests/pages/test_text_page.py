"""The pages with LoRA weights of a text-to-image base: prompts in forms, links and jobs; bases and data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
import text_helpers
from page_helpers import address, galleries
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import jobs, launch
from dtrak_core.jobs.jobs import AttributeJob, CounterfactualJob, DatasetJob, LdsJob, SampleJob, TrainJob
from dtrak_core.models import bases, targets
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import LoraSettings, Sampled, SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.ui import local

PROMPTS = ("a red disc", "a blue disc")
Told = tuple[Dataset, Checkpoint]
APP = str(Path(__file__).resolve().parent.parent.parent / "app.py")


@pytest.fixture(scope="session")
def built_text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Checkpoint]:
    place = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "no-demo"))
        dataset, checkpoint = text_helpers.trained(place)
        how = Sampled(prompts=PROMPTS)
        work.run(SampleJob(checkpoint=checkpoint.digest, seeds=(0, 1, 2, 3), **how.drawing()), quiet)
        base = FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32)
        work.run(AttributeJob(features=(base,), targets=("seed:1",), **how.drawing()), quiet)
    return place, dataset, checkpoint


@pytest.fixture
def told(built_text: tuple[Path, Dataset, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> Told:
    place, dataset, checkpoint = built_text
    monkeypatch.setenv("STUDIO_CACHE", str(place / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(place / "no-demo"))
    monkeypatch.setattr(launch, "ensure", lambda: None)
    shutil.rmtree(place / "cache" / "jobs", ignore_errors=True)
    st.cache_data.clear()
    return dataset, checkpoint


def at_page(page: str, /, **parameters: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"dataset": "discs", **parameters}.items():
        at.query_params[name] = value
    at.run()
    at.switch_page(f"pages/{page}.py").run()
    assert not at.exception, at.exception[0].message
    return at


def press(at: AppTest, label: str) -> None:
    (button,) = [b for b in at.button if b.label == label]
    button.click().run()
    assert not at.exception, at.exception[0].message


def only_job() -> object:
    (job,) = jobs.listing()
    return jobs.job_of(job.key)


def test_prompts_are_asked_for_and_become_the_job(told: Told) -> None:
    at = at_page("generate")
    assert at.text_area(key="draw-prompts").value == "a red disc\na blue disc"
    items = galleries(at)["drawn"]["rows"][0]["parts"][0]["items"]
    assert [item["lines"] for item in items][:2] == [["seed 0", "a red disc"], ["seed 1", "a blue disc"]]
    assert len({item["key"] for item in items}) == 4
    at.text_area(key="draw-prompts").set_value(" a green disc \n\na red disc")
    at.number_input(key=f"draw-guidance-{told[1].base}").set_value(3.0)
    at.number_input(key="draw-count").set_value(2)
    press(at, "Draw")
    asked = only_job()
    assert isinstance(asked, SampleJob)
    assert (asked.prompts, asked.guidance, asked.seeds) == (("a green disc", "a red disc"), 3.0, (0, 1))


def test_a_model_that_first_drew_at_a_high_guidance_is_drawn_so_again(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "usual", lambda _: Sampled(prompts=PROMPTS, guidance=30))
    at = at_page("generate")
    field = at.number_input(key=f"draw-guidance-{told[1].base}")
    assert (field.value, field.min, field.max) == (30, 1, 100)
    press(at, "Draw")
    asked = only_job()
    assert isinstance(asked, SampleJob)
    assert asked.guidance == 30


def test_a_link_names_a_picture_with_its_prompt(told: Told) -> None:
    at = at_page("attribution", sample="seed:1", prompt="a blue disc")
    shown = galleries(at)["figure"]
    assert "a blue disc" in str(shown)
    assert not at.warning
    other = at_page("attribution", sample="seed:1", prompt="a red disc")
    assert "The picture of seed 1 for 'a red disc' has not been generated" in other.warning[0].value


def test_present_mode_walks_through_pictures_of_every_prompt(told: Told, request: pytest.FixtureRequest) -> None:
    settings = SampleSettings(checkpoint=told[1].digest, seed=1, prompts=("a red disc",))
    targets.publish_sample(settings, np.zeros((32, 32, 3), np.uint8))
    request.addfinalizer(lambda: store.delete("samples", key_of("samples", settings)))
    at = AppTest.from_file(APP, default_timeout=60)
    for name, value in {"dataset": "discs", "present": "1", "sample": "seed:0", "prompt": "a red disc"}.items():
        at.query_params[name] = value
    at.run()
    seen = []
    for _ in range(5):
        seen.append((address(at)["sample"], address(at)["prompt"]))
        next(one for one in at.button if one.label == "Another picture").click().run()
        assert not at.exception
    assert sorted(seen) == sorted(
        [*((f"seed:{seed}", PROMPTS[seed % 2]) for seed in range(4)), ("seed:1", "a red disc")]
    )


def test_what_is_computed_for_a_picture_carries_its_prompt(told: Told) -> None:
    at = at_page("attribution", sample="seed:2", prompt="a red disc")
    press(at, next(b.label for b in at.button if b.label.startswith("Compute")))
    asked = [jobs.job_of(job.key) for job in jobs.listing()]
    own = next(job for job in asked if isinstance(job, AttributeJob))
    assert (own.targets, own.prompts) == (("seed:2",), ("a red disc",))


def test_removals_and_subsets_are_asked_for_with_prompts(told: Told) -> None:
    at = at_page("counterfactual")
    same = at.button_group(key="cf-same")
    assert same.options == ["contributor"], "the one fact that these pictures have"
    same.set_value(["contributor"]).run()
    assert "is not known, or no training picture has it" in at.error[0].value, "both drew pictures of each caption"
    at.button_group(key="cf-same").set_value([]).run()
    press(at, "Remove, retrain, compare")
    asked = only_job()
    assert isinstance(asked, CounterfactualJob)
    assert asked.settings.prompts == PROMPTS
    shutil.rmtree(Path(str(jobs.job_files.folder())), ignore_errors=True)
    at = at_page("benchmark")
    press(at, "Train and measure")
    asked = only_job()
    assert isinstance(asked, LdsJob)
    assert asked.settings.prompts == PROMPTS


def test_pictures_of_every_prompt_can_be_compared(told: Told) -> None:
    settings = SampleSettings(checkpoint=told[1].digest, seed=7, prompts=("woman astronaut",))
    own = targets.publish_sample(settings, np.zeros((32, 32, 3), np.uint8))
    try:
        at = at_page("counterfactual", sample="seed:7", prompt="woman astronaut")
        sent = galleries(at)["choices"]
        offered = [item["name"] for item in sent["rows"][0]["parts"][0]["items"]]
        assert len(offered) == 5
        assert any("seed 7" in name and "woman astronaut" in name for name in offered)
        assert sent["chosen"] == [own.mark]
        at.session_state["cf-targets"] = [own.mark, targets.samples(told[1].digest)[1].mark]
        at.run()
        press(at, "Remove, retrain, compare")
        asked = only_job()
        assert isinstance(asked, CounterfactualJob)
        assert asked.settings.targets == ("seed:1", "seed:7")
        assert [asked.settings.prompt_of(seed) for seed in (7, 1)] == ["woman astronaut", "a blue disc"]
        at = at_page("generate")
        assert at.text_area(key="draw-prompts").value == "a red disc\na blue disc"
    finally:
        store.delete("samples", key_of("samples", settings))


def test_lora_weights_are_trained_on_the_base_that_is_chosen(told: Told) -> None:
    at = at_page("generate", tab="Train a model")
    at.selectbox(key="train-preset-folder").set_value("lora-demo").run()
    assert at.selectbox(key="train-base").options == ["small, 32 px"]
    at.selectbox(key="train-frozen").set_value("nf4").run()
    at.selectbox(key="train-layers").set_value("all").run()
    assert at.text_input(key="train-name-lora-demo-nf4-all-42").value == "lora-demo-nf4-all-42"
    press(at, "Train")
    asked = only_job()
    assert isinstance(asked, TrainJob)
    assert isinstance(asked.train.model, LoraSettings)
    assert (asked.train.model.base, asked.train.model.frozen) == (bases.by_name("small").digest, "nf4")
    assert asked.train.model.targets == bases.layers(asked.train.model.base, "all") != bases.layers("")


def test_a_base_of_another_size_is_not_offered(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting, small = bases.by_name("small"), Base("tiny", "0" * 16, Path("nowhere"), 16)
    monkeypatch.setattr(bases, "listing", lambda: [small, fitting])
    at = at_page("generate", tab="Train a model")
    at.selectbox(key="train-preset-folder").set_value("lora-demo").run()
    chosen = at.selectbox(key="train-base")
    assert (chosen.options, chosen.value) == (["small, 32 px"], fitting.digest)
    assert "Not offered: tiny, 16 px" in chosen.help
    monkeypatch.setattr(bases, "listing", lambda: [small])
    at = at_page("generate", tab="Train a model")
    at.selectbox(key="train-preset-folder").set_value("lora-demo").run()
    assert "No base draws pictures of 32 pixels" in at.info[0].value
    assert not [b for b in at.button if b.label == "Train"]


def test_without_a_base_it_is_said_how_to_get_one(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "listing", list)
    at = at_page("generate", tab="Train a model")
    at.selectbox(key="train-preset-folder").set_value("lora").run()
    assert "lambdalabs/miniSD-diffusers" in at.info[0].value.replace("\\", "")
    assert "Add a base" in [link.proto.label for link in at.get("page_link")]


@pytest.mark.parametrize("name", ["cifar2", "cifar10", "celeba", "artbench2", "artbench5", "emoji-schools"])
def test_the_sidebar_offers_every_data_set_of_the_paper(
    told: Told, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "here", lambda: not name.endswith("5"))
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["dataset"] = name
    at.run()
    assert not at.exception
    assert name in at.selectbox(key="dataset").options
    words = " ".join(m.value for m in at.markdown)
    if name.startswith("artbench"):
        assert "ArtBench-10.csv" in words
        assert next(b for b in at.button if b.label == "Prepare the pictures").disabled
        if name.endswith("5"):
            assert "only on the machine that the app runs on" in at.info[0].value
            return
        at.text_input(key=f"source-{name}").set_value(str(tmp_path / "nowhere")).run()
        assert "There is no folder" in at.error[0].value
        at.text_input(key=f"source-{name}").set_value(str(tmp_path)).run()
    if name == "celeba":
        assert "list_eval_partition.txt" in words
    press(at, "Prepare the pictures")
    asked = only_job()
    assert isinstance(asked, DatasetJob)
    assert asked.dataset.kind == name
    assert asked.source == (str(tmp_path) if name.startswith("artbench") else "")


def test_prompts_of_a_model_are_those_that_its_seeds_took(told: Told) -> None:
    assert targets.usual(told[1].digest) == Sampled(prompts=PROMPTS)
