"""Gradients of weights, from values and the output's gradient, are those of autograd through a softmax written out."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polyhead.core import Recipe, Run, Stack
from polyhead.core.attention import Attention
from polyhead.core.norm import LayerNorm
from polyhead.core.run import watching
from polyhead.errors import ArgumentError, DataError
from polyhead.lens.backward import Target
from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch
from polyhead.operator import Causal, Lengths, Rule
from tests.lens.tiny import CROSS, LENGTHS, NAMES, SOURCE, TARGET, marian


class ByHand:
    """The observer that computes every softmax as it is written, and keeps its weights as part of the graph."""

    def __init__(self, names: dict[nn.Module, str]):
        self.names, self.weights = names, dict[str, Tensor]()

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        T, S, repeat = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeat, 1) for x in (key, value))
        scores = query @ key.mT * (how["scale"] if how["scale"] is not None else query.shape[3] ** -0.5)
        rule: Rule | None = how["mask"]
        for part in () if rule is None else rule.parts():
            if isinstance(part, Causal):
                scores = scores.masked_fill(torch.ones(T, S).triu(S - T + 1).bool(), -torch.inf)
            else:
                assert isinstance(part, Lengths)
                scores = scores.masked_fill(torch.arange(S) >= part.keys[:, None, None, None], -torch.inf)
        weights = scores.softmax(-1)
        weights.retain_grad()
        self.weights[self.names[at]] = weights
        return weights @ value


def by_hand(model: nn.Module, loss: Any) -> dict[str, Tensor]:
    """Weight times gradient of every attention, by autograd in float64."""
    model = model.double()
    hand = ByHand({module: name for name, module in model.named_modules() if isinstance(module, Attention)})
    token = watching.set(hand)
    try:
        loss(model).backward()
    finally:
        watching.reset(token)
    assert all(p.grad is not None for p in hand.weights.values())
    return {name: (p * p.grad).detach() for name, p in hand.weights.items() if p.grad is not None}


def translated(model: Any) -> Tensor:
    return model(SOURCE, TARGET[:, :7], LENGTHS).square().sum().sqrt()


def heard(model: nn.Module, loss: Any, **how: Any) -> Recording:
    with watch(model, gradients=True, **how) as recording:
        loss(model).backward()
    return recording


def near(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_weights_times_gradients_are_those_of_autograd(tmp_path: Path) -> None:
    """Of self- and cross-attention, with padding and causal masks, before and after they lay in a file."""
    recording, wanted = heard(marian(), translated), by_hand(marian(), translated)
    recording.save(tmp_path / "run.safetensors")
    again = Recording.load(tmp_path / "run.safetensors")
    assert [*wanted] == recording.names() == again.names() == NAMES
    for name in NAMES:
        assert float(wanted[name].abs().max()) > 1e-4  # or nothing is compared
        near(recording[name].weights_times_gradients(), wanted[name])
        assert torch.equal(again[name].weights_times_gradients(), recording[name].weights_times_gradients())
        some = recording[name].weights_times_gradients(rows=[5, 0], columns=[3])
        near(some, wanted[name][:, :, [5, 0]][..., [3]])
    assert all(one.gradients for one in again.facts()) and all(one.gradients for one in recording.facts())


def decoded(model: Any) -> Tensor:
    x = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(5))
    return model(x.to(next(model.parameters())), Run(mask=Causal())).square().sum().sqrt()


def grouped() -> Stack:
    torch.manual_seed(2)
    model = Stack(Recipe(n_layers=3, d_model=24, n_heads=6, n_kv_heads=2, d_ff=20, norm=LayerNorm())).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


def test_heads_that_share_keys_share_their_values_too() -> None:
    recording, wanted = heard(grouped(), decoded), by_hand(grouped(), decoded)
    assert len(wanted) == 3
    for name, x in wanted.items():
        assert recording[name].backward.value.shape[1] == 2  # type: ignore[union-attr]
        near(recording[name].weights_times_gradients(), x)


def test_listening_changes_no_bit() -> None:
    """Of outputs, of the gradients of parameters and of random state."""

    def outcome(**how: Any) -> tuple[Tensor, list[Tensor], Tensor]:
        model = marian(dropout=0.2).train()
        torch.manual_seed(3)
        if how:
            with watch(model, **how):
                logits = model(SOURCE, TARGET, LENGTHS)
        else:
            logits = model(SOURCE, TARGET, LENGTHS)
        logits.square().sum().backward()
        return logits, [p.grad for p in model.parameters() if p.grad is not None], torch.get_rng_state()

    (a, slopes, state), (b, others, after) = outcome(), outcome(gradients=True)
    assert torch.equal(a, b) and torch.equal(state, after)
    assert slopes and all(torch.equal(x, y) for x, y in zip(slopes, others, strict=True))


def test_a_backward_pass_after_the_block_is_heard_and_several_add_up() -> None:
    model = marian()
    with watch(model, gradients=True) as recording:
        loss = translated(model)
    assert not any(one.gradients for one in recording.facts())
    with pytest.raises(ArgumentError, match=f"{CROSS} has no gradients: no backward pass reached it"):
        recording[CROSS].gradients()
    loss.backward(retain_graph=True)
    once = recording[CROSS].gradients()
    (2 * loss).backward()
    near(recording[CROSS].gradients(), 3 * once.double())


def checkpointed(model: Any, loss: Any, *, within: bool = True, **how: Any) -> Recording:
    """The recording of a model whose every block is run again in the backward pass, within the block or after it."""
    for block in (each for stack in model.modules() if isinstance(stack, Stack) for each in stack.blocks):
        block.forward = partial(checkpoint, block.forward, **how)
    with watch(model, gradients=True) as recording:
        score = loss(model)
        if within:
            score.backward()
    if not within:
        score.backward()
    return recording


@pytest.mark.parametrize("within", [True, False])
def test_a_checkpointed_layer_is_recorded_once_with_its_gradient(within: bool) -> None:
    wanted = by_hand(marian(), translated)
    recording = checkpointed(marian(), translated, within=within, use_reentrant=False)
    assert [name for name, _ in recording.entries] == NAMES
    for name in NAMES:
        near(recording[name].weights_times_gradients(), wanted[name])


def twice(model: Any) -> Tensor:
    """Of two sequences, one after the other, the second once more."""
    x = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(5)).to(next(model.parameters())).requires_grad_()
    runs = [model(x[n : n + 1], Run(mask=Causal())) for n in (0, 1, 1)]
    return torch.stack([(n + 1) * run.square().sum() for n, run in enumerate(runs)]).sum().sqrt()


def test_a_reentrant_checkpoint_hands_its_gradients_to_the_calls_that_were_kept() -> None:
    """Each to its own, also where a layer runs several times, and once more where a second backward pass comes by."""
    wanted = heard(grouped(), twice)
    recording = checkpointed(grouped(), twice, use_reentrant=True)
    assert [name for name, _ in recording.entries] == [name for name, _ in wanted.entries]
    for found, other in zip(recording, wanted, strict=True):
        near(found.weights_times_gradients(), other.weights_times_gradients().double())
    assert not torch.equal(wanted.calls("blocks.1.attn")[1].gradients(), wanted.calls("blocks.1.attn")[2].gradients())


@pytest.mark.parametrize("level", ["summary", "inputs"])
def test_at_every_level_a_checkpointed_layer_is_recorded_once(level: Any) -> None:
    model = marian()
    for block in model.encoder.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # pyright: ignore
    with watch(model, level=level) as recording:
        translated(model).backward()
    assert [name for name, _ in recording.entries] == NAMES


def test_two_who_look_on_see_a_checkpointed_layer_once() -> None:
    model = grouped()
    with watch(model, gradients=True) as outer:
        inner = checkpointed(model, twice, use_reentrant=True)
    assert len(outer) == len(inner) == 9
    for found, other in zip(outer, inner, strict=True):
        assert torch.equal(found.gradients(), other.gradients())


def test_reentrant_checkpoints_need_their_backward_pass_within_the_block() -> None:
    with pytest.raises(ArgumentError, match=r"use_reentrant=True, call backward\(\) inside the block"):
        checkpointed(grouped(), twice, within=False, use_reentrant=True)


def test_what_may_not_be_seen_says_nothing_whatever_its_value() -> None:
    recording = heard(marian(), translated)
    call = recording["encoder.blocks.0.attn"]
    assert call.backward is not None
    call.backward.value[1, :, 5:] = torch.nan  # padding of the second sentence, whose length is 5
    found = call.weights_times_gradients()
    assert not found.isnan().any() and not found[1, :, :, 5:].any() and found[1, :, :, :5].any()


def written_as_4(recording: Recording, path: Path) -> None:
    """Write a recording as format 4 laid it down, which knew of no gradients and no target. By hand, so that the file
    stays what such files are, whatever becomes of the writer."""

    def checksum(x: Tensor) -> int:
        return crc32(x.numpy().tobytes(), crc32(f"{x.dtype} {list(x.shape)}".encode()))

    tensors, calls = dict[str, Tensor](), list[dict[str, Any]]()
    for place, call in enumerate(recording):
        request = call.record.request
        held = {"lse": call.lse, "norms": call.norms.values, "query": request.query, "key": request.key}
        rule: dict[str, Any] = {"kind": "Causal", "fields": {}}
        if isinstance(request.rule, Lengths):
            held["rule.keys"] = request.rule.keys
            rule = {"kind": "Lengths", "fields": {"keys": {"tensor": "rule.keys"}, "queries": None}}
        held = {name: x.detach().contiguous().clone() for name, x in held.items()}
        calls.append(
            {
                "name": call.name, "kind": call.kind, "kernel": call.kernel, "reasons": dict(call.reasons),
                "norms_after": True, "replayed": None, "route": "polyhead", "exactness": call.exactness,
                "statistics": {"mass": [], "rectangles": 0, "row_error": None, "way": "", "reasons": {}},
                "rows": {"scale": request.scale, "softcap": None, "rule": rule, "bias": None},
                "checksums": {name: checksum(x) for name, x in held.items()},
            }
        )  # fmt: skip
        tensors |= {f"{place}/{name}": x for name, x in held.items()} | {f"{place}/fill": torch.zeros(0).byte()}
    run = json.dumps({"level": "rows", "torch": "2.13.0", "rulers": [], "checksums": {}, "missed": [], "calls": calls})
    told = {"format": "pt", "polyhead.recording": "4", "run": run, "checksum": str(crc32(run.encode()))}
    save_file(tensors, path, told)


def test_a_file_of_the_format_before_is_still_read(tmp_path: Path) -> None:
    recording = heard(marian(), translated)
    written_as_4(recording, tmp_path / "old.safetensors")
    again = Recording.load(tmp_path / "old.safetensors")
    assert again.names() == NAMES and again.target is None and again.version == "2.13.0"
    assert [one.part for one in again.facts()] == [one.part for one in recording.facts()]
    for name in NAMES:
        assert torch.equal(again[name].weights(), recording[name].weights())
        assert torch.equal(again[name].norms.values, recording[name].norms.values) and again[name].backward is None
    with pytest.raises(ArgumentError, match=r"record with watch\(model, gradients=True\)"):
        again[CROSS].gradients()


def test_a_target_is_saved_with_its_recording(tmp_path: Path) -> None:
    recording = heard(marian(), translated)
    recording.target = Target("my loss", "我的损失")
    recording.save(tmp_path / "run.safetensors")
    assert Recording.load(tmp_path / "run.safetensors").target == recording.target


def test_gradients_that_do_not_fit_their_call_are_refused(tmp_path: Path) -> None:
    recording = heard(marian(), translated)
    call = recording[CROSS]
    assert call.backward is not None and call.backward.output is not None
    call.backward.output = call.backward.output[:, :, :-1]
    recording.save(tmp_path / "run.safetensors")
    with pytest.raises(DataError, match="do not fit the call"):
        Recording.load(tmp_path / "run.safetensors")[CROSS]


def test_a_budget_counts_what_gradients_will_take() -> None:
    def bytes_of(gradients: bool) -> int:
        """The least that a run may take."""
        low, high = 1, 10_000_000
        while low < high:
            middle = (low + high) // 2
            try:
                with watch(marian(), gradients=gradients, budget=middle) as recording:
                    translated(recording.model)
                high = middle
            except ArgumentError:
                low = middle + 1
        return low

    recording = heard(marian(), translated)
    more = sum(
        x.numel() * x.element_size()
        for call in recording
        if call.backward is not None
        for x in (call.backward.value, call.backward.output)
        if x is not None
    )
    assert bytes_of(True) - bytes_of(False) >= 0.9 * more


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"gradients": 1}, "gradients must be True or False; found 1"),
        (
            {"gradients": True, "level": "summary"},
            "of exact weights, which level='summary' does not keep",
        ),
        ({"gradients": True, "into": "x"}, "leave out into="),
    ],
)
def test_what_cannot_go_with_gradients_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said), watch(marian(), **how):
        raise AssertionError("it began")


def test_runs_that_can_have_no_gradient_are_refused() -> None:
    with pytest.raises(ArgumentError, match="no gradient can come"), watch(marian(), gradients=True) as recording:
        with torch.no_grad():
            translated(recording.model)
    dropping = marian(attention_dropout=0.5).train()
    with pytest.raises(ArgumentError, match=r"encoder.blocks.0.attn drops some weights out.*call model.eval\(\)"):
        with watch(dropping, gradients=True):
            translated(dropping)
    theirs = nn.TransformerEncoderLayer(12, 2, 8, batch_first=True).eval()
    with pytest.raises(ArgumentError, match="told by polyhead's own layers"), watch(theirs, gradients=True):
        theirs(torch.randn(1, 4, 12))


def test_two_who_look_on_both_hear() -> None:
    model = marian()
    with watch(model, gradients=True) as outer, watch(model) as between, watch(model, gradients=True) as inner:
        translated(model).backward()
    assert torch.equal(outer[CROSS].gradients(), inner[CROSS].gradients())
    assert between[CROSS].backward is None
