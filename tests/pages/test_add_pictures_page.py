"""Add pictures: what is said before they are prepared, the job with the chosen columns, the dataset chosen after it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import small_store
from page_helpers import APP, running
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.engine import work
from dtrak_core.jobs import incoming, jobs
from dtrak_core.jobs.jobs import DatasetJob
from dtrak_core.progress import quiet
from dtrak_core.ui import local
from dtrak_core.ui.pictures import adding


@pytest.fixture
def at(empty: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """Open the page on this machine, in an empty cache."""
    monkeypatch.setattr(local, "here", lambda: True)
    return AppTest.from_file(APP, default_timeout=60).run().switch_page("pages/add_pictures.py").run()


def told(at: AppTest) -> str:
    return " ".join(one.value for one in [*at.markdown, *at.caption, *at.success, *at.error]).replace("\\", "")


def looked(at: AppTest, source: Path) -> AppTest:
    at.segmented_control(key="pictures-way").set_value("path").run()
    at.text_input(key="pictures-path").set_value(str(source)).run()
    at.button(key="pictures-look").click().run()
    assert not at.exception
    return at


def pressed(at: AppTest, label: str) -> AppTest:
    (button,) = [one for one in at.button if one.label == label]
    button.click().run()
    assert not at.exception
    return at


def test_from_a_path_to_a_chosen_dataset(at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_store.folder(tmp_path / "My Discs")
    (source / "notes.pdf").write_bytes(b"%PDF")
    looked(at, source)
    assert "72 pictures" in told(at)
    assert "Labels: blue (24), green (24), red (24). Captions: 72. Contributors: 3." in told(at)
    assert len(at.image) == 24
    assert "1 file of the source left out" in [one.label for one in at.expander]
    chosen = {one.label: one.value for one in at.selectbox if one.label != "Dataset"}
    assert chosen == {"Label": "the folder's name", "Contributor": "contributor", "Caption": "caption"}
    assert at.text_input[0].value == "my-discs"
    at.selectbox(key="pictures-column-label").set_value("contributor")
    at.number_input(key="pictures-size").set_value(16).run()
    assert "Labels: Ada" in told(at)
    assert "Preparing takes 55.3 kB in the cache" in told(at)
    pressed(at, "Prepare")
    (state,) = jobs.listing()
    asked = jobs.job_of(state.key)
    assert isinstance(asked, DatasetJob)
    assert asked.source == str(source)
    assert (asked.dataset.columns, asked.dataset.resolution) == ((("label", "contributor"),), 16)
    artifacts = [[one.kind, one.key] for one in work.run(asked, quiet)]
    running(monkeypatch, state.key, state="done", artifacts=artifacts)
    at.run()
    assert "'my-discs' is prepared and chosen in the sidebar." in told(at)
    assert at.selectbox(key="dataset").value == "my-discs"
    assert at.session_state["_address_now"]["dataset"] == "my-discs"
    assert source.is_dir(), "what was not uploaded stays"


def test_a_table_in_words_of_its_own_is_read_once_its_columns_are_chosen(at: AppTest, tmp_path: Path) -> None:
    source = small_store.folder(tmp_path / "mine")
    table = source / "metadata.csv"
    table.write_text(table.read_text().replace("file_name", "picture"))
    looked(at, source)
    chosen = {one.label: one.value for one in at.selectbox if one.label != "Dataset"}
    assert list(chosen.values()) == ["picture", "the folder's name", "contributor", "caption"]
    assert "72 pictures" in told(at)
    assert "Captions: 72. Contributors: 3." in told(at)


def test_what_cannot_be_read_is_said_and_another_can_be_chosen(at: AppTest, tmp_path: Path) -> None:
    (tmp_path / "mine.zip").write_bytes(b"PK\x03\x04 cut off")
    looked(at, tmp_path / "nowhere")
    assert "There is no 'nowhere' at the path given." in told(at)
    looked(at, tmp_path / "mine.zip")
    assert "is a zip archive that is damaged" in told(at)
    pressed(at, "Choose others")
    assert at.button(key="pictures-look")


def test_paths_are_neither_offered_nor_followed_elsewhere(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("pages/add_pictures.py").run()
    assert at.segmented_control(key="pictures-way").options == ["Files or a zip", "A folder"]
    monkeypatch.setattr(local, "here", lambda: True)
    at.run().segmented_control(key="pictures-way").set_value("path").run()
    at.text_input(key="pictures-path").set_value(str(tmp_path)).run()
    monkeypatch.setattr(local, "here", lambda: False)
    at.button(key="pictures-look").click().run()
    assert "can be named only on that machine itself" in told(at)


def test_uploads_go_to_the_disk_and_out_of_memory(at: AppTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several files, one of which would lead out of the folder: all lie below it, and Streamlit lets go of them."""
    held: list[MemoryUploadedFileManager] = []
    remove = MemoryUploadedFileManager.remove_file

    def removed(self: MemoryUploadedFileManager, session_id: str, file_id: str) -> None:
        remove(self, session_id, file_id)
        held.append(self)

    monkeypatch.setattr(MemoryUploadedFileManager, "remove_file", removed)
    pictures = sorted(small_store.folder(tmp_path / "mine").glob("*/*.png"))[:12]
    files = [(f"{'../' * (i == 3)}{path.name}", path.read_bytes(), "image/png") for i, path in enumerate(pictures)]
    assert at.file_uploader[0].proto.max_upload_size_mb == incoming.PICTURES.file
    at.file_uploader[0].set_value(files).run()
    at.button(key="pictures-look").click().run()
    assert "12 pictures" in told(at)
    assert len(held) == 12
    assert held[-1].get_stats() == {}
    lying = [path for path in (store.root() / incoming.KIND).rglob("*") if path.is_file()]
    assert sorted(path.name for path in lying) == [path.name for path in pictures]
    pressed(at, "Choose others")
    assert not any((store.root() / incoming.KIND).iterdir())


def test_what_the_browser_should_not_have_sent_is_refused(at: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "SOURCES", replace(adding.SOURCES, limits=incoming.Limits(1, 1)))
    at.run().file_uploader[0].set_value(("large.zip", bytes(2**20 + 1), "application/zip")).run()
    at.button(key="pictures-look").click().run()
    assert "'large.zip' is too large: at most 1 MB a file, 1 MB in all are taken." in told(at)
    assert not any((store.root() / incoming.KIND).iterdir())
    assert at.button(key="pictures-look").disabled


def test_an_upload_that_is_given_up_is_deleted(at: AppTest, tmp_path: Path) -> None:
    kept = incoming.receive([("a.zip", io.BytesIO(b"PK"))], incoming.PICTURES, "pictures")
    at.session_state["_pictures-source"] = str(kept)
    pressed(at.run(), "Choose others")
    assert not kept.exists()
    assert not any((store.root() / incoming.KIND).iterdir())
