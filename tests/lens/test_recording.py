"""A recording of a whole run: no bit changes, every level tells the same, and a file gives back what was put in."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyhead.core import Recipe, Run, Stack
from polyhead.core.attention import CrossAttention, SelfAttention
from polyhead.core.norm import LayerNorm
from polyhead.core.packed import packable, packed
from polyhead.core.position import AddedInEveryLayer, LinearBias, Position, RelativeBias, Rotary
from polyhead.errors import ArgumentError, DataError, WriteError
from polyhead.families.marian import Config, Marian
from polyhead.lens import recording_file
from polyhead.lens.recording import LEVELS, Call, Level, Recording
from polyhead.lens.watch import watch
from polyhead.operator import Cache, Lengths, MaskMod, Observe, ScoreMod, Statistics
from polyhead.operator.statistics.gradient import tensors

NAMES = [
    *("encoder.blocks.0.attn", "encoder.blocks.1.attn"),
    *("decoder.blocks.0.attn", "decoder.blocks.0.cross", "decoder.blocks.1.attn", "decoder.blocks.1.cross"),
]
CROSS = "decoder.blocks.1.cross"
CONFIG = Config(
    vocab_size=31, d_model=24, n_layers=2, n_decoder_layers=2, n_heads=4, n_decoder_heads=3, d_ff=20, decoder_d_ff=28,
    max_len=16, dropout=0.0,
)  # fmt: skip
SOURCE, TARGET = torch.randint(0, 31, (2, 2, 9), generator=torch.Generator().manual_seed(1)).unbind()
LENGTHS = torch.tensor([9, 5])
each_level = pytest.mark.parametrize("level", LEVELS)


def marian(dtype: torch.dtype = torch.float32, **changes: Any) -> Marian:
    """A tiny model with every parameter random."""
    torch.manual_seed(0)
    model = Marian(replace(CONFIG, **changes)).to(dtype).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.3)
    return model


def ran(model: nn.Module, **how: Any) -> tuple[Tensor, Recording]:
    with watch(model, **how) as recording, torch.no_grad():
        return model(SOURCE, TARGET[:, :7], LENGTHS), recording


def by_hand(model: Marian) -> dict[str, Tensor]:
    """The softmax of every layer from the inputs that its own projections meet, in float64."""
    caught: dict[str, Tensor] = {}

    def catch(name: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda _, given: caught.update({name: given[0]}))

    double = model.double()
    for name, module in double.named_modules():
        if isinstance(module, nn.Linear):
            catch(name, module)
    with torch.no_grad():
        double(SOURCE, TARGET[:, :7], LENGTHS)
    found: dict[str, Tensor] = {}
    for name, layer in double.named_modules():
        if isinstance(layer, SelfAttention | CrossAttention):
            query = layer.split(layer.query(caught[f"{name}.query"]))
            key = layer.split(layer.key(caught[f"{name}.key"]))
            scores = query @ key.mT * query.shape[-1] ** -0.5
            if name.startswith("encoder") or name.endswith("cross"):
                scores = scores.masked_fill(torch.arange(scores.shape[-1]) >= LENGTHS[:, None, None, None], -torch.inf)
            else:
                scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
            found[name] = scores.softmax(-1)
    return found


def same(a: Statistics, b: Statistics, equal: Callable[[Tensor, Tensor], object]) -> None:
    found, wanted = tensors(a), tensors(b)
    assert found.keys() == wanted.keys() and found
    for name in found:
        assert equal(found[name], wanted[name]) is not False, name


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- levels


@each_level
@pytest.mark.parametrize("observe", [None, Observe.everything(links=20, grid=(3, 3))], ids=["blind", "observed"])
def test_watching_changes_no_bit(level: Level, observe: Observe | None) -> None:
    """Of outputs, gradients and random state, in training mode with dropout."""
    model = marian(dropout=0.2, attention_dropout=0.1).train()

    def outcome() -> tuple[Tensor, list[Tensor], Tensor]:
        torch.manual_seed(3)
        model.zero_grad()
        logits = model(SOURCE, TARGET, LENGTHS)
        logits.square().sum().backward()
        return logits, [p.grad.clone() for p in model.parameters() if p.grad is not None], torch.get_rng_state()

    blind = outcome()
    with watch(model, level=level, observe=observe) as recording:
        seen = outcome()
    assert recording.names() == NAMES
    assert torch.equal(blind[0], seen[0])
    assert all(torch.equal(a, b) for a, b in zip(blind[1], seen[1], strict=True))
    assert torch.equal(blind[2], seen[2])


@pytest.mark.parametrize("name", NAMES)
def test_every_level_tells_the_softmax_of_the_model(name: str) -> None:
    asked = Observe.everything(links=3, grid=(2, 3))
    recordings = {level: ran(marian(), level=level, observe=asked)[1] for level in LEVELS}
    wanted = by_hand(marian())[name]
    rows, again = recordings["rows"][name], recordings["inputs"].replay(name)
    for call in (rows, again):
        near(call.weights().double(), wanted)
        near(call.weights(rows=[2, 4], columns=[1]).double(), wanted[:, :, [2, 4]][..., [1]])
    entropy = -wanted.xlogy(wanted).sum(-1)
    for call in (rows, again, recordings["summary"][name]):
        told = tensors(call.statistics)
        near(told["entropy"].double(), entropy)
        near(told["received"].double(), wanted.sum(2))
        same(call.statistics, rows.statistics, torch.equal)
        near(call.lse, rows.lse)
    same(rows.observe(asked), rows.statistics, near)


def test_a_summary_keeps_no_queries_and_no_keys_but_its_statistics() -> None:
    call = ran(marian(), level="summary")[1][CROSS]
    assert call.kept is None and call.level == "summary"
    told = call.statistics
    assert told.entropy is not None and told.received is not None and told.mean_map is not None
    assert told.mean_map.shape == (2, 3, 7, 9)
    assert call.exactness == "statistics exact to the rounding of float32; no other weights"
    with pytest.raises(
        ArgumentError, match=r"decoder\.blocks\.1\.cross has no weights: .* watch\(model, level='rows'\)"
    ):
        call.weights()


@each_level
def test_the_norms_of_the_values_are_those_after_the_output_projection(level: Level) -> None:
    model = marian()
    call = ran(model, level=level)[1]["encoder.blocks.0.attn"]
    layer: Any = model.get_submodule("encoder.blocks.0.attn")
    with torch.no_grad():
        x = model.embed(model.source_tokens, SOURCE, Run())
        value = layer.split(layer.value(x)).double()
        moved = torch.einsum("bhsk,dhk->bhsd", value, layer.out.weight.double().unflatten(1, (4, -1)))
    near(call.norms.values.double(), moved.norm(dim=-1))
    assert call.norms.after


class Bare(nn.Module):
    """Attention of somebody else's making: it calls the operator through the run and shows nothing."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return Run().attend(self, query, key, value)


