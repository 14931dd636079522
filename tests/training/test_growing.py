"""A look at a training while it goes: seldom, of no weight, gone with the end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.training import growing, training
from dtrak_core.training.growing import Growing
from dtrak_core.training.training import train


def test_pictures_and_losses_grow_and_change_no_weight(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(dataset=pictures.digest, model=tiny, epochs=8, batch_size=8)
    seen = []

    def look(done: int, total: int, unit: str, message: str) -> None:
        lines, drawn = growing.so_far(settings)
        seen.append((len(lines), len(drawn)))

    monkeypatch.setattr(training, "SHARES", (100,))
    monkeypatch.setattr(growing, "SHARE", 0.0)
    plain = train(pictures, settings, "plain", look).manifest["steps"][-1]["digest"]
    assert {drawn for _, drawn in seen} == {0}
    store.delete("checkpoints", store.listing("checkpoints")[0].key)
    monkeypatch.setattr(growing, "SHARE", 1.0)
    seen.clear()
    run = train(pictures, settings, "watched", look)
    assert seen[-1][1] > 3
    assert seen[-1][0] > 0
    assert run.manifest["steps"][-1]["digest"] == plain
    assert not [name for name in run.manifest["files"] if growing.FOLDER in name]
    assert growing.so_far(settings) == ([], {})


def test_looking_keeps_to_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    look = Growing(tmp_path, 1000, 0, now)
    spent = 0.0
    for step in range(1, 1001):
        now += 0.1
        if look.due(step):
            begin = now
            now += 0.7  # a picture costs seven steps
            look.step, look.last, look.spent = step, now - begin, look.spent + now - begin
            spent += now - begin
    assert 0 < spent <= growing.SHARE * now
