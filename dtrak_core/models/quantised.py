"""Frozen weights of linear layers in 8 or 4 bits a number, so that less memory holds a large base.

int8 (Dettmers et al. 2022, "LLM.int8()", section 2.1, of weights alone): row i of W is s_i q_i / 127 with s_i = max_j
|W_ij| and q whole in -127..127.

nf4 (Dettmers et al. 2023, "QLoRA", section 3, without double quantisation): each run of 64 numbers is divided by its
largest size, which is kept, and each of them takes the nearest of 16 levels between -1 and 1: quantiles of a normal
distribution, eight above 0 and seven below, and 0. Two levels lie in a byte, the first in its upper half.

Products are of the numbers that are meant, in the format of what comes in, so a picture's output and gradient depend on
no other picture beside it, and a gradient is that of what is computed. This is torch alone, and so is the same on every
device.
"""

from __future__ import annotations

import functools
import re
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dtrak_core.models.settings import Frozen

BLOCK = 64  # numbers that share a scale in nf4
MARGIN = (1 / 32 + 1 / 30) / 2  # probability beyond the outermost levels of nf4 (QLoRA, appendix E)
IN_BLOCKS = re.compile(r"\.\d+\.")  # a layer of a numbered block: first and last layers stay as stored


class QuantisedLinear(nn.Linear):
    """A linear layer with a frozen weight in 8 or 4 bits. `weight` holds the codes, `scales` (float32) their sizes."""

    def __init__(self, plain: nn.Linear, form: Frozen) -> None:
        nn.Module.__init__(self)  # torch's own would draw a weight
        self.in_features, self.out_features, self.form = plain.in_features, plain.out_features, form
        codes, scales = _int8(plain.weight.detach()) if form == "int8" else _nf4(plain.weight.detach())
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("scales", scales, persistent=False)
        self.bias = plain.bias

    def numbers(self, dtype: torch.dtype) -> Tensor:
        """Return the weight (out, in) that the codes mean."""
        scales: Tensor = self.get_buffer("scales")
        if self.form == "int8":
            return (self.weight.float() * (scales / 127)[:, None]).to(dtype)
        blocks = functional.embedding(self.weight.int(), _pairs(scales.device)).flatten(1) * scales[:, None]
        count = self.out_features * self.in_features
        return blocks.flatten()[:count].view(self.out_features, self.in_features).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, in the format of `x`, or of autocast."""
        kind = x.device.type
        x = x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x
        product: Tensor = _Product.apply(x, self)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """x W^T, for whose gradient W is made anew: kept, the plain weights of all layers would lie in memory together."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantisedLinear) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.numbers(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.numbers(gradient.dtype), None


def quantise(network: nn.Module, form: Frozen, where: torch.device) -> None:
    """Bring the weights of linear layers in a network's numbered blocks into 8 or 4 bits, on a device, one by one."""
    for name, module in list(network.named_modules()):
        if type(module) is nn.Linear and IN_BLOCKS.search(name):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, QuantisedLinear(module.to(where), form))


def form_of(network: nn.Module) -> Frozen:
    """Return the format of a network's frozen linear layers."""
    return next((module.form for module in network.modules() if isinstance(module, QuantisedLinear)), "stored")


def count(network: nn.Module) -> int:
    """Return how many numbers the weights of a network are, those behind codes counted one by one."""
    held = sum(parameter.numel() for parameter in network.parameters())
    layers = (module for module in network.modules() if isinstance(module, QuantisedLinear))
    return held + sum(layer.out_features * layer.in_features - layer.weight.numel() for layer in layers)


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = _sizes(weight.float())
    return (weight.float() * (127 / scales)[:, None]).round().to(torch.int8), scales


def _nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    flat = weight.float().flatten()
    blocks = functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales, levels = _sizes(blocks), torch.tensor(_levels(), device=weight.device)
    codes = torch.bucketize(blocks / scales[:, None], (levels[1:] + levels[:-1]) / 2, out_int32=True).to(torch.uint8)
    return codes[:, ::2] * 16 + codes[:, 1::2], scales


def _sizes(rows: Tensor) -> Tensor:
    """Return the largest size in each row; 1 of a row of zeros."""
    found = rows.abs().amax(1)
    return torch.where(found > 0, found, 1.0)


@functools.cache
def _levels() -> tuple[float, ...]:
    """Return the 16 levels of nf4, rising from -1 to 1."""
    above, below = (
        [NormalDist().inv_cdf(1 - MARGIN - (0.5 - MARGIN) * i / steps) for i in range(steps)] for steps in (8, 7)
    )
    return tuple(sorted(level / above[0] for level in [*above, 0.0, *(-level for level in below)]))


@functools.cache
def _pairs(where: torch.device) -> Tensor:
    """Return the two levels (256, 2) that each byte means."""
    levels = torch.tensor(_levels(), device=where)
    return torch.cartesian_prod(levels, levels)
