"""The experts of a block: a router gives every token to a few of many MLPs, and what these make is added up.

x ──┬─ router ─ softmax ─ the best k of E, while they have room ──────────┐
    └─ rows sorted by expert ─ each expert on its own rows ─ back in place ─ times weights ─ sum

What is added to a loss so that all experts learn is here too, and who sees where tokens go.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyhead.core.mlp import mlp_of
from polyhead.core.recipe import Experts, Recipe
from polyhead.core.run import Observer, Run, watching
from polyhead.operator import attention

DROPPED = -1  # in the place of an expert that has no room
#  in a model that is only counted, one expert stands for all of a layer: of 1.6 trillion parameters nobody makes each
sketched: ContextVar[bool] = ContextVar("sketched", default=False)


class Router(nn.Module):
    """Scores of every expert: x W^T + b. No nn.Linear, since whole numbers of 8 bits would send words elsewhere: it
    is packed in the type that it scores in, so that a word has its experts whatever is beside it."""

    def __init__(self, d_model: int, experts: Experts):
        super().__init__()
        self.exact = experts.exact
        self.weight = nn.Parameter(torch.empty(experts.n, d_model))
        self.bias = nn.Parameter(torch.zeros(experts.n)) if experts.bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> [B, T, E]
        if not self.exact:
            return self.product(x)
        with torch.autocast(x.device.type, enabled=False):  # Fedus et al. 2021, section 2.4, selective precision
            return self.product(wide(x))

    def product(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.numbers())

    def numbers(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias, in the type that it scores in."""
        if not self.exact:
            return self.weight, self.bias
        return wide(self.weight), None if self.bias is None else wide(self.bias)


