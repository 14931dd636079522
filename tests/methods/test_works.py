"""Works: found upright, mirrored and enlarged, not found where they are not; what they helped; command and library."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from comparison_helpers import compared
from PIL import Image

from dtrak_core import api
from dtrak_core.commands import cli
from dtrak_core.counterfactual import work_sheet
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import scores, set_scores, works
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings

OF = ["--dataset", "discs", "--checkpoint", "small", "--method", "raw-pixel-dot"]


def file_of(image: np.ndarray, times: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.repeat(times, 0).repeat(times, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def drawn(pictures: Dataset, checkpoint: Checkpoint) -> list[targets.Target]:
    """Store seven pictures as the model's own."""
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    images[2] = pictures.train.images[5]
    for seed, image in enumerate(images):
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), image)
    return set_scores.drawn(checkpoint.digest)


def test_a_work_is_found_in_the_forms_in_which_it_is_brought(pictures: Dataset, checkpoint: Checkpoint) -> None:
    own = pictures.train.images[5]
    for data, mirrored in ((file_of(own), False), (file_of(own, 20), False), (file_of(own[:, ::-1]), True)):
        found = works.find(pictures, checkpoint, works.taken_in(pictures, data, "mine.png"))
        first = found.matches[0]
        assert (first.index, first.distance, first.mirrored) == (5, 0.0, mirrored)
        assert found.standing == (5,), "and no picture that lies near it the other way round"
        assert ("mirrored" in work_sheet.standing(found, pictures)) == mirrored
    other = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    found = works.find(pictures, checkpoint, works.taken_in(pictures, file_of(other), "other.png"))
    assert found.standing == ()
    assert "was not found in the training set" in work_sheet.standing(found, pictures)
    for held_out, words in (
        (3, "3 held-out pictures cannot tell a copy from chance at p = 0.05: the smallest p is 0.25. Compare them by"),
        (100, "pixels), closer than chance: 0 of 100 held-out pictures lie as close to theirs (p = 0.0099)."),
    ):
        copy = dataclasses.replace(found.copy, p=1 / (1 + held_out))
        said = work_sheet.standing(dataclasses.replace(found, copy=copy, held_out=held_out), pictures)
        assert words in said.replace("mirrored, ", "")
    told = work_sheet.sheet([found], None, pictures, checkpoint)
    assert work_sheet.sentences(told)[-1] == "So there is nothing that it could have helped."
    version = np.clip(own.astype(int) + 60, 0, 255).astype(np.uint8)
    found = works.find(pictures, checkpoint, works.taken_in(pictures, file_of(version), "version.png"))
    assert (found.standing, found.matches[0].index) == ((), 5)
    assert "may be in another version" in work_sheet.standing(found, pictures)


def test_all_near_duplicates_of_a_mirrored_work_are_found(pictures: Dataset, checkpoint: Checkpoint) -> None:
    """More of them than matches are shown, and none is the picture that is nearest to the work as it was brought."""
    images, alike = pictures.train.images.copy(), works.MATCHES + 3
    images[:alike] = own = np.random.default_rng(2).integers(0, 190, (16, 16, 3), dtype=np.uint8)
    images[23] = own[:, ::-1] + np.uint8(60)
    many = dataclasses.replace(
        pictures, key="many", digest="many", train=dataclasses.replace(pictures.train, images=images)
    )
    work = works.taken_in(pictures, file_of(own[:, ::-1]), "mine.png")
    found = works.find(many, checkpoint, work)
    assert found.standing == tuple(range(alike))
    assert found.copy.nearest == 23
    assert f"with {alike - 1} near-duplicates" in work_sheet.standing(found, many)


def test_help_is_a_column_of_scores(pictures: Dataset, checkpoint: Checkpoint, drawn: list[targets.Target]) -> None:
    plan = scores.resolve("raw-pixel-dot", pictures, checkpoint.digest, drawn)
    found = scores.score(plan)
    helped = works.help_of(plan, found, checkpoint, [5, 9])
    positive = np.maximum(found.values, 0)
    assert helped.each == pytest.approx(positive[:, [5, 9]].sum(1) / positive.sum(1))
    mean = np.maximum(found.values.mean(0), 0)
    assert helped.group.share == pytest.approx(mean[[5, 9]].sum() / mean.sum())
    assert helped.group.set_share == pytest.approx(2 / 24)
    with pytest.raises(SettingsError, match="No training picture is said"):
        works.help_of(plan, found, checkpoint, [])


def test_a_removal_counts_that_took_what_the_model_had_learned_of_it(
    pictures: Dataset, checkpoint: Checkpoint, drawn: list[targets.Target]
) -> None:
    learned = {"settings": {**checkpoint.run.settings, "indices": list(range(8))}}
    run = dataclasses.replace(checkpoint.run, manifest={**checkpoint.run.manifest, **learned})
    part = dataclasses.replace(checkpoint, run=run)
    plan = scores.resolve("raw-pixel-dot", pictures, part.digest, drawn)
    took = [("pictures:5", "", 1, (5,)), ("random", "", 1, (2,))]
    names = tuple(one.id for one in drawn)
    where = {"dataset": pictures.digest, "checkpoint": part.digest}
    without = compared(took, np.ones((2, 7)) * [[3], [1]], names, **where)
    told = work_sheet.sheet([], [5, 9], pictures, part, plan, scores.score(plan), [without])
    assert told.members == (5, 9)
    assert told.removal.startswith("Trained without it, 1 model denoises 7 generated pictures"), told.removal
    assert "+3.00000" in told.removal
    whole = work_sheet.sheet([], [5, 9], pictures, checkpoint, plan, scores.score(plan), [without])
    assert whole.removal == "No model has been trained without it yet."


def test_command_and_library_say_the_same(
    pictures: Dataset, checkpoint: Checkpoint, drawn: list[targets.Target], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    work, out = tmp_path / "mine.png", tmp_path / "report.html"
    work.write_bytes(file_of(pictures.train.images[5], 3))
    assert cli.main(["find-work", str(work), *OF, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mine = api.find_work("discs", "small", work, method="raw-pixel-dot", progress=False)
    assert mine.document() == told
    assert (told["works"][0]["in_the_set"], told["works"][0]["name"]) == ([5], "mine.png")
    assert len(told["help"]["targets"]) == 7
    again = api.find_work("discs", "small", work, targets=[3, 1, 3], method="raw-pixel-dot", progress=False)
    assert again.sheet.help is not None
    assert [target.id for target in again.sheet.help.targets] == ["seed:3", "seed:1"], "each once"
    assert told["removal"] == "No model has been trained without it yet."
    assert b"data:image/png" in out.read_bytes()
    mine.save(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text().count("\n") == 8
    assert "the work" in mine._repr_html_()
    assert cli.main(["find-work", str(work), *OF, "--pictures", "7-8"]) == 0
    for members in ([-1], [1.5], ["a"], [True]):
        with pytest.raises(SettingsError, match=f"There is no training picture {members[0]!r}: there are 24, numbered"):
            api.find_work("discs", "small", work, members, method="raw-pixel-dot", progress=False)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="No work was given"):
        api.find_work("discs", "small", [], progress=False)
    for words, sentence in (
        (["missing.png"], "is no file"),
        ([str(work), "--method", "das-squared"], "squares its scores"),
        ([str(work), "--pictures", "24"], "There is no training picture 24"),
        ([str(work), "--out", "report.pdf"], "Let it end in .html, .csv, .json."),
    ):
        assert cli.main(["find-work", words[0], *OF, *words[1:]]) == 1
        assert sentence in capsys.readouterr().err
