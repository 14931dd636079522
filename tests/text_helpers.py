"""A text-to-image base of some thousand parameters, pictures with captions, and LoRA weights of them, for tests."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import text_base
from dtrak_core.models import bases, checkpoints
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint

WORDS = ("red disc", "green disc", "blue disc")


def captioned(folder: Path) -> Dataset:
    """Store a folder of 40 captioned pictures, 32 x 32, by two contributors."""
    folder.mkdir()
    random = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    lines = ["file_name,caption,contributor"]
    for i in range(40):
        centre, colour = random.uniform(10, 22, 2), np.eye(3)[i % 3] * 200 + 30
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < random.uniform(4, 9) ** 2
        Image.fromarray(np.where(disc[..., None], colour, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
        lines.append(f"{i:02}.png,a {WORDS[i % 3]},{'Ann' if i % 2 else 'Bo'}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = catalogue.source_settings("folder", folder, "discs", 32)
    return catalogue.load(catalogue.prepare(settings, folder))


@functools.cache
def saved() -> Path:
    """Save an untrained pipeline of the demo's architecture, but narrow, once for all tests of this process."""
    import torch

    folder = Path(tempfile.mkdtemp(prefix="small-base-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    narrow = text_base.Shape(text_width=16, text_layers=1, vae_channels=(8, 8, 8), unet_channels=(16, 16))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = text_base.build([f"a {words}" for words in WORDS], 32, narrow)
    text_base.save(pipe, folder)
    return folder


@functools.cache
def stored() -> Path:
    """Store the pictures and the base once for all tests of this process; return where `cache` lies."""
    place = Path(tempfile.mkdtemp(prefix="text-store-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "none"))
        captioned(place / "discs")
        small_base(place / "base")
    return place


def small_base(folder: Path) -> Base:
    """Put a copy of it into a folder and take it in."""
    shutil.copytree(saved(), folder)
    digest, resolution = bases.inspected(folder, lambda done, total: None)
    bases.publish("small", digest, resolution, folder)
    return bases.by_name("small")


def trained(place: Path) -> tuple[Dataset, Checkpoint]:
    """Fill the cache in use with captioned pictures, the base, and LoRA weights called `told`."""
    from dtrak_core.models.settings import LoraSettings, TrainSettings
    from dtrak_core.progress import quiet
    from dtrak_core.training import training

    discs, base = captioned(place / "discs"), small_base(place / "base")
    model = LoraSettings(base=base.digest, rank=2)
    run = TrainSettings(dataset=discs.digest, model=model, epochs=1, batch_size=12, learning_rate=1e-2)
    training.train(discs, run, "told", quiet)
    return discs, checkpoints.by_name("told", discs.digest)
