"""Models of others are seen while their own kernels run: by what they write themselves, and by PyTorch's own layers."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polyhead.errors import ArgumentError
from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch
from polyhead.operator import Causal, Observe
from tests.lens.capture.layers import WAYS, CausalSelfAttention, Way, by_where, fused, two, wanted, written_out, x

NEAR: dict[str, Any] = {"rtol": 0.0, "atol": 2e-6}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


def seen(model: nn.Module, *given: Any, **how: Any) -> tuple[Any, Recording]:
    with watch(model, **how) as recording:
        return model(*given), recording


@each_way
@pytest.mark.parametrize("learning", [False, True])
def test_weights_are_those_of_the_formula_and_the_output_keeps_its_bits(way: Way, learning: bool) -> None:
    model = two(way).train(learning)
    with torch.set_grad_enabled(learning):
        alone = model(x())
        output, recording = seen(model, x())
    assert torch.equal(output, alone)
    assert [call.name for call in recording] == ["0", "1"] and not recording.missed
    for call, weights in zip(recording, wanted(model, x()), strict=True):
        torch.testing.assert_close(call.weights().double(), weights, **NEAR)
        assert call.kind == "self"


@each_way
def test_masks_that_were_written_out_become_the_rule_that_they_say(way: Way) -> None:
    _, recording = seen(two(way), x())
    assert all(isinstance(call.record.request.rule, Causal) and call.record.request.bias is None for call in recording)


@each_way
def test_values_are_known_by_how_much_of_them_can_reach_the_output(way: Way) -> None:
    model = two(way)
    _, recording = seen(model, x())
    given = x()
    for call, layer in zip(recording, model, strict=True):
        assert isinstance(layer, CausalSelfAttention)
        _, _, value = layer.heads(given)
        each = layer.out.weight.unflatten(1, (value.shape[1], -1))  # [D, H, K]
        norms = torch.einsum("dhk,bhsk->bhsd", each, value).norm(dim=-1)
        assert call.norms.after
        torch.testing.assert_close(call.norms.values, norms.detach(), rtol=1e-4, atol=1e-5)
        given = layer(given)


def gradients(model: nn.Module, run: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad()
    output = run()
    output.square().sum().backward()
    return [output.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@each_way
def test_gradients_and_chance_keep_their_bits(way: Way) -> None:
    model = two(way, dropout=0.2).train()
    torch.manual_seed(5)
    alone, next_alone = gradients(model, lambda: model(x())), torch.rand(3)
    torch.manual_seed(5)
    with watch(model, observe=Observe.everything(links=2, grid=(3, 3))) as recording:
        watched = gradients(model, lambda: model(x()))
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True)) and torch.equal(
        torch.rand(3), next_alone
    )
    assert len(recording) == 2


class Checkpointed(nn.Module):
    one: CausalSelfAttention
    other: CausalSelfAttention

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = CausalSelfAttention(fused), CausalSelfAttention(fused)

    def forward(self, given: Tensor) -> Tensor:
        middle: Any = checkpoint(self.one, given, use_reentrant=False)
        return checkpoint(self.other, middle, use_reentrant=False)  # pyright: ignore[reportReturnType]


def test_layers_that_run_again_in_the_backward_pass_are_told_once() -> None:
    model = Checkpointed().train()
    alone = gradients(model, lambda: model(x()))
    with watch(model) as recording:
        watched = gradients(model, lambda: model(x()))
    assert all(torch.equal(a, b) for a, b in zip(alone, watched, strict=True))
    assert recording.names() == ["one", "other"] and len(recording) == 2


def test_under_autocast_the_kernels_own_numbers_are_kept() -> None:
    model = two(fused)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = model(x())
        output, recording = seen(model, x())
    assert torch.equal(output, alone)
    assert all(call.record.request.query.dtype == torch.bfloat16 for call in recording)


def test_a_softmax_of_half_precision_is_rebuilt_within_its_rounding() -> None:
    model = two(written_out).bfloat16()
    given = x().bfloat16()
    with torch.no_grad():
        output, recording = seen(model, given)
        assert torch.equal(output, model(given))
        layer: Any = model[0]
        q, k, _ = layer.heads(given)
        scores = ((q @ k.mT) * q.shape[-1] ** -0.5).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf)
    torch.testing.assert_close(recording["0"].weights(), scores.softmax(-1).float(), rtol=0, atol=2e-2)


class Capped(CausalSelfAttention):
    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        scores = torch.tanh((q @ k.mT) * 0.3 / 2.0) * 2.0
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_scores_with_a_cap_are_seen() -> None:
    torch.manual_seed(0)
    model = Capped(fused)
    _, recording = seen(model, x())
    q, k, _ = model.heads(x())
    weights = (2 * torch.tanh(0.3 * (q @ k.mT) / 2)).softmax(-1)
    torch.testing.assert_close(recording[""].weights(), weights, **NEAR)


class WithParts(CausalSelfAttention):
    """Whose softmax is a module of its own, whose heads scale their scores, and which sees windows of a picture."""

    def __init__(self, way: Way) -> None:
        super().__init__(way)
        self.softmax, self.scales = nn.Softmax(-1), nn.Parameter(torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None])
        self.bias, self.windows = nn.Parameter(torch.randn(4, 9, 9)), torch.randn(2, 9, 9)

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        scores = (q @ k.mT) * self.scales + self.bias
        apart = scores.view(1, *scores.shape) + self.windows[None, :, None]
        return self.out((self.softmax(apart.view(scores.shape)) @ v).transpose(1, 2).flatten(2))


def test_scales_of_heads_biases_and_windows_are_seen_and_parts_count_to_their_module() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(WithParts(fused))
    output, recording = seen(model, x())
    assert torch.equal(output, model(x())) and recording.names() == ["0"] and not recording.missed
    layer: Any = model[0]
    q, k, _ = layer.heads(x())
    weights = ((q @ k.mT) * layer.scales + layer.bias + layer.windows[:, None]).softmax(-1)
    torch.testing.assert_close(recording["0"].weights(), weights.detach(), rtol=0, atol=1e-5)


class OddAttention(CausalSelfAttention):
    """Weights that are no softmax of scores."""

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        e = (q @ k.mT).exp()
        return self.out(((e / e.sum(-1, keepdim=True)) @ v).transpose(1, 2).flatten(2))


class WarpedAttention(CausalSelfAttention):
    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        return self.out(((q @ k.mT).sigmoid().softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_what_ran_and_cannot_be_seen_is_told_with_its_reason() -> None:
    model = nn.Sequential(OddAttention(fused), WarpedAttention(fused), CausalSelfAttention(fused))
    _, recording = seen(model, x())
    assert recording.names() == ["2"]
    told = {one.name: one.reason for one in recording.missed}
    assert told == {
        "0": "no attention that polyhead knows was computed while it ran",
        "1": "scores go through sigmoid",
    }
    assert "missed 2: 1 (scores go through sigmoid)" in repr(recording)
    with pytest.raises(ArgumentError, match=r"nothing was recorded: OddAttention .*; missed 1:  ?\("):
        seen(model[0], x())


def test_a_module_that_does_not_run_is_not_missed() -> None:
    model = nn.ModuleDict({"used": CausalSelfAttention(fused), "spare": CausalSelfAttention(fused)})
    with watch(model) as recording:
        model["used"](x())
    assert recording.names() == ["used"] and not recording.missed


def test_another_models_attention_is_not_taken_for_the_watched_one() -> None:
    model, other = two(fused), two(fused)
    with watch(model) as recording:
        other(x())
        model(x())
        other(x())
    assert [call.name for call in recording] == ["0", "1"]


class Twice(CausalSelfAttention):
    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        return self.out((fused(q, k, v, q) + fused(k, q, v, q)).transpose(1, 2).flatten(2))


def test_two_calls_of_one_module_have_two_names_and_two_runs_have_one() -> None:
    model = Twice(fused)
    with watch(model) as recording:
        model(x(1))
        model(x(2))
    assert [call.name for call in recording] == ["", "#2", "", "#2"]
    assert len(recording.calls("#2")) == 2 and recording.calls("#2")[1] is recording["#2"]


def test_tensors_that_are_written_over_later_in_the_run_are_kept_apart() -> None:
    class Overwrites(CausalSelfAttention):
        def forward(self, given: Tensor) -> Tensor:
            q, k, v = self.heads(given)
            q, k = q.contiguous(), k.contiguous()
            output = fused(q, k, v, q)
            self.kept = [q.clone(), k.clone()]
            q.zero_()
            k.copy_(v)
            return self.out(output.transpose(1, 2).flatten(2))

    for learning in (False, True):
        model = Overwrites(fused)
        with torch.inference_mode(not learning):
            _, recording = seen(model, x())
            query, key = model.kept
        request = recording[""].record.request
        assert torch.equal(request.query, query) and torch.equal(request.key, key)


@pytest.mark.parametrize("level", ["rows", "summary"])
def test_a_recording_of_anothers_model_goes_through_a_file(tmp_path: Path, level: Any) -> None:
    model = nn.Sequential(*two(by_where), OddAttention(fused))
    _, recording = seen(model, x(), level=level)
    recording.save(tmp_path / "run")
    with watch(model, level=level, into=tmp_path / "straight") as straight:
        model(x())
    for again in (Recording.load(tmp_path / "run"), straight):
        assert again.missed == recording.missed and again.names() == recording.names()
        for one, other in zip(recording, again, strict=True):
            assert (one.route, one.kernel, one.kind) == (other.route, other.kernel, other.kind)
            assert torch.equal(one.lse, other.lse) and torch.equal(one.norms.values, other.norms.values)
            if level == "rows":
                assert torch.equal(one.weights(), other.weights())
            else:
                assert one.statistics.entropy is not None and other.statistics.entropy is not None
                assert torch.equal(one.statistics.entropy, other.statistics.entropy)


def test_only_chosen_layers_are_kept() -> None:
    model = nn.Sequential(two(fused), two(fused))
    with watch(model, layers=["0.*", "*.1"]) as recording:
        model(x())
    assert recording.names() == ["0.0", "0.1", "1.1"]


def test_a_budget_stops_the_run_at_the_first_call_with_what_the_rest_would_take() -> None:
    model, ran = two(fused), list[int]()
    model[1].register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(ArgumentError, match=r"2 calls like 0 take \d+\.?\d* kB, more than budget = 2 kB; keep fewer"):
        seen(model, x(), budget=2000)
    assert not ran
    _, recording = seen(model, x(), budget=10**6)
    assert len(recording) == 2


def test_nothing_stays_behind_after_the_block() -> None:
    model = two(fused)
    with pytest.raises(ZeroDivisionError), watch(model):
        model(x())
        raise ZeroDivisionError
    hooks = torch.nn.modules.module
    assert not hooks._global_forward_hooks and not hooks._global_forward_pre_hooks  # pyright: ignore[reportPrivateUsage]
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def test_a_file_takes_what_memory_need_not_hold(tmp_path: Path) -> None:
    model, alive = two(fused), list[int]()
    with watch(model, into=tmp_path / "run") as recording:
        for seed in range(3):
            model(x(seed, long=64))
            gc.collect()
            alive.append(sum(type(o) is Tensor and o.dim() == 4 and o.shape[2] == 64 for o in gc.get_objects()))
    assert alive[0] == alive[2] and len(recording) == 6


# --- PyTorch's own layers ------------------------------------------------------------------------------------------


def masks_of(kind: str) -> dict[str, Tensor]:
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 6:] = True
    causal = torch.ones(9, 9, dtype=torch.bool).triu(1)
    return {"none": {}, "padding": {"key_padding_mask": padding}, "causal": {"attn_mask": causal}}[kind]


def theirs(layer: nn.MultiheadAttention, query: Tensor, memory: Tensor, kind: str) -> Tensor:
    """Weights of every head as PyTorch tells them, which it computes in another way."""
    _, weights = layer(query, memory, memory, need_weights=True, average_attn_weights=False, **masks_of(kind))
    return weights


@pytest.mark.parametrize("need", [False, True], ids=["blind", "weights"])
@pytest.mark.parametrize("kind", ["none", "padding", "causal"])
@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_multihead_attention_is_seen_on_each_of_its_paths(need: bool, kind: str, fast: bool) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    nn.init.normal_(layer.in_proj_bias)
    given = x()
    with torch.inference_mode(fast):
        alone, _ = layer(given, given, given, need_weights=need, **masks_of(kind))
        with watch(layer) as recording:
            output, _ = layer(given, given, given, need_weights=need, **masks_of(kind))
    assert torch.equal(output, alone) and not recording.missed
    [call] = recording
    assert call.route == ("native" if fast else "explicit" if need else "fused")
    assert (call.replayed is not None) == fast
    torch.testing.assert_close(call.weights(), theirs(layer, given, given, kind).detach(), **NEAR)
    assert call.norms.after == (need or call.route != "explicit")


def test_attention_to_something_else_is_told_apart() -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(32, 4, batch_first=True).eval()
    with watch(layer) as recording:
        layer(x(1)[:, :5], x(2), x(2), need_weights=False)
        given = x(1)
        layer(given, given, given, need_weights=False)
    assert [call.kind for call in recording] == ["cross", "self"]
    weights = theirs(layer, x(1)[:, :5], x(2), "none").detach()
    torch.testing.assert_close(next(iter(recording)).weights(), weights, **NEAR)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("kind", ["none", "padding", "causal"])
def test_the_fast_path_of_an_encoder_is_seen_and_keeps_its_bits(norm_first: bool, activation: Any, kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 40, batch_first=True, norm_first=norm_first, activation=activation)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    given, masks = x(), masks_of(kind)
    how = {"mask": masks.get("attn_mask"), "src_key_padding_mask": masks.get("key_padding_mask")}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of nested tensors
        alone = model(given, **how)
        with watch(model) as recording:
            output = model(given, **how)
        there = ~masks["key_padding_mask"] if kind == "padding" else torch.ones(2, 9, dtype=torch.bool)
        assert torch.equal(output, alone) and not recording.missed
        assert recording.names() == ["layers.0.self_attn", "layers.1.self_attn"]
        assert all(call.route == "native" and call.replayed is not None and call.replayed < 1e-6 for call in recording)
        first: Any = model.layers[0]
        read = first.norm1(given) if norm_first else given
        weights = theirs(first.self_attn, read, read, kind)
        found = recording["layers.0.self_attn"].weights()
        for b in range(2):
            rows = there[b]
            torch.testing.assert_close(
                found[b][:, rows][:, :, rows], weights[b][:, rows][:, :, rows], rtol=0, atol=1e-5
            )


def test_nn_transformer_tells_encoder_decoder_and_cross_apart() -> None:
    torch.manual_seed(0)
    model = nn.Transformer(32, 4, 2, 2, 40, batch_first=True)
    for learning in (False, True):
        model.train(learning)
        torch.manual_seed(3)
        alone = model(x(1), x(2)[:, :5])
        torch.manual_seed(3)
        with watch(model) as recording:
            output = model(x(1), x(2)[:, :5])
        assert torch.equal(output, alone) and not recording.missed
        assert {call.name: call.kind for call in recording} == {
            "encoder.layers.0.self_attn": "self",
            "encoder.layers.1.self_attn": "self",
            "decoder.layers.0.self_attn": "self",
            "decoder.layers.0.multihead_attn": "cross",
            "decoder.layers.1.self_attn": "self",
            "decoder.layers.1.multihead_attn": "cross",
        }


# --- compiled, and FlexAttention -----------------------------------------------------------------------------------


def test_compiled_code_stays_compiled_and_its_fused_calls_are_seen() -> None:
    model = two(fused)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of what it imports
        compiled: Any = torch.compile(model)
        from torch._dynamo.utils import counters

        alone = compiled(x())
        graphs = counters["stats"]["unique_graphs"]
        output, recording = seen(compiled, x())
    assert torch.equal(output, alone) and counters["stats"]["unique_graphs"] == graphs
    assert len(recording) == 2
    for call, weights in zip(recording, wanted(model, x()), strict=True):
        torch.testing.assert_close(call.weights().double(), weights, **NEAR)


def test_flex_attention_is_seen_by_its_functions() -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    slopes = torch.tensor([0.1, 0.2, 0.3, 0.4])
    block_mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 128, 128, device="cpu")

    def flexible(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
        output = flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + slopes[h] * (j - i), block_mask=block_mask)
        assert isinstance(output, Tensor)
        return output

    torch.manual_seed(0)
    model, given = CausalSelfAttention(flexible), x(long=128)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own: it is not compiled
        alone = model(given)
        output, recording = seen(model, given)
        q, k, _ = model.heads(given)
        place = torch.arange(128)
        scores = q @ k.mT * q.shape[-1] ** -0.5 + slopes[:, None, None] * (place - place[:, None])
        weights = scores.masked_fill(place > place[:, None], -torch.inf).softmax(-1)
    assert torch.equal(output, alone)
    [call] = recording
    assert call.route == "flex"
    torch.testing.assert_close(call.weights(), weights, rtol=0, atol=1e-5)
