"""Packed products that cannot do what is asked say so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from polyhead.core.packed import Int8Linear, PackedLinear, packable, why_not_int8
from polyhead.errors import ArgumentError


@pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products")
@pytest.mark.parametrize("kind", [PackedLinear, Int8Linear])
def test_a_packed_product_that_cannot_is_one_sentence(kind: Any) -> None:
    if kind is Int8Linear and why_not_int8(nn.Linear(2, 2)) is not None:
        pytest.skip("this PyTorch has no FBGEMM")
    product, x = kind(torch.randn(8, 1500), torch.randn(8)), torch.randn(3, 1500)
    with torch.no_grad():
        wanted = product(x)
    found = product(x.clone().requires_grad_() * 1)
    assert torch.equal(found, wanted)  # what is asked forward is answered
    with pytest.raises(ArgumentError, match=r"A packed model answers and has no gradients; .* loaded\.model"):
        found.sum().backward()
    for rows in (1, 3):
        with (
            torch.autocast("cpu", torch.bfloat16),
            pytest.raises(
                ArgumentError, match="A packed model of float32 was given bfloat16 in between, as under autocast"
            ),
        ):
            product(x[:rows].bfloat16())