def test_without_an_output_projection_the_norms_are_those_of_the_values_and_say_so() -> None:
    model, value = Bare(), torch.randn(1, 2, 5, 4)
    with watch(model) as recording:
        model(torch.randn(1, 6, 3, 4), torch.randn(1, 2, 5, 4), value)
    assert not recording[""].norms.after
    near(recording[""].norms.values, value.norm(dim=-1).repeat_interleave(3, 1))


def test_a_layer_that_shows_no_inputs_is_refused_where_they_are_to_be_kept() -> None:
    model = Bare()
    with pytest.raises(ArgumentError, match="does not show what it reads"), watch(model, level="inputs"):
        model(*torch.randn(3, 1, 2, 5, 4))


def test_another_models_attention_is_not_recorded() -> None:
    model = marian()
    with watch(model, level="inputs") as recording:
        marian()(SOURCE, TARGET)
        model(SOURCE, TARGET)
    assert len(recording) == len(NAMES)


@each_level
def test_two_watchers_see_what_each_watches(level: Level) -> None:
    one, other = marian(), marian()
    for parameter in other.parameters():
        parameter.data.mul_(1.1)
    wish = Observe(entropy=True)
    with watch(one, level=level, observe=wish) as first, torch.no_grad():
        alone = one(SOURCE, TARGET)
        with watch(other, level=level) as second, watch(one, observe=wish) as third:
            assert torch.equal(one(SOURCE, TARGET), alone)
            other(SOURCE, TARGET)
    assert [len(recording) for recording in (first, second, third)] == [2 * len(NAMES), len(NAMES), len(NAMES)]
    for call, same_again, seen in zip([*first][: len(NAMES)], [*first][len(NAMES) :], third, strict=True):
        assert torch.equal(call.lse, same_again.lse) and torch.equal(call.lse, seen.lse)
        near(call.statistics.entropy, seen.statistics.entropy)  # pyright: ignore[reportArgumentType]
        same(call.statistics, same_again.statistics, near)
    if level == "inputs":
        assert first.replay(CROSS).replayed == 0.0


