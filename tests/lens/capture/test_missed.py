"""What is attention is seen or missed, and never silently absent; what is none is not taken for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn

from polyhead.errors import ArgumentError
from polyhead.lens.watch import watch
from tests.lens.capture.layers import LONG, CausalSelfAttention, fused, x

NO_TRAIL = "its weights are a softmax of numbers that are no product of queries and keys"
VISIBLE = torch.ones(LONG, LONG, dtype=torch.bool).tril()


class Layer(nn.Module):
    """A layer whose type says nothing of what it does with x [B, T, D]."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.way, (self.q, self.k, self.v, self.out) = way, (nn.Linear(32, 32) for _ in range(4))
        self.score, self.table = nn.Linear(32, 1), nn.Parameter(torch.randn(LONG, 32))
        self.weights = torch.zeros(0)

    def forward(self, given: Tensor) -> Tensor:
        return self.way(self, given)


def additive(m: Any, given: Tensor) -> Tensor:
    """Bahdanau's: scores are no products."""
    scores = m.score(torch.tanh(m.q(given)[:, :, None] + m.k(given)[:, None])).squeeze(-1)
    return m.out(scores.softmax(-1) @ m.v(given))


def synthetic(m: Any, given: Tensor) -> Tensor:
    """The Synthesizer's: scores come from the query alone."""
    return m.out(F.dropout(m.q(given)[..., :LONG].softmax(-1), 0.1) @ m.v(given))


def from_the_right(m: Any, given: Tensor) -> Tensor:
    return m.out((m.v(given).mT @ m.q(given)[..., :LONG].softmax(-1).mT).mT)


@pytest.mark.parametrize("way", [additive, synthetic, from_the_right])
def test_weights_that_are_no_products_are_missed_though_no_module_is_called_attention(way: Any) -> None:
    model = nn.Sequential(CausalSelfAttention(fused), Layer(way))
    with torch.no_grad(), watch(model) as recording:
        model(x())
    assert recording.names() == ["0"]
    assert [(one.name, one.reason) for one in recording.missed] == [("1", NO_TRAIL)]


def classifier(m: Any, given: Tensor) -> Tensor:
    return m.q(given).softmax(-1) * given


def mixed_words(m: Any, given: Tensor) -> Tensor:
    """A likely word is the mean of a table of words."""
    return m.q(given)[..., :LONG].softmax(-1) @ m.table


def experts(m: Any, given: Tensor) -> Tensor:
    """Each place goes through all experts, and a router says how much of each it is given."""
    outcomes = torch.stack([m.k(given), m.v(given), m.out(given)], 2)
    return torch.einsum("bte,bted->btd", m.q(given)[..., :3].softmax(-1), outcomes)


def chosen_experts(m: Any, given: Tensor) -> Tensor:
    weights, chosen = m.q(given)[..., :LONG].softmax(-1).topk(2)
    return (m.table[chosen] * weights[..., None]).sum(-2) + given


def drawn(m: Any, given: Tensor) -> Tensor:
    return m.table[torch.multinomial(m.q(given)[0, :, :LONG].softmax(-1), 1)[:, 0]] + given


def likenesses(m: Any, given: Tensor) -> Tensor:
    """CLIP's: texts and pictures are compared by products, and nothing is multiplied with the outcome."""
    return (m.q(given[0]) @ m.k(given[1]).T * 5).softmax(-1)


@pytest.mark.parametrize("way", [classifier, mixed_words, experts, chosen_experts, drawn, likenesses])
@pytest.mark.parametrize("inference", [False, True])
def test_a_softmax_of_something_else_is_not_taken_for_attention(way: Any, inference: bool) -> None:
    model = nn.Sequential(CausalSelfAttention(fused), Layer(way))
    with torch.inference_mode(inference), watch(model) as recording:
        model(x())
    assert recording.names() == ["0"] and not recording.missed


