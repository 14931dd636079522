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

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import batches, draws, faders, feature_store, losses, mixtures, model_outputs, projected
from dtrak_core.features.fader_layout import PARTS
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.projection import Projector
from dtrak_core.features.settings import (
    FeatureSettings,
    TargetSide,
    feature_target,
    nth_seed,
    own_side,
    target_gradients,
    target_name,
    trajectory_of,
)
from dtrak_core.models import sampling
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.targets import Target
from dtrak_core.progress import Count, Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact


def compute_features(
    dataset: Dataset, denoiser: Denoiser, settings: FeatureSettings, on_progress: Progress, batch: int = 0
) -> Artifact:
    """Return the features of all training examples, computing those that are not stored.

    Args:
        dataset: Its training split is featurised, without flips, ids `train:0`, `train:1`, ...
        denoiser: The checkpoint's network.
        settings: What is computed; must name this dataset and checkpoint.
        on_progress: Called with the gradients done, of N·T, after each batch.
        batch: Pictures at once; 0 chooses.

    Returns:
        Artifact of kind `features`: shards (see feature_store.py), facts rows N, width K,
        gradients (N·T) and seconds.
    """
    key = key_of("features", settings)
    with store.computing("features", key, on_progress) as found:
        if found is not None:
            return found
        sizes = feature_store.shard_sizes(len(dataset.train.images))
        compute_shards(dataset, denoiser, settings, range(len(sizes)), on_progress, batch)
        facts: dict[str, object] = {
            "rows": sum(sizes),
            "width": width_of(denoiser, settings),
            "parameters": sum(p.numel() for _, p in tracked_parameters(denoiser.network)),
            "gradients": sum(sizes) * settings.num_timesteps,
            "seconds": round(feature_store.seconds_of(store.partial("features", key), len(sizes)), 2),
        }
        if settings.parts == "faders":
            facts |= {"groups": list(faders.groups(denoiser)), "group_widths": faders.widths(denoiser, settings)}
        return store.publish("features", key, settings, **facts)


def compute_shards(
    dataset: Dataset,
    denoiser: Denoiser,
    settings: FeatureSettings,
    numbers: Iterable[int],
    on_progress: Progress,
    batch: int = 0,
) -> None:
    """Compute those of these shards of the training features that are not there yet; see `compute_features`."""
    folder = store.partial("features", key_of("features", settings))
    images, facts, per_picture = dataset.train.images, dataset.train.rows, settings.num_timesteps
    width, chosen = width_of(denoiser, settings), list(numbers)
    sizes, before = feature_store.shard_sizes(len(images)), 0
    total = sum(sizes[number] for number in chosen) * per_picture
    for number in chosen:
        start = number * sizes[0]
        shard = images[start : start + sizes[number]]
        if not feature_store.has_shard(folder, number, len(shard), width, settings.storage):
            started = time.perf_counter()

            def computed(done: int, before: int = before) -> None:
                on_progress((before + done) * per_picture, total, "gradients", "")

            def drawn(done: int, out_of: int, after: int = before + len(shard)) -> None:
                on_progress(after * per_picture, total, "gradients", _drawn(done, out_of))

            ids = [f"train:{start + i}" for i in range(len(shard))]
            rows = mixtures.of_rows(settings, slice(start, start + len(shard)))
            if rows is None:
                told = [denoiser.told(row) for row in facts[start : start + len(shard)]]
                rows = featurise(denoiser, np.asarray(shard), ids, settings, computed, batch, told, drawn)
            feature_store.write_shard(folder, number, rows, settings.storage)
            feature_store.seal(folder, number, time.perf_counter() - started)
        before += len(shard)


def compute_target_features(
    denoiser: Denoiser,
    settings: FeatureSettings,
    targets: Sequence[Target],
    on_progress: Progress,
    batch: int = 0,
    side: TargetSide = TargetSide(),  # noqa: B008 - frozen
) -> list[Artifact]:
    """Return the features of targets, and their products with the stored training features.

    `side` says what differs from the training side.

    Returns:
        One artifact of kind `target-features` a target, in order: φ(z) as a shard of one row
        (see feature_store.py), and cross.npy c = Φ φ(z), shape (N,), float64 (float32 where the
        features are compact). Stored ones are found.

    Raises:
        NotFoundError: If the training features are not stored.
    """
    trained = store.get("features", key_of("features", settings))
    wanted = [feature_target(settings, t, side) for t in targets]
    keys = [key_of("target-features", s) for s in wanted]
    if (made := store.every("target-features", keys)) is not None:
        return made
    with store.computing("target-features", trained.key, on_progress):  # one lock for all targets of these features
        if (made := store.every("target-features", keys)) is not None:
            return made
        both = zip(keys, wanted, targets, strict=True)
        missing = {k: (s, t) for k, s, t in both if store.find("target-features", k) is None}
        seeds, started = wanted[0].noise_seeds, time.perf_counter()
        taken = {key: target_gradients(one, target) for key, (one, target) in missing.items()}
        total = sum(taken.values())

        def drawn(done: int, out_of: int) -> None:
            on_progress(total, total, "gradients", _drawn(done, out_of))

        chosen, own = [target for _, target in missing.values()], own_side(settings, side)
        mixed = [mixtures.of_target(settings, target, side) for target in chosen]
        if all(one is not None for one in mixed):
            features = np.stack([one for one in mixed if one is not None])
        elif side.trajectory:
            features = _along_trajectory(denoiser, chosen, own, drawn)
        else:

            def computed(done: int) -> None:
                on_progress(done, total, "gradients", "")

            features = _of_targets(denoiser, chosen, own, seeds, batch, computed, drawn)
        if settings.parts == "faders":
            cross = np.zeros((len(features), 0))  # follows from the faders
        else:
            cross = feature_store.cross_products(trained, features)
        # One row gains nothing from 8 bits with a scale a column, so compact targets take 16.
        storage: feature_store.Storage = "float32" if settings.storage == "float32" else "float16"
        exact = np.float64 if storage == "float32" else np.float32
        seconds = round((time.perf_counter() - started) / len(missing), 3)
        for (key, (one, _)), feature, products in zip(missing.items(), features, cross, strict=True):
            folder = store.partial("target-features", key)
            feature_store.write_shard(folder, 0, feature[None], storage)
            store.write_array(folder / "cross.npy", products.astype(exact))
            store.publish("target-features", key, one, gradients=taken[key], seconds=seconds)
    return [store.get("target-features", key) for key in keys]


