"""Norms of values after the output projection: those of the projected values themselves, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.norms import value_norms


def naive(value: Tensor, weight: Tensor, heads: int) -> Tensor:
    """Every value projected, in float64."""
    repeated = value.double().repeat_interleave(heads // value.shape[1], 1)  # [B, H, S, K]
    parts = weight.double().unflatten(1, (heads, -1))  # [D, H, K]
    return torch.einsum("bhsk,dhk->bhsd", repeated, parts).norm(dim=-1)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    sizes=st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(1, 6), st.integers(1, 20)),
    rank=st.integers(0, 6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**31),
)
def test_they_are_the_norms_of_the_projected_values(
    groups: int, shared: int, sizes: tuple[int, int, int, int], rank: int, dtype: torch.dtype, seed: int
) -> None:
    """Whatever the rank of W_O, more or fewer outputs than a head is wide, and each query head of its own group."""
    B, S, K, D = sizes
    H = groups * shared
    torch.manual_seed(seed)
    value = torch.randn(B, groups, S, K).to(dtype)
    weight = (torch.randn(D, rank) @ torch.randn(rank, H * K)).to(dtype)
    found, wanted = value_norms(value, weight), naive(value, weight, H)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    largest = float(value.double().norm(dim=-1).max() * weight.double().norm()) if value.numel() else 0.0
    exact = 1e-7 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=exact * largest)


def test_a_poisoned_value_spoils_its_own_norm_alone() -> None:
    value, weight = torch.randn(1, 2, 5, 4), torch.randn(6, 16)
    clean = value_norms(value, weight)
    value[0, 1, 3, 2] = torch.nan
    found = value_norms(value, weight)
    assert found[0, 2:, 3].isnan().all()
    found[0, 2:, 3] = clean[0, 2:, 3]
    assert torch.equal(found, clean)


def test_a_poisoned_weight_spoils_its_own_head_alone() -> None:
    """Also where another head is short of rank."""
    value, weight = torch.randn(1, 2, 5, 4), torch.randn(6, 16)
    weight[:, 12:] = 1.0
    wanted = naive(value, weight, 4)
    weight[3, 5] = torch.inf
    found = value_norms(value, weight)
    assert found[:, 1].isnan().all()
    torch.testing.assert_close(found[:, [0, 2, 3]].double(), wanted[:, [0, 2, 3]], rtol=1e-5, atol=1e-5)


def test_they_ask_for_no_gradient_and_take_no_part_in_autocast() -> None:
    value, weight = torch.randn(1, 2, 5, 4, requires_grad=True), torch.randn(6, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(value_norms(value, weight), value_norms(value.detach(), weight.detach()))
    assert not value_norms(value, weight).requires_grad


@pytest.mark.parametrize(
    ("value", "weight", "sentence"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(4, 4), r"value must have 4 axes \[B, G, S, K\]; found \[2, 3, 4\]"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(5, 12), r"H a multiple of 2 and K = 4; found \[5, 12\]"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(8), r"output_weight must have shape .*; found \[8\]"),
        (torch.zeros(1, 2, 3, 4), None, "output_weight must be a torch tensor; found NoneType"),
    ],
)
def test_what_does_not_fit_is_refused(value: Tensor, weight: Tensor, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence):
        value_norms(value, weight)