class Mixture(nn.Module):
    """E experts in the place of a block's MLP (Fedus et al. 2021, 2.1-2.2; Jiang et al. 2024, 2.1).

    Places that are seen: "router" [B, T, E], its scores before the softmax; "experts" [B, T, k], which expert each
    token goes to, the best first, -1 where it is dropped. Who edits a score changes where tokens go.
    """

    def __init__(self, recipe: Recipe, experts: Experts):
        super().__init__()
        self.how = experts
        self.router = Router(recipe.d_model, experts)
        self.experts = nn.ModuleList(mlp_of(recipe) for _ in range(1 if sketched.get() else experts.n))

    def forward(self, x: Tensor, run: Run) -> Tensor:  # [B, T, D] -> [B, T, D]
        noisy = self.jittered(x)
        scores = run.see(self, "router", self.router(noisy))  # [B, T, E]
        weights, chosen = self.chosen(scores)  # [B, T, k]
        chosen = run.see(self, "experts", chosen)
        made = self.made(noisy if self.how.jitter_all else x, chosen, run)  # [B, T, k, D]
        return (made * weights[..., None]).sum(-2).to(x.dtype)

    def jittered(self, x: Tensor) -> Tensor:
        """What the router reads: in training times noise, drawn where it is exact in its precision."""
        if not self.training or self.how.jitter == 0:
            return x
        x = wide(x) if self.how.exact and not self.how.jitter_all else x
        return x * torch.empty_like(x).uniform_(1 - self.how.jitter, 1 + self.how.jitter)

    def chosen(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The best experts of each token [B, T, k], their weights and their numbers."""
        weights, chosen = wide(scores).softmax(-1).topk(self.how.per_token, -1)
        if self.how.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, chosen if self.how.capacity is None else with_room(chosen, self.how.n, self.how.capacity)

    def made(self, x: Tensor, chosen: Tensor, run: Run) -> Tensor:
        """What the chosen experts make of each token [B, T, k, D], zeros where it was dropped; an expert reads its own
        tokens, all at once."""
        owners = chosen.flatten()  # [B*T*k]
        order = owners.argsort(stable=True)  # those without an expert first
        rows = x.flatten(0, 1)[order // chosen.shape[-1]]
        counts: Any = torch.bincount(owners + 1, minlength=self.how.n + 1)
        start, *taken = counts.tolist()
        made = [torch.zeros_like(rows[:start])]
        for expert, n in zip(self.experts, taken, strict=True):
            if n:
                made.append(expert(rows[start : start + n], run))
                start += n
        return torch.cat(made)[order.argsort()].view(*chosen.shape, x.shape[-1])


def with_room(chosen: Tensor, n: int, capacity: int) -> Tensor:
    """The choices [B, T, k] of `n` experts, -1 where an expert has taken `capacity` of the sequence's already.

    Padding counts like any token, as in the reference; on the right it comes last and takes nobody's room. A call sees
    only its own tokens: with a cache, those that were read before have no part in what is full.
    """
    if chosen.shape[1] <= capacity:  # a token goes to an expert once
        return chosen
    asked = chosen.flatten(1)  # [B, T*k]
    place = F.one_hot(asked, n).cumsum(1).gather(-1, asked[..., None])  # in the queue of its expert, from 1
    return chosen.masked_fill(place.view_as(chosen) > capacity, DROPPED)


def wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


# --- losses -----------------------------------------------------------------------------------------------------------


def balance_loss(scores: Tensor, per_token: int = 1, *, real: Tensor | None = None) -> Tensor:
    """How unevenly a router spreads its tokens: E sum_e f_e P_e (Fedus et al. 2021, equations 4 to 6, without alpha).

    scores [..., T, E], of a router's T tokens before the softmax; f_e is the share of tokens that have e among their
    best `per_token`, P_e its mean probability. Tokens that are spread evenly give per_token, and nothing less can be
    had by spreading them so. Mean over what stands before T. real [..., T]: which tokens are no padding. A scalar.
    """
    probabilities = wide(scores).softmax(-1)
    chosen = probabilities.topk(per_token, -1).indices
    sent = torch.zeros_like(probabilities).scatter(-1, chosen, 1.0)  # [..., T, E]
    counts = torch.ones_like(probabilities[..., :1]) if real is None else real[..., None].to(probabilities.dtype)
    total = counts.sum(-2).clamp(min=1)
    shares, means = ((x * counts).sum(-2) / total for x in (sent, probabilities))  # [..., E]
    return scores.shape[-1] * (shares * means).sum(-1).mean()


def z_loss(scores: Tensor, *, real: Tensor | None = None) -> Tensor:
    """How large a router's scores [..., E] are: the mean of (log sum exp)^2 (Zoph et al. 2022, equation 5). A scalar.

    real [...]: which tokens are no padding.
    """
    squares = wide(scores).logsumexp(-1).square()
    return squares.mean() if real is None else squares[real].mean()


# --- who looks on -----------------------------------------------------------------------------------------------------


@contextmanager
def routing() -> Generator[Routes]:
    """Keep the route of every mixture that runs inside the block, in a training too:

    `with routing() as routes: scores = model(ids)`, and then
    `loss + 0.01 * sum(balance_loss(route.scores, route.at.how.per_token) for route in routes)`.
    """
    routes = Routes()
    token = watching.set(routes)
    try:
        yield routes
    finally:
        watching.reset(token)


@dataclass(frozen=True, eq=False)
class Route:
    """What one mixture did in one pass. scores [B, T, E]: of its router, before the softmax; chosen [B, T, k]: which
    experts its tokens went to, the best first, -1 where they were dropped."""

    at: Mixture
    scores: Tensor
    chosen: Tensor


@dataclass(eq=False)
class Routes:
    """The observer behind `routing`: the route of every mixture, in the order in which they ran.

    The scores stay in the graph, so that a loss can be made of them. Whoever looks on already goes on looking.
    """

    routes: list[Route] = field(default_factory=list[Route])
    outer: Observer | None = field(default_factory=watching.get)
    scores: dict[nn.Module, Tensor] = field(default_factory=dict[nn.Module, Tensor])  # until the choice is known

    def __iter__(self) -> Iterator[Route]:
        return iter(self.routes)

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        x = x if self.outer is None else self.outer.see(at, place, x)
        if place == "router":
            self.scores[at] = x
        if place == "experts" and isinstance(at, Mixture):
            self.routes.append(Route(at, self.scores.pop(at), x))
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        if self.outer is None:
            return attention(query, key, value, **how)
        return self.outer.attend(at, query, key, value, **how)
