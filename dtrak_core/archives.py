"""The user's own pictures as arrays: an .npz of images and labels.

    x_train, y_train                 or  images, labels
    x_test, y_test  (optional)           held out; else one picture in ten, by a seeded draw
    f_train, f_test (optional)           a name for each picture
    classes         (optional)           names for whole-number labels

Images are (N, H, W, 3), (N, 3, H, W) or (N, H, W), uint8, or floats in [0, 1]. Arrays of Python
objects are refused: reading them would run code that the file brings along. Size and type
of each array are read from its header and checked before its values are.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtrak_core.errors import DataError
from dtrak_core.images import fit
from dtrak_core.splits import MAX_BYTES, MIN_PICTURES, Content, Split, hold_out, row_of

NAMES = (("x_train", "y_train"), ("images", "labels"))


def load(source: Path, resolution: int, on_step: Callable[[int, int], None] | None = None) -> Content:
    """Read the splits of an .npz, every picture fitted to the resolution.

    Raises:
        DataError: If it is not an .npz, or its arrays are not as described above.
    """
    arrays = _read(source)
    pair = next((names for names in NAMES if set(names) <= set(arrays)), None)
    if pair is None:
        raise DataError(
            f"'{source.name}' has the arrays {', '.join(sorted(arrays)) or 'none'}; expected x_train and y_train, "
            "or images and labels. Rename them."
        )
    classes = [str(name) for name in np.atleast_1d(arrays["classes"])] if "classes" in arrays else []
    tests = sorted({"x_test", "y_test"} & set(arrays))
    if len(tests) == 1:
        raise DataError(f"'{source.name}' has {tests[0]} alone; give both x_test and y_test, or neither.")
    total = sum(len(np.atleast_1d(arrays[name])) for name in (pair[0], *tests[:1]))

    def split(part: tuple[str, str], names: str, done: int) -> Split:
        def step(i: int) -> None:
            if on_step is not None:
                on_step(done + i, total)

        rows = _rows(arrays, part, names, classes)
        return Split(_images(arrays[part[0]], part[0], resolution, step), rows)

    train = split(pair, "f_train", 0)
    if len(train.rows) < MIN_PICTURES:
        raise DataError(
            f"'{source.name}' has only {len(train.rows)} pictures in {pair[0]}; at least {MIN_PICTURES} are needed. "
            "Add pictures."
        )
    if not tests:
        return Content(*hold_out(train))
    return Content(train, split(("x_test", "y_test"), "f_test", len(train.rows)))


def _read(source: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz whose names are known here, headers first."""
    wanted = {"classes", "f_train", "f_test", "x_test", "y_test", *NAMES[0], *NAMES[1]}
    try:
        with zipfile.ZipFile(source) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
            return {
                name: _array(archive, info, name) if name in wanted else np.empty(0) for name, info in members.items()
            }
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"'{source.name}' is not an .npz or is damaged ({str(error).rstrip('.')}). Save it again with numpy.savez."
        ) from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    if info.file_size > MAX_BYTES:
        raise DataError(
            f"Array {name} takes {info.file_size / 2**30:.1f} GiB; at most {MAX_BYTES // 2**30} are allowed. "
            "Save fewer or smaller pictures."
        )
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise DataError(f"Array {name} has no readable header ({error}). Save it again with numpy.savez.") from None
        if dtype.hasobject:
            raise DataError(
                f"Array {name} holds Python objects, which are not opened because that would run code from the file. "
                "Save it with a plain type such as uint8 or text."
            )
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if count * dtype.itemsize > info.file_size:
            raise DataError(f"Array {name} is shorter than its header says. Save it again with numpy.savez.")
        if not count or not dtype.itemsize:
            return np.empty(shape, dtype)
        return np.frombuffer(file.read(), dtype, count).reshape(shape, order="F" if fortran else "C")


def _images(array: np.ndarray, name: str, resolution: int, on_step: Callable[[int], None]) -> np.ndarray:
    """Bring pictures to (N, resolution, resolution, 3), uint8."""
    if array.ndim == 4 and array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape[1:]:
        raise DataError(
            f"Array {name} has shape {array.shape}; expected (N, H, W, 3), (N, 3, H, W) or (N, H, W). Reshape it."
        )
    if array.dtype.kind == "f":
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):  # NaN fails this too
            raise DataError(f"Array {name} has values from {low:g} to {high:g}; floats must lie in [0, 1]. Rescale it.")
    elif array.dtype != np.uint8:
        raise DataError(f"Array {name} is of type {array.dtype}; expected uint8, or floats in [0, 1]. Convert it.")
    images = np.empty((len(array), resolution, resolution, 3), np.uint8)
    for i, picture in enumerate(array):
        pixels = picture if picture.dtype == np.uint8 else np.rint(picture.astype(np.float64) * 255).astype(np.uint8)
        images[i] = fit(Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()), resolution)
        on_step(i + 1)
    return images


def _rows(arrays: dict[str, np.ndarray], pair: tuple[str, str], names: str, classes: list[str]) -> list[dict[str, Any]]:
    """Return the rows of one split: label by class name, and the picture's own name where the file has one."""
    count, labels = len(np.atleast_1d(arrays[pair[0]])), np.atleast_1d(arrays[pair[1]])
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    for name in (pair[1], names):
        if name in arrays and len(np.atleast_1d(arrays[name])) != count:
            raise DataError(
                f"Array {name} has {len(np.atleast_1d(arrays[name])):,} entries, {pair[0]} has {count:,} pictures. "
                "Give one for each."
            )
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise DataError(
            f"Array {pair[1]} is {labels.dtype}{list(labels.shape)}; expected one number or text for each picture."
        )
    known = arrays.get(names)
    return [
        row_of(i, _label(label, pair[1], classes), name=_text(known[i]) if known is not None else f"picture {i}")
        for i, label in enumerate(labels)
    ]


def _label(label: Any, name: str, classes: list[str]) -> str:
    if not classes or isinstance(label, str | bytes):
        return _text(label)
    if not 0 <= int(label) < len(classes):
        raise DataError(f"Array {name} has the label {label}, but classes names only 0 to {len(classes) - 1}.")
    return classes[int(label)]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
