"""Patches: scores and maps against loops over patches in float64."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import draws
from dtrak_core.methods import patches
from dtrak_core.methods.settings import PatchSettings
from dtrak_core.models.targets import of_split
from dtrak_core.progress import quiet


def settings_of(pictures: Dataset) -> PatchSettings:
    return PatchSettings(dataset=pictures.digest, target="held-out:3", pixels="0" * 16)


def test_scores_are_the_formula(pictures: Dataset) -> None:
    target = of_split(pictures.held_out, "held-out", 3)
    settings = settings_of(pictures)
    found, maps = patches.compare(pictures.train.images, target.image, target.id, settings)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[100]
    noise = draws.noise(0, "held-out:3", [100], (16, 16, 3))[0].astype(np.float64)
    x = target.image / 127.5 - 1
    y = pictures.train.images / 127.5 - 1
    expected = np.zeros(24)
    for size, eps in ((16, noise), (8, noise[::2, ::2])):
        a, b = x, y
        if size == 8:
            a = x.reshape(8, 2, 8, 2, 3).mean((1, 3))
            b = y.reshape(24, 8, 2, 8, 2, 3).mean((2, 4))
        noised = np.sqrt(abar) * a + np.sqrt(1 - abar) * eps
        corners = [(i, j) for i in range(size - 6) for j in range(size - 6)]
        for i, j in corners:
            own = noised[i : i + 7, j : j + 7]
            distance = np.array(
                [[((own - np.sqrt(abar) * one[p : p + 7, q : q + 7]) ** 2).sum() for p, q in corners] for one in b]
            )
            weight = np.exp(-(distance - distance.min()) / (2 * (1 - abar)))
            expected += weight.sum(1) / weight.sum() / len(corners) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert found.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(maps.sum((1, 2)), found, rtol=1e-5)


def test_a_training_picture_explains_itself_where_it_is(pictures: Dataset) -> None:
    found, _ = patches.compare(pictures.train.images, pictures.train.images[5], "train:5", settings_of(pictures))
    assert found.argmax() == 5
    halves = pictures.train.images[3].copy()
    halves[:, 8:] = pictures.train.images[7][:, 8:]
    _, maps = patches.compare(pictures.train.images, halves, "held-out:0", settings_of(pictures))
    left, right = maps[:, :, :8].sum((1, 2)), maps[:, :, 8:].sum((1, 2))
    assert left[3] / right[3] > 2 * left[7] / right[7], "the white around the discs is everyone's"


def test_batches_change_nothing(pictures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = patches.compare(pictures.train.images, pictures.train.images[5], "train:5", settings_of(pictures))
    monkeypatch.setattr(patches, "BLOCK", 1)
    single, _ = patches.compare(pictures.train.images, pictures.train.images[5], "train:5", settings_of(pictures))
    np.testing.assert_allclose(single, whole, rtol=1e-4)


def test_maps_of_the_best_are_kept(pictures: Dataset) -> None:
    target = of_split(pictures.held_out, "held-out", 3)
    (made,) = patches.compute(pictures, [target], quiet)
    scores, best = made.array("scores.npy"), made.array("mapped.npy")
    assert best[0] == np.asarray(scores).argmax()
    assert made.array("maps.npy").shape == (24, 16, 16)
    assert patches.compute(pictures, [target], quiet)[0].key == made.key
    assert len(store.listing("patches")) == 1
    shown = patches.map_of(pictures.digest, target, int(best[3]))
    assert shown is not None
    assert shown.max() == pytest.approx(1)
    np.testing.assert_allclose(shown, made.array("maps.npy")[3] / made.array("maps.npy")[3].max())
    assert patches.map_of(pictures.digest, of_split(pictures.held_out, "held-out", 4), 0) is None


def random_pictures(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def plain(images: np.ndarray, image: np.ndarray, timestep: int = 100) -> np.ndarray:
    """Return the formula's scores, every distance in one array, float64."""
    bar, side = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[timestep], image.shape[0]
    noise = draws.noise(0, "held-out:3", [timestep], image.shape)[0].astype(np.float64)
    x, y = image / 127.5 - 1, images / 127.5 - 1
    half = side // 2
    halves = [
        z[..., : 2 * half, : 2 * half, :].reshape(*z.shape[:-3], half, 2, half, 2, 3).mean((-4, -2)) for z in (x, y)
    ]
    scales = [(x, y, noise)] + [(*halves, noise[::2, ::2][:half, :half])] * (half >= 7)
    scores = np.zeros(len(images))
    for a, b, eps in scales:
        own, theirs = (
            np.lib.stride_tricks.sliding_window_view(z, (7, 7), (-3, -2)).reshape(*z.shape[:-3], -1, 147)
            for z in (bar**0.5 * a + (1 - bar) ** 0.5 * eps, bar**0.5 * b)
        )
        distance = ((own[None, None] - theirs[:, :, None]) ** 2).sum(-1)  # (n, q, p)
        weight = np.exp(-(distance - distance.min((0, 1))) / (2 * (1 - bar)))
        scores += (weight.sum(1) / weight.sum((0, 1))).mean(1) / len(scales)
    return scores


@pytest.mark.parametrize("side", [8, 13, 14, 15, 17])
@pytest.mark.parametrize("block", [1, 300, 2**12, 2**24])
def test_no_block_and_no_size_changes_the_formula(side: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_pictures(5, side)
    image = np.clip(images[2].astype(int) + np.random.default_rng(0).integers(-60, 60, images[2].shape), 0, 255)
    settings = PatchSettings(dataset="0" * 16, target="held-out:3", pixels="0" * 16)
    monkeypatch.setattr(patches, "BLOCK", block)
    found, maps = patches.compare(images, image.astype(np.uint8), "held-out:3", settings)
    np.testing.assert_allclose(found, plain(images, image.astype(np.uint8)), rtol=2e-3, atol=1e-6)
    assert found.sum() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(maps.sum((1, 2)), found, rtol=1e-5, atol=1e-12)
    assert maps.shape == images.shape[:3]


@pytest.mark.parametrize(("side", "count"), [(64, 2), (16, 600)])
def test_memory_stays_below_what_is_stated(side: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of the limit: the distances of one pair of pictures of 64 px alone would take 45 MB."""
    images = random_pictures(count, side)
    settings = PatchSettings(dataset="0" * 16, target="held-out:3", pixels="0" * 16)
    monkeypatch.setattr(patches, "BLOCK", patches.BLOCK // 16)
    tracemalloc.start()
    try:
        patches._scores(images, patches._scales(images[0], "held-out:3", settings))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < patches.MEMORY / 16


def test_patches_are_counted_at_both_scales(pictures: Dataset) -> None:
    assert patches.counts(16, 16) == [100, 4]
    assert patches.counts(13, 20) == [7 * 14]
    assert patches.counts(256, 256) == [250**2, 122**2]
    said: list[tuple[int, int]] = []
    target = of_split(pictures.held_out, "held-out", 3)
    patches.compute(pictures, [target], lambda done, total, unit, message: said.append((done, total)))
    assert said[0] == (0, 104)