@pytest.mark.parametrize("into", [False, True])
def test_a_recording_of_nothing_is_refused_and_leaves_no_file(tmp_path: Path, into: bool) -> None:
    file = tmp_path / "run" if into else None
    refused = pytest.raises(ArgumentError, match="nothing was recorded: Linear made no call")
    with refused, watch(nn.Linear(2, 2), into=file):
        marian()(SOURCE, TARGET)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model must be a model, such as .*; found 'zh-en'"), watch("zh-en"):  # pyright: ignore
        pass


def test_an_error_inside_the_block_is_told_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"), watch(marian()):
        raise KeyError("mine")


def test_neither_values_nor_the_graph_of_a_training_run_are_kept() -> None:
    with watch(marian(), observe=Observe.everything(links=1)) as recording:
        marian_logits = recording.model(SOURCE, TARGET)  # pyright: ignore[reportOptionalCall]
    assert marian_logits.requires_grad
    for call in recording:
        assert call.record.request.value is call.record.request.key
        kept = [call.lse, call.norms.values, call.record.request.query, call.record.request.key]
        assert not any(x.requires_grad for x in [*kept, *tensors(call.statistics).values()])

    with watch(marian(), level="inputs") as recording:
        recording.model(SOURCE, TARGET)  # pyright: ignore[reportOptionalCall]
    for call in recording:
        assert not any(x.requires_grad for x in recording_file.folded(call)[1].values())


def test_rows_changed_after_the_run_are_refused() -> None:
    recording = ran(marian())[1]
    recording[CROSS].kept.key.mul_(2)  # pyright: ignore
    with pytest.raises(
        DataError, match=r"decoder\.blocks\.1\.cross is damaged, or was changed since: .* record the run"
    ):
        recording[CROSS].weights()


def test_a_bias_that_goes_on_learning_changes_no_recorded_weight() -> None:
    stack = stack_of(RelativeBias(8, 16))
    with watch(stack) as recording:
        stack(torch.randn(1, 6, 24), Run())
    before = recording["blocks.0.attn"].weights()
    with torch.no_grad():
        stack.bias.weight.add_(torch.randn_like(stack.bias.weight))  # pyright: ignore
    assert torch.equal(recording["blocks.0.attn"].weights(), before)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"level": "row"}, r"level must be one of summary, rows, inputs; found 'row'\. Did you mean 'rows'\?"),
        ({"observe": 8}, r"observe must be an Observe, such as Observe\(links=8\), or None; found 8"),
    ],
)
def test_a_wish_that_cannot_be_read_is_refused(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=sentence), watch(marian(), **how):
        pass


# --------------------------------------------------------------------------------------------------------------- replay


def stack_of(position: Position, **changes: Any) -> Stack:
    torch.manual_seed(0)
    recipe = Recipe(n_layers=2, d_model=24, n_heads=4, d_ff=20, norm=LayerNorm(), position=position, **changes)
    stack = Stack(recipe).eval()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.4)
    return stack


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


# ---------------------------------------------------------------------------------------------------------------- files


def held(call: Call) -> dict[str, Tensor]:
    return recording_file.folded(call)[1]


