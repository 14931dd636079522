"""Remove, retrain, regenerate, compare: removal sets, controls, resuming, what is read on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core import (
    checkpoints,
    comparisons,
    counterfactual,
    ensembles,
    features,
    jobs,
    models,
    removals,
    sampling,
    scores,
    store,
    targets,
    training,
    work,
)
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.errors import Cancelled, NotFoundError, SettingsError
from dtrak_core.methods import METHODS
from dtrak_core.progress import quiet
from dtrak_core.removal_settings import CounterfactualSettings
from dtrak_core.settings import FeatureSettings, Sampled, SampleSettings, build, key_of


@pytest.fixture
def settings(pictures: Dataset, checkpoint: Checkpoint) -> CounterfactualSettings:
    """Two targets, one method that needs no features, three sizes of controls."""
    denoiser = models.load_denoiser(checkpoint)
    for seed in (3, 4):
        image = sampling.generate(denoiser, [seed], "ddim", 5, 0.0)[0]
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed, sampling_steps=5), image)
    return build(
        CounterfactualSettings,
        dataset=pictures.digest,
        checkpoint=checkpoint.digest,
        targets=("seed:3", "seed:4"),
        methods=("raw-pixel-cosine",),
        remove=(6,),
        random_draws=2,
        sampling_steps=5,
    )


def test_the_plan_holds_every_control(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    plan = removals.plan(pictures, checkpoint, settings)
    count = {m: sum(w.method == m for w in plan) for m in dict.fromkeys(w.method for w in plan)}
    assert count == {"identity": 2, "random": 4, "noise_floor": 2, "raw-pixel-cosine": 2, "bottom": 2}
    assert {len(w.removed) for w in plan if w.method in ("random", "bottom", "raw-pixel-cosine")} == {6}
    # Random and noise-floor models serve both targets.
    assert len(removals.trainings(plan, checkpoint)) == 2 + 1 + 2 * 2 == removals.count_trainings(settings)
    target = targets.resolve(pictures, checkpoint.digest, "seed:3", Sampled(sampling_steps=5))
    values = scores.attribution_scores("raw-pixel-cosine", pictures, checkpoint.digest, target).values
    top = next(w for w in plan if w.method == "raw-pixel-cosine" and w.target == "seed:3")
    low = next(w for w in plan if w.method == "bottom" and w.target == "seed:3")
    assert min(values[list(top.removed)]) >= max(np.delete(values, list(top.removed)))
    assert max(values[list(low.removed)]) <= min(np.delete(values, list(low.removed)))


def test_a_retraining_keeps_everything_but_the_removed(pictures: Dataset, checkpoint: Checkpoint) -> None:
    original = checkpoints.training_of(checkpoint)
    changed = removals.retraining(pictures, checkpoint, (0, 5), 42)
    assert changed.indices == tuple(i for i in range(24) if i not in (0, 5))
    assert changed.model_dump(exclude={"indices"}) == original.model_dump(exclude={"indices"})
    assert removals.retraining(pictures, checkpoint, (), 43).indices is None


def test_a_comparison_from_end_to_end(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    seen: list[tuple[int, int]] = []
    counterfactual.compare(pictures, checkpoint, settings, "try", lambda d, t, u, m: seen.append((d, t)))
    # Three of seven trainings see 24 pictures or 18, in batches of 8, twice: 3 steps an epoch either way.
    assert seen[-1] == (7 * 6, 7 * 6)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    found = comparisons.by_name("try")
    assert len(found.entries) == found.expected == 12
    for entry in found.entries:
        assert entry.l2 == pytest.approx(
            np.linalg.norm((entry.image.astype(float) - found.originals[entry.target]) / 127.5)
        )
        if entry.method == "identity":
            assert (entry.l2, entry.loss_change) == (0.0, 0.0)
            assert entry.cosine == pytest.approx(1.0, abs=1e-6)
        else:
            assert entry.l2 > 0
            assert entry.cosine < 1
    # One bar again by hand: the same training, the same seed, the same distance.
    entry = next(e for e in found.entries if e.method == "raw-pixel-cosine" and e.target == "seed:4")
    run = removals.retraining(pictures, checkpoint, entry.removed, 42)
    training.train(pictures, run, "by-hand", quiet)
    denoiser = models.load_denoiser(checkpoints.by_name("by-hand", pictures.digest))
    np.testing.assert_array_equal(sampling.generate(denoiser, [4], "ddim", 5, 0.0)[0], entry.image)
    own = targets.resolve(pictures, checkpoint.digest, "seed:4", Sampled(sampling_steps=5))
    np.testing.assert_array_equal(found.originals["seed:4"], own.image)
    loss = counterfactual.denoising_loss(denoiser, own, 50, 0)
    before = counterfactual.denoising_loss(models.load_denoiser(checkpoint), own, 50, 0)
    assert loss - before == pytest.approx(entry.loss_change, abs=1e-9)
    # Retrained models are no checkpoints to choose from.
    assert {c.run.manifest["name"] for c in checkpoints.listing()} == {"small", "by-hand"}


def test_medians_and_tests_weigh_every_target_once(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    counterfactual.compare(pictures, checkpoint, settings, "try", quiet)
    found = comparisons.by_name("try")
    by_target = [
        np.mean([e.l2 for e in found.entries if e.method == "random" and e.target == t]) for t in settings.targets
    ]
    assert comparisons.medians(found)["random"]["l2"] == pytest.approx(np.median(by_target))
    assert comparisons.medians(found)["random"]["n"] == 2
    assert comparisons.medians(found)["random"]["entries"] == 4
    ours = [next(e.l2 for e in found.entries if e.method == "bottom" and e.target == t) for t in settings.targets]
    expected = np.median(np.array(ours) - np.array(by_target))
    assert comparisons.statistics(found)["bottom"].median_difference == pytest.approx(expected)
    document = comparisons.document(found)
    assert document["finished"]
    assert document["medians"]["random"]["l2"] == comparisons.medians(found)["random"]["l2"]
    assert len(comparisons.to_csv(found).splitlines()) == 13


def test_an_interrupted_comparison_shows_what_it_has_and_goes_on(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    def stop(done: int, total: int, unit: str, message: str) -> None:
        if done >= 3 * 6 + 2:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        counterfactual.compare(pictures, checkpoint, settings, "try", stop)
    half = comparisons.read(settings)
    assert half.expected == 12
    assert 2 < len(half.entries) < 12
    trained = {a.key for a in store.listing("retrained")}
    assert len(trained) == 3
    counterfactual.compare(pictures, checkpoint, settings, "try", quiet)
    done = comparisons.read(settings)
    assert len(done.entries) == 12
    for entry in half.entries:
        twin = next(e for e in done.entries if (e.target, e.method, e.draw) == (entry.target, entry.method, entry.draw))
        np.testing.assert_array_equal(entry.image, twin.image)


def test_the_job_computes_what_it_needs_first(pictures: Dataset, checkpoint: Checkpoint) -> None:
    settings = build(
        CounterfactualSettings,
        dataset=pictures.digest,
        checkpoint=checkpoint.digest,
        targets=("seed:7",),
        methods=("lite0-cosine",),
        remove=(4,),
        random_draws=1,
        bottom=False,
        sampling_steps=5,
    )
    assert comparisons.read(settings).expected == 0
    (made,) = work.run(jobs.CounterfactualJob(settings=settings, name="one"), quiet)
    assert made.key == key_of("comparisons", settings)
    assert [e.method for e in comparisons.read(settings).entries] == [
        "identity",
        "random",
        "noise_floor",
        "lite0-cosine",
    ]


def test_equal_questions_are_one_job_whatever_their_names(settings: CounterfactualSettings) -> None:
    first, second = (jobs.CounterfactualJob(settings=settings, name=name) for name in ("a", "b"))
    assert jobs.key_of_job(first) == jobs.key_of_job(second)


def test_groups_are_removed_whole() -> None:
    rows = [{"family": f} for f in ("a", "b", "a", "c", "b", "")]
    order = np.array([5, 1, 0, 2, 3, 4])
    assert removals.grouped(order, 1, rows, "family") == (5,)
    assert removals.grouped(order, 2, rows, "family") == (1, 4, 5)
    assert removals.grouped(order, 4, rows, "family") == (0, 1, 2, 4, 5)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({}, 1 + 2 + 2 + 2),  # noise floor, random draws, one removal a target and its lowest
        ({"bottom": False, "random_draws": 1, "remove": (2, 6)}, 1 + 2 + 4),
        ({"group": "label"}, 1 + 2 * 3 + 4),  # each target's groups may have a size of their own
        ({"methods": ("contributor:a", "contributor:b")}, 1 + 2 * 2 + 2),
    ],
)
def test_trainings_are_counted_before_scores_are_known(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, change: dict[str, Any], number: int
) -> None:
    asked = settings.model_copy(update=change)
    assert removals.count_trainings(asked) == number
    if not any(method.startswith("contributor") for method in asked.methods):
        planned = removals.trainings(removals.plan(pictures, checkpoint, asked), checkpoint)
        assert len(planned) <= number


def test_a_contributor_is_removed_whole_and_an_unknown_one_is_refused(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    unknown = settings.model_copy(update={"methods": ("contributor:nobody",)})
    with pytest.raises(NotFoundError, match="nobody"):
        removals.plan(pictures, checkpoint, unknown)


def test_random_sets_repeat_and_differ_by_draw() -> None:
    assert removals.random_set(900, 180, 0) == removals.random_set(900, 180, 0) != removals.random_set(900, 180, 1)
    assert len(set(removals.random_set(900, 180, 0))) == 180


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"remove": (24,)}, "Leave at least 1"),
        ({"methods": ("nonsense",)}, "not a method"),
    ],
)
def test_what_cannot_be_removed_is_refused(
    pictures: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    change: dict[str, tuple[object, ...]],
    words: str,
) -> None:
    with pytest.raises((SettingsError, NotFoundError), match=words):
        removals.plan(pictures, checkpoint, settings.model_copy(update=change))


def test_an_earlier_state_cannot_be_retrained(pictures: Dataset, checkpoint: Checkpoint) -> None:
    with pytest.raises(SettingsError, match="finished one"):
        checkpoints.training_of(checkpoints.by_name("small@50", pictures.digest))


@pytest.mark.parametrize("change", [{"random_draws": 0}, {"targets": ("seed:1", "seed:1")}, {"targets": ("train:1",)}])
def test_settings_refuse_what_has_no_meaning(settings: CounterfactualSettings, change: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        build(CounterfactualSettings, **(settings.model_dump() | change))


def test_the_shown_comparison_must_exist(cache: Path) -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        comparisons.by_name("demo")


@pytest.mark.parametrize("method", ["d-trak", "tracin-cp", "journey-trak", "das", "d-trak-ensemble", "nda", "ek-fac"])
def test_every_kind_of_method_ranks_removals(pictures: Dataset, checkpoint: Checkpoint, method: str) -> None:
    small = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32)
    features.compute_features(pictures, models.load_denoiser(checkpoint), small, quiet)  # usual from here on
    if METHODS[method].models:
        with pytest.raises(NotFoundError, match="Model 1 of 4 of the ensemble is not trained yet"):
            removals.settings_for(pictures, checkpoint, (method,), {"targets": ("seed:3",), "remove": (6,)})
        for one in ensembles.member_trainings(checkpoint.digest, METHODS[method].models):
            counterfactual.retrained(pictures, one, quiet)
    asked = {"targets": ("seed:3",), "remove": (6,), "random_draws": 1, "bottom": False, "sampling_steps": 5}
    settings = removals.settings_for(pictures, checkpoint, (method,), asked)
    work.run(build(jobs.CounterfactualJob, settings=settings, name=method), quiet)
    (entry,) = (e for e in comparisons.by_name(method).entries if e.method == method)
    target = targets.resolve(pictures, checkpoint.digest, "seed:3", Sampled(sampling_steps=5))
    base = small.model_copy(update={"model_output": METHODS[method].model_output or "loss"})
    values = scores.attribution_scores(method, pictures, checkpoint.digest, target, base).values
    assert sorted(entry.removed) == sorted(np.argsort(-values, kind="stable")[:6])
    assert entry.l2 > 0
