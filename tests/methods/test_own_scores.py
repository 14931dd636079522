"""Scores that a user brings: kept with what they are of, a method everywhere, refused in a sentence elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dtrak_core import api, kinds
from dtrak_core.commands import cli
from dtrak_core.counterfactual import removals
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StudioError
from dtrak_core.jobs import housekeeping
from dtrak_core.jobs.job_kinds import BenchmarkJob
from dtrak_core.lds import predictions, recipes, standings, subset_models
from dtrak_core.methods import own_scores
from dtrak_core.methods.methods import METHODS, method_of
from dtrak_core.models import sampling, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.ui import tuning

SCORES = np.random.default_rng(0).normal(size=(2, 24))
TWO = ["held-out:0", "train:3"]


def test_own_scores_are_a_method_like_any_other(pictures: Dataset, checkpoint: Checkpoint, capsys: Any) -> None:
    name = api.add_scores("mine", torch.from_numpy(SCORES), TWO, pictures)
    assert name.startswith("own:mine@")
    assert method_of("own:mine").id == name
    assert list(METHODS)[-1] == name
    assert METHODS.get(name).label == "mine (own scores)"  # as the Benchmark page asks
    link = tuning._named("d-trak,own:mine,own:other", pictures.digest)
    assert link == (["d-trak", name], ["own:other"])
    found = api.explain(pictures, checkpoint, TWO[::-1], "own:mine", progress=False)
    assert (found.scores == SCORES[::-1]).all()
    assert found.label == "mine (own scores)"
    cli.main(["attribute", "--dataset", "discs", "--checkpoint", "small", "--sample", "train:3", "--method", "own:mine",
              "--json"])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert [entry["index"] for entry in told["proponents"][:3]] == np.argsort(-SCORES[1])[:3].tolist()
    cli.main(["methods", "--dataset", "discs", "--checkpoint", "small"])
    assert "mine (own scores)" in capsys.readouterr().out
    assert housekeeping.stored(own_scores.KIND)[0]["origin"] == "'mine' for 2 targets"
    assert not kinds.KINDS[own_scores.KIND].recomputable  # so that the limit of the cache never takes them


def test_newer_scores_take_the_name_and_nothing_of_the_older_ones(pictures: Dataset, checkpoint: Checkpoint) -> None:
    old = api.add_scores("mine", SCORES, TWO, "discs")
    new = api.add_scores("mine", -SCORES, TWO, "discs")
    assert old != new == method_of("own:mine").id
    assert [name for name in METHODS if name.startswith("own:")] == [new]
    for name, values in ((old, SCORES), (new, -SCORES), ("own:mine", -SCORES)):
        assert (api.explain(pictures, checkpoint, TWO, name, progress=False).scores == values).all()
    assert recipes.usual(pictures, checkpoint, "own:mine").method == new  # what predictions are stored under
    assert api.add_scores("mine", SCORES, TWO, "discs") == old == method_of("own:mine").id  # given again
    housekeeping.deleted(own_scores.KIND)
    assert METHODS[old].label == "mine (own scores)"  # comparisons made with them still have their name
    with pytest.raises(SettingsError, match="'mine' are not stored any more"):
        api.explain(pictures, checkpoint, TWO, old, progress=False)
    with pytest.raises(NotFoundError, match=r"There are no own scores 'mine'\. There are: none yet"):
        api.explain(pictures, checkpoint, TWO, "own:mine", progress=False)


def test_a_comparison_removes_what_own_scores_name(pictures: Dataset, checkpoint: Checkpoint) -> None:
    drawn = sampling_of(checkpoint)
    name = api.add_scores("mine", SCORES[:1], [drawn], pictures)
    asked = {"targets": (drawn.id,), "remove": (3,)} | drawn.sampled.drawing()
    settings = removals.settings_for(pictures, checkpoint, ("own:mine",), asked)
    assert settings.methods == (name,)
    own = {bar.removed for bar in removals.plan(pictures, checkpoint, settings) if bar.method == name}
    assert own == {tuple(sorted(np.argsort(-SCORES[0])[:3].tolist()))}


@pytest.mark.usefixtures("demo_cache")
def test_the_benchmark_judges_own_scores_as_it_does_the_method_that_they_are_of() -> None:
    known = api.benchmark("demo")
    scores = api.explain(known.dataset, known.checkpoint, known.targets, "raw-pixel-cosine", progress=False).scores
    api.add_scores("pixels", scores, known.targets, known.dataset)
    recipe = recipes.usual(known.dataset, known.checkpoint, "own:pixels")
    work.run(BenchmarkJob(settings=known.settings, recipes=(recipe,)), quiet)
    both = [predictions.find(recipes.usual(known.dataset, known.checkpoint, "raw-pixel-cosine"), known.settings),
            predictions.find(recipe, known.settings)]  # fmt: skip
    rows = standings.rows(
        [one for one in both if one], subset_models.read(known.dataset, known.settings), known.settings
    )
    own = [row for row in rows if row["method"] == recipe.method]
    theirs = next(row for row in rows if row["method"] == "raw-pixel-cosine" and row["targets"] == "generated")
    assert len(own) == 1  # they have no rows for held-out targets
    assert [own[0][name] for name in ("lds", "interval", "count")] == [theirs[n] for n in ("lds", "interval", "count")]
    assert known.lds(scores).value == pytest.approx(own[0]["lds"])


@pytest.mark.parametrize(
    ("told", "error", "sentence"),
    [
        (
            {"scores": SCORES[:, :5]},
            DataError,
            r"shape \(2, 5\); for 2 targets and the 24 training pictures of 'discs'",
        ),
        ({"scores": SCORES[0]}, DataError, r"shape \(24,\)"),
        ({"scores": [[1, 2], [3]]}, DataError, r"expected numbers of the shape \(2, 24\)\. Give each row as many"),
        ({"scores": torch.tensor(SCORES).bfloat16()}, DataError, r"\(2, 24\)\. Convert them with scores\.float\(\)"),
        ({"scores": SCORES.astype(str)}, DataError, "scores are of type <U"),
        ({"scores": SCORES * 1j}, DataError, "complex128"),
        ({"scores": np.where(SCORES > 1, np.nan, SCORES)}, DataError, r"scores\[0, \d+\] is nan"),
        ({"scores": np.full((2, 24), np.inf)}, DataError, r"scores\[0, 0\] is inf"),
        (
            {"scores": SCORES * 1e200},
            DataError,
            r"large as .*e\+200; expected a size of 1e-100 to 1e\+100. Scale",
        ),
        ({"scores": SCORES * 1e-200}, DataError, "as large as .*e-200; expected a size of 1e-100"),
        ({"targets": ["train:1", "train:1"]}, DataError, "train:1 is there more than once"),
        ({"targets": ["seed:1", "train:1"]}, NotFoundError, "needs the checkpoint that generated it"),
        ({"name": "my scores"}, SettingsError, "'name' is 'my scores'"),
        ({"name": "a@b"}, SettingsError, "'name' is 'a@b'"),
    ],
)
def test_what_are_no_scores_is_refused(
    cache: Path, pictures: Dataset, told: dict[str, Any], error: type[StudioError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        api.add_scores(**{"name": "mine", "scores": SCORES, "targets": TWO, "dataset": pictures} | told)
    assert not list(cache.glob("own-scores/*[0-9a-f]"))


def test_own_scores_answer_for_what_they_are_of_alone(pictures: Dataset, checkpoint: Checkpoint) -> None:
    drawn = sampling_of(checkpoint)
    name = api.add_scores("mine", SCORES, [drawn, "train:3"], pictures)
    for target, sentence in (
        ("train:4", "have no row for train:4, but for seed:0, train:3. Add scores of it."),
        (targets.Target(drawn.id, pictures.train.images[0], "0" * 16, ""), "for another picture of that name"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            api.explain(pictures, checkpoint, target, "own:mine", progress=False)
    other = api.dataset(pictures.train.images, name="other")
    reason = own_scores.refusal("own:mine", other.digest, [])
    assert f"are of the training set with digest {pictures.digest}, not of this one ({other.digest})" in reason
    assert reason.endswith("Add scores of this one.")
    theirs = api.add_scores("mine", SCORES[:, :24], [*TWO[1:], "train:4"], other)
    assert own_scores.refusal("own:mine", pictures.digest, []).endswith(f"{name}.")
    assert theirs != name
    for said in ("own:mine", "mine (own scores)"):  # as links say it
        for of, meant in ((pictures.digest, name), (other.digest, theirs), ("0" * 16, theirs)):
            assert tuning._named(said, of) == ([meant], [])


def test_own_scores_of_other_pictures_leave_the_other_methods_of_a_count_be(
    pictures: Dataset, checkpoint: Checkpoint, capsys: Any
) -> None:
    other = targets.Target("held-out:0", pictures.train.images[0], "0" * 16, "")
    name = api.add_scores("mine", SCORES[:1], [other], "discs")
    asked = ["--method", "own:mine", "--method", "raw-pixel-cosine", "--held-out", "2", "--json"]
    assert cli.main(["known", "--dataset", "discs", "--checkpoint", "small", *asked]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in told["tables"][0]["rows"]] == ["raw-pixel-cosine"]
    assert told["left_out"] == {name: "It explains none of these targets."}


def test_a_picture_credited_six_times_is_one(pictures: Dataset, checkpoint: Checkpoint) -> None:
    api.add_scores("mine", SCORES, TWO, pictures)
    found = api.credit(pictures, checkpoint, [TWO[0]] * 6, "own:mine", progress=False)
    assert [one.id for one in found.sheet.explained] == TWO[:1]
    assert found.groups[0].low is None, "an interval takes six pictures"


def sampling_of(checkpoint: Checkpoint) -> targets.Target:
    from dtrak_core.models import networks

    image = sampling.generate(networks.load_denoiser(checkpoint), [0], "ddim", 2, 0.0)[0]
    return targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=0, sampling_steps=50), image)
