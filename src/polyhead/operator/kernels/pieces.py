"""Packed documents fall apart: a request whose segments lie side by side becomes one request for each of them.

What no query sees is then not computed, and what is computed of a document is what would be computed of it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from polyhead.operator.request import Request
from polyhead.operator.rules import Alibi, Buckets, Causal, Rule, Segments, Window

BY_DISTANCE = (Causal, Window, Alibi, Buckets)  # what looks the same from every document

Piece = tuple[int, int, int]  # the row of the batch, the first place, and one past the last


def pieces(request: Request) -> list[Piece] | None:
    """The segments of a request of packed documents, in order; None of another one, or where they lie interleaved.

    On a CPU alone: elsewhere one call costs less than to learn where the segments lie.
    """
    if request.rule is None:
        return None
    parts = request.rule.parts()
    segments = [part for part in parts if isinstance(part, Segments)]
    rest = [part for part in (*parts, request.bias) if part is not None and not isinstance(part, Segments)]
    here = request.query.device.type == "cpu" and not torch.compiler.is_compiling()
    if not here or len(segments) != 1 or segments[0].keys is not None or request.score_mod is not None:
        return None
    return segments[0].runs if all(isinstance(part, BY_DISTANCE) for part in rest) else None


def piece_of(request: Request, piece: Piece) -> Request:
    """The request of one document."""
    row, start, stop = piece
    rule: Rule | None = None
    for part in () if request.rule is None else request.rule.parts():
        if not isinstance(part, Segments):
            rule = part if rule is None else rule & part
    query, key, value = (x[row : row + 1, :, start:stop] for x in (request.query, request.key, request.value))
    return replace(request, query=query, key=key, value=value, rule=rule)


def together(found: Sequence[Tensor], batch: int) -> Tensor:
    """What the documents gave, [1, H, t, ...] each, as one [B, H, T, ...]."""
    whole = torch.cat([x.transpose(1, 2) for x in found], 1)  # [1, B * T, H, ...]
    return torch.unflatten(whole, 1, (batch, -1)).squeeze(0).transpose(1, 2)
