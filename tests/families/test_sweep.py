"""Every architecture of the registry, here and in `transformers`, through saved files; each skip says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from polyhead.core import Run
from polyhead.core.attention import Attention
from polyhead.core.packed import packable, packed
from polyhead.families import ARCHITECTURES
from polyhead.lens.watch import watch
from polyhead.operator import Cache, Dense, Observe
from polyhead.tasks.load import read_model, write_model
from tests.families.tiny import (
    CASES,
    SHAPES,
    Both,
    both,
    difference,
    is_decoder,
    is_encoder_decoder,
    kept,
    ours_of,
    reads_padding,
    real,
    some_inputs,
    some_target,
    theirs_for,
)

pytestmark = pytest.mark.parity
LENGTHS = torch.tensor([9, 6])
Make = Callable[[str, str], Both]
each = pytest.mark.parametrize(("architecture", "variant"), CASES, ids=["-".join(filter(None, case)) for case in CASES])
SPEEDS_GROW = "speeds that follow the length of the text: keys turned when it was shorter stay as they are"
ROOM_IS_NEW = "each call counts the room of experts anew, as in the reference: tests/families/test_switch.py compares"


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Both models of a case, made once."""
    made: dict[tuple[str, str], Both] = {}

    def of(architecture: str, variant: str) -> Both:
        case = architecture, variant
        if case not in made:
            made[case] = both(architecture, variant, tmp_path_factory.mktemp(architecture))
        return made[case]

    return of


def reads_words(pair: Both) -> bool:
    return pair.family.reads in ("text", "pair", "text or image")


def pad_of(pair: Both) -> int:
    config = pair.ours.config
    return getattr(config, "text", config).pad_id or 0


def test_no_architecture_is_left_out() -> None:
    assert SHAPES.keys() == ARCHITECTURES.keys()


