"""Why there is no model of a dataset to show, or not the one that a link names: the same sentences on every page."""

from __future__ import annotations

import streamlit as st

from dtrak_core import program
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import panels


def why(dataset: Dataset) -> None:
    """Say of models that learned from a dataset of this name why they are not shown; nothing where there is none."""
    of_name = _of_name(dataset)
    names = " and ".join(dict.fromkeys(f"'{panels.plain(c.name)}'" for c in of_name if c.share == 100))
    if any(c.run.shipped for c in of_name) and _as_shipped(dataset.settings):
        again = "Rebuild them with 'make demo', or train" if program.CHECKOUT else "Train"
        st.warning(
            "There is a model of these pictures, but they came out differently on this machine than those it learned "
            f"from. Its results would not fit and are not shown. {again} a model here."
        )
    elif of_name:
        st.warning(
            f"The dataset '{panels.plain(dataset.name)}' has changed since {names} learned from it: pictures, labels, "
            "captions or their size in pixels are different now. Results would not fit and are not shown. Train again, "
            "prepare the dataset again as it was, or choose another dataset."
        )


def checkpoint(dataset: Dataset, asked: str, shown: str) -> None:
    """Say why another checkpoint is shown than the one asked for."""
    if any(c.name == asked and c.dataset != dataset.digest for c in _of_name(dataset)):
        st.warning(
            f"The dataset '{panels.plain(dataset.name)}' has changed since '{panels.plain(asked)}' learned from it; "
            f"showing '{panels.plain(shown)}'."
        )
    else:
        st.warning(
            f"Checkpoint '{panels.plain(asked)}' does not exist for this dataset; showing '{panels.plain(shown)}'."
        )


def _of_name(dataset: Dataset) -> list[Checkpoint]:
    return [c for c in checkpoints.listing() if c.run.manifest.get("dataset_name") == dataset.name]


def _as_shipped(settings: DatasetSettings) -> bool:
    return settings.kind.startswith("openmoji") and settings == catalogue.built_in(settings.kind)
