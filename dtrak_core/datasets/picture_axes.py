"""The axes of an array of pictures, told by its shape: (N, H, W, C), (N, C, H, W), (H, W, C, N) or (N, H, W)."""

from __future__ import annotations

import math

from dtrak_core.datasets.arrays import Header
from dtrak_core.datasets.content import MIN_PICTURES
from dtrak_core.errors import DataError

CHANNELS = (1, 3, 4)


def order_of(header: Header, labels: tuple[int, ...] | None, labels_name: str) -> tuple[int, ...]:
    """Return the order of axes that brings an array of pictures to (N, H, W) or (N, H, W, C), by its shape.

    Raises:
        DataError: If the shape is none of those, or its number of pictures is not that of labels.
    """
    shape, name = header.shape, header.name
    counts = {1} if labels == () else set() if labels is None else {labels[0], *(labels[1:2] if labels[0] == 1 else ())}
    last = len(shape) in (3, 4) and shape[0] not in counts and shape[-1] in counts
    if len(shape) == 4 and labels is None:
        last = not {shape[1], shape[3]} & set(CHANNELS) and shape[2] in CHANNELS
    if counts and header.count not in counts and not last:
        raise DataError(
            f"Array {labels_name} has {max(counts):,} entries, {name} has {header.count:,} pictures. Give one for each."
        )
    if len(shape) == 3 and labels is None:  # pictures are mostly square
        last = shape[0] == shape[1] != shape[2]
    order: tuple[int, ...] = ()
    if len(shape) == 3 and not (labels is None and shape[2] in CHANNELS):  # else it is one picture alone
        order = (2, 0, 1) if last else (0, 1, 2)
    elif len(shape) == 4 and last and shape[2] in CHANNELS:
        order = (3, 0, 1, 2)
    elif len(shape) == 4 and not last:
        # Where both ends could be the channels, 3 and 1 are likelier than 4, and the last axis than the first.
        ends = [(shape[axis], axis) for axis in (3, 1) if shape[axis] in CHANNELS]
        ends.sort(key=lambda end: end[0] == 4)
        order = () if not ends else (0, 1, 2, 3) if ends[0][1] == 3 else (0, 2, 3, 1)
    if not order or 0 in [shape[axis] for axis in order[1:]]:
        raise DataError(
            f"Array {name} has shape {shape}; expected (N, H, W, 3), (N, 3, H, W), (H, W, 3, N) or (N, H, W). "
            f"{_reshaped(header)}"
        )
    return order


def _reshaped(header: Header) -> str:
    """Return what to do about a shape, as far as it tells."""
    shape, name = header.shape, header.name
    if len(shape) == 2:
        for channels in (3, 1):
            side = math.isqrt(shape[1] // channels)
            if side and side * side * channels == shape[1]:
                first = f"{name}.reshape(-1, {channels}, {side}, {side})"
                return (
                    f"If its rows are flat pictures, reshape it: {first} as CIFAR's, or with the {channels} at the end."
                )
    if len(shape) == 3:
        return f"It is one picture; at least {MIN_PICTURES} are needed."
    return "Reshape it."
