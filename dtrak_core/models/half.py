"""Products of a network in bfloat16, by autocast, but for short attention, which processors are slower at in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Queries up to which attention is in float32 on a processor. Forward and backward took 12 times as long in bfloat16 for
# 16 of them, 3.6 times for 64, 1.2 times for 256, and 0.8 times for 1,024 (heads of 8 to 160 numbers, AVX512-BF16).
SHORT = 256
GIVEN = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")  # in this order, or by name


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Take products in bfloat16 on this kind of device meanwhile."""
    with torch.autocast(kind, torch.bfloat16):
        if kind != "cpu":
            yield
            return
        with _ShortAttentionInFloat32():
            yield


class _ShortAttentionInFloat32(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = {**dict(zip(GIVEN, args, strict=False)), **(kwargs or {})}
        if given["query"].shape[-2] > SHORT:
            return func(**given)
        exact = {name: one.float() if _is_floating(one) else one for name, one in given.items()}
        with torch.autocast("cpu", enabled=False):
            return func(**exact).to(torch.bfloat16)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
