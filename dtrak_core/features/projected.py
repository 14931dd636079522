"""Rows of projected gradients, whatever the projection costs.

A sparse projection takes each gradient as it is made. A dense one is a matrix of P K random numbers, which is never
held and takes longer to draw than a gradient to compute. So the gradients of many pictures wait in a file of the cache
folder (as many as `feature_store.gradients_kept` allows), and each block of the matrix is drawn once for all of them;
costs.py says what that takes. The file has no name, so that it ends with the process, however that ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dtrak_core import store
from dtrak_core.features import feature_store
from dtrak_core.features.projection import DENSE, Projector, project
from dtrak_core.progress import Count

Blocks: TypeAlias = Sequence[tuple[Projector, slice]]  # projections, each of its own range of parameters
Made: TypeAlias = Iterator[tuple[slice, int, Tensor]]  # pictures in order, part of their feature, gradients (n, P)


def rows(
    blocks: Blocks, made: Made, count: int, parts: int, on_progress: Count = lambda done, total: None
) -> np.ndarray:
    """Return the features of `count` pictures, shape (count, parts ΣK), float32.

    Args:
        blocks: Projections, whose results stand side by side in a part.
        made: Gradients batch by batch; a batch may come again in smaller ones. Parts that never come are zeros.
        count: Number of pictures.
        parts: Gradients that a picture's feature is made of, one after the other.
        on_progress: Called with the blocks of dense matrices drawn and their number, for the gradients kept.

    Raises:
        StoreError: If gradients that wait cannot be written.
    """
    found = np.zeros((count, parts, sum(projector.width for projector, _ in blocks)), np.float32)
    if all(projector.kind not in DENSE for projector, _ in blocks):
        for where, part, gradients in made:
            found[where, part] = _projected(blocks, gradients, gradients.device, on_progress)
        return found.reshape(count, -1)
    width = blocks[-1][1].stop
    capacity, device = feature_store.gradients_kept(4 * parts * width), torch.device("cpu")
    with feature_store.scratch() as file:
        first = stop = 0
        for where, part, gradients in made:
            if where.start > first and where.stop - first > capacity:
                found[first:stop] = _of_file(blocks, file, stop - first, parts, device, on_progress)
                first = where.start
            for row, gradient in zip(range(where.start, where.stop), gradients.float().cpu().numpy(), strict=True):
                with store.writable():  # the disk may be full
                    file.seek(((row - first) * parts + part) * gradient.nbytes)
                    file.write(gradient.data)
            stop, device = max(stop, where.stop), gradients.device
        found[first:stop] = _of_file(blocks, file, stop - first, parts, device, on_progress)
    return found.reshape(count, -1)


def _of_file(
    blocks: Blocks, file: IO[bytes], count: int, parts: int, device: torch.device, on_progress: Count
) -> np.ndarray:
    """Return the features (count, parts, ΣK) of the gradients in the file, and empty it."""
    width = blocks[-1][1].stop
    file.truncate(4 * count * parts * width)  # parts that never came are zeros
    kept = torch.from_numpy(np.memmap(file, np.float32, "c", shape=(count * parts, width)))
    found = _projected(blocks, kept, device, on_progress).reshape(count, parts, -1)
    file.truncate(0)
    return found


def _projected(blocks: Blocks, gradients: Tensor, device: torch.device, on_progress: Count) -> np.ndarray:
    """Return the projections of gradients (n, P) side by side, (n, ΣK)."""
    with torch.no_grad():
        each = [project(one, gradients[:, where], device, on_progress).cpu().numpy() for one, where in blocks]
    return each[0] if len(each) == 1 else np.concatenate(each, axis=1)
