"""How many files a reader passes from a click to its pictures, and from the button to the first training step.

Calls are traced, and files of `dtrak_core` counted in which a function is entered. What every way passes is not: files
beside the packages (store, files, settings, ...) and the packages' `settings.py`, whose classes check themselves
when they are made. The numbers are the same whatever ran before in the process: only the thread that asks and the
script of its page are traced, and what a page memoises is either forgotten or learnt just before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import small_store
import streamlit as st
from page_helpers import galleries, opened

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import Cancelled
from dtrak_core.jobs import jobs
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import TrainSettings
from dtrak_core.ui import answers

CORE = store.PROJECT / "dtrak_core"
SCRIPT = "ScriptRunner.scriptThread"


@contextlib.contextmanager
def entered() -> Iterator[set[str]]:
    """Yield the files of the core's packages that are entered meanwhile, as paths below the core.

    Threads that others started (an engine's, an earlier page's) are not looked at: this one is, and scripts of pages.
    """
    found: set[str] = set()
    start, asking = f"{CORE}/", threading.get_ident()

    def see(frame: FrameType, event: str, _: Any) -> None:
        if threading.get_ident() != asking and threading.current_thread().name != SCRIPT:
            return
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(start) and frame.f_code.co_name != "<module>":
            below = name.removeprefix(start)
            if "/" in below and not below.endswith("/settings.py"):
                found.add(below)

    before = sys.getprofile()
    threading.setprofile(see)
    sys.setprofile(see)
    try:
        yield found
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def test_from_a_question_to_its_rankings_are_nine_files(small: tuple[Dataset, Checkpoint]) -> None:
    dataset, checkpoint = small
    target = targets.resolve(dataset, checkpoint.digest, "seed:1")
    st.cache_data.clear()
    with entered() as files:
        answer = answers.ask(answers.Question(dataset, checkpoint, target), ("d-trak", "trak"))
    assert [one.method for one in answer.rankings] == ["d-trak", "trak"]
    assert "methods/gradient_scores.py" in files
    assert len(files) <= 9, sorted(files)


def test_a_whole_page_passes_no_more_than_it_did(
    small: tuple[Dataset, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page draws the sidebar, the choice of targets, charts and small print beside the pictures.

    What the model drew, which sidebar, target and choice of targets all look at, is listed once a run.
    """
    listed, real = list[str](), targets.drawn

    def counted(digest: str) -> list[targets.Target]:
        listed.append(digest)
        return real(digest)

    monkeypatch.setattr(targets, "drawn", counted)
    st.cache_resource.clear()  # jobs left by a crash are looked for once a minute: now, not amid the count
    at = opened("attribution")
    st.cache_data.clear()
    with entered() as files:
        at.query_params["sample"] = "seed:1"
        at.run()
    assert len(galleries(at)["figure"]["rows"]) == 2
    assert listed == 3 * [small[1].digest]  # of Overview, Attribution, and Attribution with a target named
    core, ui = ([name for name in sorted(files) if name.startswith("ui/") == drawn] for drawn in (False, True))
    # One of them lists the scores that the user brought; four tell of running jobs in the sidebar, of the stored
    # comparison that answers "what if", and of credit's intervals; one tells in the small print how features were made.
    # Of the pages' files six draw these, and how to cite, share and present.
    assert len(core) <= 24, core
    assert len(ui) <= 22, "\n".join(ui)


def test_from_the_button_to_the_first_training_step_are_twelve_files(small: tuple[Dataset, Checkpoint]) -> None:
    """Those that take the job down and those that the worker passes; the engine between them is not counted."""
    from dtrak_core.training import training  # noqa: F401 - what modules call when they are imported is not the way

    dataset, _ = small
    settings = TrainSettings(dataset=dataset.digest, model=small_store.NETWORK, epochs=1, batch_size=8, train_seed=77)

    def stop_at_first(done: int, total: int, unit: str, message: str) -> None:
        if done:
            raise Cancelled

    with entered() as asked:
        key, fresh = jobs.submit(jobs.TrainJob(train=settings, name="way"), "Train")
    assert fresh
    job = jobs.job_of(key)
    with entered() as files, pytest.raises(Cancelled):
        work.run(job, stop_at_first)
    assert "training/training_run.py" in files
    assert len(asked | files) <= 12, sorted(asked | files)
