"""Pages run by AppTest on a small complete cache; jobs are asked for but no worker is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_store
import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import launch
from dtrak_core.models.checkpoints import Checkpoint


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, Checkpoint]:
    """Build the small cache once."""
    place = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "no-demo"))
        dataset, checkpoint = small_store.build(place / "source")
        shutil.copytree(place / "cache", place / "as-built")
    return place, dataset, checkpoint


@pytest.fixture(scope="module")
def restored(built: tuple[Path, Dataset, Checkpoint]) -> tuple[Path, Dataset, Checkpoint]:
    """Give a file's tests the small cache as it was built: what other files' tests stored would change their pages."""
    place = built[0]
    shutil.rmtree(place / "cache")
    shutil.copytree(place / "as-built", place / "cache")
    return built


@pytest.fixture
def small(restored: tuple[Path, Dataset, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, Checkpoint]:
    """Make the small cache the one in use, without jobs; no worker starts."""
    place, dataset, checkpoint = restored
    monkeypatch.setenv("STUDIO_CACHE", str(place / "cache"))
    monkeypatch.setenv("STUDIO_DEMO", str(place / "no-demo"))
    monkeypatch.setattr(launch, "ensure", lambda: None)
    shutil.rmtree(place / "cache" / "jobs", ignore_errors=True)
    st.cache_data.clear()
    return dataset, checkpoint


@pytest.fixture
def empty(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the page an empty cache; no worker starts."""
    monkeypatch.setattr(launch, "ensure", lambda: None)
    st.cache_data.clear()
    return cache
