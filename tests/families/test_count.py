"""Costs counted from modules are those of the model that runs: PyTorch's counter, and every pair that may look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from polyhead.core import Run, Stack
from polyhead.core.attention import Attention, CrossAttention
from polyhead.core.experts import routing
from polyhead.errors import ArgumentError
from polyhead.families import family
from polyhead.families.count import Costs, blank, costs, named_parameters, one_of, seen, spread
from polyhead.families.sizes import SIZES
from polyhead.operator import Cache, Causal, Segments, Window
from tests.families.tiny import CASES, Both, both, is_decoder, is_encoder_decoder, ours_of, some_ids, some_inputs

N = 9  # tokens of a text
each = pytest.mark.parametrize(("architecture", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES])
PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution}


def made(architecture: str, variant: str, folder: Path) -> tuple[Both, Costs]:
    pair = both(architecture, variant, folder)
    length = None if pair.family.reads == "image" else min(N, pair.ours.config.max_len)
    return pair, costs(pair.family, pair.ours, length=length)


def one_input(pair: Both, takes: Costs) -> tuple[torch.Tensor, torch.Tensor]:
    x = some_inputs(pair, rows=1)
    return (x[:, : takes.length] if x.dim() == 2 else x), some_ids(1, takes.length or 1)


@pytest.mark.parity
@each
@torch.no_grad()
def test_products_are_those_that_pytorch_counts(architecture: str, variant: str, tmp_path: Path) -> None:
    pair, takes = made(architecture, variant, tmp_path)
    x, target = one_input(pair, takes)
    with FlopCounterMode(display=False) as counter, routing() as routes:
        ours_of(pair, x, target)
    found = {op: n for op, n in counter.get_flop_counts()["Global"].items() if op in PRODUCTS}
    spared = sum(int((route.chosen < 0).sum()) * 2 * one_of(route.at) for route in routes)  # by what was dropped
    assert (spared > 0) == (variant == "dropped")
    assert sum(found.values()) + spared == sum(work.products for work in takes.work)


@pytest.mark.parity
@each
@torch.no_grad()
def test_attention_is_counted_for_every_pair_that_looks(architecture: str, variant: str, tmp_path: Path) -> None:
    """What the weights of a run are not 0 for: 2 K operations for a score, 2 K for its share of the sum."""
    from polyhead.lens.watch import watch

    pair, takes = made(architecture, variant, tmp_path)
    x, target = one_input(pair, takes)
    with watch(pair.ours) as recording:
        ours_of(pair, x, target)
    layers = dict(pair.ours.named_modules())
    looks = sum(4 * layers[call.name].width * int((call.weights() > 0).sum()) for call in recording)
    assert looks == sum(work.looks for work in takes.work)


@pytest.mark.parity
@each
@torch.no_grad()
def test_a_cache_holds_as_many_bytes_as_are_said(architecture: str, variant: str, tmp_path: Path) -> None:
    pair, takes = made(architecture, variant, tmp_path)
    if not hasattr(pair.ours, "decode"):
        assert takes.cache == takes.cache_token == takes.next_word == 0
        return
    x, target = one_input(pair, takes)
    cache = Cache()
    memory = pair.ours.encode(x) if is_encoder_decoder(pair) else None
    pair.ours.decode(x if is_decoder(pair) else target, Run(memory=memory, cache=cache))
    kept = sum(room.held[:, : cache.length].numel() for rooms in cache._rooms.values() for room in rooms)
    kept += sum(t.numel() for keys, values, _ in cache._memory.values() for t in (keys, values))
    assert takes.cache == 2 * kept


@pytest.mark.parity
@each
@torch.no_grad()
def test_the_last_word_costs_what_one_step_with_a_cache_does(architecture: str, variant: str, tmp_path: Path) -> None:
    pair, takes = made(architecture, variant, tmp_path)
    if not hasattr(pair.ours, "decode"):
        pytest.skip("an encoder says no words")
    x, target = one_input(pair, takes)
    ids, run = x if is_decoder(pair) else target, Run(cache=Cache())
    if is_encoder_decoder(pair):
        run = replace(run, memory=pair.ours.encode(x))
    pair.ours.decode(ids[:, :-1], run)
    with FlopCounterMode(display=False) as counter:
        pair.ours.head(pair.ours.decode(ids[:, -1:], run))
    products = sum(n for op, n in counter.get_flop_counts()["Global"].items() if op in PRODUCTS)
    own = [m for m in pair.ours.decoder.modules() if isinstance(m, Attention) and not isinstance(m, CrossAttention)]
    pairs = [seen(rule, len(ids[0])) - seen(rule, len(ids[0]) - 1) for rule in pair.ours.decoder.rules]
    looks = sum(4 * m.query.out_features * n for m, n in zip(own, pairs, strict=True))
    crosses = [m for m in pair.ours.decoder.modules() if isinstance(m, CrossAttention)]
    looks += sum(4 * m.query.out_features * takes.work[0].places for m in crosses)
    assert takes.next_word == products + looks


@pytest.mark.parity
@each
def test_parts_are_the_whole(architecture: str, variant: str, tmp_path: Path) -> None:
    pair, takes = made(architecture, variant, tmp_path)
    model: Any = pair.ours
    assert sum(takes.parts.values()) == sum(p.numel() for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    assert takes.parts["norms"] == sum(p.numel() for m in norms for p in m.parameters())
    stacks = [m for m in model.modules() if isinstance(m, Stack)]
    mlps: list[Any] = [block.mlp for stack in stacks for block in stack.blocks]
    assert takes.parts["mlp"] == sum(p.numel() for m in mlps for p in m.parameters())


SEEN: list[tuple[Any, int]] = [
    (None, 9), (Causal(), 6), (Causal() & Window(2, 0), 6), (Causal() & Window(1, 0), 5), (Window(1, 1), 7),
    (Segments(torch.tensor([[0, 0, 1]])), 5),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "pairs"), SEEN)
def test_pairs_are_counted_as_they_are_seen(rule: Any, pairs: int) -> None:
    assert seen(rule, 3) == pairs


#  Brown et al. 2020, table D.1: training compute (FLOPs), of 300 billion tokens
GPT3 = {
    "gpt3.125m": 2.25e20, "gpt3.350m": 6.41e20, "gpt3.760m": 1.37e21, "gpt3.1.3b": 2.38e21, "gpt3.2.7b": 4.77e21,
    "gpt3.6.7b": 1.20e22, "gpt3.13b": 2.31e22, "gpt3.175b": 3.14e23,
}  # fmt: skip


@pytest.mark.parametrize(("name", "flops"), GPT3.items())
def test_training_gpt3_takes_what_its_paper_says(name: str, flops: float) -> None:
    """The paper counts 6 for each parameter and token, and leaves attention's own part out."""
    kind, model = blank(SIZES[name])
    takes, tokens = costs(kind, model), 300e9
    thumb = 6 * sum(takes.parts.values()) * tokens
    assert float(f"{thumb:.2e}") == pytest.approx(flops, rel=0.005)
    exact = takes.learning * tokens / takes.length
    assert exact == pytest.approx(thumb, rel=0.14)  # attention weighs more in small ones


