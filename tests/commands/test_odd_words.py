"""What people type slightly wrong: one sentence with what is wrong, before anything is computed or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dtrak_core import api, store
from dtrak_core.commands import cli, tables
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import jobs
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings

DIGITS = "9" * 5000  # more than Python reads as a number
NAME = "take lower-case letters, digits, '.', '_' and '-', 40 at most, a letter or digit first, like 'my-pictures'."
SOURCE, REMOVE = ["dataset", "--source", "{in}"], ["counterfactual", "--target", "seed:0"]
REFUSED: list[tuple[list[str], str]] = [
    (["credit", "--seeds", DIGITS], f"'{'9' * 80} ...' names seeds above 2,147,483,647. Take smaller numbers.\n"),
    (["credit", "--seeds", f"1-{DIGITS}"], "names seeds above 2,147,483,647"),
    (["sample", "--seeds", "2147483648"], "'2147483648' names seeds above 2,147,483,647. Take smaller numbers.\n"),
    (["lds", "--generated", "2147483648"], "'2147483648' names seeds above 2,147,483,647"),
    (["attribute", "--sample", "~no-such-user/x.png"], "'~no-such-user/x.png' is no file."),
    (["attribute", "--sample", "upload:zz"], "'upload:zz' is not a target. Write seed:3 (generated)"),
    (["attribute", "--sample", f"held-out:{'9' * 40}"], "is not a target. Write seed:3 (generated)"),
    (["attribute", "--sample", "seed:0", "--feature-batch", "-1"], "--feature-batch is -1; give 1 to 65,536"),
    (["credit", "--feature-batch", "-1"], "--feature-batch is -1; give 1 to 65,536"),
    (["attribute", "--sample", "seed:0", "--out", "{out}/file"], "/file' is a file; a folder is to be written."),
    (["attribute", "--sample", "seed:0", "--out", "-"], "'-' would be the name of a folder."),
    (["sample", "--seeds", "0", "--out", "{out}/file/in"], "/file/in' cannot be written: '{out}/file' is a file."),
    ([*REMOVE, "--out", "{out}/file"], "/file' is a file; a folder is to be written."),
    (["credit", "--out", "{out}/folder.html"], "/folder.html' is a folder; a file is to be written."),
    (["copies", "--out", "{out}/file/x.html"], "/file/x.html' cannot be written: '{out}/file' is a file."),
    (["map", "--out", "{out}/folder.html"], "is a folder; a file is to be written."),
    (["doctor", "--out", "{out}/folder.html"], "is a folder; a file is to be written."),
    (["find-work", "{out}/file", "--out", "{out}/folder.html"], "is a folder; a file is to be written."),
    (["train", "--name", "x", "--learning-rate", "nan"], "Setting 'learning_rate' is nan: input should be a finite"),
    (["train", "--name", "x", "--only", "0,24"], "There is no training picture 24: there are 24, numbered from 0.\n"),
    (["train", "--name", "x", "--without", "0-23"], "No training picture is left to train on. Leave fewer out.\n"),
    (["train", "--name", "x", "--only", "3", "--without", "3"], "No training picture is left to train on."),
    (["train", "--name", "My Model"], f"Setting 'name' is 'My Model': {NAME}\n"),
    ([*SOURCE, "--name", "Ümlaut"], f"Setting 'name' is 'Ümlaut': {NAME}\n"),
    (["train", "--name", "x", "--base", "mine", "--preset", "demo"], "--base is 'mine', and preset 'demo' trains a"),
    ([*SOURCE, "--name", "x", "--resolution", "0"], "Setting 'resolution' is 0: input should be greater than or equal"),
    (["dataset", "--name", "cifar10", "--resolution", "0"], "Setting 'resolution' is 0: input should be greater than"),
    (["look", "{in}", "--resolution", "0"], "Setting 'resolution' is 0: input should be greater than or equal"),
    ([*REMOVE, "--remove", "0"], "Setting 'remove' is 0: input should be greater than or equal to 1.\n"),
    ([*REMOVE, "--share", "1e-9"], "--share is 1e-09: of 24 training pictures that is none. Give a larger share.\n"),
    ([*REMOVE, "--target", "held-out:1"], "Setting 'targets' is 'held-out:1': write the seed of a picture that the"),
    (["methods", "--checkpoint", "\x1b[2Jx"], "Checkpoint ' [2Jx' does not exist"),
]
WITHOUT_MODEL = ("dataset", "look")  # commands that take neither --dataset nor --checkpoint
OF_DATASET = ("train", "methods")


@pytest.fixture
def place(pictures: Dataset, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store a picture of the small model, and let no job begin."""
    image = np.zeros((16, 16, 3), np.uint8)
    targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=0), image)
    out = tmp_path / "out"
    (out / "folder.html").mkdir(parents=True)
    (out / "file").write_text("mine")
    np.savez(tmp_path / "in.npz", images=np.zeros((9, 8, 8, 3), np.uint8))

    def refuse(*job: Any) -> Any:
        raise AssertionError(f"{job} was asked for")

    monkeypatch.setattr(jobs, "submit", refuse)
    return tmp_path