def test_routers_and_words_that_are_drawn_are_no_attention() -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
        "num_key_value_heads": 2, "num_local_experts": 4, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": 1,
    }  # fmt: skip
    config: Any = hf.MixtralConfig
    model: Any = hf.MixtralForCausalLM(config(**sizes)).eval()
    with watch(model) as recording:
        model.generate(torch.tensor([[5, 7, 9]]), max_new_tokens=3, do_sample=True, top_k=5)
    assert len(recording) == 6 and not recording.missed


# --- two matrices, and none ----------------------------------------------------------------------------------------


def one_head(m: Any, given: Tensor) -> Tensor:
    q, k, v = (project(given[0]) for project in (m.q, m.k, m.v))
    m.weights = (q @ k.T * 0.3).masked_fill(~VISIBLE, -torch.inf).softmax(-1)
    return m.out(m.weights @ v)


def one_head_fused(m: Any, given: Tensor) -> Tensor:
    q, k, v = (project(given[0]) for project in (m.q, m.k, m.v))
    m.weights = (q @ k.T * 32**-0.5).masked_fill(~VISIBLE, -torch.inf).softmax(-1) if m.training else m.weights
    return m.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))


@pytest.mark.parametrize("way", [one_head, one_head_fused])
@pytest.mark.parametrize("inference", [False, True])
def test_attention_without_axes_for_sequences_and_heads_is_seen_as_one_of_each(way: Any, inference: bool) -> None:
    torch.manual_seed(0)
    model = Layer(way)
    with torch.inference_mode(inference):
        alone = model(x())
        with watch(model.eval()) as recording:
            output = model(x())
    [call] = recording
    assert torch.equal(output, alone) and not recording.missed
    assert call.kind == "self" and call.norms.after and call.causal
    torch.testing.assert_close(call.weights()[0, 0], model.weights, rtol=0, atol=2e-6)


def test_attention_with_one_axis_for_both_is_seen() -> None:
    def three(m: Any, given: Tensor) -> Tensor:
        return m.out(F.scaled_dot_product_attention(m.q(given), m.k(given), m.v(given), attn_mask=VISIBLE))

    model = Layer(three)
    with torch.no_grad(), watch(model) as recording:
        model(x())
        wanted = (model.q(x()) @ model.k(x()).mT * 32**-0.5).masked_fill(~VISIBLE, -torch.inf).softmax(-1)
    assert recording[""].weights().shape == (2, 1, LONG, LONG)
    torch.testing.assert_close(recording[""].weights()[:, 0], wanted, rtol=0, atol=2e-6)


NOTHING = r"missed 1: .*\(it was given no sequences or no words, and so nothing looked at anything\)"


def own_sdpa(m: Any, given: Tensor) -> Tensor:
    return m.out(F.scaled_dot_product_attention(m.q(given)[:, None], m.k(given)[:, None], m.v(given)[:, None]))


def own_softmax(m: Any, given: Tensor) -> Tensor:
    return m.out((m.q(given) @ m.k(given).mT).softmax(-1) @ m.v(given))


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("shape", [(0, 5, 32), (2, 0, 32)], ids=["no sequences", "no words"])
@pytest.mark.parametrize("make", [own_sdpa, own_softmax, None], ids=["fused", "written out", "PyTorch's layer"])
def test_of_an_empty_batch_it_is_said_that_nothing_was_there(make: Any, shape: Any, inference: bool) -> None:
    model = (Layer(make) if make else nn.TransformerEncoderLayer(32, 4, 40, batch_first=True)).eval()
    with torch.inference_mode(inference):
        with pytest.raises(ArgumentError, match=NOTHING), watch(model):
            model(torch.zeros(shape))
        with watch(model) as recording:
            model(torch.zeros(shape))
            model(x())
    assert len(recording) == 1 and recording.names()[0] in ("", "self_attn")


# --- sinks -----------------------------------------------------------------------------------------------------------


