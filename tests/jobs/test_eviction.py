"""What the cache holds and may hold: rows, what a live job needs, the limit and what it takes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrak_core import store
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import NotFoundError, SettingsError, StoreError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import eviction, housekeeping, job_files, jobs, launch
from dtrak_core.methods.settings import EmbeddingSettings
from dtrak_core.models.latents import LatentSettings
from dtrak_core.models.settings import SampleSettings, TrainSettings
from dtrak_core.settings import Settings, key_of

A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture(autouse=True)
def still(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no engine start."""
    monkeypatch.setattr(launch, "ensure", lambda: None)


def put(kind: str, settings: Settings, days: float, amount: int = 1000) -> str:
    """Store an artifact of so many bytes that was last read days ago."""
    key = key_of(kind, settings)
    store.write_bytes(store.partial(kind, key) / "data.bin", bytes(amount))
    artifact = store.publish(kind, key, settings)
    os.utime(artifact.path, (time.time() - days * 86_400,) * 2)
    return key


def features(seed: int) -> FeatureSettings:
    return FeatureSettings(dataset=A, checkpoint=B, proj_seed=seed)


def left(kind: str) -> list[str]:
    return [artifact.key for artifact in store.listing(kind)]


def test_least_recently_read_goes_first_and_only_what_can_be_computed_again() -> None:
    put("datasets", DatasetSettings(), 900)
    put("samples", SampleSettings(checkpoint=B), 800)
    keys = [put("features", features(i), days) for i, days in enumerate((5, 50, 1))]
    put("embeddings", EmbeddingSettings(model="efficientnet-lite0", pixels=A), 20)
    eviction.set_limit(4000)
    gone = eviction.evict()
    assert gone[0]["key"] == keys[1]
    assert [row["kind"] for row in gone] == ["features", "embeddings"]
    assert sorted(left("features")) == sorted([keys[0], keys[2]])
    assert len(left("datasets")) == len(left("samples")) == 1
    assert eviction.evict() == []
    assert [row["kind"] for row in eviction.evicted()] == ["embeddings", "features"]
    eviction.set_limit(1)
    eviction.evict()
    assert left("features") == []
    assert len(left("datasets")) == len(left("samples")) == 1
    eviction.set_limit(None)
    assert eviction.limit() is None


def test_reading_counts_as_use() -> None:
    old, older = put("features", features(0), 5), put("features", features(1), 9)
    store.get("features", older).file("data.bin")
    assert time.time() - store.get("features", older).used < 60
    eviction.set_limit(1000)
    eviction.evict()
    assert left("features") == [older]
    assert old != older


def test_what_a_live_job_needs_stays() -> None:
    needed, other = put("features", features(0), 9), put("features", features(1), 1)
    run = put("retrained", TrainSettings(dataset=A, indices=(1, 2)), 8)
    elsewhere = put("retrained", TrainSettings(dataset=C, indices=(1, 2)), 7)
    wanted = CounterfactualSettings(
        dataset=A, checkpoint=B, targets=("seed:1",), methods=("d-trak",), remove=(3,), features=(features(0),)
    )
    key, _ = jobs.submit(jobs.CounterfactualJob(settings=wanted), "Compare")
    eviction.set_limit(1)
    eviction.evict()
    assert left("features") == [needed]
    assert left("retrained") == [run]
    for kind, doomed in (("features", needed), ("retrained", run)):
        with pytest.raises(StoreError, match=f"needed by the job 'Compare' \\({key}\\)"):
            housekeeping.deleted(kind, [doomed])
    jobs.cancel(key)
    assert housekeeping.deleted("features", [needed]) > 1000
    assert {other, elsewhere}.isdisjoint(left("features") + left("retrained"))


def test_what_all_trainings_of_a_live_job_read_stays() -> None:
    latents = put("latents", LatentSettings(dataset=A, base=B), 9)
    jobs.submit(jobs.TrainJob(train=TrainSettings(dataset=A, indices=(1, 2)), name="mine"), "Train")
    eviction.set_limit(1)
    eviction.evict()
    assert left("latents") == [latents]


def test_what_is_deleted_while_the_cache_is_listed_is_not_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, real = [put("features", features(i), 1) for i in range(2)], store.listing

    def listing(kind: str) -> list[store.Artifact]:
        found = real(kind)
        if kind == "features":
            store.delete(kind, keys[0])
        return found

    monkeypatch.setattr(store, "listing", listing)
    assert [row["key"] for row in housekeeping.stored()] == [keys[1]]


def test_only_what_was_put_aside_is_called_damaged(cache: Path) -> None:
    sound, broken = put("samples", SampleSettings(checkpoint=B), 1), put("features", features(0), 1)
    (cache / "samples" / ".DS_Store").write_bytes(b"of macOS")
    (cache / "samples" / "empty").mkdir()
    (cache / "features" / f"{broken}.damaged").mkdir()  # an older one of the same key
    assert housekeeping.verified() == []
    (cache / "features" / broken / "manifest.json").write_bytes(b"{")
    (told,) = housekeeping.verified()
    assert (told["key"], "It was put aside." in told["error"]) == (broken, True)
    assert housekeeping.needed_by("features", f"{broken}.damaged", []) is None
    assert (cache / "features" / f"{broken}.damaged").is_dir(), "asking about it moves nothing"
    assert left("samples") == [sound]


def test_deletes_all_or_nothing() -> None:
    keys = [put("features", features(i), 1) for i in range(3)]
    with pytest.raises(NotFoundError, match="cache list"):
        housekeeping.deleted("features", [keys[0], C])
    assert sorted(left("features")) == sorted(keys)
    assert housekeeping.deleted("features", keys[:2]) >= 2000
    assert left("features") == keys[2:]
    housekeeping.deleted("features")
    assert left("features") == []


