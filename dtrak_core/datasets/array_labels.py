"""Labels of pictures that come as an array: whole numbers, text, one-hot rows, with or without names."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtrak_core.datasets.captions import whole
from dtrak_core.errors import DataError


def of(array: np.ndarray, name: str, count: int, pictures: str, classes: list[str]) -> list[str]:
    """Return one label for each of `count` pictures.

    Args:
        array: Shape (N,), (N, 1) or (1, N), whole numbers or text; or (N, K), one-hot.
        name: How errors name it.
        count: N.
        pictures: Name of the array of pictures.
        classes: Names that whole numbers stand for; may be empty.

    Raises:
        DataError: If there is not one label for each picture, or a number has no name.
    """
    labels = np.atleast_1d(array)
    if labels.ndim == 2 and labels.shape == (1, count) and count > 1:
        labels = labels[0]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if len(labels) != count:
        raise DataError(
            f"Array {name} has {len(labels):,} entries, {pictures} has {count:,} pictures. Give one for each."
        )
    if labels.ndim == 2 and labels.dtype.kind in "iufb":
        labels = _from_one_hot(labels, name)
    if labels.dtype.kind == "f" and bool((np.isfinite(labels) & (labels == np.rint(labels))).all()):
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        strange = "; the numbers are not whole" if labels.dtype.kind == "f" else ""
        raise DataError(
            f"Array {name} is {labels.dtype}{list(labels.shape)}; expected one number or text for each picture"
            f"{strange}. Give class numbers or names."
        )
    return [_label(label, name, classes) for label in labels]


def text(value: Any) -> str:
    """Return an entry of an array as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else whole(str(value))


def _from_one_hot(labels: np.ndarray, name: str) -> np.ndarray:
    if not (((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()):
        raise DataError(
            f"Array {name} is {labels.dtype}{list(labels.shape)}; expected one number or text for each picture, or "
            f"one-hot rows. Choose one of its {labels.shape[1]} columns, such as {name}[:, 0]."
        )
    found: np.ndarray = labels.argmax(axis=1)
    return found


def _label(label: Any, name: str, classes: list[str]) -> str:
    if not classes or isinstance(label, str | bytes):
        return text(label)
    if not 0 <= int(label) < len(classes):
        raise DataError(f"Array {name} has the label {label}, but classes names only 0 to {len(classes) - 1}.")
    return classes[int(label)]
