"""Traps that tools like this fall into: foreign kernels, fast paths, rows that look nowhere, masks, modes, threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.errors import ArgumentError
from polyhead.lens.capture.inventory import attentions
from polyhead.lens.watch import watch
from tests.lens.capture.layers import HEADS, LONG, CausalSelfAttention, fused_with_mask, written_out, x


@torch.library.custom_op("somebodys::flash_attention_forward", mutates_args=())
def foreign(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A kernel of another library: nobody sees what it does."""
    return (q.double() @ k.double().mT).softmax(-1).to(v.dtype) @ v


class ForeignAttention(CausalSelfAttention):
    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        return self.out(foreign(q, k, v).transpose(1, 2).flatten(2))


class SigmoidAttention(CausalSelfAttention):
    """Weights that are no softmax, and no product with one."""

    def forward(self, given: Tensor) -> Tensor:
        q, k, v = self.heads(given)
        return self.out(((q @ k.mT).sigmoid() @ v).transpose(1, 2).flatten(2))


class Every(nn.Module):
    """A fast path, SDPA that was imported early, a softmax written out, a foreign kernel, sigmoids, a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = nn.TransformerEncoderLayer(32, HEADS, 40, batch_first=True)
        self.early, self.written = CausalSelfAttention(fused_with_mask), CausalSelfAttention(written_out)
        self.foreign, self.bent = ForeignAttention(written_out), SigmoidAttention(written_out)
        self.cross = nn.MultiheadAttention(32, HEADS, batch_first=True)

    def forward(self, given: Tensor) -> Tensor:
        given = self.bent(self.foreign(self.written(self.early(self.fast(given)))))
        return self.cross(given, x(5), x(5), need_weights=False)[0]


def test_what_is_captured_and_what_is_listed_is_all_that_there_is() -> None:
    torch.manual_seed(0)
    model = Every().eval()
    with torch.inference_mode():
        alone = model(x())
        with watch(model) as recording:
            output = model(x())
    assert torch.equal(output, alone)
    missed = {one.name: one.reason for one in recording.missed}
    assert not missed.keys() & set(recording.names())
    assert missed.keys() | set(recording.names()) == set(attentions(model).values())
    assert missed == {
        "foreign": "somebodys::flash_attention_forward is no operation that polyhead can read",
        "bent": "no attention that polyhead knows was computed while it ran",
    }
    assert {call.name: call.kind for call in recording}["cross"] == "cross"


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("need", [False, True])
def test_a_sequence_of_padding_looks_nowhere_whatever_pytorch_makes_of_it(need: bool, learning: bool) -> None:
    """With `need_weights` PyTorch gives NaN for it, without it zeros; neither is changed."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(32, HEADS, batch_first=True).train(learning)
    padding = torch.zeros(2, LONG, dtype=torch.bool)
    padding[1] = True
    given = x()
    how: dict[str, Any] = {"key_padding_mask": padding, "need_weights": need}
    alone, _ = layer(given, given, given, **how)
    with watch(layer) as recording:
        output, _ = layer(given, given, given, **how)
    assert torch.equal(output.nan_to_num(7.0), alone.nan_to_num(7.0))
    [call] = recording
    assert (call.lse[1] == -torch.inf).all() and not call.weights()[1].any()
    torch.testing.assert_close(call.weights()[0].sum(-1), torch.ones(HEADS, LONG))


@pytest.mark.parametrize("learns", [False, True])
def test_in_inference_mode_products_keep_the_kernel_that_they_have_without(learns: bool) -> None:
    """PyTorch folds rows that lie apart only where the weight learns, and so does a view of it."""

    class Apart(CausalSelfAttention):
        def forward(self, given: Tensor) -> Tensor:
            rows = given.transpose(0, 1)
            weight = self.qkv.weight.chunk(3)[0]
            return super().forward((F.linear(rows, weight) + rows @ weight.T).transpose(0, 1))

    torch.manual_seed(0)
    model = Apart(written_out).requires_grad_(learns)
    with torch.inference_mode():
        alone = model(x())
        with watch(model):
            assert torch.equal(model(x()), alone)


@pytest.mark.parametrize("keys", [3, 9, 12])
def test_is_causal_is_anchored_top_left(keys: int) -> None:
    class TopLeft(CausalSelfAttention):
        def forward(self, given: Tensor) -> Tensor:
            q, k, v = self.heads(given)
            k, v = (torch.cat([part, part], 2)[:, :, :keys] for part in (k, v))
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    model = TopLeft(written_out)
    with torch.no_grad(), watch(model) as recording:
        model(x())
    weights = recording[""].weights()
    assert torch.equal(weights[0, 0] > 0, torch.ones(LONG, keys, dtype=torch.bool).tril())
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, LONG))


def test_a_model_that_runs_in_another_thread_is_not_seen_and_that_is_said() -> None:
    model = CausalSelfAttention(written_out)
    with (
        pytest.raises(ArgumentError, match="watch the model that runs there, in the thread that runs it"),
        watch(model),
    ):
        other = threading.Thread(target=lambda: model(x()))
        other.start()
        other.join()
