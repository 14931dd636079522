"""The training pictures that a link takes, for pages that look at them or remove them: Doctor and Map."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from dtrak_core.amounts import numbers_of, ranges_of
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError, shortened
from dtrak_core.ui import panels

TAKE = "take"  # address parameter


def taken(dataset: Dataset) -> list[int]:
    """Return the training pictures that the link takes; what is no list of them is said, and takes none."""
    return named(st.query_params.get(TAKE, ""), len(dataset.train.rows))


def named(text: str, count: int) -> list[int]:
    """Return which of so many training pictures an address names, ascending; what is none of them is said."""
    try:
        numbers = numbers_of(text, "training pictures", count) if text else []
    except SettingsError as error:
        st.warning(panels.plain(error))
        return []
    if others := [number for number in numbers if number >= count]:
        told = shortened(ranges_of(others))
        st.warning(panels.plain(f"The address names #{told}; the training pictures here are #0 to #{count - 1}."))
    return sorted(number for number in numbers if number < count)


def take(numbers: Collection[int]) -> None:
    """Let the link take these pictures."""
    if numbers:
        st.query_params[TAKE] = ranges_of(numbers)
    else:
        st.query_params.pop(TAKE, None)
