"""FlexAttention, for those who hold against it what the other kernels compute of a mask_mod or score_mod.

On a CPU it writes out all scores unless it is compiled, and compiled (25 s for each shape, torch 2.13) it is no faster
than `blockwise` and tells no log-sum-exp; it has no backward there. So it serves small calls, by name, and `blockwise`
gives the gradients. On other devices it must be compiled, which is not built until it has been tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from polyhead.operator.kernels import blockwise
from polyhead.operator.request import Request
from polyhead.operator.rules import MaskMod

SCORES = 1 << 23  # most scores B * H * T * S that are written out


def can(request: Request) -> str | None:
    """None, or why FlexAttention cannot serve, or should not."""
    B, H, T, _ = request.query.shape
    S = request.key.shape[2]
    if find_spec("torch.nn.attention.flex_attention") is None:
        return "this PyTorch has no FlexAttention"
    if request.query.device.type != "cpu":
        return f"FlexAttention would have to be compiled on {request.query.device}, which is untried"
    if request.sinks is not None:
        return "FlexAttention has no sinks"
    if request.dropout > 0:
        return "FlexAttention drops no weights"
    if not B * T * S:
        return "FlexAttention makes no mask of nothing"
    if B * H * T * S > SCORES:
        return f"FlexAttention would write out all {B * H * T * S} scores, more than {SCORES}"
    if request.poisoned:
        return "NaN or Inf in an input while something is hidden, and FlexAttention would let it through"
    return None


def slower(request: Request) -> str | None:
    """Never the choice of "auto"."""
    return "FlexAttention writes out all scores on a CPU: name it to compare with it"


def room(request: Request) -> int:
    """Scores and weights, a mask, and a bias."""
    B, H, T, _ = request.query.shape
    return B * H * T * request.key.shape[2] * (2 * request.query.element_size() + 5)


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. What is asked for does not change the output."""

    def forward(*_: object) -> tuple[Tensor, Tensor]:
        return compute(request.detached())

    tensors = (request.query, request.key, request.value, request.weights, request.sinks)
    out, found = blockwise.apply(blockwise.plan_of(request, None, 0.0), forward, blockwise.backward, *tensors)
    return out, found if lse else None


@torch.no_grad()
def compute(request: Request) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp."""
    from torch.nn.attention import flex_attention as flex

    (B, H, T, _), (G, S) = request.query.shape, request.key.shape[1:3]
    visible = mask_mod(request)
    mask = None if visible is None else flex.create_block_mask(visible, B, H, T, S, device="cpu")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        out, aux = flex.flex_attention(
            request.query, request.key, request.value, score_mod(request), mask, request.scale, enable_gqa=G != H,
            return_aux=flex.AuxRequest(lse=True),
        )  # fmt: skip
    assert aux.lse is not None
    return out, aux.lse


def mask_mod(request: Request) -> Callable[..., Tensor] | None:
    """The rule as a function of indices; one that was handed in is taken as it is, if it depends on b and h."""
    rule, frame = request.rule, request.frame
    if isinstance(rule, MaskMod) and rule.batch and rule.heads:
        return rule.mask_mod
    visible = None if rule is None else rule.visible(frame, range(frame.n_queries), range(frame.n_keys))
    return None if visible is None else at_places(visible)


def score_mod(request: Request) -> Callable[..., Tensor] | None:
    """Softcap and bias as a function of a score and its indices; one that was handed in is taken as it is."""
    if request.score_mod is not None:
        return request.score_mod.score_mod
    bias, cap, frame = request.bias, request.softcap, request.frame
    if cap is None and bias is None:
        return None
    every = range(frame.n_queries), range(frame.n_keys)
    added = None if bias is None else at_places(bias.tile(bias.weights, frame, *every))

    def finish(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        score = score if cap is None else cap * torch.tanh(score / cap)
        return score if added is None else score + added(b, h, i, j)

    return finish


def at_places(plane: Tensor) -> Callable[..., Tensor]:
    """What broadcasts to [B, H, T, S], as a function of indices."""
    sizes = plane.shape  # each is 1 or the full one

    def of(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return plane[b % sizes[0], h % sizes[1], i % sizes[2], j % sizes[3]]

    return of