def test_a_causal_decoder_costs_two_for_each_weight_and_its_looks() -> None:
    """By hand: GPT-2 small multiplies 12 (12 D^2) + V D weights for each token, and looks at (n + 1) / 2 on average."""
    kind, model = blank(SIZES["gpt2.small"])
    takes, d, n = costs(kind, model), 768, 1024
    work = takes.work[0]
    assert work.products == n * 2 * (12 * 12 * d * d + 50257 * d)
    assert work.looks == 12 * 4 * d * n * (n + 1) // 2
    assert (takes.forward, takes.learning) == (work.products + work.looks, 3 * (work.products + work.looks))
    assert takes.cache_token == 12 * 2 * d * 2
    assert sum(takes.training.values()) == 16 * 124_439_808


#  Jiang et al. 2024, section 1, and the release of 8x22B: parameters in all, and those that a token uses
MIXTRAL = {"mixtral.8x7b": (47, 13), "mixtral.8x22b": (141, 39)}


@pytest.mark.parametrize(("name", "billions"), MIXTRAL.items())
def test_of_a_mixture_those_parameters_are_active_that_its_makers_say(name: str, billions: tuple[int, int]) -> None:
    takes = costs(*blank(SIZES[name]))
    assert (round(sum(takes.parts.values()) / 1e9), round(takes.active / 1e9)) == billions