class WithSink(CausalSelfAttention):
    """A column of scores stands behind the keys' and takes weight that goes nowhere."""

    def __init__(self, *, by_row: bool = False) -> None:
        super().__init__(fused)
        self.sinks, self.by_row = nn.Parameter(torch.randn(4)), by_row

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        scores = ((q @ k.mT) * 0.3).masked_fill(~VISIBLE, -torch.inf)
        sinks = self.sinks.view(1, -1, 1, 1).expand(len(given), -1, LONG, 1)
        scores = torch.cat([scores, sinks * torch.arange(LONG)[:, None] if self.by_row else sinks], -1)
        self.weights = (scores - scores.max(-1, keepdim=True).values).softmax(-1)[..., :-1]
        return self.out((self.weights @ v).transpose(1, 2).flatten(2))


def test_a_sink_beside_the_keys_is_counted_and_rows_sum_to_what_it_leaves() -> None:
    torch.manual_seed(0)
    model = WithSink()
    with torch.no_grad():
        alone = model(x())
        with watch(model) as recording:
            output = model(x())
    [call] = recording
    assert torch.equal(output, alone) and not recording.missed and call.causal and call.norms.after
    torch.testing.assert_close(call.weights(), model.weights, rtol=0, atol=2e-6)
    assert float(call.weights().sum(-1).max()) < 1 and torch.equal(call.record.request.sinks, model.sinks)  # pyright: ignore


def test_a_sink_of_its_own_for_each_row_is_missed_with_its_reason() -> None:
    with torch.no_grad(), pytest.raises(ArgumentError, match="a sink beside the scores differs from row to row"):
        model = WithSink(by_row=True)
        with watch(model):
            model(x())


class WithRow(WithSink):
    """The column has values too: a row behind those of the keys, of zeros as in `nn.MultiheadAttention`, or learned."""

    def __init__(self, row: float) -> None:
        super().__init__()
        self.row = row

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        scores = ((q @ k.mT) * 0.3).masked_fill(~VISIBLE, -torch.inf)
        scores = torch.cat([scores, self.sinks.view(1, -1, 1, 1).expand(len(given), -1, LONG, 1)], -1)
        weights = scores.softmax(-1)
        self.weights = weights[..., :-1]
        mixed = weights @ torch.cat([v, torch.full_like(v[:, :, :1], self.row)], 2)
        return self.out(mixed.transpose(1, 2).flatten(2))


def test_a_sink_with_a_value_of_zeros_is_one_without() -> None:
    torch.manual_seed(0)
    model = WithRow(0.0)
    with torch.no_grad(), watch(model) as recording:
        model(x())
    [call] = recording
    assert not recording.missed and call.norms.after
    torch.testing.assert_close(call.weights(), model.weights, rtol=0, atol=2e-6)
    values = model.heads(x())[2]
    wanted = torch.stack([values[:, h] @ model.out.weight[:, 8 * h : 8 * h + 8].T for h in range(4)], 1).norm(dim=-1)
    torch.testing.assert_close(call.norms.values, wanted.detach(), rtol=1e-5, atol=1e-6)


def test_a_column_that_has_values_is_a_key_and_missed_with_its_reason() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(CausalSelfAttention(fused), WithRow(0.5))
    with torch.no_grad(), watch(model) as recording:
        model(x())
    assert recording.names() == ["0"]
    assert [(one.name, one.reason) for one in recording.missed] == [
        ("1", "a column beside its scores has values, and so it is a key that was not multiplied with queries")
    ]


def test_sinks_of_gpt_oss_are_seen_in_every_step() -> None:
    sizes: dict[str, Any] = {
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "intermediate_size": 40, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"], "pad_token_id": 0, "eos_token_id": None,
    }  # fmt: skip
    config: Any = hf.GptOssConfig
    torch.manual_seed(0)
    model: Any = hf.GptOssForCausalLM(config(**sizes, attn_implementation="eager")).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([[5, 7, 9, 11, 13]])
    with torch.no_grad(), watch(model) as recording:
        output = model(ids, output_attentions=True)
    for call, weights in zip(recording, output.attentions, strict=True):
        torch.testing.assert_close(call.weights(), weights, rtol=0, atol=2e-6)
    with watch(model) as recording:
        model.generate(ids, max_new_tokens=3, do_sample=False)
    assert len(recording) == 6 and not recording.missed
