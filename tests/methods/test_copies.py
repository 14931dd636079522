"""Near-copies: ρ and p against a slow computation; a copy is told if its original is there 1, 8 or 64 times."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.commands import cli
from dtrak_core.counterfactual import copy_removals, copy_sheet
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue, memory
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import copies
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.settings import build


def test_the_ratio_is_of_different_pictures() -> None:
    random = np.random.default_rng(0)
    rows, own = random.normal(size=(150, 12)), random.normal(size=(9, 12))
    same = np.arange(150)
    same[100:140] = 7  # classes count once, with their nearest
    found = copies.nearest(own, rows, same)
    for place, picture in enumerate(own.astype(np.float32)):
        away = np.sqrt(((rows.astype(np.float32) - picture) ** 2).mean(1))
        of_class = sorted(min(away[same == one]) for one in set(same.tolist()))
        assert found.index[place] == np.argmin(away)
        assert found.distance[place] == pytest.approx(away.min(), rel=1e-6)
        assert found.ratio[place] == pytest.approx(of_class[0] / (0.5 * np.mean(of_class[:50])), rel=1e-6)
    with pytest.raises(SettingsError, match="2 different pictures"):
        copies.nearest(own, rows, np.arange(150) % 2)


def test_p_counts_what_no_model_has_seen() -> None:
    reference = np.array([0.2, 0.4, 0.4, 0.9])
    assert [copies.p_of(one, reference) for one in (0.1, 0.2, 0.4, 1.0)] == [1 / 5, 2 / 5, 4 / 5, 1.0]
    assert copies.p_of(0.1, np.empty(0)) is None


@pytest.fixture
def planted(cache: Path, checkpoint: Checkpoint) -> tuple[Dataset, np.ndarray]:
    """Return 300 pictures, three of which stand there 1, 8 and 64 times, and slightly changed copies of each."""
    random = np.random.default_rng(0)
    images = np.kron(random.integers(0, 256, (341, 4, 4, 3)), np.ones((1, 4, 4, 1), int)).astype(np.uint8)
    for place, times in ((0, 1), (1, 8), (9, 64)):
        images[place : place + times] = images[place]
    held_out, drawn = (
        images[301:],
        np.clip(images[[0, 1, 9]].astype(int) + random.integers(-9, 10, (3, 16, 16, 3)), 0, 255),
    )
    return catalogue.load(memory.keep(images[:301], None, None, None, held_out, "planted")), drawn.astype(np.uint8)


def test_planted_pictures_are_told_however_often_they_stand_there(
    planted: tuple[Dataset, np.ndarray], checkpoint: Checkpoint
) -> None:
    dataset, drawn = planted
    fresh = np.kron(np.random.default_rng(1).integers(0, 256, (20, 4, 4, 3)), np.ones((1, 4, 4, 1), int))
    shown = [
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), image.astype(np.uint8))
        for seed, image in enumerate([*drawn, *fresh])
    ]
    found = copies.find("pixels", dataset, checkpoint, shown)
    assert len(found.reference) == 40
    assert found.distinct == 301 - 7 - 63
    close = {one.target.id: (one.nearest, len(one.alike), one.p) for one in found.found[:3]}
    assert close == {"seed:0": (0, 1, 1 / 41), "seed:1": (1, 8, 1 / 41), "seed:2": (9, 64, 1 / 41)}
    ratios = [one.ratio for one in found.found]
    assert ratios[2] < 0.2 < 1 < ratios[3]
    assert found.expected == pytest.approx(23 * 2 / 41)  # p is at most 0.05 where no or one held-out picture is closer


def test_a_removal_says_how_far_the_picture_moved(planted: tuple[Dataset, np.ndarray], checkpoint: Checkpoint) -> None:
    dataset, drawn = planted
    shown = targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=1), drawn[1])
    (copy,) = copies.find("pixels", dataset, checkpoint, [shown]).found
    settings = build(
        CounterfactualSettings,
        dataset=dataset.digest,
        checkpoint=checkpoint.digest,
        targets=("seed:1",),
        methods=("pictures:1-8",),
        remove=(1,),
    )
    white = np.full((16, 16, 3), 255, np.uint8)
    moved = {"pictures:1-8": (tuple(range(1, 9)), white), "random": (tuple(range(20, 28)), drawn[1])}
    moved["noise_floor"] = ((), dataset.train.images[1])
    entries = tuple(
        Entry("seed:1", name, 0, 1, removed, image, 0.0, 1.0, 0.0, train_seed=1)
        for name, (removed, image) in moved.items()
    )
    stored = Comparison("key", settings, {}, "", entries, 3, {})
    told = copy_removals.of(copy, dataset, [stored])

    def away(image: np.ndarray) -> float:
        return float(np.sqrt((((image.astype(float) - dataset.train.images[1]) / 127.5) ** 2).mean()))

    assert told.before == pytest.approx(away(drawn[1]), rel=1e-5)
    assert (told.after, told.after_random, told.after_floor) == pytest.approx(
        (away(white), away(drawn[1]), 0), rel=1e-5
    )
    assert "1 model" in told.sentence
    assert "without as many random pictures" in told.sentence
    # What the original has mostly drawn is no picture of a model without them, and a model under two names is one.
    black = np.zeros_like(white)
    details = dataclasses.replace(entries[0], image=black), dataclasses.replace(entries[1], image=black)
    late = Comparison("late", settings.model_copy(update={"take_over": 500}), {}, "", details, 2, {})
    again = dataclasses.replace(entries[0], method="d-trak", image=black)
    other = dataclasses.replace(entries[0], removed=tuple(range(9)), image=drawn[1])
    twice = Comparison("twice", settings, {}, "", (again, other), 2, {})
    more = copy_removals.of(copy, dataset, [late, stored, late, twice])
    assert (len(more.without), len(more.random), len(more.floor)) == (2, 1, 1)
    assert more.after == pytest.approx((away(white) + away(drawn[1])) / 2, rel=1e-5)
    assert more.after_random is None, "no model is without nine other pictures"
    nine = dataclasses.replace(entries[1], removed=tuple(range(20, 29)), image=white)
    wide = Comparison("wide", settings, {}, "", (nine,), 1, {})
    assert copy_removals.of(copy, dataset, [stored, wide]).after_random == told.after_random, "of eight pictures alone"
    assert copy_removals.of(copy, dataset, []).sentence == "No model has been trained without it and its like yet."


def test_command_and_library_say_the_same(
    pictures: Dataset, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        image = pictures.train.images[seed] if seed else np.zeros((16, 16, 3), np.uint8)
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), image)
    out = tmp_path / "copies.html"
    of = ["copies", "--dataset", "discs", "--checkpoint", "small"]
    assert cli.main([*of, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mine = api.copies("discs", "small", progress=False)
    assert mine.document() == told
    assert [(row["target"], row["ratio"]) for row in told["pictures"][:2]] == [("seed:1", 0.0), ("seed:2", 0.0)]
    again = api.copies("discs", "small", [2, 0, 2, "seed:0"], progress=False)
    assert [copy.target.id for copy in again.sheet.copies.found] == ["seed:2", "seed:0"], "each once"
    assert "8 held-out pictures cannot tell a copy from chance" in told["sentences"][0]
    assert "one more than those whose ρ is as small, over 9" in told["protocol"]
    for distinct, near in ((12, 12), (300, 50)):
        few = dataclasses.replace(mine.sheet, copies=dataclasses.replace(mine.sheet.copies, distinct=distinct))
        assert f"the {near} nearest of {distinct} different ones" in copy_sheet.protocol(few)
    assert b"data:image/png" in out.read_bytes()
    mine.save(tmp_path / "copies.csv")
    assert (tmp_path / "copies.csv").read_text().count("\n") == 4
    assert "ρ = 0.00" in mine._repr_html_()
    assert cli.main([*of, "--seeds", "1"]) == 0
    assert "Closest is seed 1, to #1" in capsys.readouterr().out
    assert cli.main([*of, "--out", "copies.pdf"]) == 1
    assert "Let it end in .html, .csv, .json." in capsys.readouterr().err
