"""Layers of many models as products of matrices, in the format of autocast, for models that train together.

Mapped over models, a convolution becomes one of as many groups. Here the patches of all pictures are laid out once, and
the convolution of all models is one batched product of matrices, W (M, O, C k k) by patches (M, C k k, B h w); the
gradients of both sides are such products too (docs/scale.md, "On a GPU").

Mapped over models, convolutions and linear layers also pass autocast by (torch 2.9 to 2.14): they would be in float32,
whatever the settings of the models say.
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
def mapped() -> Iterator[None]:
    """Take layers in autocast's format meanwhile, and convolutions with weights that differ by model as products."""
    with _Mapped():
        yield


class _Mapped(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not torch.conv2d and func is not functional.linear:
            return func(*args, **(kwargs or {}))
        given = {**dict(zip(GIVEN, args, strict=False)), **(kwargs or {})}
        shared, formatted = isinstance(given["weight"], nn.Parameter), _formatted(given)
        if func is functional.linear or shared or not _plain(given):
            return func(**formatted)
        return product(formatted["input"], formatted["weight"], formatted.get("bias"), *_of(given))


def _formatted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layer's input, weight and bias as autocast has them, with all else that it is given."""
    kind = given["input"].device.type
    if not torch.is_autocast_enabled(kind):
        return dict(given)
    wanted = torch.get_autocast_dtype(kind)
    return {name: value.to(wanted) if isinstance(value, Tensor) else value for name, value in given.items()}


def product(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Return the convolution of x (B, C, H, W) with square kernels (O, C, k, k) at one stride and padding."""
    side = weight.shape[-1]
    height, width = ((size + 2 * padding - side) // stride + 1 for size in x.shape[2:])
    if side > 1 and stride == 1:
        found: Tensor = _Product.apply(x, weight, padding)[0]
    else:
        found = weight.flatten(1) @ _patches(x.transpose(0, 1), side, stride, padding)
    found = found.reshape(-1, len(x), height, width).transpose(0, 1)
    return found if bias is None else found + bias[:, None, None]


class _Product(torch.autograd.Function):
    """Of stride 1: its gradient by x is one too, with the kernels turned, where a patch's own would be scattered."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
        rows = _patches(x.transpose(0, 1), weight.shape[-1], 1, padding)
        return weight.flatten(1) @ rows, rows

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, weight, ctx.padding = inputs
        ctx.shape = x.shape
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(weight, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor, None]:
        weight, rows = ctx.saved_tensors
        count, channels, height, width = ctx.shape
        side, around = weight.shape[-1], 2 * ctx.padding + 1 - weight.shape[-1]
        own = (grad @ rows.mT).reshape(weight.shape)
        back = grad.reshape(-1, count, height + around, width + around)
        turned = weight.flip(-1, -2).transpose(0, 1).flatten(1)
        found = turned @ _patches(back, side, 1, side - 1 - ctx.padding)
        return found.reshape(channels, count, height, width).transpose(0, 1), own, None


def _patches(x: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """Return the patches of x (C, B, H, W) as columns, (C k k, B h w)."""
    if padding:
        x = functional.pad(x, (padding,) * 4)
    if side == stride == 1:
        return x.flatten(1)
    return x.unfold(2, side, stride).unfold(3, side, stride).permute(0, 4, 5, 1, 2, 3).flatten(3).flatten(0, 2)


def _plain(given: Mapping[str, Any]) -> bool:
    stride, padding, dilation = given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1)
    height, width = given["weight"].shape[-2:]
    same = height == width and all(map(_square, (stride, padding, dilation)))
    return same and _one(dilation) == 1 and given.get("groups", 1) == 1


def _of(given: Mapping[str, Any]) -> tuple[int, int]:
    return _one(given.get("stride", 1)), _one(given.get("padding", 0))


def _square(value: Any) -> bool:
    return not isinstance(value, str) and (isinstance(value, int) or len(set(value)) == 1)


def _one(value: Any) -> int:
    return value if isinstance(value, int) else int(value[0])
