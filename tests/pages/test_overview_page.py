"""Overview: the question answered at once, or one next step."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_store
from page_helpers import APP, galleries, opened
from streamlit.testing.v1 import AppTest

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import Split
from dtrak_core.errors import NotFoundError
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import DatasetJob
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.ui import about, frame


def said(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown)


Small = tuple[Dataset, Checkpoint]


def test_it_opens_with_the_answer(small: Small) -> None:
    at = opened()
    assert at.title[0].value == "Which training pictures made this one?"
    shown = galleries(at)
    assert [row["title"] for row in shown["showcase"]["rows"]] == ["D-TRAK", "TRAK"]
    assert len(shown["showcase"]["rows"][0]["parts"][0]["items"]) == 8
    assert [item["key"] for item in shown["others"]["rows"][0]["parts"][0]["items"]] == [f"seed:{i}" for i in range(5)]
    counts = {m.label: m.value for m in at.metric}
    assert counts["Training pictures"] == str(len(small[0].train.rows))
    assert counts["Contributors"] == "3"
    assert all(m.proto.help for m in at.metric)
    assert not at.get("plotly_chart"), "the library of charts would hold up the first page"
    at.session_state["training"] = True
    assert at.run().get("plotly_chart")[0].proto.alt.startswith("Training loss from")
    assert any("unconditional network of pixels" in one.value for one in at.caption)
    assert "It draws pictures of 16 × 16 pixels, starting from noise and, step by step, by telling noise from" in said(
        at
    )
    assert [row["note"].partition(" asks ")[0] for row in shown["showcase"]["rows"]] == ["D-TRAK", "TRAK"]
    links = [link.proto for link in at.main.get("page_link")]
    steps = [(one.label[:2], one.page) for one in links if one.label[:1].isdecimal()]
    assert steps == [("1.", "generate"), ("2.", "attribution"), ("3.", "counterfactual")]
    pages = [link.proto.label for link in at.sidebar.get("page_link")][1 : len(frame.FILES)]
    assert set(pages) <= {one.label for one in links}, "a card for each other page"
    assert about.BIBTEX in [code.value for code in at.sidebar.code]
    assert f"[paper]({about.PAPER})" in " ".join(one.value for one in at.sidebar.caption)


@pytest.mark.parametrize("page", ["", "credit", "copies", "counterfactual", "attribution"])
def test_a_model_that_drew_only_another_way_is_not_said_to_have_drawn_nothing(
    small: Small, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SampleSettings(checkpoint=small[1].digest, seed=3, sampling_steps=20)
    other = targets.publish_sample(settings, np.zeros((16, 16, 3), np.uint8))
    monkeypatch.setattr(targets, "drawn", lambda _: [other])
    at = opened(page)
    if page == "attribution":
        at.segmented_control(key="source").set_value("generated").run()
    if page == "counterfactual":
        at.session_state["new-comparison"] = True
        at.run()
    told = "This model has drawn 1 picture, but none {} way, DDIM in 50 steps; only such pictures count here."
    assert told.format("this" if page == "attribution" else "its usual") in [one.value for one in at.markdown]


def test_it_says_who_drew_the_picture(small: Small) -> None:
    assert "A diffusion model drew this picture. The model had learned from" in said(opened())
    told = said(opened(sample="held-out:3"))
    assert "kept out of training; no model drew it" in told
    assert "would help it most to draw this one" in told


def test_no_label_is_none(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Split, "labels", [""] * len(small[0].train.rows))
    assert "Labels" not in {m.label for m in opened().metric}


def test_filters_show_the_right_pictures(small: Small) -> None:
    rows = small[0].train.rows
    at = opened(label="red", contributor="Ada")
    listed = galleries(at)["browse"]["rows"][0]["parts"][0]["items"]
    wanted = [i for i, row in enumerate(rows) if row["label"] == "red" and row["contributor"] == "Ada"]
    assert [int(item["key"]) for item in listed] == wanted[:48]
    at = opened(page="2") if len(rows) > 48 else at
    assert int(galleries(at)["browse"]["rows"][0]["parts"][0]["items"][0]["key"]) == 48


def test_what_is_not_computed_yet_and_presenting_are_one_step_away(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened(sample="held-out:3")
    assert any("has not been computed yet." in one.value for one in at.info)
    (way,) = [link.proto for link in at.main.get("page_link") if link.proto.label == "Compute it"]
    assert (way.page, "sample=held-out" in way.query_string) == ("attribution", True)
    assert any("While you present" in one.value for one in at.sidebar.markdown), "all keys are listed there"


def test_another_sample_is_one_link_away(small: Small) -> None:
    assert galleries(opened(sample="seed:2"))["showcase"]["target"]["lines"] == ["seed 2"]


def test_without_a_checkpoint_there_is_one_next_step(empty: Path, tmp_path: Path) -> None:
    small_store.dataset(tmp_path / "source")
    at = opened()
    assert "No model has learned" in " ".join(m.value for m in at.markdown)
    assert at.get("page_link")[0].proto.label == "Train one"
    at = opened("attribution")
    assert [link.proto.label for link in at.main.get("page_link")] == ["Train one"]
    at = opened("generate")
    assert "There is no model to draw with yet." in [one.value for one in at.info]
    at.button(key="to-train").click().run()
    assert any("The model learns from" in one.value for one in at.markdown)


def test_the_default_dataset_is_drawn_on_demand(empty: Path) -> None:
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert [b.label for b in at.button] == ["Draw the portraits"]
    at.button[0].click().run()
    assert isinstance(jobs.job_of(jobs.listing()[0].key), DatasetJob)
    assert at.get("progress")
    assert not at.exception


def test_what_drawing_it_is_refused_is_said_there(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "submit", full)
    at = AppTest.from_file(APP, default_timeout=60).run()
    at.button[0].click().run()
    for _ in range(2):
        assert ["disk is full" in one.value for one in at.error] == [True]
        assert [b.label for b in at.button] == ["Dismiss", "Draw the portraits"]
        at.run()


def test_an_unknown_dataset_is_named(small: Small, tmp_path: Path) -> None:
    at = AppTest.from_file(APP, default_timeout=60)
    at.query_params["dataset"] = "nosuch"
    at.run()
    assert "nosuch" in at.warning[0].value


def test_it_says_which_files_were_left_out(empty: Path, tmp_path: Path) -> None:
    source = small_store.folder(tmp_path / "source")
    for name in ("a.HEIC", "b.HEIC", ".DS_Store"):
        (source / "red" / name).write_bytes(b"x")
    for side, name in (("train", "003.png"), ("test", "000.png")):
        (source / side).mkdir()
        (source / "red" / name).rename(source / side / name)
    (source / "metadata.csv").unlink()
    settings = catalogue.source_settings("folder", source, small_store.NAME, 16)
    catalogue.prepare(settings, source)
    at = opened()
    assert [e.label for e in at.expander if "left out" in e.label] == ["3 files of the source left out"]
    said = " ".join(m.value for m in at.markdown)
    assert "**2** a HEIC picture \\(\\.heic\\), not read here: convert it to PNG or JPEG" in said.replace("\\:", ":")
    assert "**1** a hidden file, not looked at" in said
    listed = [list(table.value["File"]) for table in at.dataframe]
    assert listed[:2] == [["red/a.HEIC", "red/b.HEIC"], ["red/.DS_Store"]]
    assert any("are taken as labels" in caption.value for caption in at.caption)


def test_it_says_of_a_changed_dataset_that_its_model_belongs_to_the_pictures_before(
    small: Small, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = small_store.folder(tmp_path / "changed")
    table = (source / "metadata.csv").read_text()
    (source / "metadata.csv").write_text(table.replace("disc 3", "another caption"))
    changed = catalogue.prepare(catalogue.source_settings("folder", source, small_store.NAME, 16), source)
    request.addfinalizer(lambda: shutil.rmtree(changed.path))
    at = opened()
    (said,) = [one.value for one in at.warning]
    assert said.startswith("The dataset 'discs' has changed since 'tiny' learned from it")
    assert "make demo" not in said
    assert "Train again" in said
    for page in ("attribution", "counterfactual", "benchmark", "generate"):
        assert [one.value for one in opened(page, checkpoint="tiny").warning] == [said], page
    with pytest.raises(NotFoundError, match=r"One of this name learned from another dataset, or from 'discs' before"):
        checkpoints.by_name("tiny", changed.manifest["digest"])
