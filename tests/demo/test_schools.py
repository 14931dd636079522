"""The shipped text-to-image demo: whole, small, opened by plain diffusers, and computed again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from dtrak_core import store
from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets import catalogue, emoji_schools
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import portraits, schools
from dtrak_core.features import feature_store, features
from dtrak_core.lds import known_answers
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import bases, checkpoints, lora, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.settings import key_of
from dtrak_core.ui.counterfactual import matrix

LIMIT = 22e6  # bytes that it may take, beside the other demo's
pytestmark = pytest.mark.usefixtures("only_the_demo")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return catalogue.by_name(schools.DATASET)


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset) -> Checkpoint:
    return checkpoints.by_name(schools.NAME, dataset.digest)


def test_it_is_small_and_whole() -> None:
    places = schools.listed(store.demo_root())
    total = 0
    for place in places:
        kind, key = place.split("/")
        artifact = store.get(kind, key)
        assert artifact.shipped
        artifact.verify()
        total += artifact.manifest["bytes"]
    assert {place.split("/")[0] for place in places} | {"comparisons"} == set(schools.SHIPPED)
    assert total < LIMIT


def test_it_was_trained_as_it_would_be_again(dataset: Dataset, checkpoint: Checkpoint) -> None:
    assert schools.lora_settings(dataset, bases.by_name(schools.BASE)) == checkpoints.training_of(checkpoint)


def test_without_a_school_its_pictures_are_lost_and_the_others_stay(dataset: Dataset, checkpoint: Checkpoint) -> None:
    found = comparisons.by_name("schools")
    assert found.finished
    assert found.settings == schools.comparisons(dataset, checkpoint)["schools"]
    assert max(entry.l2 for entry in found.entries if entry.method == "identity") < matrix.ROUNDING
    verdict = comparisons.statistics(found, measure="l2")["same:contributor"]
    assert (verdict.targets, verdict.models, verdict.random_models) == (6, 2, 6)
    assert verdict.own is not None
    assert verdict.others is not None
    assert verdict.own > 20 > 5 > verdict.others
    assert verdict.beyond is not None
    assert verdict.beyond.low is not None
    assert verdict.beyond.low > 0
    assert verdict.specific_p is None, "two models are too few"


def test_without_a_subject_its_picture_is_lost_and_the_others_stay(dataset: Dataset, checkpoint: Checkpoint) -> None:
    found = comparisons.by_name("subjects")
    assert found.finished
    assert found.settings == schools.comparisons(dataset, checkpoint)["subjects"]
    assert max(entry.l2 for entry in found.entries if entry.method == "identity") < matrix.ROUNDING
    for measure in ("l2", "cosine", "loss_change"):
        verdict = comparisons.statistics(found, measure=measure)["same:family"]
        assert (verdict.targets, verdict.models, verdict.random_models, verdict.removed) == (6, 6, 2, (2,))
        assert verdict.specific_p == pytest.approx(1 / 720), "no other order of six models parts them as far"
        assert verdict.beyond is not None
        ends = verdict.beyond.low, verdict.beyond.high
        assert [np.sign(end) for end in ends] == ([-1, -1] if measure == "cosine" else [1, 1]), measure
    moved = comparisons.statistics(found, measure="l2")["same:family"]
    assert moved.own is not None
    assert moved.others is not None
    assert moved.own > 20 > 5 > moved.others


def test_its_pictures_are_of_prompts_both_schools_by_turns(dataset: Dataset, checkpoint: Checkpoint) -> None:
    drawn = {one.id: one.prompt for one in targets.samples(checkpoint.digest)}
    how = schools.drawing(dataset)
    assert drawn == {f"seed:{seed}": how.prompt_of(seed) for seed in range(schools.SEEDS)}
    assert len(set(drawn.values())) == schools.SEEDS
    rows = {row["caption"]: row for row in dataset.train.rows}
    assert Counter(rows[prompt]["contributor"] for prompt in drawn.values()) == dict.fromkeys(emoji_schools.SCHOOLS, 32)


def test_plain_diffusers_draws_a_shipped_picture(checkpoint: Checkpoint) -> None:
    shipped = next(t for t in targets.samples(checkpoint.digest) if t.id == "seed:5")
    pipe = StableDiffusionPipeline.from_pretrained(bases.by_name(schools.BASE).folder).to(torch.float32)
    pipe.load_lora_weights(str(checkpoint.folder), weight_name=lora.FILE)
    pipe.set_progress_bar_config(disable=True)
    how = {"guidance_scale": schools.GUIDANCE, "output_type": "np"}
    drawn = pipe(shipped.prompt, generator=torch.Generator().manual_seed(5), **how).images[0]
    difference = np.abs(np.rint(drawn * 255) - shipped.image)
    # Another processor may round otherwise; 50 steps make a little more of it.
    assert difference.mean() < 1


@pytest.mark.parametrize("model_output", portraits.MODEL_OUTPUTS)
def test_features_are_computed_again(
    dataset: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, model_output: str
) -> None:
    settings = schools.feature_settings(dataset.digest, checkpoint.digest, model_output)  # type: ignore[arg-type]
    stored = feature_store.rows(store.get("features", key_of("features", settings)), slice(300, 302))
    images, words = np.asarray(dataset.train.images[300:302]), dataset.train.prompts[300:302]
    fresh = features.featurise(denoiser, images, ["train:300", "train:301"], settings, lambda done: None, 0, words)
    error = np.linalg.norm(stored - fresh, axis=1) / np.linalg.norm(fresh, axis=1)
    assert error.max() < 0.03, "8 bits a number leave about a percent"


def test_known_answers_are_found_without_computing(dataset: Dataset, checkpoint: Checkpoint) -> None:
    drawn = sorted(targets.samples(checkpoint.digest), key=lambda one: targets.seed_of(one.id))
    values = known_answers.stored(dataset, checkpoint, METHODS["d-trak"], drawn)
    assert values is not None
    for fact, times in (("family", 3), ("contributor", 1)):
        (known,) = (one for one in known_answers.known(dataset, drawn) if one.fact == fact)
        assert len(known.places) == schools.SEEDS
        assert known_answers.answer(values, known).share > times * known_answers.chance(known), fact


def test_the_comparisons_remove_the_subjects_and_the_school(dataset: Dataset, checkpoint: Checkpoint) -> None:
    found = {one.name: one for one in comparisons.listing(dataset, checkpoint.digest)}
    assert set(found) <= set(schools.REMOVALS)
    rows = {row["caption"]: row for row in dataset.train.rows}
    for one in found.values():
        assert one.settings.targets == tuple(f"seed:{seed}" for seed in range(schools.COMPARED))
        for entry in one.entries:
            if entry.method.startswith("same:") and entry.owner == entry.target:
                fact = entry.method.removeprefix("same:")
                own = rows[one.settings.prompt_of(targets.seed_of(entry.target))][fact]
                assert entry.removed == tuple(i for i, row in enumerate(dataset.train.rows) if row[fact] == own)
