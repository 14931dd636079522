"""Scores of every method, from real features of a tiny network, against direct computations."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import Split
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features import feature_store, features, kernel
from dtrak_core.features.settings import FeatureSettings, TargetSide, feature_target
from dtrak_core.methods import embeddings, scores, similarities
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingSettings
from dtrak_core.models import networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings
from dtrak_core.models.targets import Target, of_split
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of

CHECKPOINT = "1" * 16
ONE_MODEL = [m.id for m in METHODS.values() if m.shares == (100,) and not m.models]
GRADIENT = [m for m in METHODS.values() if m.family == "gradient"]


@pytest.fixture
def base(pictures: Dataset) -> FeatureSettings:
    return FeatureSettings(dataset=pictures.digest, checkpoint=CHECKPOINT, num_timesteps=2, proj_dim=256)


@pytest.fixture
def target(pictures: Dataset) -> Target:
    return of_split(pictures.held_out, "held-out", 3)


@pytest.fixture
def computed(pictures: Dataset, tiny: ModelSettings, base: FeatureSettings, target: Target) -> Dataset:
    """Store features, kernels and target features of both model outputs."""
    torch.manual_seed(0)
    denoiser = networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)
    for method in GRADIENT[:2]:
        settings = scores.feature_settings(method, pictures.digest, CHECKPOINT, base)
        kernel.compute_kernel(features.compute_features(pictures, denoiser, settings, quiet), quiet)
        chosen = [target, of_split(pictures.train, "train", 6)]
        features.compute_target_features(denoiser, settings, chosen, quiet)
    return pictures


def stored_rows(dataset: Dataset, method: str, base: FeatureSettings, target: Target) -> tuple[np.ndarray, np.ndarray]:
    settings = scores.feature_settings(METHODS[method], dataset.digest, CHECKPOINT, base)
    artifact = store.get("features", key_of("features", settings))
    rows = np.concatenate([rows for _, rows in feature_store.blocks(artifact)]).astype(np.float64)
    own = store.get("target-features", key_of("target-features", feature_target(settings, target, TargetSide())))
    return rows, feature_store.target_feature(own)


@pytest.mark.parametrize("method", ["d-trak", "trak"])
def test_damped_scores_are_the_definition(
    computed: Dataset, base: FeatureSettings, target: Target, method: str
) -> None:
    rows, z = stored_rows(computed, method, base, target)
    default = scores.attribution_scores(method, computed, CHECKPOINT, target, base)
    gram = rows.T @ rows
    inverse = np.linalg.inv(gram + default.damping * np.eye(256))
    np.testing.assert_allclose(default.values, rows @ inverse @ z, atol=1e-4 * np.abs(default.values).max())
    assert default.effective_rank == pytest.approx(METHODS[method].rank_share * 24, rel=1e-6)
    assert np.trace(gram @ inverse) == pytest.approx(default.effective_rank, rel=1e-4)
    by_value = scores.attribution_scores(method, computed, CHECKPOINT, target, base, damping=default.damping)
    np.testing.assert_array_equal(by_value.values, default.values)
    wider = scores.attribution_scores(method, computed, CHECKPOINT, target, base, rank_share=0.8)
    assert wider.damping < default.damping
    whole = scores.attribution_scores(method, computed, CHECKPOINT, target, base, rank_share=1.0)
    assert 23 < whole.effective_rank < 24
    json.dumps(default.provenance)
    assert default.provenance["feature_settings"]["num_timesteps"] == 2


def test_d_trak_and_trak_differ_by_their_model_output(computed: Dataset, base: FeatureSettings, target: Target) -> None:
    first, second = (
        scores.attribution_scores(m, computed, CHECKPOINT, target, base).values for m in ("d-trak", "trak")
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.999


def test_gradient_similarities(computed: Dataset, base: FeatureSettings, target: Target) -> None:
    rows, z = stored_rows(computed, "gradient-dot", base, target)
    dot = scores.attribution_scores("gradient-dot", computed, CHECKPOINT, target, base)
    np.testing.assert_allclose(dot.values, rows @ z, rtol=1e-9, atol=1e-12)
    cosine = scores.attribution_scores("gradient-cosine", computed, CHECKPOINT, target, base)
    expected = rows @ z / np.linalg.norm(rows, axis=1) / np.linalg.norm(z)
    np.testing.assert_allclose(cosine.values, expected, rtol=1e-6)
    assert (dot.damping, dot.effective_rank, cosine.damping) == (None, None, None)


def test_a_training_picture_as_target_finds_itself(
    computed: Dataset, base: FeatureSettings, tiny: ModelSettings
) -> None:
    """By draws of its own: those of its training feature would do so whatever the picture. They have to be many."""
    itself = of_split(computed.train, "train", 6)
    torch.manual_seed(0)
    denoiser = networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)
    base = FeatureSettings(**base.model_dump() | {"num_timesteps": 50})
    for method in GRADIENT[:2]:
        settings = scores.feature_settings(method, computed.digest, CHECKPOINT, base)
        kernel.compute_kernel(features.compute_features(computed, denoiser, settings, quiet), quiet)
        features.compute_target_features(denoiser, settings, [itself], quiet)
    for method in ("d-trak", "trak", "gradient-cosine", "raw-pixel-cosine"):
        values = scores.attribution_scores(method, computed, CHECKPOINT, itself, base).values
        assert values.argmax() == 6, method


@pytest.mark.parametrize("cosine", [False, True])
def test_raw_pixels(pictures: Dataset, target: Target, cosine: bool) -> None:
    method = "raw-pixel-cosine" if cosine else "raw-pixel-dot"
    found = scores.attribution_scores(method, pictures, CHECKPOINT, target)
    a = pictures.train.images[9].ravel() / 127.5 - 1
    b = target.image.ravel() / 127.5 - 1
    expected = a @ b / (np.linalg.norm(a) * np.linalg.norm(b) if cosine else 1)
    assert found.values[9] == pytest.approx(expected, rel=1e-9)
    assert found.values.shape == (24,)
    assert scores.needed(method, pictures, CHECKPOINT, target) == []


@pytest.mark.parametrize("cosine", [False, True])
def test_raw_pixels_hold_a_block_of_pictures_at_a_time(
    pictures: Dataset, cosine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3000, 32, 32, 3), np.uint8)
    many = replace(pictures, train=Split(images, pictures.train.rows[:1] * 3000))
    target = Target("upload:0", images[7], "0" * 16, "")
    plan = scores.resolve("raw-pixel-cosine" if cosine else "raw-pixel-dot", many, CHECKPOINT, [target])
    monkeypatch.setattr(similarities, "BLOCK_BYTES", 2**22)
    tracemalloc.start()
    try:
        found = scores.score(plan).values[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * images.nbytes + 2**22
    rows = images.reshape(3000, -1) / 127.5 - 1
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(found, rows @ rows[7] / (lengths * lengths[7] if cosine else 1), rtol=1e-9, atol=1e-9)


HERE = "c" * 16  # digest of the encoder's weights that are set up


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "known_weights", lambda model: HERE if model == "clip-vit-b-32" else "")


def embed(pixels: str, values: np.ndarray, weights: str = HERE) -> None:
    settings = EmbeddingSettings(model="clip-vit-b-32", weights=weights, pixels=pixels)
    key = key_of("embeddings", settings)
    store.write_array(store.partial("embeddings", key) / "embeddings.npy", values.astype(np.float32))
    store.publish("embeddings", key, settings)


@pytest.mark.usefixtures("encoder")
def test_embeddings_are_compared_only_within_the_same_weights(pictures: Dataset, target: Target) -> None:
    random = np.random.default_rng(0)
    rows, z = random.normal(size=(24, 8)), random.normal(size=(1, 8))
    assert [n[0] for n in scores.needed("clip-dot", pictures, CHECKPOINT, target)] == ["embeddings"] * 2
    embed(pictures.digest, rows)
    embed(target.pixels, z, "a" * 16)
    with pytest.raises(NotFoundError, match="CLIP"):
        scores.attribution_scores("clip-dot", pictures, CHECKPOINT, target)
    assert [n[2].pixels for n in scores.needed("clip-dot", pictures, CHECKPOINT, target)] == [target.pixels]
    embed(target.pixels, z)
    dot = scores.attribution_scores("clip-dot", pictures, CHECKPOINT, target).values
    np.testing.assert_allclose(dot, rows @ z[0], rtol=1e-5, atol=1e-5)
    cosine = scores.attribution_scores("clip-cosine", pictures, CHECKPOINT, target).values
    np.testing.assert_allclose(cosine, rows @ z[0] / np.linalg.norm(rows, axis=1) / np.linalg.norm(z), rtol=1e-5)
    assert scores.needed("clip-dot", pictures, CHECKPOINT, target) == []
    assert len(scores.needed("lite0-dot", pictures, CHECKPOINT, target)) == 2


@pytest.mark.usefixtures("encoder")
def test_several_targets_are_compared_by_the_weights_that_are_set_up(pictures: Dataset, target: Target) -> None:
    other = of_split(pictures.held_out, "held-out", 5)
    random = np.random.default_rng(0)
    for weights in (HERE, "a" * 16, ""):
        embed(pictures.digest, random.normal(size=(24, 8)), weights)
    z = random.normal(size=(3, 8))
    embed(target.pixels, z[:1])
    embed(other.pixels, z[1:2], "a" * 16)
    assert scores.needed("clip-dot", pictures, CHECKPOINT, target) == []
    assert [n[2].pixels for n in scores.needed("clip-dot", pictures, CHECKPOINT, other)] == [other.pixels]
    with pytest.raises(NotFoundError, match="held-out:5 has no stored embeddings by the encoder's weights"):
        scores.score(scores.resolve("clip-dot", pictures, CHECKPOINT, [target, other]))
    embed(other.pixels, z[2:])
    found = scores.score(scores.resolve("clip-dot", pictures, CHECKPOINT, [target, other]))
    own = EmbeddingSettings(model="clip-vit-b-32", weights=HERE, pixels=pictures.digest)
    rows = store.get("embeddings", key_of("embeddings", own)).array("embeddings.npy")
    np.testing.assert_allclose(found.values, z[[0, 2]] @ rows.T, rtol=1e-4, atol=1e-5)
    assert found.provenance["embeddings"] == key_of("embeddings", own)
    swapped = scores.score(scores.resolve("clip-dot", pictures, CHECKPOINT, [other, target]))
    np.testing.assert_array_equal(swapped.values, found.values[::-1])


def test_what_is_needed_is_named_with_the_key_under_which_it_will_lie(
    pictures: Dataset, base: FeatureSettings, target: Target, tiny: ModelSettings, checkpoint: Checkpoint
) -> None:
    ours = [name for name in ONE_MODEL if name != "ek-fac"]
    kinds = {m: [n[0] for n in scores.needed(m, pictures, CHECKPOINT, target, base)] for m in ours}
    assert kinds["nda"] == ["patches"]
    # Its loss is weighted as that of the model's training, so the model must be there.
    assert [n[0] for n in scores.needed("ek-fac", pictures, checkpoint.digest, target)] == ["ekfac"]
    assert kinds["das"] == ["features", "kernels", "residuals", "target-features"]
    assert kinds["d-trak"] == kinds["gradient-cosine"] == ["features", "kernels", "target-features"]
    assert kinds["gradient-dot"] == ["features", "target-features"]
    with pytest.raises(NotFoundError, match="held-out:3"):
        scores.attribution_scores("d-trak", pictures, CHECKPOINT, target, base)
    torch.manual_seed(0)
    denoiser = networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)
    for kind, key, settings in scores.needed("d-trak", pictures, CHECKPOINT, target, base)[:1]:
        assert isinstance(settings, FeatureSettings)
        assert features.compute_features(pictures, denoiser, settings, quiet).key == key
        assert kind == "features"
    assert [n[0] for n in scores.needed("d-trak", pictures, CHECKPOINT, target, base)] == ["kernels", "target-features"]


def test_wrong_questions_get_sentences(computed: Dataset, base: FeatureSettings, target: Target) -> None:
    with pytest.raises(NotFoundError, match="'if' is not a method"):
        scores.attribution_scores("if", computed, CHECKPOINT, target, base)
    with pytest.raises(SettingsError, match="both given"):
        scores.attribution_scores("trak", computed, CHECKPOINT, target, base, damping=1.0, rank_share=0.1)
    with pytest.raises(SettingsError, match="has no damping"):
        scores.attribution_scores("gradient-dot", computed, CHECKPOINT, target, base, damping=1.0)
    with pytest.raises(SettingsError, match="effective rank of 0"):
        scores.attribution_scores("trak", computed, CHECKPOINT, target, base, rank_share=0.0)
    big = Target("upload:" + "0" * 16, np.zeros((32, 32, 3), np.uint8), "0" * 16, "")
    with pytest.raises(SettingsError, match=r"\(32, 32, 3\)"):
        scores.attribution_scores("raw-pixel-dot", computed, CHECKPOINT, big)
