"""Watching a run: no bit changes, and every level tells the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.core.position import RelativeBias
from polyhead.errors import ArgumentError, DataError
from polyhead.lens import recording_file
from polyhead.lens.recording import LEVELS, Level
from polyhead.lens.watch import watch
from polyhead.operator import Observe
from polyhead.operator.statistics.gradient import tensors
from tests.lens.tiny import (
    CROSS,
    LENGTHS,
    NAMES,
    SOURCE,
    TARGET,
    by_hand,
    each_level,
    marian,
    near,
    ran,
    same,
    stack_of,
)


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
        x = model.source(SOURCE, Run())
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
    refused = pytest.raises(ArgumentError, match="nothing was recorded: Linear made no attention call")
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
        assert call.record.request.value.shape[-1] == 0
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
