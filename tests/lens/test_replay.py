"""A layer that runs again gives the rows of the run, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polyhead.core import Run
from polyhead.core.packed import packable, packed
from polyhead.core.position import AddedInEveryLayer, LinearBias, Position, RelativeBias
from polyhead.core.rotary import Rotary
from polyhead.errors import ArgumentError, DataError
from polyhead.lens.recording import Level, Recording
from polyhead.lens.watch import watch
from polyhead.operator import Cache, Lengths, MaskMod, ScoreMod
from tests.lens.tiny import (
    CROSS,
    LENGTHS,
    NAMES,
    SOURCE,
    TARGET,
    each_level,
    marian,
    near,
    ran,
    stack_of,
)

KINDS = [Position(), Rotary(100.0), RelativeBias(8, 16), LinearBias(), AddedInEveryLayer()]


@pytest.mark.parametrize("position", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("changes", [{}, {"n_kv_heads": 2, "softcap": 2.0, "scale": 0.5}], ids=["plain", "odd"])
def test_a_replayed_layer_gives_the_rows_of_the_run(
    position: Position, changes: dict[str, Any], tmp_path: Path
) -> None:
    """With everything that a layer can read of its run, and by way of a file."""
    stack = stack_of(position, causal=True, cross=True, **changes)
    x, memory, added, memory_added = torch.randn(4, 2, 5, 24).unbind()
    seen = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    seen[1, ..., :2] = False
    run = Run(
        mask=seen, memory=memory, memory_mask=Lengths(torch.tensor([5, 3])), added=added, memory_added=memory_added,
        positions=torch.tensor([[0, 1, 5, 6, 9], [0, 0, 0, 1, 7]]),
    )  # fmt: skip
    made: dict[Level, Recording] = {}
    for level in ("rows", "inputs"):
        with watch(stack, level=level) as made[level], torch.no_grad():
            stack(x, replace(run, observer=Run().observer))
    made["inputs"].save(tmp_path / "run")
    for recording in (made["inputs"], Recording.load(tmp_path / "run")):
        for call in made["rows"]:
            again = recording.replay(call.name, model=stack)
            assert again.replayed is not None and again.replayed < 1e-6
            near(again.weights(), call.weights())


@pytest.mark.parametrize("level", ["rows", "inputs"])
def test_functions_are_recorded_and_replayed_but_not_saved(level: Level, tmp_path: Path) -> None:
    stack, x = stack_of(Position(), causal=True), torch.randn(1, 6, 24)
    run: dict[str, Any] = {
        "mask": MaskMod(lambda b, h, i, j: i != j + 1),
        "bias": ScoreMod(lambda score, b, h, i, j: score / (i - j + 1)),
    }
    with watch(stack, level=level) as recording, torch.no_grad():
        stack(x, Run(**run))
    name = "blocks.1.attn"
    call = recording.replay(name) if level == "inputs" else recording[name]
    near(call.weights().sum(-1), torch.ones(1, 4, 6))
    assert call.weights()[..., 1, 0].abs().max() == 0
    with pytest.raises(ArgumentError, match=r"A file cannot hold a (MaskMod|ScoreMod), which is code"):
        recording.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_replayed_call_says_so_and_how_far_it_was_off() -> None:
    recording = ran(marian(), level="inputs")[1]
    assert recording[CROSS].level == "inputs"
    with pytest.raises(ArgumentError, match=r"has no weights: .* recording\.replay\('decoder\.blocks\.1\.cross'\)"):
        recording[CROSS].weights()
    again = recording.replay(CROSS)
    assert again.replayed == 0.0 and again.level == "rows"
    assert again.exactness == "replayed, output off by 0; weights exact to the rounding of float32 products"
    assert ran(marian())[1][CROSS].replayed is None


@pytest.mark.skipif(not packable(marian()), reason="this PyTorch has no packed products")
@each_level
def test_a_packed_twin_is_recorded_under_the_names_of_its_model(level: Level) -> None:
    model = marian()
    with watch(model, level=level) as recording, torch.no_grad():
        packed(model)(SOURCE, TARGET[:, :7], LENGTHS)
    plain = ran(model, level=level)[1]
    assert recording.names() == NAMES
    for call in recording:
        assert call.norms.after
        near(call.norms.values, plain[call.name].norms.values)
    if level == "inputs":
        off = recording.replay(CROSS).replayed
        assert off is not None and off < 1e-5


def test_a_changed_model_is_refused_at_replay() -> None:
    model = marian()
    recording = ran(model, level="inputs")[1]
    layer: Any = model.get_submodule(CROSS)
    with torch.no_grad():
        layer.query.weight[0, 0] += 1
    with pytest.raises(DataError, match=r"cross does not compute what was recorded: its output is off by \S+, its log"):
        recording.replay(CROSS)
    with pytest.raises(
        DataError, match=r"cross cannot read what was recorded \(.*\); give the model that was recorded"
    ):
        recording.replay(CROSS, model=marian(d_model=12))
    with pytest.raises(ArgumentError, match=r"The model has no attention 'decoder\.blocks\.1\.cross'; give the model"):
        recording.replay(CROSS, model=marian(n_decoder_layers=1))


@pytest.mark.parametrize("part", ["query", "key", "value", "out"])
def test_every_part_of_a_layer_is_held_against_the_recording(part: str) -> None:
    """Also where the output cannot tell the weights, since it is always zero, or the weights cannot tell the values."""
    model = marian()
    layer: Any = model.get_submodule(CROSS)
    if part in ("query", "key"):
        nn.init.zeros_(layer.out.weight)
    recording = ran(model, level="inputs")[1]
    assert recording.replay(CROSS).replayed == 0.0
    with torch.no_grad():
        getattr(layer, part).weight[0, 0] += 0.5
    with pytest.raises(DataError, match="does not compute what was recorded"):
        recording.replay(CROSS)


def test_nothing_is_dropped_in_a_replay() -> None:
    stack, x = stack_of(Position(), attention_dropout=0.5), torch.randn(1, 6, 24)
    with watch(stack, level="inputs") as recording, torch.no_grad():
        stack(x, Run())
    stack.train()
    assert recording.replay("blocks.0.attn").replayed == 0.0


def test_a_changed_input_is_refused_at_replay() -> None:
    """One number of one row."""
    recording = ran(marian(), level="inputs")[1]
    recording[CROSS].kept.tensors["x"][1, 3, 5] += 0.5  # pyright: ignore
    with pytest.raises(DataError, match="does not compute what was recorded"):
        recording.replay(CROSS)


def test_what_cannot_be_repeated_is_refused_by_one_sentence() -> None:
    stack, x = stack_of(Position(), causal=True), torch.randn(1, 6, 24)
    cache = Cache()
    with watch(stack, level="inputs") as recording, torch.no_grad():
        stack(x[:, :4], Run(cache=cache))
        assert recording.replay("blocks.0.attn").replayed == 0.0  # a prompt meets no earlier keys
        stack(x[:, 4:], Run(cache=cache))
    with pytest.raises(DataError, match=r"blocks\.0\.attn looked at 4 earlier keys of a cache"):
        recording.replay("blocks.0.attn")
    dropping = stack_of(Position(), attention_dropout=0.5).train()
    with watch(dropping, level="inputs") as recording:
        dropping(x, Run())
    with pytest.raises(DataError, match=r"blocks\.0\.attn ran with dropout, which cannot be repeated"):
        recording.replay("blocks.0.attn")
    with pytest.raises(ArgumentError, match="was recorded at level 'rows', which keeps no inputs to replay"):
        ran(marian())[1].replay(CROSS)


def test_a_run_under_autocast_is_replayed_under_autocast() -> None:
    stack, x = stack_of(Rotary()), torch.randn(1, 6, 24)
    with watch(stack, level="inputs") as recording, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        stack(x, Run())
    again = recording.replay("blocks.0.attn")
    assert again.replayed == 0.0
    assert again.record.request.query.dtype == torch.bfloat16


def test_beams_that_share_a_memory_are_replayed() -> None:
    stack, x, memory = stack_of(Position(), causal=True, cross=True), torch.randn(6, 4, 24), torch.randn(2, 5, 24)
    with watch(stack, level="inputs") as recording, torch.no_grad():
        stack(x, Run(memory=memory, memory_mask=Lengths(torch.tensor([5, 2]))))
    assert recording.replay("blocks.1.cross").weights().shape == (2, 4, 12, 5)
