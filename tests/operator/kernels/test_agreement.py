"""Every kernel computes what the reference computes, forward and backward, over random requests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from polyhead.operator import attend
from polyhead.operator.kernels import blockwise, compiled, explicit, flex, fused, reference, short, step
from polyhead.operator.request import Request
from tests.operator.cases import Built, Case, build, cases, close

HALF = (torch.bfloat16, torch.float16)
WHOLE = (torch.float64, torch.float32)

Run = Callable[[Request, bool], tuple[Tensor, Tensor | None]]


def agree(built: Built, run: Run, kept: np.ndarray | None = None) -> None:
    """Output, log-sum-exp and every gradient are the reference's."""
    case = built.case
    x = built.inputs(kept=kept)
    y = reference.attention(x)
    out, lse = run(built.request(), True)
    assert out.dtype == case.dtype
    assert lse is not None
    assert lse.dtype == (torch.float64 if case.dtype == torch.float64 else torch.float32)
    close(out, y.output, case.dtype)
    close(lse, y.lse, case.dtype)
    np.testing.assert_array_equal(lse.numpy() == -np.inf, y.lse == -np.inf)

    d_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(case.seed), dtype=torch.float64).to(out)
    found = dict(zip(built.tensors, torch.autograd.grad(out, list(built.tensors.values()), d_out), strict=True))
    wanted = reference.gradients(x, y, d_out.double().numpy())
    for name in ("query", "key", "value"):
        close(found[name], getattr(wanted, name), case.dtype)
    if wanted.sinks is not None:
        close(found["sinks"], wanted.sinks, case.dtype)
    if wanted.bias is not None and "bias" in found:
        close(found["bias"], built.to_weights(wanted.bias), case.dtype)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_blockwise_agrees_with_the_reference(case: Case):
    built = build(case)
    assert blockwise.can(built.request()) is None
    agree(built, lambda request, lse: blockwise.run(request, lse, tile=case.tile))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases(HALF))
def test_blockwise_agrees_with_the_reference_in_half_width(case: Case):
    agree(build(case), lambda request, lse: blockwise.run(request, lse, tile=case.tile))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_fused_agrees_with_the_reference_or_says_why_not(case: Case):
    built = build(case)
    reason = fused.can(built.request())
    assert (reason is not None) == (case.softcap is not None or case.sinks or empty(case) or unfused_group(case)), (
        reason
    )
    if reason is None:
        agree(built, fused.run)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases(HALF))
def test_fused_agrees_with_the_reference_in_half_width(case: Case):
    built = build(case)
    if fused.can(built.request()) is None:
        agree(built, fused.run)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases((*WHOLE, *HALF)))
def test_explicit_agrees_with_the_reference_or_says_why_not(case: Case):
    built = build(case)
    reason = explicit.can(built.request())
    assert (reason is not None) == case.sinks, reason
    if reason is None:
        agree(built, explicit.run)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cases((torch.float32, torch.float32, torch.bfloat16)))
def test_short_agrees_with_the_reference_or_says_why_not(case: Case):
    """Any mask and any bias that learns nothing; all gradients."""
    built = build(case)
    if case.bias is not None:
        built.tensors.pop("bias").requires_grad_(False)
    reason = short.can(built.request())
    assert (reason is not None) == (case.softcap is not None or case.sinks or empty(case)), reason
    if reason is None:
        agree(built, short.run)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cases((torch.float32,)))
def test_step_agrees_with_the_reference_or_says_why_not(case: Case):
    """Any mask and any bias, more queries than keys too; but no gradients."""
    built = build(case, grad=False)
    request = built.request()
    reason = step.can(request)
    assert (reason is not None) == (case.softcap is not None or case.sinks or empty(case)), reason
    if reason is not None:
        return
    y = reference.attention(built.inputs())
    out, lse = step.run(request, True)
    assert lse is not None and step.run(request, False)[1] is None
    close(out, y.output, case.dtype)
    close(lse, y.lse, case.dtype)
    np.testing.assert_array_equal(lse.numpy() == -np.inf, y.lse == -np.inf)
    assert not out[lse == -torch.inf].any()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases((torch.float32, torch.float32, *HALF)))
def test_compiled_agrees_with_the_reference_or_says_why_not(case: Case):
    built = build(case)
    reason = compiled.can(built.request())
    assert (reason is not None) == empty(case), reason
    if reason is None:
        agree(built, compiled.run)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases((*WHOLE, *HALF)))
def test_flex_agrees_with_the_reference_or_says_why_not(case: Case):
    built = build(case)
    reason = flex.can(built.request())
    assert (reason is not None) == (case.sinks or empty(case)), reason
    if reason is None:
        agree(built, flex.run)


@pytest.mark.parametrize(("T", "S"), [(1, 2500), (1300, 700), (2200, 2200)])
@pytest.mark.parametrize("how", ["full", "causal", "window", "mask", "bias", "softcap"])
def test_compiled_agrees_over_many_blocks_and_shares(how: str, T: int, S: int):
    """More rows than a share has, more keys than a depth; the reference in float64."""
    torch.manual_seed(T)
    query, key, value = torch.randn(1, 2, T, 8), torch.randn(1, 1, S, 8), torch.randn(1, 1, S, 40)
    asked: dict[str, object] = {
        "full": {}, "causal": {"causal": True}, "window": {"window": (900, 3)}, "softcap": {"softcap": 2.0},
        "mask": {"mask": torch.rand(T, S) < 0.3}, "bias": {"bias": torch.randn(1, 2, T, S)},
    }[how]  # fmt: skip
    out, record = attend(query, key, value, kernel="compiled", **asked)  # pyright: ignore
    wide = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in asked.items()}
    wanted, exact = attend(query.double(), key.double(), value.double(), kernel="blockwise", **wide)  # pyright: ignore
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(record.lse.double(), exact.lse, rtol=1e-6, atol=2e-6)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(cases())
def test_the_reference_as_a_kernel_is_the_reference(case: Case):
    agree(build(case), reference.run)


def empty(case: Case) -> bool:
    return 0 in (case.B, case.T, case.S)


def unfused_group(case: Case) -> bool:
    """Grouped heads with something that SDPA does not fuse."""
    return case.R > 1 and (case.Kv != case.K or case.bias is not None)


@pytest.mark.parametrize("seed", range(10))
def test_large_logits_and_a_saturated_softcap_agree(seed: int):
    dice = torch.Generator().manual_seed(seed)
    query, key, value = (100 * torch.randn(2, 3, 6, 4, generator=dice, dtype=torch.float64) for _ in range(3))
    for softcap in (None, 2.0):
        x = reference.Inputs(query=query.numpy(), key=key.numpy(), value=value.numpy(), softcap=softcap)
        y = reference.attention(x)
        out, record = attend(query, key, value, softcap=softcap, kernel="blockwise")
        close(out, y.output, torch.float64)
        close(record.lse, y.lse, torch.float64)
