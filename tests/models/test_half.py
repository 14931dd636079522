"""Products in bfloat16: what stays in float32, and that attention's own forms all come through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dtrak_core.models import half


def given(queries: int, keys: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, length, 8) for length in (queries, keys, keys))
    return q, k, v


def attended(*inputs: Tensor, **how: object) -> Tensor:
    with half.products("cpu"):
        found: Tensor = functional.scaled_dot_product_attention(*inputs, **how)  # type: ignore[arg-type]
    assert found.dtype == torch.bfloat16
    return found.float()


@pytest.mark.parametrize("mask", ["none", "bool", "float32", "bfloat16"])
@pytest.mark.parametrize("named", [False, True])
def test_short_attention_is_that_of_float32_but_for_its_last_rounding(mask: str, named: bool) -> None:
    q, k, v = given(16)
    hidden = (torch.arange(24) % 3 > 0)[None]
    masks = {"none": None, "bool": hidden, "float32": hidden.float().log(), "bfloat16": hidden.bfloat16().log()}
    expected = functional.scaled_dot_product_attention(q, k, v, masks["bool"] if mask != "none" else None)
    how = {} if mask == "none" else {"attn_mask": masks[mask]}
    found = attended(query=q, key=k, value=v, **how) if named else attended(q, k, v, **how)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected.bfloat16().float(), rtol=1e-6, atol=1e-6)


def test_long_attention_stays_in_bfloat16() -> None:
    q, k, v = given(half.SHORT + 1)
    rough = functional.scaled_dot_product_attention(*(one.bfloat16() for one in (q, k, v))).float()
    torch.testing.assert_close(attended(q, k, v), rough, rtol=0, atol=0)


def test_gradients_pass_and_other_products_are_rounded() -> None:
    q, k, v = (one.requires_grad_() for one in given(16))
    functional.scaled_dot_product_attention(q, k, v).sum().backward()
    expected = [one.grad for one in (q, k, v)]
    for one in (q, k, v):
        one.grad = None
    attended(q, k, v).sum().backward()
    for one, gradient in zip((q, k, v), expected, strict=True):
        torch.testing.assert_close(one.grad, gradient, rtol=1e-2, atol=1e-2)
    rows = torch.randn(5, 7)
    with half.products("cpu"):
        product = rows @ rows.T
    torch.testing.assert_close(product, rows.bfloat16() @ rows.bfloat16().T, rtol=0, atol=0)


def test_each_of_several_may_be_differentiated() -> None:
    """As the authors do, by vmap over grad."""
    q, k, v = given(16)

    def squared(one: Tensor, other: Tensor, third: Tensor) -> Tensor:
        with half.products("cpu"):
            return functional.scaled_dot_product_attention(one[None], other[None], third[None]).float().square().sum()

    found = torch.func.vmap(torch.func.grad(squared))(q, k, v)
    plain = [torch.func.grad(squared)(*each) for each in zip(q, k, v, strict=True)]
    torch.testing.assert_close(found, torch.stack(plain), rtol=2e-2, atol=2e-2)