def test_unfinished_work_is_listed_and_deleted_but_not_evicted() -> None:
    store.write_bytes(store.partial("features", C) / "00000.npy", bytes(500))
    (row,) = housekeeping.stored("features")
    assert (row["key"], row["name"], row["bytes"], row["date"]) == (C, "unfinished", 500, "")
    eviction.set_limit(1)
    assert eviction.evict() == []
    assert housekeeping.deleted("features", [C]) == 500
    assert housekeeping.stored() == []


def test_what_was_put_aside_is_listed_with_its_size_and_deleted(cache: Path) -> None:
    key = put("features", features(0), 1)
    (cache / "features" / key / "data.bin").write_bytes(bytes(900))
    with pytest.raises(StoreError, match="put aside"):
        store.get("features", key).file("data.bin")
    assert put("features", features(0), 1) == key  # computed again
    aside = f"{key}.damaged"
    rows = {row["key"]: row for row in housekeeping.stored("features")}
    assert rows.keys() == {key, aside}
    assert (rows[aside]["name"], rows[aside]["date"], rows[aside]["shipped"]) == ("damaged", "", False)
    amount = sum(path.stat().st_size for path in (cache / "features" / aside).iterdir())
    assert rows[aside]["bytes"] == amount > 900
    assert housekeeping.own_bytes(list(rows.values())) == 1000 + amount
    assert housekeeping.deleted("features", [aside]) == amount
    assert not (cache / "features" / aside).exists()
    assert left("features") == [key], "the whole one stays"


def test_a_file_put_aside_and_half_a_deletion_are_listed_and_deleted(cache: Path) -> None:
    place = cache / "samples"
    store.write_bytes(place / f"{A}.damaged", bytes(30))
    store.write_bytes(place / f"{B}.deleted" / "image.png", bytes(20))
    rows = [(row["key"], row["name"], row["bytes"]) for row in housekeeping.stored("samples") if not row["shipped"]]
    assert rows == [(f"{A}.damaged", "damaged", 30), (f"{B}.deleted", "deleted", 20)]
    assert housekeeping.deleted("samples") == 50
    assert list(place.iterdir()) == []


def test_the_limit_takes_damaged_copies_of_what_can_be_computed_again(cache: Path) -> None:
    for kind in ("features", "checkpoints"):
        store.write_bytes(cache / kind / f"{A}.damaged" / "data.bin", bytes(500))
    eviction.set_limit(1)
    assert [(row["kind"], row["key"]) for row in eviction.evict()] == [("features", f"{A}.damaged")]
    assert (cache / "checkpoints" / f"{A}.damaged" / "data.bin").exists()


def test_what_was_put_aside_is_deleted_though_a_job_waits(cache: Path) -> None:
    jobs.submit(jobs.SampleJob(checkpoint=B, seeds=(1,)), "Draw")
    store.write_bytes(cache / "samples" / f"{A}.damaged" / "image.png", bytes(5))
    assert housekeeping.deleted("samples", [f"{A}.damaged"]) == 5


def test_rows_say_what_made_an_artifact() -> None:
    put("features", features(3), 1)
    put("checkpoints", TrainSettings(dataset=A, indices=(1, 2), epochs=7, train_seed=5), 2, amount=300)
    rows = {row["kind"]: row for row in housekeeping.stored()}
    assert rows["features"]["origin"] == "squared-output, 10 timesteps, k = 4,096"
    assert rows["checkpoints"]["origin"] == "training: 2 pictures, 7 epochs, seed 5"
    kinds = housekeeping.kinds(list(rows.values()))
    assert [(row["kind"], row["entries"]) for row in kinds] == [("checkpoints", 1), ("features", 1)]
    assert kinds[0]["bytes"] == 300
    assert np.isclose(kinds[1]["used"], time.time() - 86_400, atol=60)


@pytest.mark.parametrize(
    ("text", "number"),
    [("20GB", 20e9), ("1.5 gb", 1.5e9), ("500 MB", 5e8), ("800B", 800), ("3k", 3000), ("2TB", 2e12), ("none", None)],
)
def test_amounts(text: str, number: float | None) -> None:
    assert eviction.bytes_of(text) == number


@pytest.mark.parametrize("text", ["", "much", "-3GB", "3 XB", "GB", "800", "20", "9" * 400 + "GB"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(SettingsError, match="20GB"):
        eviction.bytes_of(text)


@given(st.integers(0, 10**15))
def test_whole_bytes_are_read_exactly(number: int) -> None:
    assert eviction.bytes_of(f"{number}B") == number


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"bytes": "much"}', b'{"bytes": null}'])
def test_a_garbled_limit_is_none(cache: Path, content: bytes) -> None:
    eviction.set_limit(7)
    assert eviction.limit() == 7
    (store.root() / "limit.json").write_bytes(content)
    assert eviction.limit() is None
    assert eviction.evict() == []


def test_half_a_line_of_what_was_deleted_is_left_out(cache: Path) -> None:
    path = job_files.folder() / "evicted.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"kind": "features"}\n{"kind": "ker')
    assert eviction.evicted() == [{"kind": "features"}]


def test_verifying_tells_of_a_broken_manifest(cache: Path) -> None:
    key, whole = put("features", features(1), days=1), put("features", features(2), days=1)
    (cache / "features" / key / store.MANIFEST).write_bytes(b"")
    (damaged,) = housekeeping.verified()
    assert (damaged["kind"], damaged["key"]) == ("features", key)
    assert "its manifest cannot be read" in damaged["error"]
    assert left("features") == [whole]
    assert housekeeping.verified() == []
