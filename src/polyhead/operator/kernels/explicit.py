"""The formula as it stands, in torch: all scores at once, so only where there are few of them.

On a CPU it is the fastest way to train on short sequences in bfloat16: the backward of SDPA's flash kernel takes 2 to 9
times as long there (torch 2.13, T * S from 10 * 10 to 256 * 256).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.operator.kernels import blockwise
from polyhead.operator.kernels.blockwise import fold, unfold
from polyhead.operator.request import Request

SCORES = 1 << 23  # most scores B * H * T * S that are written out


def can(request: Request) -> str | None:
    """None, or why writing out the scores would be wrong or too large."""
    if request.sinks is not None:
        return "the explicit formula is written without sinks"
    B, H, T, _ = request.query.shape
    S = request.key.shape[2]
    if B * H * T * S > SCORES:
        return f"the explicit formula would write out all {B * H * T * S} scores, more than {SCORES}"
    if request.poisoned:
        return "query, key or value holds NaN or Inf while something is hidden, and a product would let it leak"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest kernel by measurement, or the reason why not."""
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (request.query, request.key, request.value))
    if learns and request.query.dtype == torch.bfloat16 and request.query.device.type == "cpu" and multiplies():
        return None
    return "the explicit formula is faster than SDPA only for training in bfloat16 on a CPU that multiplies it"


def multiplies() -> bool:
    """Whether products in bfloat16 are oneDNN's here; others take ten times as long (AVX2 alone, docs/log.md)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def room(request: Request) -> int:
    """Scores and weights, and a boolean mask."""
    B, H, T, _ = request.query.shape
    return B * H * T * request.key.shape[2] * (2 * request.query.element_size() + 1)


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. What is asked for does not change the output."""
    query, key, value = request.query, request.key, request.value
    H, G = query.shape[1], key.shape[1]
    if query.dtype == torch.float16:  # which ends at 65,504, where scores need not
        query, key = query.float(), key.float()
    scores = unfold(fold(query * request.scale, G) @ key.mT, H)  # [B, H, T, S]
    if request.softcap is not None:
        scores = request.softcap * torch.tanh(scores / request.softcap)
    frame = request.frame
    rows, columns = range(frame.n_queries), range(frame.n_keys)
    if request.score_mod is not None:
        scores = request.score_mod.of(scores, frame, rows, columns)
    if request.bias is not None:
        scores = scores + request.bias.tile(request.bias.weights, frame, rows, columns)  # of a wide bias, wide
    visible = None if request.rule is None else request.rule.visible(frame, rows, columns)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    weights = softmax(scores, hides=request.hides)
    dropped = F.dropout(weights, request.dropout) if request.dropout else weights
    out = unfold(fold(dropped.to(value.dtype), G) @ value, H)  # [B, H, T, Kv]
    return out, blockwise.logsumexp(request) if lse else None  # scores of half width are too coarse for it


def softmax(scores: Tensor, *, hides: bool) -> Tensor:
    """Weights [B, H, T, S], zeros in rows without a visible key."""
    if not hides or not scores.shape[-1]:
        return scores.softmax(-1)
    empty = scores.detach().amax(-1, keepdim=True) == -torch.inf
    if not bool(empty.any()):
        return scores.softmax(-1)
    return scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
