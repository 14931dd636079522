"""Each picture's own gradient of a layer's weights, from what went in and the gradient of what came out.

Linear      Gᵀ X over the picture's draws and positions
Conv2d      the backend's weight gradient on the picture's draws (1x1: as Linear)
GroupNorm   Σ G ⊙ x̂, x̂ the normalised input; LayerNorm likewise
Embedding   the draws' output gradients, each in the row of its number
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Known = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm | nn.Embedding  # layers whose gradients can be formed


def known(layer: nn.Module) -> bool:
    """Say whether the hooks know this layer. Subclasses may compute something else, so they do not count."""
    if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        return False
    if isinstance(layer, nn.Embedding) and (layer.scale_grad_by_freq or {layer.padding_idx, layer.max_norm} != {None}):
        return False
    return type(layer) in get_args(Known)


def add(layer: Known, x: Tensor, g: Tensor, width: int, views: dict[int, Tensor]) -> None:
    """Add a layer's per-picture gradients for input x (B·width, ...) and output gradient g to the views."""
    if isinstance(layer, nn.Embedding):
        _add_rows(layer, x, g.to(layer.weight), width, views[id(layer.weight)])
        return
    # Products in the format that the layer computed in, bfloat16 under autocast; sums in the weights'.
    x, pictures = x.to(g), len(x) // width
    bias, weight = views.get(id(layer.bias)), views.get(id(layer.weight))
    if isinstance(layer, nn.GroupNorm):
        _add_norms(layer, x, g, width, weight, bias)
        return
    if bias is not None:
        # Each draw's sum is taken in float32 and rounded to g's format: to sum into another one copies all of g.
        by_channel = g.flatten(2).sum(2) if isinstance(layer, nn.Conv2d) else g
        bias += by_channel.reshape(pictures, -1, bias.shape[1]).sum(1, dtype=bias.dtype)
    if weight is None:
        return
    if isinstance(layer, nn.Linear):
        weight += _outer(g, x, pictures).flatten(1)
    elif isinstance(layer, nn.Conv2d) and _is_pointwise(layer):
        rows = (part.unflatten(0, (pictures, width)).transpose(1, 2).flatten(2) for part in (g, x))
        weight += torch.bmm(next(rows), next(rows).transpose(1, 2)).flatten(1)
    elif isinstance(layer, nn.Conv2d):
        for row, x_one, g_one in zip(weight, x.split(width), g.split(width), strict=True):
            row += _conv_weight_gradient(layer, x_one, g_one).reshape(-1)
    else:
        normal = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        weight += (g * normal).reshape(pictures, -1, weight.shape[1]).sum(1, dtype=weight.dtype)


def _add_norms(
    layer: nn.GroupNorm, x: Tensor, g: Tensor, width: int, weight: Tensor | None, bias: Tensor | None
) -> None:
    """Add a group norm's per-picture gradients, by the backend's own sums over a picture's draws."""
    if weight is None and bias is None:
        return
    draws, channels, positions = x.shape[0], x.shape[1], x[0, 0].numel()
    x, g = x.contiguous(), g.contiguous()  # CUDA's kernels take no transposed ones, which attention's norms are given
    _, mean, scale = torch.native_group_norm(
        x, layer.weight, layer.bias, draws, channels, positions, layer.num_groups, layer.eps
    )
    for picture in range(draws // width):
        rows = slice(picture * width, (picture + 1) * width)
        _, by_weight, by_bias = torch.ops.aten.native_group_norm_backward(
            g[rows], x[rows], mean[rows], scale[rows], layer.weight, width, channels, positions, layer.num_groups,
            [False, weight is not None, bias is not None],
        )  # fmt: skip
        if weight is not None:
            weight[picture] += by_weight
        if bias is not None:
            bias[picture] += by_bias


def _add_rows(layer: nn.Embedding, numbers: Tensor, g: Tensor, width: int, view: Tensor) -> None:
    """Add an embedding's per-picture gradients for numbers (B·width, ...) and output gradient g (B·width, ..., D)."""
    pictures = len(numbers) // width
    rows = g.reshape(pictures, -1, layer.embedding_dim)
    into = numbers.reshape(pictures, -1, 1).expand(rows.shape)
    view += torch.zeros_like(view).view(pictures, -1, layer.embedding_dim).scatter_add_(1, into, rows).flatten(1)


def _outer(g: Tensor, x: Tensor, pictures: int) -> Tensor:
    """Return Gᵀ X of each picture, shape (B, O, I), for g (B·width, ..., O) and x (B·width, ..., I)."""
    rows = g.reshape(pictures, -1, g.shape[-1])
    return torch.bmm(rows.transpose(1, 2), x.reshape(pictures, -1, x.shape[-1]))


def _conv_weight_gradient(layer: nn.Conv2d, x: Tensor, g: Tensor) -> Tensor:
    """Return a convolution's weight gradient summed over the draws in x and g."""
    found = torch.ops.aten.convolution_backward(
        g, x, layer.weight.to(g.dtype), None, layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups,
        [False, True, False],
    )  # fmt: skip
    gradient: Tensor = found[1]
    return gradient


def _is_pointwise(layer: nn.Conv2d) -> bool:
    plain = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)
    return plain and layer.groups == 1