@each
@torch.no_grad()
def test_their_folder_gives_their_answers_here(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    x, target = some_inputs(pair), some_target()
    assert difference(ours_of(pair, x, target), theirs_for(pair, x, target)) < 1e-5
    if reads_words(pair):
        mask = real(x, LENGTHS)
        padded = x.where(mask, pad_of(pair))
        ours, theirs = ours_of(pair, padded, target, mask=mask), theirs_for(pair, padded, target, LENGTHS)
        assert difference(kept(ours, mask), kept(theirs, mask)) < 1e-5


@each
@torch.no_grad()
def test_in_bfloat16_ours_is_as_near_to_float32_as_theirs(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    x, target = some_inputs(pair, rows=64), some_target(64)  # of a few numbers, the size of an error is chance
    exact = ours_of(pair, x, target)
    narrow = x.bfloat16() if x.is_floating_point() else x
    theirs = getattr(transformers, architecture).from_pretrained(pair.folder, dtype=torch.bfloat16).eval()
    ours = read_model(pair.folder, pair.raw, pair.family, torch.bfloat16).eval()
    low = Both(theirs, ours, pair.family, pair.raw, pair.folder)
    off = (ours_of(low, narrow, target).float() - exact).square().mean().sqrt()
    allowed = (theirs_for(low, narrow, target).float() - exact).square().mean().sqrt()
    assert off <= 1.5 * allowed + 1e-3 * exact.abs().max()


@each
@torch.no_grad()
def test_our_folder_gives_our_answers_there(make: Make, architecture: str, variant: str, tmp_path: Path) -> None:
    pair = make(architecture, variant)
    changed = read_model(pair.folder, pair.raw, pair.family).eval()
    torch.manual_seed(5)
    for parameter in changed.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    write_model(tmp_path, changed, pair.family, pair.raw)
    theirs: Any = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    there = Both(theirs, changed, pair.family, pair.raw, tmp_path)
    x, target = some_inputs(there), some_target()
    assert difference(ours_of(there, x, target), theirs_for(there, x, target)) < 1e-5


@each
def test_file_to_model_to_file_changes_no_tensor_and_no_setting(
    make: Make, architecture: str, variant: str, tmp_path: Path
) -> None:
    pair = make(architecture, variant)
    write_model(tmp_path, pair.ours, pair.family, pair.raw)
    before, after = (load_file(folder / "model.safetensors") for folder in (pair.folder, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    told = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert {key: told[key] for key in pair.raw} == pair.raw
    config = pair.family.keys.read(told, pair.family.config())
    assert pair.family.settle(config, lambda name: after.get(name)) == pair.ours.config


@each
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    if not reads_words(pair):
        pytest.skip("images and 30 seconds of sound have one size: nothing is padded")
    if variant in ("dynamic", "longrope"):
        pytest.skip(SPEEDS_GROW)
    if reads_padding(pair):
        pytest.skip("what fills a text up is read, as in the reference: its vector stands at the last place")
    x, target = some_inputs(pair), some_target()
    n, short = x.shape[1], x[1:, :6]
    alone = ours_of(pair, short, target[1:])
    for side in ("right", "left"):
        row = torch.full((1, n), pad_of(pair))
        mask = torch.zeros(1, n, dtype=torch.bool)
        span = slice(0, 6) if side == "right" else slice(n - 6, n)
        row[:, span], mask[:, span] = short, True
        if variant == "dropped" and side == "left":
            continue  # padding takes the room of words behind it, as in the reference
        found = ours_of(pair, torch.cat((x[:1], row)), target, mask=torch.cat((torch.ones_like(mask), mask)))[1:]
        if found.shape[1] == n:
            found = found[:, span]
        elif side == "left" and not is_encoder_decoder(pair):
            continue  # a label of the whole is read from the first place
        assert difference(found, alone) < 1e-5, side


@each
@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_a_cache_changes_nothing(make: Make, architecture: str, variant: str, chunk: int) -> None:
    pair = make(architecture, variant)
    if not hasattr(pair.ours, "decode"):
        pytest.skip("an encoder reads all at once: it has no cache")
    if variant in ("dynamic", "longrope"):
        pytest.skip(SPEEDS_GROW)
    if variant == "dropped":
        pytest.skip(ROOM_IS_NEW)
    ids = some_inputs(pair) if is_decoder(pair) else some_target()
    memory = None if is_decoder(pair) else pair.ours.encode(some_inputs(pair), Run())
    whole = pair.ours.decode(ids, Run(memory=memory))
    run = Run(memory=memory, cache=Cache())
    parts = [pair.ours.decode(part, run) for part in ids.split(chunk, dim=1)]
    assert difference(torch.cat(parts, 1), whole) < 1e-5


@each
@torch.no_grad()
def test_left_padding_and_a_cache_change_nothing(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    if not is_decoder(pair):
        pytest.skip("what begins from a start sign is not padded on the left")
    if variant in ("dynamic", "longrope"):
        pytest.skip(SPEEDS_GROW)
    ids = some_inputs(pair)
    alone = pair.ours.decode(ids[1:, 3:], Run())
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :3] = False
    places, run, found = (mask.long().cumsum(1) - 1).clamp(min=0), Run(cache=Cache()), []
    for start in range(0, 9, 4):
        stop = min(start + 4, 9)
        step = Run(mask=Dense(mask[:, None, None, :stop]), positions=places[:, start:stop], cache=run.cache)
        found.append(pair.ours.decode(ids[:, start:stop], step))
    assert difference(torch.cat(found, 1)[1:, 3:], alone) < 1e-5


@each
@torch.no_grad()
def test_a_packed_twin_gives_the_same_answers(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    if not packable(pair.ours):
        pytest.skip("this PyTorch has no packed products")
    twin = replace(pair, ours=packed(pair.ours))
    x, target = some_inputs(pair), some_target()
    assert difference(ours_of(twin, x, target), ours_of(pair, x, target)) < 1e-5


@each
def test_gradients_reach_every_parameter(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    x, target = some_inputs(pair), some_target()
    pair.ours.zero_grad()
    ours_of(pair, x, target).square().sum().backward()
    bare = [name for name, p in pair.ours.named_parameters() if p.grad is None or not p.grad.any()]
    pooler = ["head.dense.weight", "head.dense.bias"] if pair.family.does in ("vectors", "image vectors") else []
    assert [name for name in bare if name not in pooler] == []  # the pooler is there to be saved, and for `pooled`
    pair.ours.zero_grad()


@each
@torch.no_grad()
def test_watching_changes_no_bit_and_sees_every_layer(make: Make, architecture: str, variant: str) -> None:
    pair = make(architecture, variant)
    x, target = some_inputs(pair), some_target()
    blind = ours_of(pair, x, target)
    with watch(pair.ours, observe=Observe(entropy=True)) as recording:
        assert torch.equal(ours_of(pair, x, target), blind)
    assert recording.names() == [name for name, m in pair.ours.named_modules() if isinstance(m, Attention)]
    for call in recording:
        rows: Tensor = call.weights().sum(-1)
        assert torch.allclose(rows, torch.ones_like(rows), atol=1e-4)