def test_switch_c_by_hand() -> None:
    """Fedus et al. 2021, table 9: 2,048 experts in each of 15 + 15 layers, of which a word takes one."""
    kind, model = blank(SIZES["switch.c-2048"])
    takes, d, f, h = costs(kind, model, length=512), 2080, 6144, 32 * 64
    router, expert, attention = 2048 * d, 2 * d * f, 4 * d * h
    layers = 15 * (router + attention) + 15 * (router + 2 * attention) + 32128 * d + 2 * 32 * 32 + (30 + 45 + 2) * d
    assert sum(takes.parts.values()) == layers + 30 * 2048 * expert
    assert takes.active == layers + 30 * expert
    encoder, decoder = takes.work
    assert encoder.products == 512 * 2 * 15 * (router + expert + attention + 2 * d * h)  # keys and values of the memory
    assert decoder.products == 512 * 2 * (15 * (router + expert + attention + 2 * d * h) + 32128 * d)


def test_experts_shared_out_by_hand() -> None:
    """Mixtral 8x7B on 8 devices: one expert of each layer on each, and 7 of 8 vectors travel, to two and back."""
    _, model = blank(SIZES["mixtral.8x7b"])
    shared, expert = spread(model, 8), 3 * 4096 * 14336
    rest = sum(p.numel() for name, p in named_parameters(model) if ".experts." not in name)
    assert (shared.devices, shared.experts, shared.parameters) == (8, 1, rest + 32 * expert)
    assert (shared.weights, shared.training) == (2 * shared.parameters, 16 * shared.parameters)
    assert shared.sent == {"decoder": 32 * 2 * 2 * 4096 * 2 * 7 // 8}
    three = spread(model, 3)
    assert three.experts == 3  # of the fullest
    alone = spread(model, 1)
    assert (alone.parameters, alone.sent) == (46_702_792_704, {"decoder": 0})


@pytest.mark.parametrize("devices", [0, 9, True])
def test_more_devices_than_experts_are_refused(devices: int) -> None:
    with pytest.raises(
        ArgumentError, match="devices must be a whole number from 1 to 8, the experts of a layer; found"
    ):
        spread(blank(SIZES["mixtral.8x7b"])[1], devices)


def test_a_model_without_experts_has_none_to_share_out() -> None:
    with pytest.raises(ArgumentError, match="this one has none"):
        spread(blank(SIZES["gpt2.small"])[1], 2)


def test_a_blank_model_counts_as_the_one_with_every_expert() -> None:
    kind, sketch = blank(SIZES["switch.base-16"])
    with torch.device("meta"):
        whole: Any = kind.build(sketch.config)
    assert costs(kind, whole, length=9) == costs(kind, sketch, length=9)
    told = {name: p.shape for name, p in named_parameters(sketch)}
    assert told == {name: p.shape for name, p in whole.named_parameters()}
    assert len(list(sketch.parameters())) < len(told) / 2


@pytest.mark.parametrize(
    ("name", "length"), [("gpt2.small", 1025), ("gpt2.small", 0), ("vit.base", 10), ("bert.base", True)]
)
def test_a_length_that_cannot_be_read_is_refused(name: str, length: int) -> None:
    kind, model = blank(SIZES[name])
    with pytest.raises(ArgumentError, match="length"):
        costs(kind, model, length=length)


def test_a_shorter_text_costs_less_attention_for_each_token() -> None:
    kind = family("GPT2LMHeadModel")
    _, model = blank(SIZES["gpt2.small"])
    short, full = (costs(kind, model, length=n).work[0] for n in (16, 1024))
    assert short.products * 64 == full.products
    assert short.looks * 64 < full.looks
