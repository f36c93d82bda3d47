"""Stacks of every kind: padding, a cache and watching change nothing, and every parameter learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyhead.core import Recipe, Run, Stack
from polyhead.core.norm import RMSNorm
from polyhead.core.position import AddedInEveryLayer, LinearBias, Position, RelativeBias
from polyhead.core.rotary import Rotary
from polyhead.errors import ArgumentError
from polyhead.lens.watch import watch
from polyhead.operator import Cache, Lengths, Window

SMALL = Recipe(n_layers=2, d_model=24, n_heads=4, d_ff=40)
KINDS = {
    "pre-norm": SMALL,
    "post-norm": replace(SMALL, norm_at="post", final_norm=False),
    "gated, RMS, no bias": replace(SMALL, norm=RMSNorm(), gated=True, activation="silu", bias=False),
    "grouped heads": replace(SMALL, n_kv_heads=2),
    "one key head, own width": replace(SMALL, n_kv_heads=1, head_dim=10),
    "rotary": replace(SMALL, position=Rotary(100.0)),
    "relative buckets": replace(SMALL, position=RelativeBias(8, 16), scale=1.0),
    "one-sided buckets": replace(SMALL, position=RelativeBias(8, 16, bidirectional=False)),
    "ALiBi": replace(SMALL, n_heads=6, position=LinearBias()),
    "added in every layer": replace(SMALL, position=AddedInEveryLayer()),
    "softcap": replace(SMALL, softcap=2.0),
}
every_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def stack_of(recipe: Recipe, seed: int = 0) -> Stack:
    """A stack with every parameter random, norms and biases too, in float64."""
    torch.manual_seed(seed)
    stack = Stack(recipe).double().eval()
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return stack


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_kind
@pytest.mark.parametrize("causal", [False, True])
def test_padding_changes_nothing(recipe: Recipe, causal: bool) -> None:
    stack = stack_of(replace(recipe, causal=causal))
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    added = torch.randn(2, 7, 24, dtype=torch.float64)
    lengths = torch.tensor([7, 4])
    padded = stack(x, Run(mask=Lengths(lengths), added=added))
    for row, n in enumerate(lengths.tolist()):
        alone = stack(x[row : row + 1, :n], Run(added=added[row : row + 1, :n]))
        close(padded[row : row + 1, :n], alone)


@every_kind
@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_a_cache_equals_no_cache(recipe: Recipe, chunk: int) -> None:
    stack = stack_of(replace(recipe, causal=True))
    x, added = torch.randn(2, 2, 11, 24, dtype=torch.float64)
    cache, parts = Cache(), []
    for start in range(0, 11, chunk):
        run = Run(cache=cache, added=added[:, start : start + chunk])
        parts.append(stack(x[:, start : start + chunk], run))
    assert cache.length == 11
    close(torch.cat(parts, 1), stack(x, Run(added=added)))


@every_kind
@pytest.mark.parametrize("chunk", [1, 3])
def test_padding_on_the_left_changes_nothing_beside_a_cache(recipe: Recipe, chunk: int) -> None:
    """A prompt of 3 words padded to 6, then 5 more words, read as it would be alone."""
    stack, pad, n = stack_of(replace(recipe, causal=True)), 3, 11
    x, added = torch.randn(2, 2, n, 24, dtype=torch.float64)
    seen = torch.ones(2, 1, 1, n, dtype=torch.bool)
    seen[1, ..., :pad] = False
    places = torch.stack((torch.arange(n), torch.arange(n) - pad)).clamp(min=0)
    cache, parts = Cache(), []
    for start, end in [(0, 6), *((i, min(i + chunk, n)) for i in range(6, n, chunk))]:
        span = slice(start, end)
        run = Run(cache=cache, mask=seen[..., :end], positions=places[:, span], added=added[:, span])
        parts.append(stack(x[:, span], run))
    found = torch.cat(parts, 1)
    close(found[:1], stack(x[:1], Run(added=added[:1])))
    close(found[1:, pad:], stack(x[1:, pad:], Run(added=added[1:, pad:])))


@every_kind
def test_beams_share_one_memory(recipe: Recipe) -> None:
    """Three beams for each of two sources read the memory as six rows with three copies of it would."""
    stack = stack_of(replace(recipe, causal=True, cross=True))
    x = torch.randn(6, 4, 24, dtype=torch.float64)
    memory, memory_added = torch.randn(2, 2, 5, 24, dtype=torch.float64)
    lengths = torch.tensor([5, 2])
    folded = stack(x, Run(memory=memory, memory_added=memory_added, memory_mask=Lengths(lengths)))
    copied = Run(
        memory=memory.repeat_interleave(3, 0),
        memory_added=memory_added.repeat_interleave(3, 0),
        memory_mask=Lengths(lengths.repeat_interleave(3)),
    )
    close(folded, stack(x, copied))


@every_kind
def test_every_parameter_learns(recipe: Recipe) -> None:
    stack = stack_of(replace(recipe, causal=True, cross=True))
    memory = torch.randn(2, 5, 24, dtype=torch.float64)
    output = stack(torch.randn(2, 6, 24, dtype=torch.float64), Run(memory=memory))
    (output * torch.randn_like(output)).sum().backward()
    silent = [name for name, p in stack.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # softmax ignores what is added to every score of a row alike, and the bias of keys adds exactly that
    assert [name for name in silent if not name.endswith("key.bias")] == []


@every_kind
def test_watching_changes_no_bit(recipe: Recipe) -> None:
    stack = stack_of(replace(recipe, causal=True, cross=True, dropout=0.2, attention_dropout=0.1)).train()
    x = torch.randn(2, 6, 24, dtype=torch.float64)
    memory = torch.randn(2, 5, 24, dtype=torch.float64)

    def outcome() -> tuple[Tensor, list[Tensor], Tensor]:
        torch.manual_seed(3)
        stack.zero_grad()
        y = stack(x, Run(memory=memory))
        y.square().sum().backward()
        return y, [p.grad.clone() for p in stack.parameters() if p.grad is not None], torch.get_rng_state()

    blind = outcome()
    with watch(stack) as recording:
        seen = outcome()
    assert recording.names() == ["blocks.0.attn", "blocks.0.cross", "blocks.1.attn", "blocks.1.cross"]
    assert torch.equal(blind[0], seen[0])
    assert all(torch.equal(a, b) for a, b in zip(blind[1], seen[1], strict=True))
    assert torch.equal(blind[2], seen[2])


@every_kind
def test_what_was_watched_gives_weights_that_sum_to_one(recipe: Recipe) -> None:
    stack = stack_of(replace(recipe, causal=True, cross=True))
    with watch(stack) as recording:
        stack(torch.randn(2, 6, 24, dtype=torch.float64), Run(memory=torch.randn(2, 5, 24, dtype=torch.float64)))
    for call in recording:
        weights = call.weights()
        assert weights.shape == (2, recipe.n_heads, 6, 5 if call.name.endswith("cross") else 6)
        close(weights.sum(-1), torch.ones(2, recipe.n_heads, 6, dtype=torch.float64))


def test_without_positions_shuffled_words_give_shuffled_answers() -> None:
    stack = stack_of(SMALL)
    x = torch.randn(1, 7, 24, dtype=torch.float64)
    order = torch.randperm(7)
    close(stack(x, Run())[:, order], stack(x[:, order], Run()))


@pytest.mark.parametrize("position", [Rotary(), RelativeBias(8, 16), LinearBias()])
def test_with_positions_order_matters(position: Position) -> None:
    stack = stack_of(replace(SMALL, position=position))
    x = torch.randn(1, 7, 24, dtype=torch.float64)
    order = torch.tensor([3, 0, 1, 2, 4, 5, 6])
    assert not torch.allclose(stack(x, Run())[:, order], stack(x[:, order], Run()), atol=1e-3)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    stack = stack_of(replace(SMALL, position=Rotary(100.0)))
    x = torch.randn(1, 7, 24, dtype=torch.float64)
    moved = stack(x, Run(positions=torch.arange(7)[None] + 40))
    torch.testing.assert_close(moved, stack(x, Run()), rtol=1e-5, atol=1e-5)  # angles are computed in float32


def test_an_editing_observer_changes_what_follows() -> None:
    class Silence:
        def see(self, at: torch.nn.Module, place: str, x: Tensor) -> Tensor:
            return torch.zeros_like(x) if place in ("attn", "mlp") else x

        def attend(self, at: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: object) -> Tensor:
            return torch.zeros_like(query)

    stack = stack_of(replace(SMALL, final_norm=False))
    x = torch.randn(1, 3, 24, dtype=torch.float64)
    assert torch.equal(stack(x, Run(observer=Silence())), x)  # pre-norm blocks that add nothing are the identity


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_heads": 5}, "d_model (24) must be a multiple of n_heads (5)"),
        ({"n_kv_heads": 3}, "n_heads (4) must be a multiple of n_kv_heads (3)"),
    ],
)
def test_a_recipe_that_cannot_be_built_says_so(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        replace(SMALL, **changes)
    assert sentence in str(refused.value)


def test_an_unknown_activation_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'gelu'"):
        Stack(replace(SMALL, activation="gellu"))


def test_folded_beams_refuse_a_memory_mask_that_tells_queries_apart() -> None:
    stack = stack_of(replace(SMALL, causal=True, cross=True))
    x, memory = torch.randn(6, 4, 24, dtype=torch.float64), torch.randn(2, 5, 24, dtype=torch.float64)
    stack(x, Run(memory=memory, memory_mask=torch.ones(2, 1, 1, 5, dtype=torch.bool)))
    for mask in (Window(1, 1), Lengths(torch.tensor([5, 2])) & Window(1, 1), torch.ones(4, 5, dtype=torch.bool)):
        with pytest.raises(ArgumentError, match="the same for every query"):
            stack(x, Run(memory=memory, memory_mask=mask))


def test_a_bias_beside_the_stacks_own_is_refused() -> None:
    stack = stack_of(replace(SMALL, position=LinearBias()))
    with pytest.raises(ArgumentError, match=r"run\.bias was given"):
        stack(torch.randn(1, 3, 24, dtype=torch.float64), Run(bias=torch.zeros(3, 3, dtype=torch.float64)))
