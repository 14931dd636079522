"""The user's own pictures as arrays: an .npz of images and labels, or an .npy of images.

    x_train, y_train                 or  images, labels; x, y; train_images, train_labels; arr_0, arr_1; ...
    x_test, y_test; x_val, y_val     held out; without them one picture in ten, by a seeded draw
    f_train, f_test (optional)       a name for each picture
    classes         (optional)       names for whole-number labels; also class_names, label_names

Spelling is free: X_train is x_train. Images are (N, H, W, C), (N, C, H, W), (H, W, C, N) or (N, H, W), with 1, 3 or 4
channels, uint8, bool, or floats in [0, 1]. Labels may be left out (array_labels.py says which forms they have).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtrak_core.amounts import counted
from dtrak_core.datasets import array_labels, arrays, picture_axes
from dtrak_core.datasets.arrays import Header
from dtrak_core.datasets.content import (
    MAX_BYTES,
    MIN_PICTURES,
    Content,
    LeftOut,
    Split,
    check_size,
    hold_out,
    notes_on,
    row_of,
)
from dtrak_core.datasets.images import HALF_A_LEVEL, check_shape, fit, to_rgb
from dtrak_core.errors import DataError
from dtrak_core.progress import Count

PICTURES = ("x", "images", "image", "imgs", "img", "data")
LABELS = ("y", "labels", "label", "targets", "target")
HELD_OUT = ("test", "val", "valid", "validation")
CLASSES = ("classes", "classnames", "labelnames", "labelsnames", "targetnames", "categories")


@dataclass(frozen=True)
class Part:
    """Names of the arrays of one split: pictures, labels and picture names, empty where there are none."""

    pictures: str
    labels: str
    names: str


@dataclass(frozen=True)
class Looked:
    """What a file holds, told by its headers: the parts, how their pictures lie, how many there are, class names."""

    parts: list[Part]
    headers: dict[str, Header]
    axes: dict[str, tuple[int, ...]]
    sizes: list[int]
    classes: list[str]
    left_out: list[LeftOut]

    def bytes_of_pictures(self) -> int:
        """Return how much memory the arrays of pictures take."""
        return sum(header.nbytes for header in self.headers.values())


def look(source: Path, resolution: int, most: int = MAX_BYTES) -> Looked:
    """Return what an .npz or .npy holds, as far as headers, labels' shapes and class names tell it.

    Args:
        source: The file.
        resolution: Pixels a side.
        most: Bytes of an array of labels or names that are read.

    Raises:
        DataError: As `load`, or if such an array is larger.
    """
    known = arrays.names(source)
    parts, classes = _parts(source, known)
    for name in filter(None, (classes, *(name for part in parts for name in (part.labels, part.names)))):
        if (size := arrays.header(source, name).nbytes) > most:
            raise DataError(
                f"Array {name} has {size / 2**20:,.0f} MiB, at most {most // 2**20:,} are read. Shorten it."
            )
    headers = {part.pictures: arrays.header(source, part.pictures) for part in parts}
    counts = {part.labels: arrays.header(source, part.labels).shape for part in parts if part.labels}
    axes = {
        part.pictures: picture_axes.order_of(headers[part.pictures], counts.get(part.labels), part.labels)
        for part in parts
    }
    shapes = {name: tuple(headers[name].shape[axis] for axis in axes[name]) for name in headers}
    sizes = [shapes[part.pictures][0] for part in parts]
    check_size(sum(sizes), resolution)
    for name, (_, height, width, *_) in shapes.items():
        check_shape((width, height), resolution, f"Array {name}")
    if sizes[0] < MIN_PICTURES:
        raise DataError(
            f"'{source.name}' has only {counted(sizes[0], 'picture')} in {parts[0].pictures}; at least {MIN_PICTURES} "
            "are needed. Add pictures."
        )
    names = [array_labels.text(name) for name in np.ravel(arrays.read(source, classes))] if classes else []
    used = {name for part in parts for name in (part.pictures, part.labels, part.names)} | {classes}
    left_out = [LeftOut(name, "an array that is not read") for name in known if name not in used]
    return Looked(parts, headers, axes, sizes, names, left_out)


def rows_of(source: Path, looked: Looked) -> list[list[dict[str, Any]]]:
    """Return the rows of each part; the errors are those of `load`."""
    return [_rows(source, part, size, looked.classes) for part, size in zip(looked.parts, looked.sizes, strict=True)]


def load(source: Path, resolution: int, on_progress: Count | None = None, most: int | None = None) -> Content:
    """Read the splits of an .npz or .npy, every picture fitted to the resolution.

    Args:
        source: The file.
        resolution: Pixels a side.
        on_progress: Called with the number of pictures read and their total.
        most: Pictures of each part that are read, for a first look; None reads all.

    Raises:
        DataError: If it is neither, or its arrays are not as described above.
    """
    looked = look(source, resolution)
    values = {part.pictures: _checked(arrays.read(source, part.pictures), part.pictures) for part in looked.parts}
    factor, notes = _factor(list(values.values()))
    splits: list[Split] = []
    for part, rows in zip(looked.parts, rows_of(source, looked), strict=True):
        pictures = values[part.pictures].transpose(looked.axes[part.pictures])[:most]
        done = sum(len(split.rows) for split in splits)
        images = np.empty((len(pictures), resolution, resolution, 3), np.uint8)
        for i, picture in enumerate(pictures):
            images[i] = fit(_picture(picture, factor), resolution)
            if on_progress is not None:
                on_progress(done + i + 1, sum(looked.sizes))
        splits.append(Split(images, rows[:most]))
    notes += _assumed(looked.headers, looked.axes, looked.parts)
    train = splits[0]
    held_out = Split(
        np.concatenate([split.images for split in splits[1:]] or [train.images[:0]]),
        [row for split in splits[1:] for row in split.rows],
    )
    both = (train, held_out) if held_out.rows else hold_out(train)
    return Content(*both, skipped=looked.left_out, notes=notes + notes_on(train.images), classes=looked.classes)


def pictures(values: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Return an array of pictures in any of the forms above as (N, H, W, 3), uint8, and notes on what was assumed.

    Raises:
        DataError: If its shape, type or values are none of those; the sentence calls it `name`.
    """
    order = picture_axes.order_of(Header(name, values.shape, values.dtype, False), None, "")
    check_size(values.shape[order[0]], max(values.shape[axis] for axis in order[1:3]))
    factor, notes = _factor([_checked(values, name)])
    found = np.stack([np.asarray(_picture(one, factor)) for one in values.transpose(order)])
    return found, notes + notes_on(found)


