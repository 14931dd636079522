"""The shipped text-to-image demo: whole, small, opened by plain diffusers, and computed again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from dtrak_core import store
from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import portraits, roles
from dtrak_core.features import feature_store, features
from dtrak_core.methods import scores
from dtrak_core.models import bases, checkpoints, lora, networks, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.settings import key_of

LIMIT = 15e6  # bytes that it may take, beside the other demo's 30


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return catalogue.by_name(roles.DATASET)


@pytest.fixture(scope="module")
def checkpoint(dataset: Dataset) -> Checkpoint:
    return checkpoints.by_name(roles.NAME, dataset.digest)


@pytest.fixture(scope="module")
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    return networks.load_denoiser(checkpoint)


@pytest.fixture(autouse=True)
def only_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.delenv("STUDIO_DEMO", raising=False)


def test_it_is_small_and_whole() -> None:
    places = roles.listed(store.demo_root())
    total = 0
    for place in places:
        kind, key = place.split("/")
        artifact = store.get(kind, key)
        assert artifact.shipped
        artifact.verify()
        total += artifact.manifest["bytes"]
    assert {place.split("/")[0] for place in places} == set(roles.SHIPPED)
    assert total < LIMIT


def test_the_base_has_not_seen_the_roles(dataset: Dataset) -> None:
    import csv

    from dtrak_core.demo import text_base

    with text_base.FACTS.open(encoding="utf-8", newline="") as file:
        seen = {row["hexcode"] for row in csv.DictReader(file)}
    assert not seen & {row["origin"] for row in dataset.train.rows + dataset.held_out.rows}
    assert (len(dataset.train.rows), len(dataset.held_out.rows)) == (432, 60)
    assert Counter(row["contributor"] for row in dataset.train.rows).most_common(1)[0][0] == "Lisa Thiel"


def test_plain_diffusers_draws_a_shipped_picture(checkpoint: Checkpoint) -> None:
    shipped = next(t for t in targets.samples(checkpoint.digest) if t.id == "seed:5")
    assert shipped.prompt == roles.HOW.prompt_of(5)
    pipe = StableDiffusionPipeline.from_pretrained(bases.by_name(roles.BASE).folder).to(torch.float32)
    pipe.load_lora_weights(str(checkpoint.folder), weight_name=lora.FILE)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(
        shipped.prompt, guidance_scale=2.0, generator=torch.Generator().manual_seed(5), output_type="np"
    ).images[0]
    difference = np.abs(np.rint(drawn * 255) - shipped.image)
    # Another processor may round otherwise; 50 steps make a little more of it.
    assert difference.mean() < 1


@pytest.mark.parametrize("model_output", portraits.MODEL_OUTPUTS)
def test_features_are_computed_again(
    dataset: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, model_output: str
) -> None:
    settings = roles.feature_settings(dataset.digest, checkpoint.digest, model_output)  # type: ignore[arg-type]
    stored = feature_store.rows(store.get("features", key_of("features", settings)), slice(300, 302))
    images, words = np.asarray(dataset.train.images[300:302]), dataset.train.prompts[300:302]
    fresh = features.featurise(denoiser, images, ["train:300", "train:301"], settings, lambda done: None, 0, words)
    error = np.linalg.norm(stored - fresh, axis=1) / np.linalg.norm(fresh, axis=1)
    assert error.max() < 0.03, "8 bits a number leave about a percent"


def test_the_answer_for_a_prompt_is_there_without_computing(dataset: Dataset, checkpoint: Checkpoint) -> None:
    target = targets.resolve(dataset, checkpoint.digest, "seed:0", roles.HOW)
    settings = roles.feature_settings(dataset.digest, checkpoint.digest, "squared-output")
    found = scores.attribution_scores("d-trak", dataset, checkpoint.digest, target, settings)
    names = [dataset.train.rows[i]["name"] for i in np.argsort(-found.values)[:10]]
    # A third of the training pictures have this or the next skin tone, so three would be chance.
    assert sum("dark skin tone" in name for name in names) >= 7, f"{target.prompt} is explained by {names}"


def test_the_comparison_is_in_latent_space_too(dataset: Dataset, checkpoint: Checkpoint) -> None:
    (found,) = comparisons.listing(dataset, checkpoint.digest)
    assert found.settings.prompts == roles.PROMPTS
    by_method = {entry.method: entry for entry in found.entries}
    assert by_method["identity"].l2 < 0.5
    assert len(by_method["d-trak"].removed) == roles.REMOVED
    for measure in ("l2", "latent_l2", "loss_change"):
        ours, floor, random = (getattr(by_method[name], measure) for name in ("d-trak", "noise_floor", "random"))
        assert ours > max(floor, random), f"{measure}: {ours}, {floor}, {random}"