def _of_targets(
    denoiser: Denoiser,
    targets: Sequence[Target],
    settings: FeatureSettings,
    seeds: int,
    batch: int,
    on_progress: Callable[[int], None],
    on_projected: Count,
) -> np.ndarray:
    """Return the mean of targets' features (M, K) over noise seeds; `on_progress` counts gradients."""
    images = np.stack([target.image for target in targets])
    ids, told = [target_name(target.id) for target in targets], [denoiser.told(target.row) for target in targets]
    total, each = np.zeros(()), settings.num_timesteps
    for number in range(seeds):

        def computed(done: int, before: int = number * len(targets)) -> None:
            on_progress((before + done) * each)

        wanted = nth_seed(settings, number)
        total = total + featurise(denoiser, images, ids, wanted, computed, batch, told, on_projected)
    mean: np.ndarray = (total / seeds).astype(np.float32)
    return mean


def featurise(
    denoiser: Denoiser,
    images: np.ndarray,
    sample_ids: Sequence[str],
    settings: FeatureSettings,
    on_progress: Callable[[int], None],
    batch: int = 0,
    prompts: Sequence[str] = (),
    on_projected: Count = lambda done, total: None,
) -> np.ndarray:
    """Return the features of pictures (n, H, W, 3) uint8, shape (n, K), float32; `on_progress` counts pictures done.

    `prompts` is what the network is told of each (`Denoiser.told`), without guidance. `on_projected` counts blocks of a
    dense projection.
    """
    made = batches.gradients(denoiser, images, sample_ids, settings, on_progress, batch, prompts)
    parts = PARTS if settings.parts == "faders" else 1
    return projected.rows(projectors_of(denoiser, settings), made, len(images), parts, on_projected)


def compute_residuals(
    dataset: Dataset, denoiser: Denoiser, settings: FeatureSettings, on_progress: Progress
) -> Artifact:
    """Return how far the model's output is from its target for each training picture, on its feature's draws, for DAS.

    Returns:
        Artifact of kind `residuals`: residuals.npy r (N,), r_i the mean over draws of √((1/d) |f - y|²), float32.
    """
    with store.computing("residuals", key_of("residuals", settings), on_progress) as found:
        return found or _residuals(dataset, denoiser, settings, on_progress)


def _residuals(dataset: Dataset, denoiser: Denoiser, settings: FeatureSettings, on_progress: Progress) -> Artifact:
    key = key_of("residuals", settings)
    images, rows = dataset.train.images, dataset.train.rows
    grid = draws.timesteps(settings.timestep_strategy, settings.num_timesteps, denoiser.process.steps)
    values = np.empty(len(images), np.float32)
    for i, image in enumerate(images):
        on_progress(i, len(images), "pictures", "Residuals")
        found = losses.of_draws(denoiser, image, f"train:{i}", grid, settings.noise_seed, denoiser.told(rows[i]))
        values[i] = np.sqrt(found).mean()
    store.write_array(store.partial("residuals", key) / "residuals.npy", values)
    return store.publish("residuals", key, settings)


def _along_trajectory(
    denoiser: Denoiser, targets: Sequence[Target], settings: FeatureSettings, on_projected: Count
) -> np.ndarray:
    """Return the features (M, K) of generated targets, their draws taken along their sampling (Journey TRAK).

    At every sampling step the clean picture that the model then expects, noised afresh at that step's timestep
    (Georgiev et al. 2023, as Zheng et al. 2024 compute it); the mean over the steps.
    """

    def made() -> projected.Made:
        for number, target in enumerate(targets):
            sample = trajectory_of(target)
            steps = sample.sampling_steps
            points = sampling.expected(denoiser, sample.seed, steps, sample.eta, sample.prompts, sample.guidance)
            met, visited = sampling.along(denoiser, steps)
            grid = np.array(visited)
            model_outputs.refuse_infinite(settings.model_output, grid, met.process)
            told = denoiser.conditions([denoiser.told(target.row)])
            gradients = per_example_gradients(
                met, points[None], [f"journey/{target.id}"], settings, grid=grid, condition=told
            )
            yield slice(number, number + 1), 0, gradients

    return projected.rows(projectors_of(denoiser, settings), made(), len(targets), 1, on_projected)


def width_of(denoiser: Denoiser, settings: FeatureSettings) -> int:
    """Return the length of a feature."""
    if settings.parts == "faders":
        return faders.width(denoiser, settings)
    return projectors_of(denoiser, settings)[0][0].width


def projectors_of(denoiser: Denoiser, settings: FeatureSettings) -> list[tuple[Projector, slice]]:
    """Return the projections that these settings mean for this network, each with its range of parameters."""
    if settings.parts == "faders":
        return faders.projectors(denoiser, settings)
    count = sum(p.numel() for _, p in tracked_parameters(denoiser.network))
    return [(Projector(settings.projection, settings.proj_dim, settings.proj_seed, count), slice(0, count))]


def _drawn(done: int, out_of: int) -> str:
    return f"Projection: {done:,} of {out_of:,} blocks of its matrix"
