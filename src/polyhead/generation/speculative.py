"""Several tokens a pass: a proposer says what may follow, the model reads all of it at once and keeps what it would
have written itself (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318).

so far          proposed          the model, after each
the cat sat     on  the  rug  .   on  the  mat            ->  on the mat: two were taken, and the model adds its own
                x    x    -

What comes out does not depend on who proposes, but for its speed: under `Greedy` it is every token of plain greedy
search; under `Sample` it is distributed as plain draws are, and where a proposal was not drawn itself (`Lookup`) it is
every token of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.loop import Step, checked_limit
from polyhead.generation.rules import LogitRule
from polyhead.generation.search import Call, Greedy, Hypothesis, Sample, Search, Walk, widest
from polyhead.generation.stop import AnyOf, StopRule

# Numbers to draw by, beside seed, source and answer: those of plain draws (see `Sample`), of proposals, of verdicts.
PLAIN, DRAFT, ACCEPT = (), (1,), (2,)
PLACE = 0.1  # what a pass costs more for one more place, as a share of a pass over one: on a CPU, about
MOST = 16  # proposals in one pass
REST = 8  # passes without proposals, where none pay, until one is tried again


@dataclass(frozen=True)
class Proposal:
    """Tokens that may follow, and the probabilities that each was drawn by, [n, V]; None where none was drawn."""

    tokens: Sequence[int] = ()
    shares: Tensor | None = None


Choose = Callable[[Tensor, Tensor], tuple[int, Tensor | None]]
"""Scores [1, V] and the row so far [1, t] -> the token that a search takes, and what it was drawn by [V], if it was."""


class Proposer(Protocol):
    """Someone who says what may follow. `cost`: of one proposal, as a share of one pass of the model. `draws`: whether
    it chooses by the search that it is handed, and so draws where that draws."""

    cost: float
    draws: bool

    def propose(self, tokens: Tensor, n: int, choose: Choose) -> Proposal:
        """At most n tokens that may follow the row [1, t]."""
        ...


class Backing(Step, Protocol):
    """A step that can forget."""

    def cut(self, length: int) -> None:
        """Forget all places from `length` on."""
        ...


class Verifier(Protocol):
    """The model, as this loop sees it."""

    def last(self, tokens: Tensor, n: int) -> Tensor:
        """The row so far [1, t] -> logits after each of its last n tokens [1, n, V], of which it has seen none."""
        ...

    def cut(self, length: int) -> None:
        """Forget all places from `length` on."""
        ...


class Draft:
    """A smaller model proposes what it would write itself.

    step: the model, with what it remembers. words: the model's vocabulary V, to which scores are cut or filled up.
    places: the longest row that it reads. cost: see `Proposer`.
    """

    draws = True

    def __init__(self, step: Backing, *, words: int, places: int, cost: float):
        self.step, self.words, self.places, self.cost = step, words, places, cost
        self.seen = torch.zeros(1, 0, dtype=torch.long)  # what it has read

    def propose(self, tokens: Tensor, n: int, choose: Choose) -> Proposal:
        n = min(n, self.places - tokens.shape[1] + 1)
        if n < 1:
            return Proposal()
        self.seen = tokens[:, : common(self.seen, tokens[:, :-1])]
        self.step.cut(self.seen.shape[1])
        row, proposed, drawn = tokens, list[int](), list[Tensor]()
        for _ in range(n):
            scores = self.fitted(self.step(row))
            if not bool(scores.amax().isfinite()):
                break
            token, shares = choose(scores, row)
            proposed.append(token)
            drawn += [] if shares is None else [shares]
            row = torch.cat((row, row.new_tensor([[token]])), 1)
        self.seen = row[:, : max(tokens.shape[1], row.shape[1] - 1)]  # the last proposal was not read
        return Proposal(proposed, torch.stack(drawn) if drawn else None)

    def fitted(self, scores: Tensor) -> Tensor:
        """Models of one vocabulary may be given unequal numbers of unused words at its end."""
        more = self.words - scores.shape[1]
        return scores[:, : self.words] if more <= 0 else torch.nn.functional.pad(scores, (0, more), value=-torch.inf)


def common(a: Tensor, b: Tensor) -> int:
    """How many tokens two rows [1, t] begin with alike."""
    n = min(a.shape[1], b.shape[1])
    differ = (a[0, :n].to(b.device) != b[0, :n]).nonzero()
    return int(differ[0]) if len(differ) else n


@dataclass(frozen=True)
class Lookup:
    """What followed the last time: the longest run of tokens, from `least` to `most`, that ends the row and stands in
    it before, the latest of equally long ones (Saxena 2023, "prompt lookup decoding"; Yang et al. 2023, 2304.04487).

    It costs nothing and pays where an answer repeats its prompt or itself: summaries, corrections, code.
    """

    least: int = 2
    most: int = 8
    cost = 0.0
    draws = False

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ArgumentError(f"Lookup's runs go from {self.least} to {self.most}, but must go from 1 up.")

    def propose(self, tokens: Tensor, n: int, choose: Choose) -> Proposal:
        row = tokens[0].cpu().numpy()
        t = len(row)
        ends = np.arange(1, t)  # a run before place e of the row is as long as ...
        run, alike = np.zeros(len(ends), dtype=np.int64), np.ones(len(ends), dtype=bool)
        for back in range(1, min(self.most, t - 1) + 1):
            alike = alike & (ends >= back)
            alike[alike] = row[ends[alike] - back] == row[t - back]
            run += alike
        if n < 1 or not len(run) or run.max() < self.least:
            return Proposal()
        place = int(ends[run == run.max()][-1])
        found = [int(token) for token in row[place : place + n]]
        while len(found) < n:  # what is proposed is itself what follows
            found.append(found[len(found) - (t - place)])
        return Proposal(found)


@dataclass
class Pace:
    """How many tokens to propose: so many that a pass brings most for what it costs, when each is taken with the share
    that was taken lately (Leviathan et al. 2023, 3.5, with the cost of reading a proposal beside that of making it).
    None where that does not pay, but for one now and then.

    cost: of one proposal, as a share of one pass.
    """

    cost: float
    taken: float = 2.0  # of those that were judged, lately; it begins hopeful
    judged: float = 3.0
    rested: int = 0  # passes without a proposal

    def length(self) -> int:
        share, brings, best, rate = self.taken / self.judged, 1.0, 0, 1.0
        for n in range(1, MOST + 1):
            brings += share**n
            if brings / (1 + n * (self.cost + PLACE)) > rate:
                best, rate = n, brings / (1 + n * (self.cost + PLACE))
        return best or int(self.rested >= REST)

    def note(self, proposed: int, taken: int) -> None:
        """So many were proposed, and the first so many taken; those behind the first refused one were not judged."""
        self.rested = 0 if proposed else self.rested + 1
        if proposed:
            self.taken = 0.9 * self.taken + taken
            self.judged = 0.9 * self.judged + taken + (taken < proposed)


@dataclass(frozen=True)
class Drafted:
    """Whether proposing paid: of `proposed` tokens `taken` were, and `passes` of the model brought `tokens`."""

    proposed: int = 0
    taken: int = 0
    passes: int = 0
    tokens: int = 0

    def __add__(self, other: Drafted) -> Drafted:
        return Drafted(
            self.proposed + other.proposed, self.taken + other.taken,
            self.passes + other.passes, self.tokens + other.tokens,
        )  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.taken} of {self.proposed} proposed tokens were taken; {self.tokens} tokens in {self.passes} passes"
        )


@torch.no_grad()
def speculate(
    step: Verifier,
    prompt: Tensor,
    *,
    proposer: Proposer,
    search: Search,
    max_new: int,
    rules: Sequence[LogitRule] = (),
    stop: StopRule | Sequence[StopRule] = (),
    number: int = 0,
    tell: Sequence[LogitRule] = (),
) -> tuple[Hypothesis, Drafted]:
    """The answer to one prompt [1, t], and how many proposals were taken.

    search: `Greedy` or `Sample` of one answer. The others are as in `generate`; `rules` also hold for what a draft
    proposes. tell: rules that change nothing; they see each row that stays, and none that was only proposed.
    """
    search, limit = speculable(search), checked_limit(prompt, max_new)
    if len(prompt) != 1:
        raise ArgumentError(f"prompt holds {len(prompt)} rows, but proposals are made for one row at a time.")
    call = Call([number], prompt.shape[1], limit, AnyOf(stop) if isinstance(stop, Sequence) else stop)
    chooser = Drawing(search, call) if isinstance(search, Sample) and proposer.draws else None
    state = search.begin(call) if chooser is None else Walk(call, chooser.pick, rows=1, scored=search.scored)
    row, pace, told = prompt, Pace(proposer.cost), Drafted()

    def choose(scores: Tensor, tokens: Tensor) -> tuple[int, Tensor | None]:
        for rule in rules:
            scores = rule(scores, tokens)
        return (int(scores.argmax()), None) if chooser is None else chooser.proposed(scores, tokens)

    while True:
        t = row.shape[1]
        left = int(limit) - (t - call.start) - 1  # the model adds one of its own
        proposal = proposer.propose(row, min(pace.length(), left), choose)
        n = len(proposal.tokens)
        if chooser is not None:
            chooser.proposal, chooser.start = proposal, t - call.start
        longer = torch.cat((row, row.new_tensor([proposal.tokens], dtype=torch.long).view(1, n)), 1)
        logits = step.last(longer, n + 1)  # [1, n + 1, V]
        taken, done = 0, False
        for place in range(n + 1):
            tokens = longer[:, : t + place]
            scores = state.scores(logits[:, place])
            for rule in (*rules, *tell):
                scores = rule(scores, tokens)
            choice = state.choose(scores, tokens)
            token, done = choice.tokens.view(1, 1), bool(choice.done)
            row = torch.cat((tokens, token), 1)
            agreed = place < n and int(token) == proposal.tokens[place]
            taken += agreed
            if done or not agreed:
                break
        step.cut(row.shape[1] - 1)
        told += Drafted(n, taken, 1, row.shape[1] - t)
        if done:
            return state.answers(0)[0], told
        pace.note(n, taken)


def speculable(search: Search) -> Greedy | Sample:
    """The same search; raises ArgumentError for one that proposals cannot help."""
    if isinstance(search, Greedy) or (isinstance(search, Sample) and search.n_best == 1):
        return search
    raise ArgumentError(
        f"Drafts and lookups help Greedy(), and Sample() of one answer, but the search is {search}; leave out the one"
        " or change the other."
    )


class Drawing:
    """Drawn proposals are judged so that what stays is distributed as the model's own draws (Leviathan et al. 2023,
    section 2.3 and appendix A.1): of probability q for the draft and p for the model, a token stays with chance p / q;
    where it goes, one is drawn of what the model gives more than the draft, max(0, p - q)."""

    def __init__(self, search: Sample, call: Call):
        self.search, self.call = search, call
        self.proposal, self.start = Proposal(), 0
        n, number = int(call.limit), call.numbers[0]
        self.plain, self.draft, self.accept = (
            np.random.default_rng([search.seed, number, 0, *stream]).random(n) for stream in (PLAIN, DRAFT, ACCEPT)
        )

    def proposed(self, scores: Tensor, tokens: Tensor) -> tuple[int, Tensor]:
        """What a draft of these scores [1, V] proposes after the row [1, t], and its probabilities [V]."""
        shares = self.shares(scores)
        return drawn(shares, self.draft[tokens.shape[1] - self.call.start]), shares

    def pick(self, scores: Tensor, sources: Tensor, added: int) -> Tensor:
        """The next token [1]: see `Walk`."""
        shares, place = self.shares(scores), added - self.start
        if place < len(self.proposal.tokens):
            assert self.proposal.shares is not None
            token, by = self.proposal.tokens[place], self.proposal.shares[place]
            if self.accept[added] * float(by[token]) < float(shares[token]):
                return torch.tensor([token], device=scores.device)
            rest = (shares - by).clamp(min=0)
            shares = rest if float(rest.sum()) > 0 else shares
        return torch.tensor([drawn(shares, self.plain[added])], device=scores.device)

    def shares(self, scores: Tensor) -> Tensor:
        """What `Sample` draws by: scores [1, V] -> probabilities [V]."""
        scores = scores.to(widest(scores.device))
        kept, names = self.search.shaped(scores - scores.amax(-1, keepdim=True))
        share = kept.softmax(-1)
        return (share if names is None else torch.zeros_like(scores).scatter(1, names, share))[0]


def drawn(shares: Tensor, chance: float) -> int:
    """The token that a number in [0, 1) stands for, by inverting the cumulative distribution of shares [V]."""
    reached = shares.cumsum(-1)
    return int(torch.searchsorted(reached, chance * reached[-1:], right=True))
