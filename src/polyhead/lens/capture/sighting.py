"""What is known of one attention call that somebody else's code made, before it becomes a call of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.lens.recording import Route
from polyhead.operator import Record
from polyhead.operator.kernels import blockwise
from polyhead.operator.record import checked
from polyhead.operator.request import Request, ask, no_values
from polyhead.operator.rules import Bias, Rule, ScoreMod

NOTHING = "it was given no sequences or no words, and so nothing looked at anything"


class Unseen(Exception):
    """Why a call cannot be told, as a half sentence."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """Queries [B, H, T, K] and keys [B, G, S, K] as the kernel had them, who might look at whom, and the row sums.

    value   [B, G, S, Kv]; None where it comes to light later, or not at all.
    lse     [B, H, T], of the kernel itself; None where it gave none.
    kernel  what computed it, by PyTorch's name.
    """

    route: Route
    kernel: str
    query: Tensor
    key: Tensor
    value: Tensor | None
    scale: float
    rule: Rule | None = None
    bias: Bias | ScoreMod | None = None
    lse: Tensor | None = None
    dropout: float = 0.0
    softcap: float | None = None
    sinks: Tensor | None = None  # [H]

    def record(self, *, check: bool = True) -> Record:
        """The operator's record of it; `check` finds some of its rows to sum to 1. Raises Unseen."""
        value = no_values(self.key) if self.value is None else self.value
        try:
            request = ask(
                self.query, self.key, value, mask=self.rule, bias=self.bias, scale=self.scale, softcap=self.softcap,
                sinks=self.sinks, dropout=self.dropout,
            ).detached()  # fmt: skip
        except Exception as wrong:  # whatever their tensors are, their model goes on
            raise Unseen(f"its tensors are none that polyhead can read ({wrong})") from None
        lse = blockwise.logsumexp(request) if self.lse is None else emptied(self.lse.detach(), request)
        record = Record(lse, self.kernel, {}, request)
        try:
            if check:
                checked(record)
        except ValueError as wrong:
            raise Unseen(f"its weights cannot be rebuilt from its queries and keys: {wrong}") from None
        return record


def emptied(lse: Tensor, request: Request) -> Tensor:
    """The row sums, -inf where a row may look nowhere: PyTorch's kernels say 0 there."""
    wide = torch.promote_types(request.query.dtype, torch.float32)
    lse = lse.reshape(*request.query.shape[:3]).to(wide)
    if not request.hides:
        return lse
    frame = request.frame
    parts = [range(start, min(start + ROWS, frame.n_queries)) for start in range(0, frame.n_queries, ROWS)]
    empty = [seen(request, rows) for rows in parts]
    return lse.masked_fill(~torch.cat([x.expand(*lse.shape[:2], -1) for x in empty], 2), -torch.inf)


ROWS = 256  # whose visibility is looked at together


def seen(request: Request, rows: range) -> Tensor:
    """Whether each of these queries may look anywhere, broadcastable to [B, H, t]."""
    frame, columns = request.frame, range(request.frame.n_keys)
    seen = torch.ones(1, 1, len(rows), 1, dtype=torch.bool, device=frame.device)
    if request.rule is not None:
        visible = request.rule.visible(frame, rows, columns)
        seen = seen if visible is None else seen & visible
    if request.bias is not None and isinstance(request.bias.weights, Tensor):
        seen = seen & (request.bias.tile(request.bias.weights, frame, rows, columns) > -torch.inf)
    return seen.any(-1)
