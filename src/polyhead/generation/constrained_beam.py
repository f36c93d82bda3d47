"""Constrained beam search: an answer holds every phrase that is forced, and rows compete with those that hold as much.

forced: "cats", "sat down"          missing tokens   rows of a source, the best of each bank in turn
                                    0                cats sat down
                                    1                cats sat          he sat down
                                    2                cats              they sat
                                    3                the               a
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.beam import Beam, BeamState, best
from polyhead.generation.search import Call, Choice, Hypothesis, State, as_list

Phrase = tuple[int, ...]


@dataclass(frozen=True)
class ConstrainedBeam(Beam):
    """Beam search for answers that hold, for each of `forced`, one of its phrases (a phrase is a run of tokens); in the
    verbs of polyhead also each of `words`, a text or several of which one will do.

    Rows with as many tokens of the forced phrases still missing make a bank, and the beam is filled from the banks in
    turn, best rows first, from the one that lacks least (Post and Vilar, 2018, where banks have fixed shares; in turn,
    as `transformers` did). A row that lacks some is not complete. Where the limit on new tokens cuts a source short,
    answers that lack some come last. Wide beams find better places for a phrase: give at least as many rows as the
    phrases have tokens.
    """

    forced: Sequence[Sequence[Sequence[int]]] = field(default=(), kw_only=True)
    words: Sequence[str | Sequence[str]] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "words", tuple(word if isinstance(word, str) else tuple(word) for word in self.words))
        if self.words and not self.forced:
            return
        if not self.forced or any(not phrases or any(not phrase for phrase in phrases) for phrases in self.forced):
            raise ArgumentError("forced must hold at least one phrase, and no phrase may be empty.")
        object.__setattr__(self, "forced", tuple(tuple(tuple(p) for p in phrases) for phrases in self.forced))

    def spelled(self, phrases: Callable[[str], Sequence[Sequence[int]]]) -> ConstrainedBeam:
        """The same, its words in tokens: `phrases` gives the ways to write a text, of which any will do."""
        texts = [[word] if isinstance(word, str) else word for word in self.words]
        more = [[phrase for text in some for phrase in phrases(text)] for some in texts]
        return replace(self, forced=[*self.forced, *more], words=())

    def missing(self, tokens: Sequence[int]) -> int:
        """How many tokens of the forced phrases an answer lacks; 0: it holds all."""
        constraints = Constraints(self.forced)
        held = constraints.start
        for token in tokens:
            held = constraints.after(held, token)
        return constraints.missing(held)

    def begin(self, call: Call) -> State:
        if self.words:
            raise ArgumentError(
                f"words holds {self.words}, but a search knows tokens; give `forced`, or see `spelled`."
            )
        return ConstrainedBeamState(self, call)


Held = tuple[tuple[int, ...] | None, ...]
"""What a row holds of each constraint: None, all of it; else for each of its phrases how many tokens end the row."""


class Constraints:
    """How far rows are, a token at a time."""

    def __init__(self, forced: Sequence[Sequence[Sequence[int]]]) -> None:
        self.forced = [[tuple(phrase) for phrase in phrases] for phrases in forced]
        self.tokens = sorted({token for phrases in self.forced for phrase in phrases for token in phrase})
        self.start: Held = tuple((0,) * len(phrases) for phrases in forced)
        self.after = cache(self._after)
        self.missing = cache(self._missing)

    def _after(self, held: Held, token: int) -> Held:
        """What a row holds with one token more."""
        found: list[tuple[int, ...] | None] = []
        for phrases, counts in zip(self.forced, held, strict=True):
            if counts is not None:
                counts = tuple(grown(phrase, n, token) for phrase, n in zip(phrases, counts, strict=True))
                met = any(n == len(phrase) for phrase, n in zip(phrases, counts, strict=True))
                counts = None if met else counts
            found.append(counts)
        return tuple(found)

    def _missing(self, held: Held) -> int:
        """How many tokens of the forced phrases the row lacks."""
        return sum(
            min(len(phrase) - n for phrase, n in zip(phrases, counts, strict=True))
            for phrases, counts in zip(self.forced, held, strict=True)
            if counts is not None
        )


def grown(phrase: Phrase, n: int, token: int) -> int:
    """How many tokens of a phrase end a row that ended in `n` of them and gets one more (Knuth, Morris and Pratt)."""
    ending = (*phrase[:n], token)
    return next(k for k in range(min(len(ending), len(phrase)), -1, -1) if ending[len(ending) - k :] == phrase[:k])


@dataclass(frozen=True)
class Candidate:
    """A row and a token more: its log-probability, what it then holds, how many tokens it lacks, whether it ends."""

    value: float
    row: int
    token: int
    held: Held
    lacks: int
    ends: bool


class ConstrainedBeamState(BeamState):
    """`held` is what each open row holds, source by source; `short` are answers that the limit cut before they held
    all, each with what it lacks."""

    def __init__(self, beam: ConstrainedBeam, call: Call) -> None:
        super().__init__(beam, call)
        self.most = beam.width * (1 + max(1, len(call.stop.ids)))
        self.constraints = Constraints(beam.forced)
        self.held: list[list[Held]] = [[self.constraints.start] for _ in call.numbers]
        self.short: list[list[tuple[int, float, Hypothesis]]] = [[] for _ in call.numbers]

    def choose(self, scores: Tensor, tokens: Tensor) -> Choice:
        (B, R), W, device = self.total.shape, self.beam.width, scores.device
        for token in self.constraints.tokens:
            if not 0 <= token < scores.shape[1]:
                raise ArgumentError(f"forced holds the token {token}, but there are {scores.shape[1]}, from 0 on.")
        # in each bank, the W best are among the best of each row and the tokens of the phrases
        token = best(scores, min(self.most, scores.shape[1]))[1]
        wanted = torch.tensor(self.constraints.tokens, device=device).expand(len(scores), -1)
        token = torch.cat((token, wanted), 1)  # [N, K]
        value = scores.gather(1, token) + self.total.view(-1, 1)
        self.refuse_nothing(value.view(B, -1).amax(1))
        ends = self.call.stop(tokens, token)

        added = tokens.shape[1] - self.call.start + 1
        cut = self.call.limit[self.sources] == added  # [B]
        places: list[Any] = [x.view(B, R, -1).tolist() for x in (value, token, ends)]  # pyright: ignore
        rows: list[list[Candidate]] = []
        for source, (at_end, *found) in enumerate(zip(as_list(cut), *places, strict=True)):
            order = self.in_turn(self.candidates_of(source, *found))
            for each in order[:W]:
                if each.ends or at_end:
                    row = [*as_list(tokens[R * source + each.row]), each.token]
                    self.close(source, each, each.value / added**self.beam.length_penalty, row)
            going = sorted([each for each in order if not (each.ends or at_end)][:W], key=lambda each: -each.value)
            nothing = Candidate(-math.inf, 0, 0, self.constraints.start, 0, False)
            rows.append(going + [nothing] * (W - len(going)))

        self.held = [[each.held for each in some] for some in rows]
        self.total = self.total.new_tensor([[each.value for each in some] for some in rows])
        self.worst = self.worst.new_tensor([pool[W - 1][0] if len(pool) == W else -math.inf for pool in self.pools])
        row = torch.tensor(
            [[R * source + each.row for each in some] for source, some in enumerate(rows)], device=device
        )
        chosen = torch.tensor([[each.token for each in some] for some in rows], device=device)
        return Choice(row, chosen, cut | ~self.may_improve(added))

    def candidates_of(
        self, source: int, value: list[list[float]], token: list[list[int]], ends: list[list[bool]]
    ) -> list[Candidate]:
        """The continuations of one source's rows, each once, without those that end too early, if others are left."""
        found: dict[tuple[int, int], Candidate] = {}
        for row, held in enumerate(self.held[source]):
            for v, t, e in zip(value[row], token[row], ends[row], strict=True):
                if v > -math.inf and (row, t) not in found:
                    after = self.constraints.after(held, t)
                    found[row, t] = Candidate(v, row, t, after, self.constraints.missing(after), e)
        whole = [each for each in found.values() if not (each.ends and each.lacks)]
        return whole or list(found.values())

    @staticmethod
    def in_turn(candidates: list[Candidate]) -> list[Candidate]:
        """The best of each bank, from the one that lacks least, then the second best of each, and so on."""
        seen: Counter[int] = Counter()
        turns: list[tuple[int, int, Candidate]] = []
        for each in sorted(candidates, key=lambda each: -each.value):
            turns.append((seen[each.lacks], each.lacks, each))
            seen[each.lacks] += 1
        return [each for _, _, each in sorted(turns, key=lambda turn: turn[:2])]

    def close(self, source: int, each: Candidate, score: float, row: list[int]) -> None:
        """Let an answer enter its source's pool, or the list of those that lack something."""
        if each.lacks:
            self.short[source].append((each.lacks, -score, self.call.answer(row, score, each.ends)))
        else:
            self.pool(source, score, row, each.ends)

    def answers(self, source: int) -> list[Hypothesis]:
        short = sorted(self.short[source], key=lambda answer: answer[:2])
        whole = [answer for _, answer in self.pools[source]]
        return [*whole, *(answer for _, _, answer in short)][: self.beam.n_best]

    def keep(self, sources: Tensor) -> None:
        super().keep(sources)
        self.held = [self.held[source] for source in as_list(sources)]
        self.short = [self.short[source] for source in as_list(sources)]
