"""A cache that the code before the packages made is used on: keys, artifacts, names, links, commands and jobs.

`cases/make_old_cache.py` made it, and wrote down what commands answered and pages showed then.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_helpers
import pytest
import small_store
import streamlit as st
from engine_helpers import emptied

from dtrak_core import store
from dtrak_core.commands import cli
from dtrak_core.jobs import eviction, housekeeping, jobs, launch
from dtrak_core.models import checkpoints

FILE = Path(__file__).parent / "cases" / "old-cache.zip"
with zipfile.ZipFile(FILE) as _archive:
    THEN: dict[str, Any] = json.loads(_archive.read("answered.json"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(FILE) as archive:
        archive.extractall(place)
    return place / "cache"


@pytest.fixture
def old(unpacked: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the old cache the one in use, without the demo; no engine starts."""
    shutil.copytree(unpacked, cache)
    monkeypatch.setattr(launch, "ensure", lambda: None)
    st.cache_data.clear()
    return cache


def told(value: Any) -> Any:
    """Return what an answer says in numbers, keys and truths: sentences may be put better since."""
    if isinstance(value, dict):
        return {name: told(one) for name, one in value.items() if not isinstance(one, str) or name in ("key", "id")}
    return [told(one) for one in value] if isinstance(value, list) else value


def answered(now: Any, then: Any) -> Any:
    """Return of an answer what was answered then: more may be said since, at any depth."""
    if isinstance(then, dict):
        return {name: answered(now[name], one) for name, one in then.items()}
    if isinstance(then, list):
        return [answered(*both) for both in zip(now, then, strict=True)]
    return now


def test_every_artifact_is_found_whole_and_of_today(old: Path) -> None:
    folders = {(path.parent.parent.name, path.parent.name) for path in old.glob("*/*/manifest.json")}
    assert len(folders) > 30
    assert {kind for kind, _ in folders} >= {"datasets", "checkpoints", "names", "samples", "features", "kernels"}
    for kind, key in folders:
        artifact = store.find(kind, key)
        assert artifact is not None, f"{kind}/{key} is not found"
        artifact.verify()
    assert {(row["kind"], row["key"]) for row in housekeeping.stored() if row["date"]} == folders
    assert housekeeping.verified() == []


def test_a_model_is_found_under_each_of_its_names(old: Path) -> None:
    assert checkpoints.by_name("tiny").digest == checkpoints.by_name("again").digest
    assert checkpoints.by_name("tiny@50").digest != checkpoints.by_name("tiny").digest
    assert eviction.limit() == 3_000_000_000


@pytest.mark.parametrize(("words", "answer"), THEN["commands"], ids=[" ".join(words) for words, _ in THEN["commands"]])
def test_commands_answer_as_they_did(
    words: list[str], answer: Any, old: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked of the engine: so what it made then is found by its settings."""
    monkeypatch.setattr(launch, "ensure", lambda: pytest.fail("a job was asked for"))
    assert cli.main([*words, "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    assert told(answered(now, answer)) == told(answer)


@pytest.mark.parametrize("link", THEN["links"], ids=lambda link: f"{link['page']}-{link['parameters']['checkpoint']}")
def test_links_give_their_view(link: dict[str, Any], old: Path) -> None:
    assert small_store.NAME == link["address"]["dataset"]
    at = page_helpers.opened(link["page"], **link["parameters"])
    sent = page_helpers.galleries(at)
    for name, items in link["items"].items():
        rows = sent["matrix" if name == "pictures" else name]["rows"]
        shown = [item["key"] for row in rows for part in row["parts"] for item in part["items"]]
        if name == "pictures":  # of a comparison: the target's row of the matrix, which begins with the noise floor
            assert sorted(shown) == sorted(f"{link['parameters']['sample']}/{item}" for item in items)
        else:
            assert shown == items
    assert link["address"].items() <= {name: at.query_params[name] for name in at.query_params}.items()


def test_jobs_are_shown_as_they_were_left(old: Path) -> None:
    assert [[job.kind, job.key, job.state] for job in jobs.listing()] == THEN["jobs"]
    for kind, key, _ in THEN["jobs"]:
        assert jobs.job_of(key).kind == kind
        assert jobs.key_of_job(jobs.job_of(key)) == key


@pytest.fixture
def engine(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the old cache the one in use, with an engine of today."""
    shutil.copytree(unpacked, tmp_path / "cache")
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "no-demo"))
    yield from emptied(tmp_path / "cache")


def test_what_was_left_is_gone_on_with(engine: Path) -> None:
    """The job that an engine's end interrupted, the one that waited, and one that failed and is asked for again."""
    left = {state: key for _, key, state in THEN["jobs"] if state != "done"}
    assert left.keys() == {"queued", "interrupted", "failed"}
    assert jobs.resume(left["failed"])
    for key in left.values():
        assert jobs.wait(key).state == "done", jobs.log_tail(key)
    drawn = {artifact.settings["seed"] for artifact in store.listing("samples")}
    assert drawn == {0, 1, 2, 6, 7, 8}
