"""Recipes and what they predict: ranks for every damping, LDS on read, variants that differ, whatever is finished."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dtrak_core import statistics, store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.duplicates import Equal
from dtrak_core.engine import drawing
from dtrak_core.errors import SettingsError
from dtrak_core.features import settings as settings_of_features
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import asking
from dtrak_core.lds import benchmarking, known_answers, predictions, recipes, standings, subset_losses, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import gradient_methods, own_scores, scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.models.targets import publish_sample, resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of


@pytest.fixture
def measured(pictures: Dataset, checkpoint: Checkpoint) -> LdsSettings:
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest}
    return build(LdsSettings, **where, targets=("held-out:0", "held-out:5", "train:3"), num_subsets=4, num_timesteps=4)


@pytest.fixture
def base(pictures: Dataset, checkpoint: Checkpoint) -> FeatureSettings:
    return FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=256)


def predicted(pictures: Dataset, measured: LdsSettings, recipe: Recipe) -> predictions.Predictions:
    benchmarking.compute(pictures, measured, [recipe], False, quiet)
    found = predictions.find(recipe, measured)
    assert found is not None
    return found


@pytest.mark.parametrize("squared", [False, True])
def test_ranks_are_of_summed_scores_at_every_damping(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings, squared: bool
) -> None:
    recipe = Recipe(method="d-trak", features=base, squared=squared)
    found = predicted(pictures, measured, recipe)
    assert found.shares[found.place] == 0.15
    assert found.ranks.shape == (len(found.shares), predictions.LEAST_SUBSETS, 3)
    masks = subset_models.masks_of(pictures.train.labels, 32, 0.5)
    for place in (0, found.place, len(found.shares) - 1):
        for number, name in enumerate(measured.targets):
            target = resolve(pictures, checkpoint.digest, name)
            own = scores.attribution_scores(
                "d-trak", pictures, checkpoint.digest, target, base, rank_share=found.shares[place]
            ).values
            sums = -(masks @ (own**2 if squared else own))
            np.testing.assert_array_equal(found.ranks[place][:, number], stats.rankdata(sums))


def test_lds_is_told_of_the_subsets_that_are_finished(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    found = predicted(pictures, measured, Recipe(method="trak", features=base))
    for one in [subset_models.models(measured)[number] for number in (0, 2, 3)]:
        subset_losses.losses_of(pictures, checkpoint, one, quiet)
    known = subset_models.read(pictures, measured)
    assert known.subsets == [0, 2, 3]
    value = predictions.evaluated(found, known, measured, "held-out")
    ranks = found.ranks[found.place][[0, 2, 3]]
    expected = [stats.spearmanr(ranks[:, number], known.losses[:, 0, number]).statistic for number in (0, 1)]
    np.testing.assert_allclose(value.per_target, expected)
    curve = predictions.curve(found, known, measured, "held-out")
    assert curve[found.place] == pytest.approx(np.mean(expected))
    (row,) = standings.rows([found], known, measured)
    assert (row["targets"], row["timesteps"], row["interval"]) == ("held-out", 2, None)
    assert row["gradients"] == (24 + 3) * 2


def test_held_out_targets_that_were_trained_on_are_left_out_but_of_the_papers_draws(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    found = predicted(pictures, measured, Recipe(method="trak", features=base))
    for one in subset_models.models(measured):
        subset_losses.losses_of(pictures, checkpoint, one, quiet)
    expected = statistics.spearman(found.ranks[found.place][:4], subset_models.read(pictures, measured).mean)
    equal = Equal(pictures.equal.train, pictures.equal.held_out, (0, 1))
    leaking = Dataset(**{**vars(pictures), "equal": equal})
    known = subset_models.read(leaking, measured)
    value = predictions.evaluated(found, known, measured, "held-out")
    np.testing.assert_allclose(value.per_target, [expected[1]])
    assert predictions.curve(found, known, measured, "held-out")[found.place] == pytest.approx(expected[1])
    (row,) = standings.rows([found], known, measured)
    assert (row["lds"], row["count"]) == (pytest.approx(expected[1]), 1)
    facts = standings.kinds(known, measured)["held-out"]
    assert (facts["count"], facts["leaked"], facts["left_out"]) == (1, ["held-out:0"], True)
    assert standings.leak(known, measured) == (
        "1 of 2 held-out targets; 1 is a training picture too, by pixels, and left out."
    )
    paper = Dataset(**{**vars(leaking), "settings": pictures.settings.model_copy(update={"kind": "cifar10"})})
    known = subset_models.read(paper, measured)
    np.testing.assert_allclose(predictions.evaluated(found, known, measured, "held-out").per_target, expected[:2])
    assert standings.kinds(known, measured)["held-out"]["count"] == 2
    assert "kept: the split is the paper's own" in standings.leak(known, measured)
    every = Dataset(**{**vars(pictures), "equal": Equal(equal.train, equal.held_out, (0, 5))})
    subset_models.check(every, checkpoint, measured)  # train:3 is no held-out one
    alone = measured.model_copy(update={"targets": ("held-out:0", "held-out:5")})
    with pytest.raises(SettingsError, match="All targets of this LDS are training pictures of"):
        subset_models.check(every, checkpoint, alone)
    subset_models.check(leaking, checkpoint, alone)
    subset_models.check(Dataset(**{**vars(every), "settings": paper.settings}), checkpoint, alone)
    known = subset_models.read(every, measured)
    assert standings.rows([found], known, measured) == []
    assert standings.kinds(known, measured) == {}
    assert standings.leak(known, measured).startswith("0 of 2 held-out targets")


def test_gradients_along_a_sampling_are_told_as_they_were_taken(
    pictures: Dataset, checkpoint: Checkpoint, base: FeatureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_of_features, "target_draws", lambda digest: 16)  # eight noises of two timesteps
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "sampling_steps": 5}
    measured = build(LdsSettings, **where, targets=("held-out:0", "seed:1", "seed:2"), num_subsets=4)
    drawing.generate_missing(measured.targets, checkpoint.digest, measured, quiet)
    found = predicted(pictures, measured, recipe := Recipe(method="journey-trak", features=base))
    assert found.gradients == 24 * 2 + 2 * 5
    wanted = predictions.settings_for(recipe, measured)
    path = store.get("predictions", key_of("predictions", wanted)).path / "manifest.json"
    facts = json.loads(path.read_bytes())
    del facts["as_taken"]
    path.write_text(json.dumps(facts | {"gradients": 24 * 2 + 2 * 2 * 8}))  # what was told before
    again = predictions.find(recipe, measured)
    assert again is not None
    assert again.gradients == found.gradients


def test_a_run_that_grows_needs_no_new_predictions(
    pictures: Dataset, measured: LdsSettings, base: FeatureSettings
) -> None:
    recipe = Recipe(method="raw-pixel-cosine")
    benchmarking.compute(pictures, measured, [recipe], False, quiet)
    wider = measured.model_copy(update={"num_subsets": 32})
    assert predictions.find(recipe, wider) is not None
    assert predictions.find(recipe, measured.model_copy(update={"num_subsets": 33})) is None


def test_the_functions_of_a_recipe_are_its_own(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    plain = predicted(pictures, measured, Recipe(method="trak", features=base))
    damped_alike = Recipe(method="d-trak", features=base, model_output="interpolated", eta=1.0)
    mixed = predicted(pictures, measured, damped_alike)
    place = [plain.shares.index(0.15), mixed.shares.index(0.15)]
    agreement = np.corrcoef(plain.ranks[place[0]].ravel(), mixed.ranks[place[1]].ravel())[0, 1]
    assert agreement > 0.999, "η = 1 is the loss"
    crossed = predicted(pictures, measured, Recipe(method="d-trak", features=base, target_output="loss"))
    straight = predicted(pictures, measured, Recipe(method="d-trak", features=base))
    assert np.abs(crossed.ranks - straight.ranks).max() > 1


def test_earlier_checkpoints_predict_for_the_last_ones_pictures(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    wanted = recipes.sweep("checkpoints", pictures, checkpoint)["trak"]
    shares = [checkpoints.by_digest(one.features.checkpoint).share for one in wanted if one.features]
    assert shares == [25, 50, 75, 100]
    found = predicted(pictures, measured, wanted[0])
    assert found.targets == measured.targets


@pytest.mark.parametrize(
    ("prediction", "more"),
    [
        ("noise", ()),
        ("sample", ("squared-noise",)),
        ("v", ("squared-noise", "squared-clean")),
        ("flow", ("squared-noise", "squared-clean")),
    ],
)
def test_functions_are_the_papers_and_those_that_the_output_means(
    monkeypatch: pytest.MonkeyPatch, pictures: Dataset, checkpoint: Checkpoint, prediction: str, more: tuple[str, ...]
) -> None:
    assert checkpoints.prediction_of(checkpoint) == "noise"
    monkeypatch.setattr(checkpoints, "prediction_of", lambda _: prediction)
    wanted = recipes.sweep("functions", pictures, checkpoint)[""]
    assert [one.model_output for one in wanted] == [*recipes.OUTPUTS, *more]


def test_noise_levels_are_weighed_where_the_network_predicts_the_picture(
    monkeypatch: pytest.MonkeyPatch, pictures: Dataset, checkpoint: Checkpoint, base: FeatureSettings
) -> None:
    assert recipes.sweep("weights", pictures, checkpoint) == {}
    monkeypatch.setattr(checkpoints, "prediction_of", lambda _: "sample")
    lines = recipes.sweep("weights", pictures, checkpoint)
    ways = {(one.model_output, one.weighting, one.normalise) for line in lines.values() for one in line}
    assert len(ways) == 3 * len(recipes.WEIGHED_OUTPUTS)
    trained = recipes.method_for(lines["as trained"][0])
    assert (trained.weighting, trained.model_output) == ("training", "squared-output")
    settings = gradient_methods.feature_settings(trained, pictures.digest, checkpoint.digest, base)
    assert settings.weighting == "training"
    assert settings.model_copy(update={"weighting": "alike"}).model_dump(mode="json").keys() == base.model_dump().keys()


def test_scores_are_kept_where_they_are_asked_for(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings
) -> None:
    recipe = Recipe(method="raw-pixel-dot")
    assert predictions.stored_scores(recipe, measured) is None
    benchmarking.compute(pictures, measured, [recipe], True, quiet)
    stored = predictions.stored_scores(recipe, measured)
    assert stored is not None
    names, values = stored
    target = resolve(pictures, checkpoint.digest, names[1])
    own = scores.attribution_scores("raw-pixel-dot", pictures, checkpoint.digest, target).values
    np.testing.assert_allclose(values[1], own / np.abs(own).max(), atol=0.5 / 127 + 1e-6)


def test_an_ensemble_is_the_mean_over_models_trained_on_halves(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    recipe = Recipe(method="d-trak-ensemble", features=base)
    found = predicted(pictures, measured, recipe)
    members = store.listing("retrained")
    assert sorted(len(one.settings["indices"]) for one in members) == [12] * 4
    digests = [checkpoints.of_run(one)[-1].digest for one in members]
    target = resolve(pictures, checkpoint.digest, "held-out:0")
    each = [
        scores.attribution_scores(
            "d-trak", pictures, digest, target, base.model_copy(update={"checkpoint": digest})
        ).values
        for digest in digests
    ]
    masks = subset_models.masks_of(pictures.train.labels, 32, 0.5)
    sums = -(masks @ np.mean(each, axis=0))
    np.testing.assert_array_equal(found.ranks[found.place][:, 0], stats.rankdata(sums))


def test_a_recipe_of_no_method_or_share_is_refused(pictures: Dataset, base: FeatureSettings) -> None:
    with pytest.raises(SettingsError, match="eta"):
        build(Recipe, method="d-trak", features=base, eta=2.0)


def test_a_method_that_explains_no_target_of_an_lds_is_left_out_with_the_reason(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings, base: FeatureSettings
) -> None:
    assert predictions.find(Recipe(method="journey-trak", features=base), measured) is None
    where = pictures.digest, checkpoint.digest, False
    assert asking.unusable(METHODS["journey-trak"], *where) == ""
    drawn = measured.model_copy(update={"targets": ("held-out:0", "seed:3")})
    assert asking.unusable(METHODS["journey-trak"], *where, drawn) == ""
    ddpm = drawn.model_copy(update={"sampler": "ddpm"})
    assert "'seed:3' has no DDIM trajectory" in asking.unusable(METHODS["journey-trak"], *where, ddpm)
    assert asking.unusable(METHODS["d-trak"], *where, ddpm) == ""
    added = own_scores.add("mine", np.ones((1, 24)), [resolve(pictures, checkpoint.digest, "held-out:1")], pictures)
    mine = own_scores.Named("mine", added.key).id
    for method in ("journey-trak", mine):
        reason = asking.unusable(METHODS[method], *where, measured)
        assert reason == "It explains none of these targets."
    assert predictions.find(Recipe(method=mine), measured) is None
    other = measured.model_copy(update={"targets": ("held-out:1",)})
    assert asking.unusable(METHODS[mine], *where, other) == ""


def test_own_scores_of_another_models_pictures_do_not_stop_an_lds(
    pictures: Dataset, checkpoint: Checkpoint, measured: LdsSettings
) -> None:
    drawn = publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=0), pictures.train.images[0])
    theirs = replace(drawn, pixels="0" * 16)  # the same seed of another model
    held_out = resolve(pictures, checkpoint.digest, "held-out:1")
    with_drawn = measured.model_copy(update={"targets": ("seed:0", "held-out:1", "held-out:2")})
    where = pictures.digest, checkpoint.digest, False
    for targets, explained in (([theirs], ()), ([theirs, held_out], ("held-out:1",)), ([drawn], ("seed:0",))):
        added = own_scores.add("mine", np.ones((len(targets), 24)), targets, pictures)
        method = METHODS[own_scores.Named("mine", added.key).id]
        assert predictions.explained(method, with_drawn) == explained
        assert bool(asking.unusable(method, *where, with_drawn)) == (not explained)
        if explained:
            assert predicted(pictures, with_drawn, Recipe(method=method.id)).targets == explained
        wanted = subset_models.pictures(pictures, with_drawn)
        assert [one.id for one in known_answers.explained(method, wanted)] == [*explained]