@each_level
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("into", [False, True], ids=["save", "into"])
def test_a_file_gives_back_every_bit(level: Level, dtype: torch.dtype, into: bool, tmp_path: Path) -> None:
    asked = Observe.everything(links=2, grid=(3, 3))
    path, model = tmp_path / "folder" / "run.safetensors", marian(dtype)
    _, recording = ran(model, level=level, observe=asked)
    recording.rulers = {"encoder": ["我", "爱"], "decoder": ["I"]}
    if into:
        with watch(model, level=level, observe=asked, into=path) as written, torch.no_grad():
            model(SOURCE, TARGET[:, :7], LENGTHS)
            written.rulers = recording.rulers
        assert torch.equal(written[CROSS].lse, recording[CROSS].lse)
    else:
        recording.save(path)
    again = Recording.load(path)
    assert (again.level, again.rulers, again.version) == (level, recording.rulers, torch.__version__)
    assert again.names() == recording.names() == NAMES
    assert repr(again) == repr(recording)
    for wanted, found in zip(recording, again, strict=True):
        assert (found.kind, found.kernel, found.reasons) == (wanted.kind, wanted.kernel, wanted.reasons)
        assert (found.norms.after, found.exactness) == (wanted.norms.after, wanted.exactness)
        assert recording_file.folded(found)[0] == recording_file.folded(wanted)[0]
        assert held(found).keys() == held(wanted).keys()
        assert all(torch.equal(held(found)[name], x) for name, x in held(wanted).items())
        if level == "rows":
            assert torch.equal(found.weights(), wanted.weights())
    assert [path.name for path in path.parent.iterdir()] == ["run.safetensors"]


def test_a_replayed_call_in_a_file_stays_marked(tmp_path: Path) -> None:
    again = ran(marian(), level="inputs")[1].replay(CROSS)
    Recording(entries=[(CROSS, lambda: again)]).save(tmp_path / "run")
    assert Recording.load(tmp_path / "run")[CROSS].exactness == again.exactness


def test_a_call_is_read_when_it_is_asked_for_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(marian())[1].save(tmp_path / "run")
    read: list[str] = []
    open_file: Any = recording_file.safe_open

    class Counted:
        def __init__(self, *given: Any, **how: Any):
            self.file = open_file(*given, **how)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def get_tensor(self, name: str) -> Tensor:
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(recording_file, "safe_open", Counted)
    recording = Recording.load(tmp_path / "run")
    assert recording.names() == NAMES and len(recording) == 6
    assert read == []
    call = recording[CROSS]
    call.weights()
    assert recording[CROSS] is call  # while somebody has it; a file is not kept in memory for nobody
    place = NAMES.index(CROSS)
    assert (
        sorted(set(read))
        == sorted(read)
        == sorted(f"{place}/{x}" for x in ("lse", "norms", "query", "key", "rule.keys"))
    )


def test_readers_of_safetensors_can_read_it(tmp_path: Path) -> None:
    """Numbers of every size, each at a place that its size divides."""
    from safetensors import safe_open

    model = stack_of(Position())
    with watch(model, observe=Observe(links=1)) as recording:
        model(torch.randn(1, 3, 24), Run(mask=torch.tensor([True, True, False]), bias=torch.randn(3, 3)))
        model(torch.randn(1, 5, 24), Run())
    recording.save(tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    for name, told in head.items():
        if name != "__metadata__":
            assert (8 + size + told["data_offsets"][0]) % {"F32": 4, "I64": 8, "BOOL": 1, "U8": 1}[told["dtype"]] == 0
    with safe_open(tmp_path / "run", framework="np") as file:
        assert file.get_tensor("2/query").shape == (1, 4, 5, 6)
    run = json.loads(head["__metadata__"]["run"])
    assert [call["name"] for call in run["calls"]] == ["blocks.0.attn", "blocks.1.attn"] * 2
    assert run["calls"][0]["exactness"] == "weights exact to the rounding of float32 products"


def test_a_damaged_file_ends_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "run"
    ran(marian())[1].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"run is damaged or no recording \(.*\); save the recording again"):
        Recording.load(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="damaged or no recording"):
        Recording.load(path)
    path.write_bytes(whole.replace(b'\\"Causal\\"', b'\\"Carnal\\"'))
    with pytest.raises(DataError, match=r"damaged or no recording \(the run in its head is not what was written\)"):
        list(Recording.load(path))
    path.write_bytes(whole.replace(b'\\"scale\\": 0.', b'\\"scale\\": 9.'))
    with pytest.raises(DataError, match="in its head is not what was written"):
        Recording.load(path)
    with pytest.raises(DataError, match="damaged or no recording"):
        Recording.load(tmp_path)


