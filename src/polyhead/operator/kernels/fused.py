"""PyTorch's scaled_dot_product_attention behind one door: a request enters; what SDPA gets wrong or slow is refused.

What it gets wrong (measured, torch 2.13): its causal mask is anchored top-left; NaN in a hidden key or value leaks; its
log-sum-exp of an empty row is 0; its causal mask is multiplied by the scale, so that one of 0 or less gives NaN. What
it gets slow: a few arguments make it write out all scores, without a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.operator.kernels import aten, blockwise
from polyhead.operator.kernels.pieces import piece_of, pieces, together
from polyhead.operator.request import Request
from polyhead.operator.rules import Causal, Extent, broadcast

PLANE = 1 << 20  # most pairs T * S of a mask or bias that is written out, one byte or float each
SCORES = 1 << 24  # most scores B * H * T * S where SDPA would write them out
FEW = 16  # queries of a step


def can(request: Request) -> str | None:
    """None, or why SDPA would be wrong, or would need memory that grows with T * S beyond the bounds above."""
    if documents := pieces(request):  # each is a call of its own
        return next((reason for each in documents if (reason := can(piece_of(request, each)))), None)
    foreign = lacks(request)
    if foreign is not None:
        return foreign
    if request.sinks is not None:
        return "SDPA has no sinks"
    B, H, T, _ = request.query.shape
    G, S = request.key.shape[1], request.key.shape[2]
    if not B * T * S:
        return "SDPA drops the bias from the graph where there is nothing to attend"
    extent = written_out(request)
    if extent is not None and extent[2] > 1 and extent[3] > 1 and T * S > PLANE:
        return f"SDPA needs this mask or bias written out, T * S = {T * S} pairs, more than {PLANE}"
    unfused = why_unfused(request)
    if unfused is not None:
        if G != H:
            return f"{unfused} SDPA would repeat the keys and values of each group"
        if B * H * T * S > SCORES:
            return f"{unfused} SDPA would write out all {B * H * T * S} scores, more than {SCORES}"
    if request.poisoned:
        return "NaN or Inf in an input while something is hidden, and SDPA would let it through"
    return None


def lacks(request: Request) -> str | None:
    """None, or what is done to the scores that SDPA has no argument for."""
    if request.softcap is not None:
        return "SDPA has no softcap"
    return "SDPA takes no function of scores" if request.score_mod is not None else None


def room(request: Request) -> int:
    """The mask or bias that SDPA must be handed, written out; and all scores where it would not fuse."""
    if documents := pieces(request):
        output = request.query.shape[:3].numel() * request.value.shape[3] * request.query.element_size()
        return output + max(room(piece_of(request, each)) for each in documents)
    extent, size = written_out(request), request.query.element_size()
    B, H, T, _ = request.query.shape
    scores = 2 * B * H * T * request.key.shape[2] * size if why_unfused(request) else 0
    return scores + (0 if extent is None else math.prod(extent) * (size + 1))  # as a boolean, and as a float


def run(request: Request, lse: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the rows' log-sum-exp if asked for. What is asked for does not change the output."""
    if documents := pieces(request):
        outs, levels = zip(*(run(piece_of(request, each), lse) for each in documents), strict=True)
        batch = len(request.query)
        return together(outs, batch), together(levels, batch) if lse else None
    if (wide := widened(request)) is not request:
        out, level = run(wide, lse)
        return out.to(request.query.dtype), level
    query, key, value = request.query, request.key, request.value
    causal = top_left(request)
    mask = None if causal else written(request)
    # A CPU's call below SDPA gives the same bits as SDPA (a test holds them together). Elsewhere nobody says so, and
    # the one call is made whether its log-sum-exp is wanted or not.
    if lse or query.device.type != "cpu":
        call = teller(request, mask, causal)
        if call is not None:
            return told(request, call, mask, causal)
    grouped = bool(query.shape[1] != key.shape[1])  # a tensor where somebody traces
    out = F.scaled_dot_product_attention(
        query, key, value, mask, request.dropout, causal, scale=request.scale, enable_gqa=grouped
    )
    return out, blockwise.logsumexp(request) if lse else None


def widened(request: Request) -> Request:
    """The request in float32, where a CPU takes less time for that: float16, and a few queries in bfloat16 on keys of
    earlier steps, as in decoding (a quarter of the time for one, half as much again for 4).

    So a step of several tokens is computed as steps of one are, and a row that is read at once as beside longer ones.
    """
    dtype, T, S = request.query.dtype, request.query.shape[2], request.key.shape[2]
    step = dtype == torch.bfloat16 and T <= FEW and T != S
    if request.query.device.type != "cpu" or not (dtype == torch.float16 or step):
        return request
    query, key, value = (x.float() for x in (request.query, request.key, request.value))
    return replace(request, query=query, key=key, value=value)


