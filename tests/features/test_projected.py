"""Projections of many gradients: the plain product with one matrix, each block of which is drawn once for a shard."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StoreError
from dtrak_core.features import faders, feature_store, features, projected, projection
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import networks
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings
from dtrak_core.models.targets import of_split
from dtrak_core.progress import quiet

DENSE = ["gaussian", "rademacher"]


@pytest.fixture
def denoiser(tiny: ModelSettings) -> Denoiser:
    torch.manual_seed(0)
    return networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return where the blocks of dense matrices begin that are drawn from now on."""
    found: list[int] = []
    real = projection._block
    monkeypatch.setattr(projection, "_block", lambda projector, start: found.append(start) or real(projector, start))
    return found


def wanted(dataset: Dataset, kind: str, **values: object) -> FeatureSettings:
    return FeatureSettings(
        **{"dataset": dataset.digest, "checkpoint": "1" * 16, "num_timesteps": 5, "proj_dim": 40, "projection": kind}
        | values  # type: ignore[arg-type]
    )


def matrix_of(kind: str, width: int, seed: int, count: int) -> np.ndarray:
    """Return a dense projection's matrix (P, K) from its definition: a stream a block of 256 parameters."""
    blocks = []
    for number, start in enumerate(range(0, count, 256)):
        random = projection.stream(f"{kind}/{seed}/{width}/{number}")
        rows = min(256, count - start)
        if kind == "gaussian":
            blocks.append(random.standard_normal((rows, width), dtype=np.float32))
        else:
            raw = random.bit_generator.random_raw(-(-rows * width // 64))
            bits = np.unpackbits(np.asarray(raw, "<u8").view(np.uint8))[: rows * width]
            blocks.append(2.0 * bits.reshape(rows, width) - 1)
    return np.concatenate(blocks).astype(np.float64) / width**0.5


def gradients_of(dataset: Dataset, denoiser: Denoiser, count: int = 24) -> np.ndarray:
    x0, ids = denoiser.encode(np.asarray(dataset.train.images[:count])), [f"train:{i}" for i in range(count)]
    return per_example_gradients(denoiser, x0, ids, wanted(dataset, "none")).double().numpy()


@pytest.mark.parametrize("kind", DENSE)
def test_features_of_a_set_are_a_plain_product_and_a_shard_draws_the_matrix_once(
    pictures: Dataset, denoiser: Denoiser, kind: str, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "SHARD", 10)
    exact = gradients_of(pictures, denoiser)
    count = exact.shape[1]
    expected = exact @ matrix_of(kind, 40, 42, count)
    stored = features.compute_features(pictures, denoiser, wanted(pictures, kind), quiet, 2)
    found = np.concatenate([rows for _, rows in feature_store.blocks(stored)])
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    blocks = list(range(0, count, 256))
    assert sorted(drawn) == sorted(blocks * 3), "three shards, batches of two pictures"
    drawn.clear()
    targets = [of_split(pictures.held_out, "held-out", i) for i in range(5)]
    features.compute_target_features(denoiser, wanted(pictures, kind), targets, quiet, 1)
    assert sorted(drawn) == blocks, "targets that are asked for together share it too"
    assert not [path for path in store.root().iterdir() if path.is_file()], "gradients that waited are gone"


@pytest.mark.parametrize("kind", [*DENSE, "sparse"])
@pytest.mark.parametrize("limit", [1, 4 * 30_000 * 3, 2**30])
def test_no_limit_and_no_batch_changes_a_number(
    pictures: Dataset, denoiser: Denoiser, kind: str, limit: int, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, images = wanted(pictures, kind), np.asarray(pictures.train.images[:7])
    ids, count = [f"train:{i}" for i in range(7)], sum(p.numel() for p in denoiser.network.parameters())
    whole = features.featurise(denoiser, images, ids, settings, lambda done: None)
    backwards = features.featurise(denoiser, images[::-1], ids[::-1], settings, lambda done: None, 3)[::-1]
    drawn.clear()
    monkeypatch.setattr(feature_store, "KEPT_BYTES", limit)
    found = features.featurise(denoiser, images, ids, settings, lambda done: None, 2)
    scale = np.abs(whole).max()
    np.testing.assert_allclose(found, whole, atol=1e-5 * scale)
    np.testing.assert_allclose(backwards, whole, atol=1e-5 * scale)
    if kind != "sparse":
        at_once = max(2, limit // (4 * count) // 2 * 2)  # at least the batch, and whole batches
        assert len(drawn) == len(range(0, count, 256)) * -(-7 // at_once)


@pytest.mark.parametrize("kind", DENSE)
def test_features_in_parts_are_plain_products_group_by_group(
    pictures: Dataset, denoiser: Denoiser, kind: str, drawn: list[int]
) -> None:
    settings = wanted(pictures, kind, parts="faders", proj_dim=90)
    images, ids = np.asarray(pictures.train.images[:3]), ["train:0", "train:1", "train:2"]
    found = features.featurise(denoiser, images, ids, settings, lambda done: None, 1).reshape(3, 6, -1)
    exact, expected = gradients_of(pictures, denoiser, 3), []
    for number, where in enumerate(faders.groups(denoiser).values()):
        size = where.stop - where.start
        expected.append(exact[:, where] @ matrix_of(kind, min(10, size), 42 + number, size))
    together = np.concatenate(expected, axis=1)
    np.testing.assert_allclose(found.sum(1), together, atol=1e-5 * np.abs(together).max())
    assert not found[:, 1].any(), "the fine half without a draw is zeros"
    sizes = [where.stop - where.start for where in faders.groups(denoiser).values()]
    assert len(drawn) == sum(len(range(0, size, 256)) for size in sizes), "once for all parts of all pictures"


def test_a_batch_that_comes_again_in_smaller_ones_replaces_what_was_kept(cache: Path) -> None:
    gradients = torch.randn(4, 600, generator=torch.Generator().manual_seed(0))

    def made() -> Iterator[tuple[slice, int, torch.Tensor]]:
        yield slice(0, 4), 0, torch.full((4, 600), torch.nan)
        for start in (0, 2):
            yield slice(start, start + 2), 0, gradients[start : start + 2]

    projector = Projector("gaussian", 20, 1, 600)
    found = projected.rows([(projector, slice(0, 600))], made(), 4, 1)
    torch.testing.assert_close(torch.from_numpy(found), project(projector, gradients))


def test_gradients_wait_in_the_cache_folder_without_a_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: opened.append(str(dir)) or real(dir=dir))
    made = iter([(slice(0, 2), 0, torch.ones(2, 300))])
    projected.rows([(Projector("rademacher", 7, 1, 300), slice(0, 300))], made, 2, 1)
    assert opened == [str(cache)]
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_store, "scratch", Full)
    made = iter([(slice(0, 2), 0, torch.ones(2, 300))])
    with pytest.raises(StoreError, match="The disk is full"):
        projected.rows([(Projector("gaussian", 7, 1, 300), slice(0, 300))], made, 2, 1)


def test_asking_what_will_be_kept_makes_no_folder(cache: Path) -> None:
    assert feature_store.gradients_kept(4) > 1
    assert not cache.exists()


def test_a_sparse_pattern_is_drawn_once_for_all_groups_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    real = projection._signs

    def counted(name: str, number: int) -> np.ndarray:
        count[0] += 1
        return real(name, number)

    monkeypatch.setattr(projection, "_signs", counted)
    groups = [Projector("sparse", 16, 900_000 + number, 100 + number) for number in range(40)]
    for _ in range(3):
        for projector in groups:
            project(projector, torch.ones(1, projector.num_parameters))
    assert count[0] == len(groups)
