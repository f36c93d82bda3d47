"""What a head of chance would do in the place of a head: the same queries' number, keys and mask, other scores."""

from __future__ import annotations

from dataclasses import replace

import torch

from polyhead.operator import Dense, Record
from polyhead.operator.kernels import blockwise
from polyhead.operator.request import Request
from polyhead.operator.rules import DenseBias


def even(request: Request) -> Record:
    """A head that looks at every key it may see alike; its log-sum-exp is the logarithm of how many these are."""
    return recorded(unbiased(request, torch.zeros_like(request.query), request.key))


def random(request: Request, seed: int) -> Record:
    """A head whose queries and keys are drawn from the standard normal distribution: scores spread by 1."""
    chance = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(x.shape, generator=chance).to(x.device, x.dtype) for x in (request.query, request.key))
    return recorded(unbiased(request, query, key))


def unbiased(request: Request, query: torch.Tensor, key: torch.Tensor) -> Request:
    """The call with other queries and keys, and nothing that would make it prefer some: who may see whom is kept."""
    rule, bias = request.rule, request.bias
    if isinstance(bias, DenseBias) and bool((bias.weights == -torch.inf).any()):
        rule = Dense(bias.weights > -torch.inf) & rule
    return replace(
        request, query=query, key=key, rule=rule, bias=None, scale=query.shape[3] ** -0.5, softcap=None, sinks=None,
        score_mod=None,
    )  # fmt: skip


def recorded(request: Request) -> Record:
    return Record(blockwise.logsumexp(request), "chance", {}, request)