def _parts(source: Path, known: Sequence[str]) -> tuple[list[Part], str]:
    """Return the arrays of each split, the training split first, and the array of class names."""
    plain = {re.sub(r"[\W_]+", "", name).lower(): name for name in reversed(known)}

    def find(names: Sequence[str], *marks: str) -> str:
        forms = [form for mark in marks for name in names for form in (name + mark, mark + name)]
        return next((plain[form] for form in forms if form in plain), "")

    if arrays.is_single(source):
        return [Part(known[0], "", "")], ""
    train = Part(find(PICTURES, "train", "training", ""), find(LABELS, "train", "training", ""), find(("f",), "train"))
    if not train.pictures and "arr0" in plain:
        train = Part(plain["arr0"], plain.get("arr1", ""), "")
    if not train.pictures:
        raise DataError(_no_pictures(source, known))
    parts = [train]
    for mark in HELD_OUT:
        part = Part(find(PICTURES, mark), find(LABELS, mark), find(("f",), mark))
        if part.pictures and (part.labels or not train.labels):
            parts.append(part)
        elif part.pictures or part.labels:
            alone = part.pictures or part.labels
            raise DataError(f"'{source.name}' has {alone} alone; give both x_{mark} and y_{mark}, or neither.")
    return parts, find(CLASSES, "")