@each_level
def test_a_file_with_one_wrong_bit_gives_no_wrong_number(level: Level, tmp_path: Path) -> None:
    ran(marian(), level=level, observe=Observe(entropy=True))[1].save(tmp_path / "run")
    whole = (tmp_path / "run").read_bytes()
    draw = random.Random(level)
    for _ in range(60):
        place = draw.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << draw.randrange(8)
        (tmp_path / "run").write_bytes(changed)
        try:
            calls = [*Recording.load(tmp_path / "run")]
        except DataError as refused:
            assert "\n" not in str(refused)
            continue
        (tmp_path / "right").write_bytes(whole)  # a bit that means nothing, as of the bytes between two calls
        for call, right in zip(calls, Recording.load(tmp_path / "right"), strict=True):
            assert torch.equal(call.lse, right.lse) and torch.equal(call.norms.values, right.norms.values)
            same(call.statistics, right.statistics, torch.equal)


def test_other_files_are_refused(tmp_path: Path) -> None:
    call = ran(marian())[1][CROSS]
    call.record.save(tmp_path / "call")
    with pytest.raises(DataError, match="is not a recording that this version of polyhead wrote"):
        Recording.load(tmp_path / "call")
    with pytest.raises(
        DataError, match=r"There is no recording .*gone; check the path, and that the run which wrote it"
    ):
        Recording.load(tmp_path / "gone")


@pytest.mark.parametrize("rulers", [["a"], {"encoder": "ab"}, {"encoder": [1]}, {1: ["a"]}])
def test_rulers_that_are_no_words_are_refused(rulers: Any, tmp_path: Path) -> None:
    recording = ran(marian())[1]
    recording.rulers = rulers
    with pytest.raises(ArgumentError, match="rulers must be lists of words by name"):
        recording.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nothing_remains_of_a_run_that_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the data ended"), watch(marian(), into=tmp_path / "run") as recording:
        recording.model(SOURCE, TARGET)  # pyright: ignore[reportOptionalCall]
        raise OSError("the data ended")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        ArgumentError, match=r"cross goes to .*run, which can be read when the block of `watch` has ended"
    ):
        recording[CROSS]
    with pytest.raises(DataError, match="There is no recording"):
        Recording.load(tmp_path / "run")


def test_nothing_remains_of_a_run_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, torch, tests.lens.test_recording as t\n"
        "with t.watch(t.marian(), into=sys.argv[1]) as r:\n"
        "    r.model(t.SOURCE, t.TARGET)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], env={**os.environ, "PYTHONPATH": "."})
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"), watch(marian(), into=tmp_path / "file" / "run"):
        pass
    with pytest.raises(WriteError, match="could not be written"):
        ran(marian())[1].save(tmp_path / "file" / "run")


def test_the_memory_of_a_run_that_is_written_does_not_grow(tmp_path: Path) -> None:
    """No tensor of a call outlives its writing."""
    import gc
    import weakref

    model, seen = marian(), list[Any]()
    attend = recording_file.Writer.add

    def add(self: Any, call: Call) -> None:
        seen.extend(weakref.ref(x) for x in (call.lse, call.norms.values))
        attend(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording_file.Writer, "add", add)
        with watch(model, into=tmp_path / "run"), torch.no_grad():
            model(SOURCE, TARGET)
            gc.collect()
            assert len(seen) == 12 and all(ref() is None for ref in seen)
