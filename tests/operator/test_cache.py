"""A cache gives back what a plain list of keys would hold, whatever is added, reordered and dropped in between."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyhead.operator import Cache

steps = st.lists(st.one_of(st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=9)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(steps=steps, seed=st.integers(0, 1000))
def test_a_cache_holds_what_concatenation_would(steps: list[int | list[int]], seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    cache, rows, plain = Cache(), 3, {0: torch.zeros(3, 2, 0, 4), 1: torch.zeros(3, 2, 0, 4)}
    for step in steps:
        if isinstance(step, int):
            for layer in plain:
                new = torch.randn(rows, 2, step, 4, generator=dice)
                plain[layer] = torch.cat((plain[layer], new), 2)
                key, value = cache.extend(layer, new, 2 * new)
                assert torch.equal(key, plain[layer]) and torch.equal(value, 2 * plain[layer])
            cache.advance(step)
        elif cache.length:
            kept = torch.tensor([row % rows for row in step])
            cache.keep(kept)
            plain, rows = {layer: keys[kept] for layer, keys in plain.items()}, len(kept)
    assert cache.length == plain[0].shape[2]


def test_rows_that_leave_move_only_those_that_take_their_places() -> None:
    cache, new = Cache(), torch.randn(6, 2, 5, 4)
    key, value = cache.extend(0, new, 2 * new)
    cache.advance(5)
    before = key.data_ptr(), value.data_ptr()
    cache.keep(torch.tensor([0, 5, 2, 3]))  # rows 1 and 4 have left
    more = torch.randn(4, 2, 1, 4)
    key, value = cache.extend(0, more, 2 * more)
    assert (key.data_ptr(), value.data_ptr()) == before
    assert torch.equal(key, torch.cat((new[[0, 5, 2, 3]], more), 2)) and torch.equal(value, 2 * key)


def test_a_memory_of_which_less_than_half_is_used_is_given_back() -> None:
    cache, new = Cache(), torch.randn(8, 2, 5, 4)
    cache.extend(0, new, new)
    cache.advance(5)
    cache.keep(torch.tensor([0, 1, 7]))
    more = torch.randn(3, 2, 1, 4)
    key, _ = cache.extend(0, more, more)
    assert torch.equal(key, torch.cat((new[[0, 1, 7]], more), 2))
    assert key.untyped_storage().nbytes() == 4 * 3 * 32 * 2 * 4  # rows, places, heads, width in float32


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_what_was_written_in_inference_mode_can_be_kept_outside(rows: int) -> None:
    """As chat does with the first of the rows that a search has made."""
    cache, new = Cache(), torch.randn(rows, 2, 5, 4)
    with torch.inference_mode():
        cache.extend(0, new, new)
        cache.advance(5)
    cache.keep(torch.tensor([0]))
    with torch.inference_mode():
        assert torch.equal(cache.extend(0, new[:1], new[:1])[0], torch.cat((new[:1], new[:1]), 2))


def test_what_is_cut_off_is_written_over() -> None:
    cache, new = Cache(), torch.randn(2, 1, 50, 3)
    cache.extend(0, new, new)
    cache.advance(50)
    cache.cut(20)
    cache.cut(40)
    assert cache.length == 20
    key, value = cache.extend(0, -new[:, :, :5], new[:, :, :5])
    assert torch.equal(key, torch.cat((new[:, :, :20], -new[:, :, :5]), 2))
    assert torch.equal(value, torch.cat((new[:, :, :20], new[:, :, :5]), 2))


def test_a_memory_is_made_once_and_loses_dropped_sources() -> None:
    cache, made = Cache(), 0

    def make() -> tuple[Tensor, Tensor]:
        nonlocal made
        made += 1
        return torch.arange(12.0).view(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)

    cache.once(0, make)
    cache.keep(torch.tensor([0, 2]), torch.tensor([0, 2]))
    key, _, finite = cache.once(0, make)
    assert made == 1 and finite
    assert key[:, 0, 0, 0].tolist() == [0.0, 8.0]


def test_a_memory_that_is_not_finite_is_known_to_be_so() -> None:
    bad = torch.zeros(1, 1, 2, 2)
    bad[0, 0, 1, 1] = torch.nan
    assert not Cache().once(0, lambda: (bad, torch.zeros_like(bad)))[2]


def test_a_cache_that_vouches_searches_what_enters_and_remembers() -> None:
    torch.manual_seed(0)
    cache, plain = Cache(vouches=True), Cache()
    for value in (torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 5)):
        cache.extend(0, torch.randn_like(value), value)
        cache.advance(value.shape[2])
        assert cache.finite and not plain.finite
    damaged = torch.randn(2, 3, 1, 5)
    damaged[1, 2, 0, 0] = torch.nan
    cache.extend(0, torch.randn_like(damaged), damaged)
    cache.extend(1, torch.randn_like(damaged), torch.randn_like(damaged))
    assert not cache.finite


def test_what_was_written_without_gradients_goes_on_with_them() -> None:
    cache = Cache()
    first, then = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 1, 8, requires_grad=True)
    with torch.no_grad():
        cache.extend(0, first, first)
    cache.advance(4)
    keys, values = cache.extend(0, then, then)
    (keys.sum() + 2 * values.sum()).backward()
    assert then.grad is not None and torch.equal(then.grad, torch.full_like(then, 3.0))
    assert torch.equal(keys, torch.cat((first, then), 2))
