"""Cells of tables as text, whichever program wrote them: what stands for nothing, and whole numbers with a point."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from dtrak_core.datasets.captions import whole

NOTHING = ("nan", "NaN", "None", "null", "NULL", "<NA>", "N/A", "n/a", "#N/A")  # not NA, which may be a name
_WHOLE = re.compile(r"([-+]?\d+)(\.0*)?")


def text(value: Any) -> str:
    """Return a value of a table as text; of several captions the first."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = value[0]
    if value is None or (isinstance(value, float) and value != value):
        return ""
    found = whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).strip()
    return "" if found in NOTHING else found


def without_points(labels: Sequence[str]) -> list[str]:
    """Return the labels of a table, "3.0" as "3" where all that are given are whole numbers.

    pandas writes them so where one is missing; arrays of them are read alike (`array_labels.of`).
    """
    found = [_WHOLE.fullmatch(label) for label in labels if label]
    if not all(found):
        return list(labels)
    return [label.partition(".")[0] for label in labels]