def test_what_is_typed_wrong_is_told_before_any_work(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = {"{in}": str(place / "in.npz"), "{out}": str(place / "out")}
    wrong = []
    for words, said in REFUSED:
        for mark, path in where.items():
            words, said = [word.replace(mark, path) for word in words], said.replace(mark, path)
        of = [] if words[0] in WITHOUT_MODEL else ["--dataset", "discs"]
        of += [] if words[0] in (*WITHOUT_MODEL, *OF_DATASET) else ["--checkpoint", "small"]
        status, told = cli.main([*words, *of, "--json"]), capsys.readouterr()
        if status != 1 or told.out or said not in told.err or told.err.count("\n") != 1:
            wrong.append((words, status, told))
    assert wrong == []
    assert sorted(path.name for path in (place / "out").rglob("*")) == ["file", "folder.html"]
    assert (place / "out" / "file").read_text() == "mine"


def test_a_home_folder_may_be_written_as_its_mark(
    place: Path, pictures: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place / "out")
    (place / "mine.png").write_bytes(thumbnails.png(pictures.train.images[3]))
    of = ["--dataset", "discs", "--checkpoint", "small"]
    by = [*of, "--method", "raw-pixel-dot"]
    for words in (
        ["look", "~/in.npz"],
        ["doctor", *of, "--check", "duplicates", "--out=~/kept/doctor.csv"],
        ["copies", *of, "--out=~/kept/copies.csv"],
        ["credit", *by, "--out=~/kept/credit.csv"],
        ["find-work", "~/mine.png", *by, "--out=~/kept/work.csv"],
        ["attribute", "--sample", "~/mine.png", *by, "--out=~/kept"],
    ):
        assert cli.main(words) == 0, capsys.readouterr().err
    api.copies("discs", "small", progress=False).save("~/kept/copies.html")
    api.doctor("discs", "small", "duplicates", progress=False).save("~/kept/doctor.html")
    api.credit("discs", "small", method="raw-pixel-dot", progress=False).save("~/kept/credit.html")
    api.find_work("discs", "small", "~/mine.png", method="raw-pixel-dot", progress=False).save("~/kept/work.html")
    names = [f"{name}.{ending}" for name in ("copies", "credit", "doctor", "work") for ending in ("csv", "html")]
    names += ["scores.csv", "scores.json", "figure.png"]
    assert sorted(file.name for file in (place / "kept").iterdir()) == sorted(names)
    assert not (place / "out" / "~").exists()
    monkeypatch.setenv("STUDIO_CACHE", "~/elsewhere")
    assert store.root() == place / "elsewhere"


def test_a_figure_of_more_than_there_is_shows_all_there_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = ["--dataset", "discs", "--checkpoint", "small", "--method", "raw-pixel-dot", "--out", str(place / "kept")]
    assert cli.main(["attribute", "--sample", "held-out:0", *of, "--top", "100000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["proponents"]) + len(told["opponents"]) == 24
    assert Image.open(place / "kept" / "figure.png").width < 6000


def test_scores_of_what_a_model_never_saw_are_told_to_be_no_credit(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ["--dataset", "discs", "--checkpoint", "small", "--method", "raw-pixel-dot"]
    words = ["attribute", "--sample", "seed:0", *of]
    assert cli.main([*words, "--json"]) == 0
    assert "note" not in json.loads(capsys.readouterr().out)
    monkeypatch.setattr(checkpoints, "learned", lambda _: (3, 4, 4))
    assert cli.main(words) == 0
    assert "'small' has learned from 2 of the 24 training pictures. A score of another" in capsys.readouterr().out
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"].startswith("'small' has learned from 2 of the 24 training")


def test_a_name_cannot_command_the_terminal() -> None:
    rows = [{"name": "two\nlines \x1b[2J\x9b1m\ttab"}, {"name": "👩‍🚀 Zoë"}]
    assert tables.table(rows, ("name",)).splitlines()[2:] == ["two lines  [2J 1m tab", "👩‍🚀 Zoë"]
