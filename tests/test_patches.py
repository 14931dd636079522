"""Patches: scores and maps against loops over patches in float64."""

from __future__ import annotations

import numpy as np
import pytest

from dtrak_core import draws, patches, store
from dtrak_core.datasets import Dataset
from dtrak_core.progress import quiet
from dtrak_core.score_settings import PatchSettings
from dtrak_core.targets import of_split


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
