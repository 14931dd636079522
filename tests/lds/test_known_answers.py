"""Known answers are what a plain count of shared facts gives, for library, page and command alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import api, store
from dtrak_core.commands import cli
from dtrak_core.datasets import catalogue, duplicates
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import Split, row_of
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.lds import benchmarking, known_answers, predictions, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.targets import Target
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of


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
        assert f"{answer.share:.3f}" in answer._repr_html_()
        if fact == "label":
            assert (answer.low, answer.high) == (None, None)
            assert answer.reason == (
                "No intervals: they take targets of 6 labels; these are of 4. Targets that have one in common are no "
                "independent cases."
            )
            continue
        assert answer.reason == ""
        assert answer.low is not None
        assert answer.low < answer.share < (answer.high or 0)
        groups = np.unique([one.row[fact] for one in answer.targets], return_inverse=True)[1]
        drawn = np.random.default_rng(0).integers(groups.max() + 1, size=(4000, groups.max() + 1))
        sums, sizes = np.bincount(groups, answer.per_target), np.bincount(groups)
        ends = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
        assert (answer.low, answer.high) == pytest.approx(tuple(ends), abs=0.02), "groups are drawn, not targets"
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


def test_intervals_hold_the_expected_share_where_targets_of_a_group_are_alike() -> None:
    """12 contributors of 6 targets each; who a contributor is moves the share of all of their targets."""
    random, held, alone, count = np.random.default_rng(2), 0, 0, 120
    which = np.repeat(np.arange(12), 6)
    alike = which[:, None] == np.arange(12).repeat(10)[None]
    one = known_answers.Known("contributor", tuple(range(72)), alike)
    for _ in range(count):
        own = np.clip(random.normal(0.5, 0.2, 12), 0.05, 0.95)[which]  # 0.5 is expected of all contributors
        kept = random.random((72, 10)) < own[:, None]
        values = np.zeros((72, 120))
        for target in range(72):  # as many of its ten pictures lead as were kept, others fill up the ten
            values[target, np.flatnonzero(alike[target])[kept[target]]] = 2
            values[target, np.flatnonzero(~alike[target])[:10]] = 1
        found = known_answers.answer(values, one)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
        spread = 1.96 * found.per_target.std() / 72**0.5
        alone += abs(found.share - 0.5) <= spread
    assert held >= 0.86 * count, "95 % is said; 12 groups are few"
    assert alone < 0.8 * count, "as many targets drawn one by one lie too close"


def test_targets_of_fewer_groups_than_six_have_no_interval_and_say_why() -> None:
    alike = np.eye(5, dtype=bool)
    shares = np.arange(40.0).reshape(8, 5)
    one = known_answers.Known("family", tuple(range(8)), alike[[0, 1, 2, 3, 4, 0, 1, 2]])
    assert known_answers.groups(one).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert known_answers.answer(shares, one, 1).low is None
    assert known_answers.without(one).startswith(
        "No intervals: they take targets of 6 families; these are of 5. Targets"
    )
    each = known_answers.Known("equal", (0, 1, 2, 3, 4), alike)
    assert known_answers.without(each) == "No intervals: they take targets of 6 sets of equal pictures; these are of 5."


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


def test_scores_kept_with_an_lds_serve_for_the_very_pictures_it_draws_of_several_prompts(
    cache: Path, pictures: Dataset, trained_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained_classes / "checkpoints", cache / "checkpoints")
    checkpoint = checkpoints.by_name("classes", pictures.digest)
    asked = build(
        LdsSettings, dataset=pictures.digest, checkpoint=checkpoint.digest, targets=("seed:0", "seed:1"),
        prompts=("red", "blue"), guidance=1, sampling_steps=3, num_subsets=3,
    )  # fmt: skip
    for seed in (0, 1):
        one = targets.sample_settings(checkpoint.digest, seed, asked)
        targets.publish_sample(one, pictures.train.images[seed])
    swapped = asked.model_copy(update={"prompts": ("blue", "red")})
    other = targets.publish_sample(targets.sample_settings(checkpoint.digest, 0, swapped), pictures.train.images[5])
    benchmarking.compute(pictures, asked, [Recipe(method="raw-pixel-dot")], True, quiet)
    model = subset_models.models(asked)[0]
    key = key_of("subset-losses", model)
    store.write_array(store.partial("subset-losses", key) / subset_models.LOSSES, np.zeros(2))
    store.publish("subset-losses", key, model)
    own = subset_models.pictures(pictures, asked)
    with monkeypatch.context() as patch:
        patch.setattr(known_answers.scores, "score", lambda *_: pytest.fail("the kept scores are not taken"))
        found = known_answers.stored(pictures, checkpoint, METHODS["raw-pixel-dot"], own)
    kept = predictions.stored_scores(Recipe(method="raw-pixel-dot"), asked)
    assert found is not None
    assert kept is not None
    np.testing.assert_array_equal(found, kept[1])
    fresh = known_answers.stored(pictures, checkpoint, METHODS["raw-pixel-dot"], [other])
    assert fresh is not None
    assert not np.allclose(fresh[0], kept[1][0]), "another prompt's picture of the seed has scores of its own"


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
    label = document["tables"][1]
    assert (label["count"], label["groups"], {row["low"] for row in label["rows"]}) == (64, 4, {None})
    words = ["known", "--dataset", "emoji-schools", "--checkpoint", "demo-schools"]
    chosen = ["--generated", "0-63", "--method", "d-trak", "--method", "raw-pixel-cosine", "--top", "5"]
    assert cli.main([*words, *chosen]) == 0
    said = capsys.readouterr().out
    assert "64 generated targets" in said
    assert "Likeness is not influence" in said
    assert "No intervals: they take targets of 6 contributors; these are of 2." in said
    assert cli.main(["known", "--generated", "0-3"]) == 1
    assert "nothing is known of its pictures" in capsys.readouterr().err
    assert cli.main(["known", "--method", "journey-trak"]) == 1
    assert capsys.readouterr().err == "Journey TRAK cannot be used. It explains none of these targets.\n"
    assert cli.main(["known", "--held-out", "0"]) == 1
    assert "No target was given" in capsys.readouterr().err
