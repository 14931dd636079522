"""A complete small cache for page and browser tests: pictures, a model, samples, features, kernels; made in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, SampleSettings, TrainSettings
from dtrak_core.progress import quiet

NAME, MODEL, SEEDS = "discs", "tiny", 5
CONTRIBUTORS = ("Ada", "Ben", "Cy")
NETWORK = ModelSettings(channels=(8, 16), attention=(False, False), norm_groups=4)


def images(count: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of coloured discs on white, 16x16, and the number of each one's colour."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    drawn, labels = [], np.arange(count) % 3
    for label in labels:
        centre, radius = random.uniform(5, 11, 2), random.uniform(2, 5)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        colour = np.array([[230, 40, 40], [40, 200, 60], [50, 60, 220]])[label] + random.integers(-30, 25, 3)
        drawn.append(np.where(disc[..., None], np.clip(colour, 0, 255), 255).astype(np.uint8))
    return np.stack(drawn), labels


def folder(place: Path) -> Path:
    """Write the pictures as a folder with contributors, as a user would bring them."""
    from PIL import Image

    place.mkdir(parents=True)
    drawn, labels = images()
    lines = ["file_name,caption,contributor"]
    for i, (picture, label) in enumerate(zip(drawn, labels, strict=True)):
        name = f"{('red', 'green', 'blue')[label]}/{i:03d}.png"
        (place / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / name)
        lines.append(f"{name},disc {i},{CONTRIBUTORS[i % 3 if i % 5 else 0]}")
    (place / "metadata.csv").write_text("\n".join(lines) + "\n")
    return place


def dataset(place: Path) -> Dataset:
    """Store the pictures as a dataset, in the cache that STUDIO_CACHE names."""
    source = folder(place)
    settings = catalogue.source_settings("folder", source, NAME, 16)
    return catalogue.load(catalogue.prepare(settings, source))


def build(place: Path) -> tuple[Dataset, Checkpoint]:
    """Store everything; the features of both methods, for the first three seeds alone."""
    import torch

    from dtrak_core.features import features, kernel
    from dtrak_core.models import networks, sampling
    from dtrak_core.training import training

    torch.set_num_threads(1)
    stored = dataset(place)
    settings = TrainSettings(dataset=stored.digest, model=NETWORK, epochs=4, batch_size=8)
    training.train(stored, settings, MODEL, quiet)
    checkpoint = checkpoints.by_name(MODEL, stored.digest)
    denoiser = networks.load_denoiser(checkpoint)
    drawn = sampling.generate(denoiser, list(range(SEEDS)), "ddim", 50, 0.0)
    samples = [
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), picture)
        for seed, picture in enumerate(drawn)
    ]
    for output in ("squared-output", "loss"):
        wanted = FeatureSettings(
            dataset=stored.digest, checkpoint=checkpoint.digest, model_output=output, num_timesteps=2, proj_dim=128
        )
        kernel.compute_kernel(features.compute_features(stored, denoiser, wanted, quiet), quiet)
        features.compute_target_features(denoiser, wanted, samples[:3], quiet)
    return stored, checkpoint