def top_left(request: Request) -> bool:
    """Whether SDPA's own causal mask is ours: as many queries as keys, and nothing else to hide or add."""
    if not isinstance(request.rule, Causal) or request.bias is not None or request.scale <= 0:
        return False  # without a comparison of sizes, which would be part of what is traced
    return bool(request.query.shape[2] == request.key.shape[2])


def written_out(request: Request) -> Extent | None:
    """The shape of the mask that SDPA must be handed, or None."""
    if top_left(request):
        return None
    hidden = None if request.rule is None else request.rule.extent(request.frame)
    if request.bias is None:
        return hidden
    added = request.bias.extent(request.frame)
    return added if hidden is None else broadcast([added, hidden])


def written(request: Request) -> Tensor | None:
    """Mask and bias as SDPA's one argument: boolean, or float with -inf where hidden, in their broadcast shape."""
    if request.rule is None and request.bias is None:
        return None
    frame = request.frame
    rows, columns = range(frame.n_queries), range(frame.n_keys)
    visible = None if request.rule is None else request.rule.visible(frame, rows, columns)
    if request.bias is None:
        return visible
    bias = request.bias.tile(request.bias.weights, frame, rows, columns)
    bias = bias.to(request.query.dtype) if request.query.dtype in (torch.float32, torch.float64) else bias
    return bias if visible is None else torch.where(visible, bias, -torch.inf)


def why_unfused(request: Request) -> str | None:
    """What in the request makes SDPA compute all scores instead of tiles, or None."""
    if request.dropout > 0:
        return "with dropout"
    if request.value.shape[3] != request.query.shape[3]:
        return "with values of another width than keys"
    if request.weights is not None and request.weights.requires_grad and torch.is_grad_enabled():
        return "with a bias that learns"
    if not request.query.stride(3) == request.key.stride(3) == request.value.stride(3) == 1:
        return "with features that do not lie side by side"
    return None


def teller(request: Request, mask: Tensor | None, causal: bool) -> aten.Call | None:
    """The operation that SDPA itself would take for this request, if it tells its log-sum-exp."""
    query, key, value = request.query, request.key, request.value
    device = query.device.type
    if device not in ("cpu", "cuda") or request.dropout > 0:
        return None
    if device == "cuda" and (mask is not None or query.shape[3] % 8 or value.shape[3] != query.shape[3]):
        return None  # SDPA would pad them first
    backend = aten.chosen(query, key, value, mask, request.dropout, causal, request.scale)
    return aten.call_of(device, backend)


def told(request: Request, call: aten.Call, mask: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the operation, which takes masks as floats and says 0 of an empty row."""
    empty = None
    if mask is not None and mask.dtype == torch.bool:
        empty = ~mask.any(-1)
        mask = torch.zeros_like(mask, dtype=request.query.dtype).masked_fill_(~mask, -torch.inf)
    elif mask is not None:
        empty = (mask == -torch.inf).all(-1)
    out, lse = call(request.query, request.key, request.value, mask, causal, request.scale)
    return out, (lse if empty is None else lse.masked_fill(empty, -torch.inf)).contiguous()


def fuses(request: Request) -> bool:
    """Whether SDPA's flash kernel of a CPU can give the gradients of this request."""
    if pieces(request):
        return False
    learns = request.weights is not None and request.weights.requires_grad
    flat = request.query.device.type == "cpu" and not learns and why_unfused(request) is None
    return flat and aten.has_backward() and can(request) is None


def backward(request: Request) -> Callable[..., tuple[Tensor | None, ...]]:
    """SDPA's flash kernel backward, from an output and log-sum-exp that any kernel may have found, in the arguments of
    `blockwise.backward`."""
    causal = top_left(request)
    mask = None if causal else written(request)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=request.query.dtype).masked_fill_(~mask, -torch.inf)

    def run(
        plan: object, query: Tensor, key: Tensor, value: Tensor, weights: object, sinks: object,
        out: Tensor, lse: Tensor, d_out: Tensor, *, learns: bool,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        lse = lse.masked_fill(lse == -torch.inf, 0.0)  # as the kernel says of an empty row
        found = aten.flash_on_cpu_backward(d_out, query, key, value, out, lse, mask, causal, request.scale)
        return *found, None, None

    return run
