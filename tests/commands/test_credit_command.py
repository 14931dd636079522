"""`credit`: all stored pictures or some seeds, the library's numbers, files, and refusals before anything is done."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.commands import cli
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import crediting
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled, SampleSettings

OF = ["--dataset", "discs", "--checkpoint", "small", "--method", "raw-pixel-dot"]


@pytest.fixture
def drawn(pictures: Dataset, checkpoint: Checkpoint) -> np.ndarray:
    """Store eight pictures as the model's own; return them."""
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    images[:4] = pictures.train.images[:4]
    for seed, image in enumerate(images):
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), image)
    return images


def test_all_stored_pictures_are_credited_by_label(
    drawn: np.ndarray, pictures: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "credits.html"
    assert cli.main(["credit", *OF, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    flat = pictures.train.images.reshape(24, -1) / 127.5 - 1
    mean = np.maximum((flat @ (drawn.reshape(8, -1) / 127.5 - 1).T).mean(1), 0)
    labels = np.array(pictures.train.labels)
    assert {group["name"]: group["share"] for group in told["groups"]} == pytest.approx(
        {name: mean[labels == name].sum() / mean.sum() for name in ("red", "green", "blue")}, rel=1e-4
    )
    assert (told["by"], len(told["targets"])) == ("label", 8)
    assert b"data:image/png" in out.read_bytes()
    mine = api.credit("discs", "small", method="raw-pixel-dot", progress=False)
    assert [group["share"] for group in told["groups"]] == [group.share for group in mine.groups]
    assert mine.checked["sentence"] == "No model has been trained without one of these groups yet."
    assert "lift_low" in mine._repr_html_()
    assert f"<td>{crediting.percent(mine.groups[0].share)}</td>" in mine._repr_html_()
    mine.save(tmp_path / "credits.csv")
    assert (tmp_path / "credits.csv").read_text().count("\n") == 4
    assert cli.main(["credit", *OF, "--seeds", "0-2", "--by", "picture"]) == 0
    said = capsys.readouterr().out
    assert "Over 3 generated pictures" in said
    assert "Too few generated pictures to tell credit from chance: 3, and 6 are needed." in said


def test_pictures_drawn_another_way_are_not_called_none(
    pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = SampleSettings(checkpoint=checkpoint.digest, seed=0, sampling_steps=20)
    targets.publish_sample(drawn, pictures.train.images[0])
    of, said = (pictures, checkpoint), "'small' has drawn 1 picture, but none {}; only such pictures count here."
    usual, other = "its usual way, DDIM in 50 steps", "this way, DDPM in 1,000 steps"
    with pytest.raises(SettingsError, match=re.escape(said.format(usual))):
        api.credit(*of, method="raw-pixel-dot")
    with pytest.raises(SettingsError, match=re.escape(said.format(usual))):
        api.copies(*of)
    with pytest.raises(SettingsError, match=re.escape(said.format(other))):
        api.copies(*of, sampled=Sampled(sampler="ddpm", sampling_steps=1000))
    with pytest.raises(SettingsError, match=re.escape(said.format(usual))):
        api.find_work(*of, pictures.train.images[0], method="raw-pixel-dot")
    assert cli.main(["credit", *OF]) == 1
    assert said.format("this way, DDIM in 50 steps") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "das-squared"], "squares its scores"),
        (["--by", "contributor"], "have no contributor. Group them by label or picture."),
        (["--out", "credits.pdf"], "Let it end in .html, .csv, .json."),
        ([], "has drawn no picture yet"),
        (["--prompts", "red"], "takes no prompts"),
        (["--damping", "1"], "has none"),
    ],
)
def test_what_cannot_be_credited_is_refused(
    checkpoint: Checkpoint, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["credit", *OF, *words]) == 1
    assert sentence in capsys.readouterr().err
