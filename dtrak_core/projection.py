"""Seeded random projections of gradients: K numbers that keep inner products.

A projection P maps g in R^P to R^K with E<P g, P h> = <g, h>, for every kind of variance at
most (|g|² |h|² + <g, h>²) / K:

    sparse      one ±1 in each column (CountSketch). Parameters are cut into blocks of K; block b
                is signed, turned round by a random shift r_b and added up:
                (P g)[(j + r_b) mod K] = Σ_b σ_(bK+j) g_(bK+j). Two parameters meet with
                probability 1/K or never, and reading stays in memory's order. Cost: P a picture.
    gaussian    entries N(0, 1/K), as TRAK and D-TRAK. Cost: P K a picture.
    rademacher  entries ±1/√K. Cost: P K a picture.
    none        the gradient itself, K = P.

(The authors leave out the 1/√K, so their damping λ is K times ours; reference.md, section 3.)
Entries come from counter-based streams named by (proj_seed, block): they depend on no batch,
machine or order, and dense matrices are made block by block, never as a whole.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtrak_core.draws import stream
from dtrak_core.errors import SettingsError
from dtrak_core.settings import ProjectionKind

BLOCK = 256  # parameters a dense block; part of the matrix's definition, since each block has its own stream


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


def project(projector: Projector, gradients: Tensor) -> Tensor:
    """Return the projected gradients, shape (B, K), for gradients of shape (B, P), in their dtype."""
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
            return _dense(projector, gradients)


def _sparse(projector: Projector, gradients: Tensor) -> Tensor:
    """Sign, turn and add blocks. The turn is a write at an offset; what runs past K is folded back."""
    width = projector.proj_dim
    signs, shifts = _sparse_parts(projector)
    signs = signs.to(gradients)
    total = gradients.new_zeros(len(gradients), 2 * width)
    for block, shift in enumerate(shifts):
        start = block * width
        part = gradients[:, start : start + width]
        total[:, shift : shift + part.shape[1]].addcmul_(part, signs[start : start + width])
    return total[:, :width] + total[:, width:]


@functools.lru_cache(maxsize=4)
def _sparse_parts(projector: Projector) -> tuple[Tensor, list[int]]:
    """Return the signs σ, shape (P,), float32, and the shift of each block of K parameters."""
    blocks = -(-projector.num_parameters // projector.proj_dim)
    draws = _raw(f"sparse/shifts/{projector.proj_seed}", blocks)
    shifts = [int(number) for number in draws % np.uint64(projector.proj_dim)]
    signs = _signs(f"sparse/signs/{projector.proj_seed}", projector.num_parameters)
    return torch.from_numpy(signs), shifts


def _dense(projector: Projector, gradients: Tensor) -> Tensor:
    """Add up gradient block times matrix block, each block (at most 256, K) made when needed."""
    total = gradients.new_zeros(len(gradients), projector.proj_dim)
    for start in range(0, projector.num_parameters, BLOCK):
        part = gradients[:, start : start + BLOCK]
        name = f"{projector.kind}/{projector.proj_seed}/{projector.proj_dim}/{start // BLOCK}"
        shape = (part.shape[1], projector.proj_dim)
        if projector.kind == "gaussian":
            matrix = stream(name).standard_normal(shape, dtype=np.float32)
        else:
            matrix = _signs(name, shape[0] * shape[1]).reshape(shape)
        total.addmm_(part, torch.from_numpy(matrix).to(gradients))
    return total.div_(projector.proj_dim**0.5)


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
