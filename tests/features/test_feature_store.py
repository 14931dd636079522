"""Stored features: what compact storage costs, and reading by rows and by columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dtrak_core import store
from dtrak_core.features import feature_store
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact


def stored(rows: np.ndarray, storage: str, shard: int = 5) -> Artifact:
    settings = FeatureSettings(dataset="0" * 16, checkpoint="1" * 16, storage=storage)  # type: ignore[arg-type]
    key = key_of("features", settings)
    folder = store.partial("features", key)
    for number, start in enumerate(range(0, len(rows), shard)):
        feature_store.write_shard(folder, number, rows[start : start + shard], settings.storage)
    return store.publish("features", key, settings, rows=len(rows), width=rows.shape[1])


finite = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=finite))
def test_compact_storage_stays_within_its_bound(rows: np.ndarray) -> None:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    eight, scales = feature_store.quantise(rows, "int8")
    assert eight.dtype == np.int8
    step = np.abs(rows.astype(np.float64)).max(axis=0) / 127
    assert (np.abs(feature_store.dequantise(eight, scales) - rows.astype(np.float64)) <= step * 0.5001 + 1e-30).all()
    half, scales = feature_store.quantise(rows, "float16")
    assert half.dtype == np.float16
    assert np.isfinite(half).all()
    assert (np.abs(feature_store.dequantise(half, scales) - rows) <= largest * (2**-11 + 1e-6)).all()
    full, _ = feature_store.quantise(rows, "float32")
    np.testing.assert_array_equal(full, rows)


@pytest.mark.parametrize(("storage", "limit"), [("float32", 0.0), ("float16", 4e-4), ("int8", 2e-2)])
def test_rows_and_columns_read_what_was_written(cache: Path, storage: str, limit: float) -> None:
    random = np.random.default_rng(0)
    spread = np.geomspace(1e-9, 1e9, 23)[:, None] if storage != "int8" else 1  # its scales are the columns'
    rows = (random.normal(size=(23, 11)) * spread).astype(np.float32)
    artifact = stored(rows, storage)
    assert feature_store.shape(artifact) == (23, 11)
    for size in (1, 4, 100):
        starts, parts = zip(*feature_store.blocks(artifact, size), strict=True)
        found = np.concatenate(parts)
        assert list(starts) == list(np.cumsum([0, *(len(p) for p in parts[:-1])]))
        assert max(len(p) for p in parts) <= size
        columns = np.concatenate([part for _, part in feature_store.columns(artifact, size)], axis=1)
        np.testing.assert_array_equal(columns, found)
        assert (np.abs(found - rows).max(axis=1) <= limit * np.abs(rows).max(axis=1)).all()


def test_compact_features_are_small(cache: Path) -> None:
    artifact = stored(np.ones((40, 1000), dtype=np.float32), "int8", 20)
    assert artifact.manifest["bytes"] < 40 * 1000 * 1.25  # two shards, each with 4 bytes a column


def test_a_few_large_columns_do_not_drown_the_others() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(128, 500)).astype(np.float32)
    rows[:, 7] *= 1000
    again = feature_store.dequantise(*feature_store.quantise(rows, "int8"))
    error = np.linalg.norm((again - rows)[:, 8:], axis=1) / np.linalg.norm(rows[:, 8:], axis=1)
    assert error.max() < 0.03  # 1 in each entry with a scale by row alone


def test_a_shard_counts_only_when_whole_and_sealed(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert not feature_store.has_shard(tmp_path, 0, 4, 6, "int8")
    feature_store.write_shard(tmp_path, 0, rows, "int8")
    assert not feature_store.has_shard(tmp_path, 0, 4, 6, "int8"), "killed before it was sealed"
    feature_store.seal(tmp_path, 0, 1.5)
    assert feature_store.has_shard(tmp_path, 0, 4, 6, "int8")
    assert not feature_store.has_shard(tmp_path, 0, 5, 6, "int8")
    assert not feature_store.has_shard(tmp_path, 0, 4, 6, "float16")


@pytest.mark.parametrize("name", ["00000.npy", "00000.scale.npy"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "gone"])
def test_a_harmed_shard_does_not_count(tmp_path: Path, name: str, harm: str) -> None:
    feature_store.write_shard(tmp_path, 0, np.arange(24, dtype=np.float32).reshape(4, 6), "int8")
    feature_store.seal(tmp_path, 0, 1.5)
    data = bytearray((tmp_path / name).read_bytes())
    data[-3] ^= 4
    if harm == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes({"flipped": data, "cut": data[:90], "emptied": b""}[harm])
    assert not feature_store.has_shard(tmp_path, 0, 4, 6, "int8")


def test_seals_tell_the_seconds_of_all_shards(tmp_path: Path) -> None:
    for number, seconds in enumerate((1.5, 2.25)):
        feature_store.write_shard(tmp_path, number, np.ones((4, 6), dtype=np.float32), "float16")
        feature_store.seal(tmp_path, number, seconds)
    assert feature_store.seconds_of(tmp_path, 2) == 3.75
    assert all(feature_store.seal_path(tmp_path, number).match(store.WORKING) for number in range(2))


def test_a_shard_that_was_sealed_by_the_former_name_counts(tmp_path: Path) -> None:
    feature_store.write_shard(tmp_path, 0, np.ones((4, 6), dtype=np.float32), "float16")
    feature_store.seal(tmp_path, 0, 1.5)
    feature_store.seal_path(tmp_path, 0).rename(tmp_path / "00000.json")
    assert feature_store.has_shard(tmp_path, 0, 4, 6, "float16")
    assert not (tmp_path / "00000.json").exists(), "it would become part of the features"
    assert feature_store.seconds_of(tmp_path, 1) == 1.5


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (128, [128]), (300, [128, 128, 44])])
def test_shards_cover_all_rows(count: int, sizes: list[int]) -> None:
    assert feature_store.shard_sizes(count) == sizes


@pytest.mark.parametrize(("count", "each"), [(16_384, 128), (50_000, 256), (10_000_000, 4096)])
def test_shards_grow_with_the_rows(count: int, each: int) -> None:
    sizes = feature_store.shard_sizes(count)
    assert (sum(sizes), set(sizes[:-1])) == (count, {each})
    assert 0 < sizes[-1] <= each


@pytest.mark.parametrize("storage", ["float16", "int8"])
@pytest.mark.parametrize("wanted", [slice(None), slice(0, 7), slice(3, 21), slice(10, 10), slice(22, 99)])
def test_ranges_are_read_over_the_borders_of_shards_of_any_size(cache: Path, storage: str, wanted: slice) -> None:
    rows = np.random.default_rng(0).normal(size=(23, 11)).astype(np.float32)
    whole = np.concatenate([part for _, part in feature_store.blocks(stored(rows, storage), 1)])
    store.delete("features", store.listing("features")[0].key)
    uneven = stored(rows, storage, 23 if storage == "float16" else 5)  # 8 bits depend on the shard
    for size in (1, 4, 0):
        blocks = list(feature_store.blocks(uneven, size, wanted))
        assert [len(part) for _, part in blocks[:-1]] == [size] * (len(blocks) - 1)
        found = np.concatenate([np.empty((0, 11), np.float32), *(part for _, part in blocks)])
        np.testing.assert_array_equal(found, whole[wanted])
        assert [start for start, _ in blocks] == list(
            range(wanted.start or 0, len(found) + (wanted.start or 0), size or 23)
        )
    np.testing.assert_array_equal(feature_store.rows(uneven, wanted), whole[wanted])
