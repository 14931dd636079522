"""Seeded random projections of gradients: K numbers that keep inner products.

A projection P maps g in R^P to R^K with E<P g, P h> = <g, h>, for every kind of variance at
most (|g|² |h|² + <g, h>²) / K:

    sparse      one ±1 in each column (CountSketch). Parameters are cut into blocks of K; block b
                is signed, turned round by a random shift r_b and added up:
                (P g)[(j + r_b) mod K] = Σ_b σ_(bK+j) g_(bK+j). Two parameters meet with
                probability 1/K or never, and reading stays in memory's order. Cost: P a picture.
    gaussian    entries N(0, 1/K), as TRAK and D-TRAK. Cost: P K a picture, and P K normal numbers a call.
    rademacher  entries ±1/√K. Cost: P K a picture, and P K bits a call.
    none        the gradient itself, K = P.

(The authors leave out the 1/√K, so their damping λ is K times ours.)
Entries come from counter-based streams named by (proj_seed, block): they depend on no batch,
machine or order, and dense matrices are made block by block, never as a whole.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dtrak_core.errors import SettingsError
from dtrak_core.features.draws import stream
from dtrak_core.features.settings import ProjectionKind
from dtrak_core.progress import Count

GATHERED = 64  # blocks of a sparse projection that a GPU takes at once
BLOCK = 256  # parameters a dense block; part of the matrix's definition, since each block has its own stream
AHEAD = 8  # blocks of a dense matrix in memory, or one a thread where there are more: 33 MB each at K = 32,768
DENSE: tuple[ProjectionKind, ...] = ("gaussian", "rademacher")


@dataclass(frozen=True)
class Projector:
    """Which random matrix: kind, K, seed and the number of parameters P. `none` ignores K and seed."""

    kind: ProjectionKind
    proj_dim: int
    proj_seed: int
    num_parameters: int

    def __post_init__(self) -> None:
        if self.kind != "none" and self.proj_dim > self.num_parameters:
            raise SettingsError(
                f"Projection dimension {self.proj_dim:,} is larger than the number of parameters "
                f"({self.num_parameters:,}). Choose at most {self.num_parameters:,}, or projection 'none'."
            )

    @property
    def width(self) -> int:
        """Return the length of a feature: K, or P without projection."""
        return self.num_parameters if self.kind == "none" else self.proj_dim


def project(
    projector: Projector,
    gradients: Tensor,
    device: torch.device | None = None,
    on_progress: Count = lambda done, total: None,
) -> Tensor:
    """Return the projected gradients, shape (B, K), for gradients of shape (B, P), in their dtype.

    Args:
        projector: Which matrix. A dense one is drawn anew at every call, so ask for many gradients at once.
        gradients: One a row; a dense matrix reads them in ranges of columns, so they may be a memory map.
        device: Where a dense matrix is multiplied; None takes the gradients' own.
        on_progress: Called with the blocks of a dense matrix done, and their number.
    """
    if gradients.shape[1] != projector.num_parameters:
        raise SettingsError(
            f"A gradient of {gradients.shape[1]:,} numbers cannot be projected by a matrix for "
            f"{projector.num_parameters:,} parameters. Make the projector for this network."
        )
    match projector.kind:
        case "none":
            return gradients
        case "sparse":
            return _sparse(projector, gradients)
        case "gaussian" | "rademacher":
            return _dense(projector, gradients, device or gradients.device, on_progress)


def _sparse(projector: Projector, gradients: Tensor) -> Tensor:
    """Sign, turn and add blocks. The turn is a write at an offset; what runs past K is folded back."""
    width = projector.proj_dim
    signs = _sparse_signs(projector.proj_seed, projector.num_parameters, gradients.device)
    if gradients.device.type == "cuda":
        return _gathered(gradients, signs, torch.tensor(_sparse_shifts(projector), device=gradients.device), width)
    total = gradients.new_zeros(len(gradients), 2 * width)
    for block, shift in enumerate(_sparse_shifts(projector)):
        start = block * width
        part = gradients[:, start : start + width]
        total[:, shift : shift + part.shape[1]].addcmul_(part, signs[start : start + width].to(part.dtype))
    return total[:, :width] + total[:, width:]


def _gathered(gradients: Tensor, signs: Tensor, shifts: Tensor, width: int) -> Tensor:
    """Do the same by reading, `GATHERED` blocks at once: on a GPU a block by itself is too little work."""
    total, place = gradients.new_zeros(len(gradients), width), torch.arange(width, device=gradients.device)
    for first in range(0, len(shifts), GATHERED):
        some = shifts[first : first + GATHERED, None]
        here = slice(first * width, (first + len(some)) * width)
        part = gradients[:, here] * signs[here].to(gradients.dtype)
        part = functional.pad(part, (0, len(some) * width - part.shape[1])).view(len(gradients), len(some), width)
        total += part.gather(2, ((place - some) % width).expand_as(part)).sum(1)
    return total


# Features in parts project every group of layers by its own pattern: room for all of a network's groups, a byte a
# parameter. Drawn anew at every call, a pattern takes as long as the gradient.
@functools.lru_cache(maxsize=64)
def _sparse_signs(proj_seed: int, num_parameters: int, device: torch.device) -> Tensor:
    """Return the signs σ, shape (P,), int8."""
    return torch.from_numpy(_signs(f"sparse/signs/{proj_seed}", num_parameters).astype(np.int8)).to(device)


@functools.lru_cache(maxsize=64)
def _sparse_shifts(projector: Projector) -> list[int]:
    """Return the shift of each block of K parameters."""
    blocks = -(-projector.num_parameters // projector.proj_dim)
    draws = _raw(f"sparse/shifts/{projector.proj_seed}", blocks)
    return [int(number) for number in draws % np.uint64(projector.proj_dim)]


def _dense(projector: Projector, gradients: Tensor, device: torch.device, on_progress: Count) -> Tensor:
    """Add up gradient block times matrix block, each block (at most 256, K) made once, some ahead by other threads."""
    starts, threads = range(0, projector.num_parameters, BLOCK), torch.get_num_threads()
    total = torch.zeros(len(gradients), projector.proj_dim, dtype=gradients.dtype, device=device)
    with ThreadPoolExecutor(threads) as pool:
        for number in range(0, len(starts), max(AHEAD, threads)):
            on_progress(number, len(starts))
            group = starts[number : number + max(AHEAD, threads)]
            parts = gradients[:, group.start : group.stop].to(device).split(BLOCK, dim=1)
            for part, matrix in zip(parts, pool.map(functools.partial(_block, projector), group), strict=True):
                total.addmm_(part, torch.from_numpy(matrix).to(total))
    return total.div_(projector.proj_dim**0.5)


def _block(projector: Projector, start: int) -> np.ndarray:
    """Return the rows of √K times a dense matrix from a parameter on, at most `BLOCK` of them, K columns, float32."""
    name = f"{projector.kind}/{projector.proj_seed}/{projector.proj_dim}/{start // BLOCK}"
    shape = (min(BLOCK, projector.num_parameters - start), projector.proj_dim)
    if projector.kind == "gaussian":
        return stream(name).standard_normal(shape, dtype=np.float32)
    return _signs(name, shape[0] * shape[1]).reshape(shape)


def _signs(name: str, count: int) -> np.ndarray:
    """Return `count` fair signs ±1, float32, from the bits of a named stream."""
    bits = np.unpackbits(_raw(name, -(-count // 64)).astype("<u8", copy=False).view(np.uint8))[:count]
    signs = bits.astype(np.float32)
    signs *= 2
    signs -= 1
    return signs


def _raw(name: str, count: int) -> np.ndarray:
    """Return `count` raw 64-bit numbers of a named stream."""
    return np.asarray(stream(name).bit_generator.random_raw(count), dtype=np.uint64)
