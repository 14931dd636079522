"""Features of a training set and of target samples: draws, gradients, projection, storage.

    φ(x) = P g(x),   g(x) the mean over timesteps of a model output function's gradient

The training set is worked through in shards of rows; a shard that is whole stays, so an
interrupted computation goes on where it stopped and ends with the same numbers. A target
needs its own feature and one product with the stored ones, c = Φ φ(z); everything else
follows from c and the kernel (kernel.py). Batch sizes change no number beyond rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from dtrak_core import feature_store, store
from dtrak_core.datasets import Dataset
from dtrak_core.gradients import per_example_gradients, pictures_per_batch
from dtrak_core.models import Denoiser, tracked_parameters
from dtrak_core.progress import Progress
from dtrak_core.projection import Projector, project
from dtrak_core.settings import FeatureSettings, TargetFeatureSettings, key_of
from dtrak_core.store import Artifact
from dtrak_core.targets import Target


def compute_features(
    dataset: Dataset, denoiser: Denoiser, settings: FeatureSettings, progress: Progress, batch: int = 0
) -> Artifact:
    """Return the features of all training examples, computing those that are not stored.

    Args:
        dataset: Its training split is featurised, without flips, ids `train:0`, `train:1`, ...
        denoiser: The checkpoint's network.
        settings: What is computed; must name this dataset and checkpoint.
        progress: Told gradients done, of N·T, after each batch.
        batch: Pictures at once; 0 chooses.

    Returns:
        Artifact of kind `features`: shards (see feature_store.py), facts rows N, width K,
        gradients (N·T) and seconds.
    """
    key = key_of("features", settings)
    if (found := store.find("features", key)) is not None:
        return found
    sizes = feature_store.shard_sizes(len(dataset.train.images))
    compute_shards(dataset, denoiser, settings, range(len(sizes)), progress, batch)
    seconds = feature_store.unseal(store.partial("features", key), len(sizes))
    projector = projector_of(denoiser, settings)
    facts = {
        "rows": sum(sizes),
        "width": projector.width,
        "parameters": projector.num_parameters,
        "gradients": sum(sizes) * settings.num_timesteps,
        "seconds": round(seconds, 2),
    }
    return store.publish("features", key, settings, **facts)


def compute_shards(
    dataset: Dataset,
    denoiser: Denoiser,
    settings: FeatureSettings,
    numbers: Iterable[int],
    progress: Progress,
    batch: int = 0,
) -> None:
    """Compute those of these shards of the training features that are not there yet; see `compute_features`."""
    folder = store.partial("features", key_of("features", settings))
    images, per_picture = dataset.train.images, settings.num_timesteps
    projector, chosen = projector_of(denoiser, settings), list(numbers)
    sizes, before = feature_store.shard_sizes(len(images)), 0
    total = sum(sizes[number] for number in chosen) * per_picture
    for number in chosen:
        start = number * feature_store.SHARD
        shard = images[start : start + feature_store.SHARD]
        if not feature_store.has_shard(folder, number, len(shard), projector.width, settings.storage):
            started = time.perf_counter()

            def told(done: int, before: int = before) -> None:
                progress((before + done) * per_picture, total, "gradients", "")

            ids = [f"train:{start + i}" for i in range(len(shard))]
            rows = featurise(denoiser, np.asarray(shard), ids, settings, told, batch)
            feature_store.write_shard(folder, number, rows, settings.storage)
            feature_store.seal(folder, number, time.perf_counter() - started)
        before += len(shard)


def compute_target_features(
    dataset: Dataset,
    denoiser: Denoiser,
    settings: FeatureSettings,
    targets: Sequence[Target],
    progress: Progress,
    batch: int = 0,
) -> list[Artifact]:
    """Return the features of targets, and their products with the stored training features.

    Returns:
        One artifact of kind `target-features` a target, in order: φ(z) as a shard of one row
        (see feature_store.py), and cross.npy c = Φ φ(z), shape (N,), float64 (float32 where the
        features are compact). Stored ones are found.

    Raises:
        NotFoundError: If the training features are not stored.
    """
    trained = store.get("features", key_of("features", settings))
    wanted = [TargetFeatureSettings(features=settings, target=t.id, pixels=t.pixels) for t in targets]
    keys = [key_of("target-features", s) for s in wanted]
    missing = {k: (s, t) for k, s, t in zip(keys, wanted, targets, strict=True) if _find(k) is None}
    if missing:
        started, per_picture = time.perf_counter(), settings.num_timesteps

        def told(done: int) -> None:
            progress(done * per_picture, len(missing) * per_picture, "gradients", "")

        images = np.stack([target.image for _, target in missing.values()])
        ids = [target.id for _, target in missing.values()]
        features = featurise(denoiser, images, ids, settings, told, batch)
        cross = cross_products(trained, features)
        # One row gains nothing from 8 bits with a scale a column, so compact targets take 16.
        storage: feature_store.Storage = "float32" if settings.storage == "float32" else "float16"
        exact = np.float64 if storage == "float32" else np.float32
        seconds = round((time.perf_counter() - started) / len(missing), 3)
        for (key, (one, _)), feature, products in zip(missing.items(), features, cross, strict=True):
            folder = store.partial("target-features", key)
            feature_store.write_shard(folder, 0, feature[None], storage)
            store.write_array(folder / "cross.npy", products.astype(exact))
            store.publish("target-features", key, one, gradients=per_picture, seconds=seconds)
    return [store.get("target-features", key) for key in keys]


def featurise(
    denoiser: Denoiser,
    images: np.ndarray,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    told: Callable[[int], None],
    batch: int = 0,
) -> np.ndarray:
    """Return the features of pictures (n, H, W, 3) uint8, shape (n, K), float32; `told` counts pictures done."""
    projector = projector_of(denoiser, settings)
    size = batch or pictures_per_batch(denoiser, settings.num_timesteps)
    weight = next(denoiser.unet.parameters())
    rows = np.empty((len(images), projector.width), dtype=np.float32)
    memory = weight.new_empty(min(size, len(images)), projector.num_parameters)
    told(0)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        x0 = denoiser.encode(images[part]).to(weight)
        gradients = per_example_gradients(denoiser, x0, sample_ids[part], settings, out=memory[: len(x0)])
        with torch.no_grad():
            rows[part] = project(projector, gradients).cpu().numpy()
        told(min(start + size, len(images)))
    return rows


def cross_products(trained: Artifact, features: np.ndarray) -> np.ndarray:
    """Return Φ φ(z) for M targets' features (M, K), shape (M, N), float64, reading Φ block by block."""
    cross = np.empty((len(features), feature_store.shape(trained)[0]))
    exact = features.astype(np.float64)
    for start, rows in feature_store.blocks(trained):
        cross[:, start : start + len(rows)] = exact @ rows.astype(np.float64).T
    return cross


def projector_of(denoiser: Denoiser, settings: FeatureSettings) -> Projector:
    """Return the projection that these settings mean for this network."""
    count = sum(p.numel() for _, p in tracked_parameters(denoiser.unet))
    return Projector(settings.projection, settings.proj_dim, settings.proj_seed, count)


def _find(key: str) -> Artifact | None:
    return store.find("target-features", key)
