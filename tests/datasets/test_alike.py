"""Pictures that are nearly equal: the hash forgives what a file format does, pixels decide, classes are joined."""

from __future__ import annotations

import io

import numpy as np
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
    assert {(one.first, one.second) for one in found} == {(3, 10), (3, 20), (10, 20), (4, 30)}
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
