"""The user's own pictures from memory: numpy arrays, torch tensors, Pillow's images; stored by their pixels.

Unlike a file's, nothing of them is held out unless the user says so: scores are then of the very pictures that were
given, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dtrak_core.amounts import counted
from dtrak_core.datasets import array_labels, catalogue, npz
from dtrak_core.datasets import content as contents
from dtrak_core.datasets.captions import whole
from dtrak_core.datasets.content import MIN_PICTURES, Content, Split, row_of
from dtrak_core.datasets.images import to_rgb
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError
from dtrak_core.settings import build, digest_of
from dtrak_core.store import Artifact


def keep(
    images: Any,
    labels: Any = None,
    contributors: Sequence[str | None] | None = None,
    captions: Sequence[str | None] | None = None,
    held_out: Any = None,
    name: str = "mine",
) -> Artifact:
    """Store pictures as a dataset, the newest of its name; arguments as of `api.dataset`.

    Raises:
        DataError: If pictures, labels or texts are not as described there.
        SettingsError: If the name or the resolution cannot be used.
    """
    found, notes = stacked(images, "images")
    count, height, width = found.shape[:3]
    if count < MIN_PICTURES:
        few = f"{'is' if count == 1 else 'are'} only {counted(count, 'picture')}"
        raise DataError(f"There {few} in images; at least {MIN_PICTURES} are needed. Add pictures.")
    if height != width:
        raise DataError(f"The pictures of images are {width} x {height}; they must be square. Crop or resize them.")
    left = found[:0] if held_out is None or _is_empty(held_out) else stacked(held_out, "held_out")[0]
    if left.shape[1:] != found.shape[1:]:
        raise DataError(
            f"The pictures of held_out are {left.shape[2]} x {left.shape[1]}, those of images {width} x {height}. "
            "Give both at one size."
        )
    named = [""] * count if labels is None else array_labels.of(_plain(labels), "labels", count, "images", [])
    makers, said = _texts(contributors, "contributors", count), _texts(captions, "captions", count)
    rows = [
        row_of(i, label, name=f"picture {i}", contributor=maker, caption=caption)
        for i, (label, maker, caption) in enumerate(zip(named, makers, said, strict=True))
    ]
    others = [row_of(i, "", name=f"held-out picture {i}") for i in range(len(left))]
    content = Content(Split(found, rows), Split(left, others), notes=notes)
    parts: list[bytes | str] = [str(found.shape), found.tobytes(), str(left.shape), left.tobytes(), json.dumps(rows)]
    told = {"kind": "arrays", "name": name, "resolution": height}
    settings = build(DatasetSettings, **told, source_digest=digest_of(*parts))
    catalogue.check_name(name, "arrays")
    return catalogue.make_newest(contents.keep(settings, content))


def stacked(images: Any, name: str) -> tuple[np.ndarray, list[str]]:
    """Return pictures as (N, H, W, 3), uint8, and notes on what was assumed.

    Args:
        images: An array or tensor of any form that `npz` names, or a sequence of Pillow's images or of arrays
            (H, W, C) that have one size.
        name: What errors call them.

    Raises:
        DataError: If they are of another form, type or scale, or differ in size.
    """
    if isinstance(images, str | bytes | Image.Image) or not hasattr(images, "__len__"):
        raise DataError(
            f"{name} is of type {type(images).__name__}; expected an array (N, H, W, 3) or a list of images."
        )
    if _is_empty(images):
        raise DataError(f"{name} is empty. Give at least one picture.")
    if isinstance(images, Sequence):
        each = [np.asarray(to_rgb(one, name)) if isinstance(one, Image.Image) else _plain(one) for one in images]
        shapes = [one.shape for one in each]
        if other := next((place for place, shape in enumerate(shapes) if shape != shapes[0]), 0):
            raise DataError(
                f"Pictures 0 and {other} of {name} have the shapes {shapes[0]} and {shapes[other]}. Crop and resize "
                "them to one size."
            )
        images = np.stack(each)
    return npz.pictures(_plain(images), name)


def _is_empty(images: Any) -> bool:
    """Say whether a list, or an array or tensor of whatever shape (a slice that took none), holds no picture."""
    shape = getattr(images, "shape", None)
    return isinstance(images, list | tuple) and not images if shape is None else tuple(shape)[:1] == (0,)


def _plain(values: Any) -> np.ndarray:
    """Return an array, tensor, column of a table or list as a plain array."""
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (ValueError, TypeError) as error:
        raise DataError(f"A {type(values).__name__} cannot be read as an array ({error}). Make it one first.") from None
    if array.dtype == object and array.size and all(isinstance(one, str) for one in array.ravel()):
        return array.astype(str)
    return array


def _texts(values: Sequence[str | None] | None, name: str, count: int) -> list[str]:
    """Return one text for each picture, empty where None is given."""
    if values is None:
        return [""] * count
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DataError(f"{name} is of type {type(values).__name__}; expected one text, or None, for each picture.")
    listed = list(values)
    if len(listed) != count:
        raise DataError(f"{name} has {len(listed):,} entries for {count:,} pictures. Give one for each.")
    if strange := [one for one in listed if not isinstance(one, str | None)]:
        raise DataError(f"{name} has an entry of type {type(strange[0]).__name__}; expected text, or None for unknown.")
    return [whole(one or "") for one in listed]