def _no_pictures(source: Path, known: Sequence[str]) -> str:
    """Return the sentence for a file without arrays of a known name: what it has, and which is likely meant."""
    shown = ", ".join(sorted(known)[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    likely = []
    for name in known[:20]:
        with contextlib.suppress(DataError):  # it is only looked at for the hint
            header = arrays.header(source, name)
            if len(header.shape) == 4 and header.dtype.kind in "uifb":
                likely.append(f"{name} with the shape {header.shape}")
    hint = f" Rename {likely[0]} to images, if it holds the pictures." if likely else " Rename them."
    return (
        f"'{source.name}' has the arrays {shown or 'none'}; expected x_train and y_train, or images and labels.{hint}"
    )


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    """Return pictures whose values are of a known scale: uint8, bool, floats in [0, 1] but for rounding.

    Raises:
        DataError: If they are of another type or scale; the sentence says how to convert them.
    """
    if array.dtype in (np.uint8, np.bool_) or not array.size:
        return array
    if array.dtype.kind not in "fiu":
        raise DataError(f"Array {name} is of type {array.dtype}; expected uint8, or floats in [0, 1]. Convert it.")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f":
        if low >= -HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL:  # NaN fails this too
            return array
        if not math.isfinite(low) or not math.isfinite(high):
            how = "Replace what is not a number"
        elif low >= -1 - HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL:
            how = f"Rescale it: ({name} + 1) / 2"
        else:
            how = f"Rescale it: {name} / 255" if low >= 0 and 1 < high <= 255 else "Rescale it"
        raise DataError(f"Array {name} has values from {low:g} to {high:g}; floats must lie in [0, 1]. {how}.")
    how = "Rescale it to 0 to 255 and convert it"
    if low >= 0 and high <= 65_535:
        how = f"Convert it: {name}.astype('uint8')" if high <= 255 else f"Convert it: ({name} / 257).astype('uint8')"
    raise DataError(
        f"Array {name} is of type {array.dtype}; expected uint8, or floats in [0, 1]. Its values go from {low:.0f} to "
        f"{high:.0f}. {how}."
    )


def _factor(values: Sequence[np.ndarray]) -> tuple[int, list[str]]:
    """Return what bytes are multiplied by: 255 where they are 0 and 1 alone, which is said."""
    most = max((int(array.max()) for array in values if array.size and array.dtype == np.uint8), default=0)
    if most == 1 or any(array.dtype == np.bool_ for array in values):
        return (255 if most == 1 else 1), ["The pictures hold 0 and 1 alone: read as black and white, 0 and 255."]
    return 1, []


def _picture(values: np.ndarray, factor: int) -> Image.Image:
    """Return one picture, shape (H, W) or (H, W, C), in RGB."""
    if values.dtype.kind == "f":
        pixels = np.rint(np.clip(values.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    else:
        pixels = values.astype(np.uint8) * np.uint8(255 if values.dtype == np.bool_ else factor)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), "")


def _rows(source: Path, part: Part, count: int, classes: list[str]) -> list[dict[str, Any]]:
    """Return the rows of one split: label by class name, and the picture's own name where the file has one."""
    labels = [""] * count
    if part.labels:
        labels = array_labels.of(arrays.read(source, part.labels), part.labels, count, part.pictures, classes)
    known = np.ravel(arrays.read(source, part.names)) if part.names else None
    if known is not None and len(known) != count:
        raise DataError(
            f"Array {part.names} has {len(known):,} entries, {part.pictures} has {count:,} pictures. Give one for each."
        )
    return [
        row_of(i, label, name=array_labels.text(known[i]) if known is not None else f"picture {i}")
        for i, label in enumerate(labels)
    ]


def _assumed(headers: dict[str, Header], axes: dict[str, tuple[int, ...]], parts: Sequence[Part]) -> list[str]:
    """Return notes on what the file leaves open: labels that are not there, shapes that can be read in two ways."""
    notes = []
    if not parts[0].labels:
        notes.append("The file has no labels (an array y_train or labels): the pictures have none.")
    for name, header in headers.items():
        shape = header.shape
        if len(shape) == 4 and axes[name] == (0, 1, 2, 3) and shape[1] == shape[3]:
            notes.append(f"The shape {shape} of {name} can be read in two ways: taken as (N, H, W, C).")
        if axes[name] == (2, 0, 1) and not parts[0].labels:
            notes.append(f"The shape {shape} of {name} can be read in two ways: taken as (H, W, N).")
    return notes
