"""Pictures that are nearly equal: the hash forgives what a file format does, pixels decide, classes are joined."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from dtrak_core.datasets import alike


def scenes(count: int, side: int = 48) -> np.ndarray:
    """Return smooth random pictures, no two alike."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


def encoded(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


def test_copies_that_were_encoded_or_lightened_are_found_and_nothing_else() -> None:
    images = scenes(40)
    images[10], images[20], images[30] = images[3], encoded(images[3]), np.clip(images[4].astype(int) + 4, 0, 255)
    images[35] = images[5][..., ::-1]  # as bright, but of another colour: few bits apart and far in pixels
    found = alike.pairs(images)
    assert {(one.first, one.second) for one in found} == {(3, 10), (3, 20), (4, 30)}, "of equal ones the first for all"
    assert (found[0].first, found[0].second, found[0].rms) == (3, 10, 0.0)
    joined = alike.classes(40, found)
    assert [joined[i] for i in (3, 10, 20, 4, 30)] == [3, 3, 3, 4, 4]
    assert len(np.unique(joined)) == 37


def test_every_pair_of_few_bits_is_looked_at() -> None:
    """Independent: all pairs, one by one."""
    random = np.random.default_rng(1)
    images = scenes(6)[random.integers(0, 6, 60)].astype(int) + random.integers(-6, 7, (60, 48, 48, 3))
    images = np.clip(images, 0, 255).astype(np.uint8)
    codes, pixels = alike.hashes(images), alike.reduced(images)
    wanted = set()
    for i in range(60):
        for j in range(i + 1, 60):
            bits = (int(codes[i]) ^ int(codes[j])).bit_count()
            if bits <= 6 and np.sqrt(((pixels[i] - pixels[j]) ** 2).mean()) <= 0.05:
                wanted.add((i, j))
    assert wanted == {(one.first, one.second) for one in alike.pairs(images)}
    assert len(wanted) > 100


def by_definition(images: np.ndarray) -> tuple[list[int], list[int], list[float]]:
    """Return classes, nearest others and their distances, independently: every pair, one by one."""
    codes, pixels = alike.hashes(images), alike.reduced(images)
    joined, partner, away = list(range(len(images))), [], []
    for i in range(len(images)):
        best = (np.inf, 0, -1)
        for j in range(len(images)):
            bits = (int(codes[i]) ^ int(codes[j])).bit_count()
            rms = float(np.sqrt(((pixels[i] - pixels[j]) ** 2).mean()))
            if i != j and bits <= 6:
                best = min(best, (rms, bits, j))
                if rms <= 0.05:
                    low, high = sorted((joined[i], joined[j]))
                    joined = [low if one == high else one for one in joined]
        partner.append(best[2])
        away.append(best[0])
    return joined, partner, away


def test_classes_and_nearest_ones_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    flat = np.broadcast_to(random.integers(0, 256, (30, 1, 1, 3)), (30, 48, 48, 3))
    varied = scenes(8)[random.integers(0, 8, 30)].astype(int) + random.integers(-5, 6, (30, 1, 1, 3))
    images = np.clip(np.concatenate([flat, flat[:20] + random.integers(0, 9, (20, 1, 1, 3)), varied]), 0, 255)
    images = images.astype(np.uint8)[random.integers(0, 80, 90)]  # some equal ones
    monkeypatch.setattr(alike, "_BLOCK", 500)
    joined, partner, away = by_definition(images)
    assert alike.classes(90, alike.pairs(images)).tolist() == joined
    assert 10 < len(set(joined)) < 60
    found = alike.nearest(images)
    assert found[0].tolist() == partner
    np.testing.assert_allclose(np.where(found[0] < 0, np.inf, found[1]), away, rtol=1e-6)
    assert -1 in partner


@pytest.mark.parametrize("colours", [1, 256])
def test_thousands_of_equal_or_flat_pictures_are_compared_in_seconds(colours: int) -> None:
    """All hashes of flat pictures are 0, and every pair of them was looked at one by one."""
    images = np.random.default_rng(3).integers(0, colours, (3000, 1, 1, 3)).astype(np.uint8)
    images = np.broadcast_to(images, (3000, 32, 32, 3))
    began = time.process_time()
    found = alike.pairs(images)
    partner, away = alike.nearest(images)
    assert time.process_time() - began < 40, "one by one it takes minutes"
    assert len(found) < 6000
    assert len(np.unique(alike.classes(3000, found))) == 1 if colours == 1 else len(found) > 100
    assert (partner >= 0).all()
    assert (away[partner] <= away).all() if colours == 1 else (away <= 0.5).all()
