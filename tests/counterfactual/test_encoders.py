"""What leans on an encoder is stored under its weights: other weights are other keys and other results, everywhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import clip_helpers
import numpy as np
import pytest

from dtrak_core.commands import answers
from dtrak_core.counterfactual import comparisons, encoders, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.jobs import asking
from dtrak_core.jobs.jobs import BenchmarkJob, CounterfactualJob, EmbedJob, key_of_job
from dtrak_core.lds import benchmarking, predictions
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import embeddings, scores
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of

CLIP, LITE0 = "clip-vit-b-32", "efficientnet-lite0"
CHECKPOINT = "0" * 16  # similarities ignore it


@pytest.fixture(autouse=True)
def first_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_helpers.small(tmp_path, monkeypatch)


def jobs_of(dataset: Dataset) -> list[EmbedJob]:
    target = targets.resolve(dataset, CHECKPOINT, "held-out:0")
    found = asking.jobs_for([scores.resolve("clip-cosine", dataset, CHECKPOINT, [target])], Sampled())
    return [job for job in found if isinstance(job, EmbedJob)]


def test_attribution_asks_for_embeddings_by_the_weights_that_are_set_up(
    pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.resolve(pictures, CHECKPOINT, "held-out:0")

    def scored() -> scores.Scores:
        assert len(scores.needed("clip-cosine", pictures, CHECKPOINT, target)) == 2
        with pytest.raises(NotFoundError, match="no stored embeddings by the encoder's weights"):
            scores.attribution_scores("clip-cosine", pictures, CHECKPOINT, target)
        for job in jobs_of(pictures):
            work.run(job, quiet)
        assert scores.needed("clip-cosine", pictures, CHECKPOINT, target) == []
        return scores.attribution_scores("clip-cosine", pictures, CHECKPOINT, target)

    jobs, found = jobs_of(pictures), [scored()]
    clip_helpers.set_up(tmp_path, 1, monkeypatch)
    assert key_of_job(jobs_of(pictures)[0]) != key_of_job(jobs[0]), "a job that is done is not joined"
    with pytest.raises(SettingsError, match="but other weights are set up"):
        work.run(jobs[0], quiet)
    found.append(scored())
    assert np.abs(found[0].values - found[1].values).max() > 1e-3
    assert found[0].provenance["encoder_weights"] != found[1].provenance["encoder_weights"]
    monkeypatch.setenv("STUDIO_CLIP_WEIGHTS", str(tmp_path / "weights.pt"))
    again = scores.attribution_scores("clip-cosine", pictures, CHECKPOINT, target)
    np.testing.assert_array_equal(again.values, found[0].values)


def test_predictions_and_scores_are_of_the_weights_that_are_set_up(
    pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"dataset": pictures.digest, "checkpoint": CHECKPOINT}
    measured = build(LdsSettings, **where, targets=("held-out:0", "held-out:5"), num_subsets=4, num_timesteps=4)
    recipe, other = Recipe(method="clip-dot"), Recipe(method="lite0-dot")
    assert "encoder_weights" not in predictions.settings_for(other, measured).model_dump(), "what ships keeps its key"
    found, jobs = [], []
    for seed in (None, 1):
        if seed is not None:
            clip_helpers.set_up(tmp_path, seed, monkeypatch)
        assert predictions.find(recipe, measured) is None
        assert predictions.stored_scores(recipe, measured) is None
        told = encoders.of_methods(["clip-dot"])
        jobs.append(build(BenchmarkJob, settings=measured, recipes=(recipe,), encoder_weights=told))
        benchmarking.compute(pictures, measured, [recipe], True, quiet)
        predicted, kept = predictions.find(recipe, measured), predictions.stored_scores(recipe, measured)
        assert predicted is not None
        assert kept is not None
        found.append((predicted.ranks, kept[1]))
    assert (found[0][0] != found[1][0]).any()
    assert np.abs(found[0][1] - found[1][1]).max() > 1e-3
    assert key_of_job(jobs[0]) != key_of_job(jobs[1])


@pytest.mark.parametrize(("method", "encoder"), [("raw-pixel-cosine", CLIP), ("clip-cosine", LITE0)])
def test_a_comparison_is_of_the_weights_of_its_measure_and_of_its_methods(
    pictures: Dataset,
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    encoder: str,
) -> None:
    asked = {"targets": ("seed:7",), "remove": (4,), "random_draws": 1, "bottom": False, "sampling_steps": 2}
    found: list[comparisons.Comparison] = []
    for seed in (None, 1):
        if seed is not None:
            clip_helpers.set_up(tmp_path, seed, monkeypatch)
        settings = removals.settings_for(pictures, checkpoint, (method,), asked, encoder)  # type: ignore[arg-type]
        assert comparisons.read(settings).entries == (), "nothing of other weights is shown meanwhile"
        (made,) = work.run(CounterfactualJob(settings=settings), quiet)
        found.append(comparisons.read(settings))
        assert made.key == found[-1].key
        if seed is not None:
            with pytest.raises(SettingsError, match="but other weights are set up"):
                work.run(CounterfactualJob(settings=found[0].settings), quiet)
    assert found[0].key != found[1].key
    keys = [
        {
            key_of("outcomes", removals.outcome_of(bar, one.settings))
            for bar in removals.plan(pictures, checkpoint, one.settings)
        }
        for one in found
    ]
    if encoder == CLIP:
        assert not keys[0] & keys[1]
        assert [e.cosine for e in found[0].entries][1:] != [e.cosine for e in found[1].entries][1:]
    else:
        removed = [next(e.removed for e in one.entries if e.method == method) for one in found]
        assert removed[0] != removed[1]


def test_settings_that_do_not_say_are_of_the_weights_that_are_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"dataset": "a" * 16, "checkpoint": "b" * 16, "targets": ("seed:3",), "remove": (3,)}
    plain = build(CounterfactualSettings, **where, methods=("clip-cosine", "lite0-cosine", "contributor:Ada"))
    first = encoders.settled(plain)
    assert [model for model, _ in first.encoder_weights] == [CLIP]
    clip_helpers.set_up(tmp_path, 1, monkeypatch)
    assert key_of("comparisons", encoders.settled(plain)) != key_of("comparisons", first)
    assert encoders.settled(first) == first, "what was said stays"
    monkeypatch.setenv("STUDIO_CLIP_WEIGHTS", str(tmp_path / "gone.pt"))
    assert encoders.settled(plain) == plain
    none = build(CounterfactualSettings, **where, methods=("raw-pixel-cosine",))
    assert encoders.settled(none) == none


def test_a_job_takes_weights_from_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may have begun with other weights set up."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    asked = embeddings.place(), embeddings.known_weights(CLIP)
    clip_helpers.set_up(tmp_path, 1, monkeypatch)
    set_up = embeddings.known_weights(CLIP)
    assert set_up != asked[1]
    for elsewhere in (str(tmp_path / "gone.pt"), ""):  # not on this machine: what is set up stays, and may be refused
        embeddings.take_from(elsewhere)
        assert embeddings.known_weights(CLIP) == set_up
    embeddings.take_from(asked[0])
    assert embeddings.known_weights(CLIP) == asked[1]


def test_weights_that_are_not_there_are_said_before_an_engine_takes_its_own(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_CLIP_WEIGHTS", "gone.pt")
    monkeypatch.setattr(answers, "completed", lambda *_: pytest.fail("a job was asked for"))
    plan = scores.resolve("clip-cosine", pictures, CHECKPOINT, [targets.resolve(pictures, CHECKPOINT, "held-out:0")])
    with pytest.raises(SettingsError, match=r"names 'gone\.pt', which is not there\. Correct the path\."):
        answers._compute_missing(pictures, SimpleNamespace(digest=CHECKPOINT), [plan], 1)  # type: ignore[arg-type]
