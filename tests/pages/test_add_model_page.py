"""Add a model: what it is is said first, the job that fits it is asked for, the model is chosen after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from page_helpers import opened, running
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, StoreError
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import BaseJob, ImportJob, LookJob
from dtrak_core.models import bases
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.looks import KIND, LookSettings, Recognised
from dtrak_core.settings import build, key_of
from dtrak_core.ui import bringing, local

Small = tuple[Dataset, Checkpoint]
PIXELS = Recognised("pixels", {"Model": "a network", "licence": "mit"}, ("betas are linear",), 16, 4_000)
TEXT = Recognised("base", {"Model": "a text-to-image model"}, side=64)
LORA = Recognised("lora", {"Model": "LoRA weights of 2 layers"}, disk=512)


@pytest.fixture
def at(small: Small, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(local, "here", lambda: True)
    return opened("add_model")


def told(at: AppTest) -> str:
    found = [*at.markdown, *at.caption, *at.success, *at.error, *at.info, *at.warning]
    return " ".join(one.value for one in found).replace("\\", "")


def pressed(at: AppTest, label: str) -> AppTest:
    (button,) = [one for one in at.button if one.label == label]
    button.click().run()
    assert not at.exception, at.exception[0].message
    return at


def recognised(at: AppTest, source: Path, found: Recognised, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Name a path, and let the look that is asked for say what it is."""
    at.segmented_control(key="model-way").set_value("path").run()
    at.text_input(key="model-path").set_value(str(source)).run()
    at.button(key="model-look").click().run()
    assert not at.exception, at.exception[0].message
    (state,) = [one for one in jobs.listing() if one.kind == "look"]
    asked = jobs.job_of(state.key)
    assert isinstance(asked, LookJob)
    assert asked.source == str(source)
    settings = build(LookSettings, source=asked.source, state=asked.state)
    key = key_of(KIND, settings)
    with store.computing(KIND, key):
        store.partial(KIND, key)
        store.publish(KIND, key, settings, **found.told())
    running(monkeypatch, state.key, state="done", artifacts=[[KIND, key]])
    return at.run()


def asked_for(kind: str) -> jobs.Job:
    (state,) = [one for one in jobs.listing() if one.kind == kind]
    return jobs.job_of(state.key)


def test_a_network_of_pixels_becomes_a_model_of_the_dataset(
    at: AppTest, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Their DDPM").mkdir()
    recognised(at, tmp_path / "Their DDPM", PIXELS, monkeypatch)
    assert "**Model** a network  \n**Licence** mit" in told(at)
    assert "is assumed: betas are linear" in told(at)
    assert "It becomes a model of the dataset **discs**" in told(at)
    assert "about 4.0 kB in the cache" in told(at)
    pressed(at, "Take it in")
    job = asked_for("import")
    assert isinstance(job, ImportJob)
    assert (job.source, job.name, job.dataset, job.base) == (
        str(tmp_path / "Their DDPM"), "their-ddpm", small[0].digest, "",
    )  # fmt: skip
    running(monkeypatch, jobs.key_of_job(job), state="done", artifacts=[["checkpoints", small[1].run.key]])
    at.run()
    assert "'their-ddpm' is taken in and chosen in the sidebar." in told(at)
    assert not at.exception


def test_a_base_is_taken_in_at_a_size(at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognised(at, tmp_path, TEXT, monkeypatch)
    assert at.number_input[0].value == 64
    at.number_input[0].set_value(16).run()
    pressed(at, "Take it in")
    job = asked_for("base")
    assert isinstance(job, BaseJob)
    assert (job.source, job.resolution) == (str(tmp_path), 16)
    running(monkeypatch, jobs.key_of_job(job), state="done", artifacts=[["bases", "0" * 16]])
    at.run()
    assert "LoRA weights can be trained on it, or added for it" in told(at)


def test_lora_weights_are_taken_in_for_a_base_of_their_size(
    at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "listing", list)
    recognised(at, tmp_path, LORA, monkeypatch)
    assert "LoRA weights need their base, and there is none here yet." in told(at)
    fitting, other = Base("fitting", "1" * 16, tmp_path, 16), Base("other", "2" * 16, tmp_path, 64)
    monkeypatch.setattr(bases, "listing", lambda: [other])
    assert "No base draws pictures of 16 pixels" in told(at.run())
    monkeypatch.setattr(bases, "listing", lambda: [other, fitting])
    at.run()
    assert at.selectbox(key="model-base").options == ["fitting, 16 px"]
    pressed(at, "Take it in")
    job = asked_for("import")
    assert isinstance(job, ImportJob)
    assert job.base == "1" * 16


def test_a_refusal_is_that_of_the_command(at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognised(at, tmp_path, LORA, monkeypatch)
    (state,) = [one for one in jobs.listing() if one.kind == "look"]
    running(monkeypatch, state.key, state="failed", message="'x' holds LoHa weights. Train others.")
    assert "'x' holds LoHa weights." in told(at.run())
    assert not [one for one in at.button if one.label in ("Take it in", "Resume")]


def test_a_look_that_cannot_be_asked_for_says_why_until_it_can(
    at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("The cache can only be read.")

    at.segmented_control(key="model-way").set_value("path").run()
    at.text_input(key="model-path").set_value(str(tmp_path)).run()
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "submit", refuse)
        at.button(key="model-look").click().run()
        assert [one.value.replace("\\", "") for one in at.error] == ["The cache can only be read."]
    at.run()
    assert not at.error
    assert isinstance(asked_for("look"), LookJob)


def test_a_network_of_another_size_is_not_taken_in(
    at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognised(at, tmp_path, replace(PIXELS, side=32), monkeypatch)
    assert "It draws 32 pixels a side; the pictures of this dataset have 16." in told(at)
    assert next(one for one in at.button if one.label == "Take it in").disabled


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "~/models", "one", "a/b/c", "./a", "cache/demo", "a/", "", f"{'x' * 300}/a"]
)
def test_no_path_is_taken_for_a_name_on_the_hub(name: str) -> None:
    with pytest.raises(DataError, match="is no name on the hub"):
        bringing.refuse_path(name)
    bringing.refuse_path("lambdalabs/miniSD-diffusers")


def test_a_path_in_place_of_a_name_asks_for_nothing(at: AppTest) -> None:
    at.segmented_control(key="model-way").set_value("hub").run()
    at.text_input(key="model-hub").set_value("/etc/passwd").run()
    at.button(key="model-look").click().run()
    assert "'/etc/passwd' is no name on the hub" in told(at)
    assert not jobs.listing()
