"""Masks that are written out become rules that hide the same, and the smallest that do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyhead.lens.capture.masks import read
from polyhead.operator import Causal, Dense, Rule, Window
from polyhead.operator.request import frame_of

sizes = st.integers(1, 7)


def written(rule: Rule | None, bias: Any, batch: int, heads: int, T: int, S: int) -> Tensor:
    """What rule and bias come to, [B, H, T, S]: -inf where hidden."""
    frame = frame_of(torch.zeros(batch, heads, T, 1), torch.zeros(batch, heads, S, 1), rule)
    whole = torch.zeros(batch, heads, T, S)
    if bias is not None:
        whole = whole + bias.tile(bias.weights, frame, range(T), range(S))
    if rule is not None:
        rule.check(frame)
        visible = rule.visible(frame, range(T), range(S))
        whole = whole if visible is None else whole.masked_fill(~visible, -torch.inf)
    return whole


@st.composite
def masks(draw: st.DrawFn) -> tuple[Tensor, tuple[int, int, int, int]]:
    """A visible mask, often one that models use, and the sizes of its call."""
    B, H, T, S = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(sizes), draw(sizes)
    i, j = torch.arange(T)[:, None], torch.arange(S)
    visible = torch.ones(1, 1, T, S, dtype=torch.bool)
    if draw(st.booleans()):
        visible = visible & (j <= i + S - T)
    if draw(st.booleans()):
        visible = visible & (j >= i + S - T - draw(st.integers(0, 4)))
    if draw(st.booleans()):
        starts = torch.tensor([draw(st.integers(0, S)) for _ in range(B)])
        visible = visible & (j >= starts[:, None, None, None])
    if draw(st.booleans()):
        ends = torch.tensor([draw(st.integers(0, S)) for _ in range(B)])
        visible = visible & (j < ends[:, None, None, None])
    if draw(st.booleans()):
        chance = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        visible = visible & (torch.rand(B, H, T, S, generator=chance) < 0.8)
    shape = [(1, B), (1, H), (1, T), (1, S)]
    full = visible.expand(
        *(max(pair) if draw(st.booleans()) else n for n, pair in zip(visible.shape, shape, strict=True))
    )
    return full, (B, H, T, S)


@given(masks(), st.sampled_from(["bool", "-inf", "lowest", "-1e9"]), st.booleans())
def test_a_mask_hides_what_it_hid(mask: tuple[Tensor, tuple[int, int, int, int]], how: str, causal: bool) -> None:
    visible, (B, H, T, S) = mask
    number = {"-inf": -torch.inf, "lowest": torch.finfo(torch.float32).min, "-1e9": -1e9}.get(how)
    told = visible if number is None else torch.zeros(visible.shape).masked_fill(~visible, number)
    rule, bias = read(told, causal=causal, queries=T, keys=S, batch=B, device=torch.device("cpu"))
    wanted = visible & torch.ones(T, S, dtype=torch.bool).tril() if causal else visible
    assert bias is None
    assert torch.equal(written(rule, bias, B, H, T, S) == 0, wanted.expand(B, H, T, S))


@given(masks(), st.integers(0, 99))
def test_numbers_that_do_not_hide_are_kept_as_a_bias(mask: tuple[Tensor, tuple[int, int, int, int]], seed: int) -> None:
    visible, (B, H, T, S) = mask
    numbers = torch.randn(1, H, T, S, generator=torch.Generator().manual_seed(seed)) + 10
    told = numbers.masked_fill(~visible, torch.finfo(torch.float32).min)
    rule, bias = read(told, causal=False, queries=T, keys=S, batch=B, device=torch.device("cpu"))
    assert torch.equal(written(rule, bias, B, H, T, S), numbers.masked_fill(~visible, -torch.inf).expand(B, H, T, S))


def test_low_numbers_that_differ_are_a_bias_though_whole_rows_are_low() -> None:
    low = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) - 12_000
    for told in (low, low.masked_fill(torch.ones(5, 7, dtype=torch.bool).triu(3), -1e9)):
        rule, bias = read(told, causal=False, queries=5, keys=7, batch=1, device=torch.device("cpu"))
        wanted = told.masked_fill(told < -1e6, -torch.inf)
        assert rule is None and torch.equal(written(rule, bias, 1, 1, 5, 7)[0, 0], wanted)


T, S = 6, 8
CAUSAL = torch.ones(T, S, dtype=torch.bool).tril(S - T)


@pytest.mark.parametrize(
    ("visible", "kinds"),
    [
        (torch.ones(T, S, dtype=torch.bool), []),
        (CAUSAL, [Causal]),
        (CAUSAL & ~torch.ones(T, S, dtype=torch.bool).tril(S - T - 3), [Causal, Window]),
        (torch.ones(2, 1, T, S, dtype=torch.bool) & (torch.arange(S) < 5), [Dense]),
        (CAUSAL.expand(2, 3, T, S), [Causal]),
        (CAUSAL & (torch.arange(S) > 1), [Dense, Causal]),
    ],
)
def test_the_smallest_rule_is_found(visible: Tensor, kinds: list[type[Rule]]) -> None:
    rule, _ = read(visible, causal=False, queries=T, keys=S, batch=2, device=torch.device("cpu"))
    parts = () if rule is None else rule.parts()
    assert [type(part) for part in parts] == kinds
    assert all(part.mask.numel() <= 2 * S for part in parts if isinstance(part, Dense))
