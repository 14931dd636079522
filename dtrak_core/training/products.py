"""Convolutions of many models as products of matrices, for models that train together (together.py).

Mapped over models, a convolution becomes one of as many groups, and the libraries' kernels for those are slow: of a
step of 64 small networks they took most. Here the patches of all pictures are laid out once, and the convolution of all
models is one batched product of matrices, W (M, O, C k k) by patches (M, C k k, B h w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

GIVEN = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")  # in this order, or by name


@contextmanager
def convolutions() -> Iterator[None]:
    """Take convolutions with weights that differ by model as products meanwhile; those of frozen weights stay."""
    with _AsProducts():
        yield


class _AsProducts(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d:
            given = {**dict(zip(GIVEN, args, strict=False)), **(kwargs or {})}
            if not isinstance(given["weight"], nn.Parameter) and _plain(given):
                return product(given["input"], given["weight"], given.get("bias"), *_of(given))
        return func(*args, **(kwargs or {}))


def product(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Return the convolution of x (B, C, H, W) with square kernels (O, C, k, k) at one stride and padding."""
    if torch.is_autocast_enabled(x.device.type):  # laid out in the format of the product, half as large
        x = x.to(torch.get_autocast_dtype(x.device.type))
    side, pictures = weight.shape[-1], x.shape[0]
    if padding:
        x = functional.pad(x, (padding,) * 4)
    patches = x.transpose(0, 1)
    if side > 1 or stride > 1:
        patches = patches.unfold(2, side, stride).unfold(3, side, stride)  # (C, B, h, w, k, k)
        height, width = patches.shape[2:4]
        patches = patches.permute(0, 4, 5, 1, 2, 3)
    else:
        height, width = patches.shape[2:4]
    rows = patches.reshape(-1, pictures * height * width)
    found = (weight.flatten(1) @ rows).reshape(-1, pictures, height, width).transpose(0, 1)
    return found if bias is None else found + bias.to(found.dtype)[:, None, None]


def _plain(given: Mapping[str, Any]) -> bool:
    weight, around = given["weight"], given.get("padding", 0)
    same = all(_square(given.get(name, 1)) for name in ("stride", "dilation")) and _square(around)
    return (
        same and weight.shape[-1] == weight.shape[-2] and _one(given.get("dilation", 1)) == given.get("groups", 1) == 1
    )


def _of(given: Mapping[str, Any]) -> tuple[int, int]:
    return _one(given.get("stride", 1)), _one(given.get("padding", 0))


def _square(value: Any) -> bool:
    return not isinstance(value, str) and (isinstance(value, int) or len(set(value)) == 1)


def _one(value: Any) -> int:
    return value if isinstance(value, int) else int(value[0])
