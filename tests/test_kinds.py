"""The table of kinds: a new one is one row, with which store, cache list, limit and deletion work."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dtrak_core import store
from dtrak_core.commands import cli
from dtrak_core.errors import StoreError
from dtrak_core.jobs import eviction, housekeeping, jobs, launch
from dtrak_core.kinds import KINDS, Kind
from dtrak_core.settings import Settings, key_of

A = "a" * 16
ROW = Kind("trials", "things that were tried", lambda settings: f"trial {settings['number']}", recomputable=True)


class TrialSettings(Settings):
    """What an artifact of a new kind is made of."""

    checkpoint: str = A
    number: int


@pytest.fixture(autouse=True)
def known(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a table of one row more be what is known, and no engine start."""
    monkeypatch.setitem(KINDS, ROW.name, ROW)
    monkeypatch.setattr(launch, "ensure", lambda: None)


def put(number: int, days: float = 0.0) -> str:
    settings = TrialSettings(number=number)
    key = key_of("trials", settings)
    store.write_bytes(store.partial("trials", key) / "data.bin", bytes(1000))
    made = store.publish("trials", key, settings)
    os.utime(made.path, (time.time() - days * 86_400,) * 2)
    return key


def test_rows_are_of_folders_and_nobody_says_twice_what_one_is() -> None:
    assert all(name == row.name for name, row in KINDS.items())
    assert len({row.about for row in KINDS.values()}) == len(KINDS)


def test_one_of_something_is_told_as_one() -> None:
    told = {"methods": ["d-trak"], "targets": ["seed:0"], "subset": 2, "train_seed": 1, "indices": [4], "epochs": 1}
    assert KINDS["comparisons"].made_by(told) == "d-trak for 1 target"
    assert KINDS["subset-losses"].made_by(told) == "subset 2, seed 1, 1 target"
    assert KINDS["retrained"].made_by(told) == "training: 1 picture, 1 epoch, seed 1"
    told |= {"targets": ["seed:0", "seed:1"]}
    assert KINDS["comparisons"].made_by(told) == "d-trak for 2 targets"


def test_a_new_kind_is_stored_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    key = put(3)
    assert store.get("trials", key).settings == {"checkpoint": A, "number": 3}
    assert cli.main(["cache", "list", "--kind", "trials", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["key"], row["origin"], row["bytes"]) == (key, "trial 3", 1000)
    (kind,) = [one for one in housekeeping.kinds(housekeeping.stored()) if one["kind"] == "trials"]
    assert (kind["about"], kind["entries"]) == ("things that were tried", 1)


def test_a_new_format_leaves_what_was_stored_before(monkeypatch: pytest.MonkeyPatch) -> None:
    key = put(3)
    monkeypatch.setitem(KINDS, "trials", replace(ROW, format=2))
    assert store.find("trials", key) is None
    assert [row["name"] for row in housekeeping.stored("trials")] == ["outdated"]
    assert put(3) != key


def test_the_limit_takes_what_can_be_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = put(1, days=9), put(2, days=1)
    eviction.set_limit(1000)
    monkeypatch.setitem(KINDS, "trials", replace(ROW, recomputable=False))
    assert eviction.evict() == []
    monkeypatch.setitem(KINDS, "trials", ROW)
    assert [(row["key"], row["origin"]) for row in eviction.evict()] == [(old, "trial 1")]
    assert [one.key for one in store.listing("trials")] == [new]


def test_a_new_kind_is_deleted_unless_a_job_may_read_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put(1)
    jobs.submit(jobs.SampleJob(checkpoint=A, seeds=(0,)), "Draw")
    monkeypatch.setitem(KINDS, "trials", replace(ROW, read_by_many=True))
    with pytest.raises(StoreError, match="is needed by the job 'Draw'"):
        housekeeping.deleted("trials", [key])
    monkeypatch.setitem(KINDS, "trials", ROW)
    assert cli.main(["cache", "delete", "trials", "--yes"]) == 0
    assert " kB freed" in capsys.readouterr().out
    assert store.listing("trials") == []
