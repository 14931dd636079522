"""Known answers are what a plain count of shared facts gives, for library, page and command alike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.commands import cli
from dtrak_core.datasets import catalogue, duplicates
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import Split, row_of
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.lds import known_answers
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.targets import Target


@pytest.fixture
def portraits(demo_cache: None) -> Dataset:
    return catalogue.by_name("openmoji-people")


def drawn(prompt: str, seed: int = 0) -> Target:
    return Target(f"seed:{seed}", np.zeros((8, 8, 3), np.uint8), "0" * 16, "", {"settings": {"prompts": [prompt]}})


def emoji(portraits: Dataset) -> Dataset:
    """Return a dataset of 10 training and 4 held-out pictures by two hands, where 0 and 1 equal held-out 0."""
    random = np.random.default_rng(0)
    names = ["fox", "cat", "owl", "bee", "ant"]
    rows = [
        row_of(
            i, "insect" if name in ("bee", "ant") else "beast", family=name, contributor=hand, caption=f"{hand} {name}"
        )
        for i, (hand, name) in enumerate((hand, name) for hand in ("a", "b") for name in names)
    ]
    images = random.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    images[1] = images[0]
    held_out = [rows[0] | {"caption": "b fox"}, row_of("x", "beast"), row_of("y", "", family="yak"), rows[3]]
    others = np.concatenate([images[:1], random.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)])
    train, rest = Split(images, rows), Split(others, held_out)
    return replace(portraits, train=train, held_out=rest, equal=duplicates.between(images, others))


def test_shares_are_a_plain_count_for_the_shipped_demo(portraits: Dataset) -> None:
    checkpoint = checkpoints.by_name("demo", portraits.digest)
    wanted = [targets.of_split(portraits.held_out, "held-out", i) for i in range(64)]
    scores = known_answers.stored(portraits, checkpoint, METHODS["d-trak"], wanted)
    assert scores is not None
    found, rows = api.known_answers(scores, portraits, wanted), portraits.train.rows
    assert list(found) == ["family", "label", "contributor"], "no held-out picture equals one of training"
    for fact, answer in found.items():
        shares, by_chance, most = [], [], []
        for target, own in zip(wanted, scores.tolist(), strict=True):
            alike = [bool(row[fact]) and row[fact] == target.row[fact] for row in rows]
            if any(alike):
                first = sorted(range(len(own)), key=lambda i: (-own[i], i))[:10]
                shares.append(sum(alike[i] for i in first) / 10)
                by_chance.append(sum(alike) / len(alike))
                most.append(min(10, sum(alike)) / 10)
        assert len(answer.targets) == len(shares)
        np.testing.assert_allclose(answer.per_target, shares)
        assert answer.share == pytest.approx(np.mean(shares))
        assert (answer.chance, answer.most) == (pytest.approx(np.mean(by_chance)), pytest.approx(np.mean(most)))
        assert answer.low is not None
        assert answer.low < answer.share < (answer.high or 0)
        assert f"{answer.share:.3f}" in answer._repr_html_()
    random = np.random.default_rng(0).random(scores.shape)
    assert api.known_answers(random, portraits, wanted)["label"].share == pytest.approx(found["label"].chance, abs=0.05)


def test_what_a_prompt_or_a_held_out_picture_tells(portraits: Dataset) -> None:
    dataset = emoji(portraits)
    held_out = [targets.of_split(dataset.held_out, "held-out", i) for i in range(4)]
    every = [drawn("b fox"), drawn("Insect", 1), drawn("a purple cow", 2), *held_out]
    known = {one.fact: {p: np.flatnonzero(own).tolist() for p, own in zip(one.places, one.alike, strict=True)}
             for one in known_answers.known(dataset, every)}  # fmt: skip
    # "b fox" is the caption of training picture 5 (by b) and of held-out 0 (by a): its contributor is not known.
    # Held-out 0 equals training pictures 0 and 1; of a class alone the label is known; nobody drew a yak or a cow.
    assert known == {
        "equal": {3: [0, 1]},
        "family": {0: [0, 5], 3: [0, 5], 6: [3, 8]},
        "label": {
            0: [0, 1, 2, 5, 6, 7], 1: [3, 4, 8, 9], 3: [0, 1, 2, 5, 6, 7], 4: [0, 1, 2, 5, 6, 7], 6: [3, 4, 8, 9]
        },
        "contributor": {3: [0, 1, 2, 3, 4], 6: [0, 1, 2, 3, 4]},
    }  # fmt: skip


def test_an_own_count_of_first_pictures_and_what_is_refused(portraits: Dataset) -> None:
    dataset = emoji(portraits)
    fox = [targets.of_split(dataset.held_out, "held-out", 0)]
    scores = np.arange(10.0)[None, ::-1]
    found = api.known_answers(scores, dataset, fox, top=2)
    assert {fact: (one.share, one.most, one.low) for fact, one in found.items()} == {
        "equal": (1, 1, None), "family": (0.5, 1, None), "label": (1, 1, None), "contributor": (1, 1, None)
    }  # fmt: skip
    again = api.known_answers(np.repeat(scores, 6, 0), dataset, fox * 6, top=2)
    assert len(again["family"].targets) == 1, "one target given six times is no six"
    for wrong, reason in (
        ((scores[:, :9], dataset, fox), "expected \\(1, 10\\)"),
        ((scores * np.nan, dataset, fox), "fin"),
    ):
        with pytest.raises(DataError, match=reason):
            api.known_answers(*wrong)
    for top in (0, 11):
        with pytest.raises(SettingsError, match=f"The first {top} training pictures cannot be counted. Choose 1 to 10"):
            api.known_answers(scores, dataset, fox, top)
    with pytest.raises(SettingsError, match="would find itself"):
        api.known_answers(scores, dataset, [targets.of_split(dataset.train, "train", 0)])


@pytest.mark.usefixtures("demo_cache")
def test_the_command_answers_for_the_shipped_demos(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["known", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(one["fact"], one["targets"]) for one in document["tables"]] == [
        (fact, "held-out") for fact in ("family", "label", "contributor")
    ]
    family = document["tables"][0]
    assert [row["method"] for row in family["rows"]] == ["d-trak", "trak", "raw-pixel-cosine"]
    assert all(row["low"] > 3 * family["chance"] for row in family["rows"])
    words = ["known", "--dataset", "emoji-schools", "--checkpoint", "demo-schools"]
    chosen = ["--generated", "0-63", "--method", "d-trak", "--method", "raw-pixel-cosine", "--top", "5"]
    assert cli.main([*words, *chosen]) == 0
    said = capsys.readouterr().out
    assert "64 generated targets" in said
    assert "Likeness is not influence" in said
    assert cli.main(["known", "--generated", "0-3"]) == 1
    assert "nothing is known of its pictures" in capsys.readouterr().err
    assert cli.main(["known", "--method", "journey-trak"]) == 1
    assert capsys.readouterr().err == "Journey TRAK cannot be used. It explains none of these targets.\n"
    assert cli.main(["known", "--held-out", "0"]) == 1
    assert "No target was given" in capsys.readouterr().err
