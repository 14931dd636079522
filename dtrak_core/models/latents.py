"""Latents of a training set, encoded once: means and standard deviations of q(z|x), of pictures and mirror images.

Features take the mode (the mean), training draws a sample, as Zheng et al. (2024) do. The encoding
itself needs the autoencoder and is done by training.py; here is what is stored, without torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.progress import Count
from dtrak_core.settings import Digest, Settings, build, key_of
from dtrak_core.store import Artifact

MEANS, STDS, DIGESTS = "means.npy", "stds.npy", "digests.json"
AT_ONCE = 64


class LatentSettings(Settings):
    """The latents of a training set under a base's autoencoder."""

    dataset: Digest
    base: Digest


def compute(
    dataset: Dataset,
    base: str,
    posterior: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    on_progress: Count,
) -> Artifact:
    """Store the latents of a training set, unless they are.

    Args:
        dataset: Its training pictures are encoded, and their mirror images.
        base: Digest of the base.
        posterior: Gives mean and standard deviation (B, C, h, w), float32, of pictures (B, H, W, 3).
        on_progress: Called with the pictures encoded and their number.

    Returns:
        Artifact of kind `latents`: means.npy and stds.npy (2, N, C, h, w), unscaled, plain and mirrored; digests.json
        with the N digests of the pictures.
    """
    settings = LatentSettings(dataset=dataset.digest, base=base)
    key = key_of("latents", settings)
    with store.computing("latents", key, lambda *_: on_progress(0, len(dataset.train.images))) as found:
        return found or _encoded(dataset, posterior, on_progress, settings, key)


def _encoded(
    dataset: Dataset,
    posterior: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    on_progress: Count,
    settings: LatentSettings,
    key: str,
) -> Artifact:
    images = dataset.train.images
    folder, means, stds = store.partial("latents", key), None, None
    for start in range(0, len(images), AT_ONCE):
        part = np.asarray(images[start : start + AT_ONCE])
        for way, pictures in enumerate((part, part[:, :, ::-1])):
            mean, std = posterior(pictures)
            if means is None or stds is None:
                means, stds = (np.empty((2, len(images), *mean.shape[1:]), np.float32) for _ in range(2))
            means[way, start : start + len(part)], stds[way, start : start + len(part)] = mean, std
        on_progress(min(start + AT_ONCE, len(images)), len(images))
    assert means is not None  # a dataset has pictures
    assert stds is not None
    store.write_array(folder / MEANS, means)
    store.write_array(folder / STDS, stds)
    store.write_json(folder / DIGESTS, [image_digest(image) for image in images])
    return store.publish("latents", key, settings)


def known(dataset: str, base: str) -> tuple[dict[str, int], np.ndarray]:
    """Return the rows of stored modes by their picture's digest, and the modes (N, C, h, w), unscaled; else nothing."""
    empty: tuple[dict[str, int], np.ndarray] = ({}, np.zeros((0, 1, 1, 1), np.float32))
    if not dataset:
        return empty
    found = store.find("latents", key_of("latents", build(LatentSettings, dataset=dataset, base=base)))
    if found is None:
        return empty
    digests = json.loads(found.file(DIGESTS).read_bytes())
    return {digest: row for row, digest in enumerate(digests)}, found.array(MEANS)[0]
