"""Jobs: every state with what can be done about it; the cache, its limit, and one question before deleting."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from page_helpers import address, opened, running
from streamlit.testing.v1 import AppTest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import eviction, job_files, jobs
from dtrak_core.jobs.jobs import DatasetJob, ProbeJob, SampleJob, ScoreJob, TrainJob
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings

Small = tuple[Dataset, Checkpoint]


def texts(at: AppTest) -> str:
    return "\n".join(e.value for e in [*at.markdown, *at.caption, *at.header, *at.warning, *at.error, *at.success])


def told(at: AppTest) -> list[str]:
    """Return what the sidebar says of jobs."""
    links = [link.proto.label.replace("\\", "") for link in at.sidebar.get("page_link")]
    return [label for label in links if ":" in label]


def ask(checkpoint: str, seed: int, label: str) -> str:
    return jobs.submit(SampleJob(checkpoint=checkpoint, seeds=(seed,)), label)[0]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_empty_list_says_what_to_do(small: Small) -> None:
    at = opened("jobs")
    assert "No job has been started yet." in texts(at)
    assert "No engine runs. It starts with the next job, on this machine." in texts(at)


def test_each_state_with_what_can_be_done(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [ask(small[1].digest, seed, f"Draw {seed}") for seed in range(5)]
    running(monkeypatch, keys[0], done=20, total=50, unit="sampling steps", message="Picture 1 of 1", seconds_left=7.0)
    running(monkeypatch, keys[3], state="failed", message="Memory did not suffice.", finished=time.time())
    running(monkeypatch, keys[4], state="done", done=50, total=50, unit="sampling steps", finished=time.time())
    (job_files.folder() / keys[3] / "log.txt").write_text("Traceback of the failure\n")
    at = opened("jobs")
    said = texts(at)
    assert "Running · 1" in said
    assert "Waiting · 2" in said
    assert "Ended · 2" in said
    assert "number 2 in the queue" in said
    assert "Memory did not suffice" in said
    assert "20 of 50 sampling steps · about " in at.get("progress")[0].proto.text
    at.toggle(key=f"log-{keys[3]}").set_value(True).run()
    assert at.code[0].value == "Traceback of the failure"
    at.button(key=f"cancel-{keys[1]}").click().run()
    assert jobs.state(keys[1]).state == "cancelled"
    at.button(key=f"again-{keys[3]}").click().run()
    assert (jobs.state(keys[3]).state, jobs.state(keys[3]).attempt) == ("queued", 2)
    at.button(key=f"remove-{keys[4]}").click().run()
    assert jobs.state(keys[4]).state == "idle"
    assert not at.exception


def test_many_ended_jobs_are_shown_on_demand(small: Small) -> None:
    for size in range(8, 30):
        key, _ = jobs.submit(ProbeJob(model=ModelSettings(), resolution=16, batch_size=size), f"Probe {size}")
        jobs.cancel(key)
    at = opened("jobs")
    assert len([b for b in at.button if b.label == "Remove"]) == 12
    at.toggle(key="jobs-all").set_value(True).run()
    assert len([b for b in at.button if b.label == "Remove"]) == 22


def test_cache_by_kind_and_entry(small: Small) -> None:
    at = opened("jobs", list="Cache")
    kinds, entries = at.dataframe[0].value, at.dataframe[1].value
    assert list(kinds["Kind"])[:2] == ["datasets", "checkpoints"]
    assert (kinds["Entries"] > 0).all()
    assert list(entries["Name"]) == ["discs"]
    at.selectbox(key="kind").set_value("features").run()
    assert "They cannot be brought back, only computed again." in texts(at)
    assert all("timesteps" in made for made in at.dataframe[1].value["Made by"])


def test_deletes_after_one_question(small: Small) -> None:
    store.write_bytes(store.partial("probes", "f" * 16) / "data.bin", bytes(1500))
    at = opened("jobs", list="Cache", kind="probes")
    at.selectbox(key="doomed-probes").set_value("f" * 16).run()
    assert "Delete 1 entry of probes, 1.5 kB? It cannot be brought back; you would have to make or bring" in texts(at)
    at.button(key="delete-chosen").click().run()
    assert "Deleted 1 of probes: 1.5 kB freed." in texts(at)
    assert not (store.root() / "probes" / f"{'f' * 16}.partial").exists()


def test_what_was_put_aside_is_shown_and_deleted(small: Small) -> None:
    aside = f"{'f' * 16}.damaged"
    store.write_bytes(store.root() / "probes" / aside / "data.bin", bytes(2500))
    at = opened("jobs", list="Cache", kind="probes")
    row = next(row for _, row in at.dataframe[1].value.iterrows() if row["Key"] == aside)
    assert (row["Name"], row["Size"]) == ("damaged", "2.5 kB")
    at.selectbox(key="doomed-probes").set_value(aside).run()
    at.button(key="delete-chosen").click().run()
    assert "Deleted 1 of probes: 2.5 kB freed." in texts(at)
    assert not (store.root() / "probes" / aside).exists()


def test_never_deletes_what_a_live_job_needs(small: Small) -> None:
    ask(small[1].digest, 77, "Draw one more")
    at = opened("jobs", list="Cache", kind="checkpoints")
    at.button(key="delete-all").click().run()
    assert "needed by the job 'Draw one more'" in at.error[0].value.replace("\\", "")
    assert store.listing("checkpoints")


def test_limit_says_what_it_did(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "evict", lambda: [])
    at = opened("jobs", list="Cache")
    at.number_input(key="cache-limit").set_value(20.0).run()
    assert "The limit is 20.0 GB. Nothing had to be deleted." in at.info[0].value
    assert eviction.limit() == 20_000_000_000
    monkeypatch.setattr(eviction, "evict", lambda: [{"bytes": 2_000_000, "kind": "features", "key": "f" * 16}])
    at.number_input(key="cache-limit").set_value(0.001).run()
    assert "Deleted 1 of the least recently read entries, 2.0 MB." in at.info[0].value
    at.number_input(key="cache-limit").set_value(0.0).run()
    assert eviction.limit() is None


def test_a_limit_that_cannot_be_written_is_said(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("jobs", list="Cache")
    monkeypatch.setattr(eviction, "set_limit", full)
    at.number_input(key="cache-limit").set_value(20.0).run()
    assert not at.exception
    assert "disk is full" in at.error[0].value.replace("\\", "")
    assert not at.info


def test_an_ended_job_leads_to_what_it_made(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, checkpoint = small
    asked: list[jobs.Job] = [
        SampleJob(checkpoint=checkpoint.digest, seeds=(2,)),
        ProbeJob(model=ModelSettings(), resolution=16, batch_size=8),
        ScoreJob(methods=("nda",), dataset=dataset.digest, checkpoint=checkpoint.digest, targets=("seed:2",)),
        TrainJob(train=checkpoints.training_of(checkpoint), name="tiny"),
        DatasetJob(dataset=dataset.settings),
    ]
    for number, job in enumerate(asked):
        key, _ = jobs.submit(job, f"Job {number}")
        running(monkeypatch, key, state="done", done=1, total=1, finished=time.time() - number)
    at = opened("jobs")
    named = {"dataset": dataset.name, "checkpoint": checkpoint.name}
    wanted = [
        ("generate", named),
        ("generate", {"tab": "Train a model"}),
        ("attribution", named | {"sample": "seed:2"}),
        ("generate", named),
        ("", {"dataset": dataset.name}),
    ]
    opens = [link.proto for link in at.main.get("page_link") if link.proto.label == "Open"]
    view = address(at)
    assert {"methods", "rank-trak"} <= view.keys(), "so that the page has nothing to write into its address"
    assert [(one.page, dict(parse_qsl(one.query_string))) for one in opens] == [
        (p, view | words) for p, words in wanted
    ]
    assert len(at.main.image) == 4, "a probe has no picture"
    gone = SampleJob(checkpoint="0" * 16, seeds=(2,))
    key, _ = jobs.submit(gone, "Gone")
    running(monkeypatch, key, state="failed", message="It is gone.", finished=time.time())
    at.run()
    assert len([link for link in at.main.get("page_link") if link.proto.label == "Open"]) == 5


def test_every_page_tells_how_far_a_job_is_and_that_it_ended(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ask(small[1].digest, 2, "Draw one")
    running(monkeypatch, key, done=20, total=50)
    at = opened("attribution")
    assert told(at) == ["Draw one: 40%"]
    running(monkeypatch, key, state="done", done=50, total=50, finished=time.time())
    at.run()
    assert ["Draw one" in one.value for one in at.toast] == [True]
    assert told(at) == ["Open: Draw one"]
    at.run()
    assert not at.toast, "once"
    assert told(at) == ["Open: Draw one"]
    at.switch_page("pages/generate.py").run()
    assert told(at) == [], "what it led to is seen"


def test_a_page_that_shows_the_end_itself_is_left_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ask(small[1].digest, 77, "Draw one more")
    running(monkeypatch, key, done=20, total=50)
    at = opened("generate")
    assert told(at) == ["Draw one more: 40%"]
    running(monkeypatch, key, state="done", done=50, total=50, finished=time.time())
    at.run()
    assert not at.toast
    assert told(at) == []


def test_a_refusal_stays_until_it_is_dismissed_or_the_same_succeeds(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ask(small[1].digest, 77, "Draw one more")
    jobs.cancel(key)
    at = opened("jobs")

    def press(again: Callable[[str], object]) -> None:
        monkeypatch.setattr(jobs, "resume", again)
        at.run()  # the button holds what it calls from when it was drawn
        at.button(key=f"again-{key}").click().run()

    def errors() -> list[str]:
        return [one.value.replace("\\", "") for one in at.error]

    press(full)
    for _ in range(3):
        assert [said.startswith("The disk is full.") for said in errors()] == [True]
        at.run()
    next(b for b in at.button if b.label == "Dismiss").click().run()
    assert not errors()
    assert not at.run().error
    press(full)
    assert errors()
    press(lambda _: None)
    assert not errors(), "what was refused has been done"
    press(full)
    assert errors()
    at.switch_page("pages/generate.py").run()
    assert not errors()
    at.switch_page("pages/jobs.py").run()
    assert not errors()
