"""Rows of ids become answers, and texts again: what translating and summarising by an encoder-decoder share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.errors import ArgumentError, ConfigError
from polyhead.generation import (
    ConstrainedBeam,
    EndToken,
    Hypothesis,
    LogitRule,
    Search,
    Source,
    StopRule,
    generate,
    sorted_batches,
)
from polyhead.generation.candidates import Candidates, CandidateStep, CandidateStop
from polyhead.inputs.batch import pad
from polyhead.operator import Cache, Dense, Lengths
from polyhead.tasks.asking import Asking
from polyhead.tasks.decoder import Candidate, StopText, before, rows_each
from polyhead.tasks.decoding import decoding, told
from polyhead.tasks.generation_settings import TokenRules, is_whole, spelled, tell_lacking
from polyhead.tasks.load import Loaded
from polyhead.tasks.shortlist import Shortlist, shortlist_of
from polyhead.tasks.workers import Workers

BATCH_TOKENS = 1024  # source tokens, padding included, in one batch
ROWS = 64  # texts in one batch
MOST_ROWS = 256  # of their answers, of which a search keeps many for each text


class EncoderDecoderStep:
    """What `generate` asks of an encoder-decoder: the memory is made once, each step reads only the newest tokens.

    head: in the place of the model's, of fewer words."""

    def __init__(self, model: Any, source: Tensor, lengths: Tensor, head: nn.Module | None = None):
        self.model, self.cache, self.head = model, Cache(), head or model.head
        self.seen = torch.arange(source.shape[1], device=source.device) < lengths[:, None]  # [B, S]
        memory = model.encode(source, Run(mask=Lengths(lengths)))
        self.run = Run(memory=memory, memory_mask=self.mask(), cache=self.cache)

    def __call__(self, tokens: Tensor) -> Tensor:
        new = tokens[:, self.cache.length :]
        self.vectors = self.model.decode(new, self.run)  # [N, n, D]
        return self.head(self.vectors[:, -1])  # [N, V], or as wide as another head

    def hidden(self) -> Tensor:
        return self.vectors

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        self.cache.keep(rows, sources)
        if sources is not None:
            assert self.run.memory is not None
            self.seen = self.seen[sources]
            self.run = replace(self.run, memory=self.run.memory[sources], memory_mask=self.mask())

    def mask(self) -> Dense | None:
        """What every step sees of the memory, written out once: it is read again and again."""
        return None if self.seen.all() else Dense(self.seen[:, None, None])  # [B, 1, 1, S]


class TextToText:
    """A loaded encoder-decoder made ready to answer: weights packed once, decoding settings read from its folder.

    asking: what is said to it. search: unless given, the folder's beam. min_new, max_new: the fewest and the most
    tokens of an answer; a minimum of the folder's yields to a max_new below it. workers: who answers, this process
    alone unless given. shortlist: of the words that may be said, or its file; all unless given. Raises ArgumentError
    and, for generation settings that are none, ConfigError; warns of those that are not obeyed.
    """

    def __init__(
        self,
        loaded: Loaded,
        asking: Asking,
        *,
        search: Search | None = None,
        min_new: int | None = None,
        max_new: int | None = None,
        workers: Workers | None = None,
        shortlist: Shortlist | str | Path | None = None,
    ):
        for name, n, least in (("min_new", min_new, 0), ("max_new", max_new, 1)):
            if n is not None and not (is_whole(n) and n >= least):
                raise ArgumentError(f"{name} is {n!r}, but must be a whole number of at least {least}.")
        if min_new is not None and max_new is not None and min_new > max_new:
            raise ArgumentError(f"min_new is {min_new} and max_new {max_new}; the least cannot be more than the most.")
        self.config, self.tokenizer, self.device = loaded.config, loaded.tokenizer, loaded.device
        self.asking, self.start_id, self.workers = asking, start_of(loaded), workers or Workers()
        self.how = told(decoding(loaded, asking.settings), loaded)
        self.model = loaded.packed
        self.search = spelled(search or self.how.search, self.tokenizer.target)
        self.most = self.config.max_len - 1 if max_new else self.how.longest - 1  # the start token is one of the row
        self.max_new = max_new and min(max_new, self.most)
        self.limit = self.max_new or self.most
        self.rules = self.outweighed(self.how.rules, min_new)
        self.stop: list[StopRule] = [EndToken(self.rules.ends)]
        if self.how.stop:
            self.stop.append(StopText(self.how.stop, self.tokenizer.target, 1))
        self.shortlist = shortlist_of(shortlist, loaded)
        self.head_of = None if self.shortlist is None else loaded.heads()
        wanted = {self.start_id, self.tokenizer.target.unk_id, *self.rules.wanted, *forced(self.search)}
        self.always = sorted(token for token in wanted if 0 <= token < self.config.words)  # on every list

    def outweighed(self, rules: TokenRules, min_new: int | None) -> TokenRules:
        """The folder's rules, its least lengths given up where what was asked for speaks against them."""
        if min_new is not None:
            return replace(rules, min_length=0, min_new=min_new)
        if self.max_new is None or max(rules.min_length, 1 + rules.min_new) <= 1 + self.max_new:
            return rules
        return replace(rules, min_length=0, min_new=0)

    def logit_rules(self, source: Tensor, lengths: Tensor, among: Candidates | None = None) -> list[LogitRule]:
        """What the folder asks of the tokens of answers to these sources [B, S]; of candidates, in their numbers."""
        told = Source(source, torch.arange(source.shape[1], device=source.device) < lengths[:, None])
        if among is None:
            return self.rules.rules(1, limit=self.limit, source=told)
        return self.rules.among(among).rules(1, limit=self.limit, source=among.source(told))

    def answers(
        self,
        rows: Sequence[Sequence[int]],
        *,
        numbers: Sequence[int],
        progress: Callable[[int], None] | None = None,
    ) -> list[tuple[Candidate, ...]]:
        """The answers to each row of source ids, best first. `progress` hears how many rows more are done."""
        found: dict[int, list[Hypothesis]] = {}
        batches = batches_of([len(row) for row in rows], self.search)
        asked = [{"ids": [rows[i] for i in batch], "numbers": [numbers[i] for i in batch]} for batch in batches]
        with closing(self.workers.each(asked, self.batch)) as answered:
            for place, some in answered:
                found.update(zip(batches[place], some, strict=True))
                if progress:
                    progress(len(some))
        tell_lacking(self.search, list(found.values()))
        texts = self.tokenizer.target.decode_batch([a.tokens for i in range(len(rows)) for a in found[i]])
        texts = (before(text, self.how.stop)[0] for text in texts)
        return [tuple(Candidate(next(texts), a.score, self.by_itself(a)) for a in found[i]) for i in range(len(rows))]

    def by_itself(self, answer: Hypothesis) -> bool:
        """Whether an answer ended where nothing made it end."""
        return answer.finished and not (self.rules.last and len(answer.tokens) == self.limit - 1)

    @torch.inference_mode()
    def batch(self, ids: Sequence[Sequence[int]], *, numbers: Sequence[int] | None = None) -> list[list[Hypothesis]]:
        """The hypotheses for each row of source ids, best first."""
        source, lengths = (side.to(self.device) for side in pad(ids, self.config.pad_id))
        start = torch.full((len(ids), 1), self.start_id, device=self.device)
        longest = self.longest(lengths) if self.max_new is None else torch.full_like(lengths, self.max_new)
        longest = longest.clamp(max=self.most)
        how = {"max_new": longest, "numbers": numbers}
        if self.shortlist is None or self.head_of is None:
            step, rules = EncoderDecoderStep(self.model, source, lengths), self.logit_rules(source, lengths)
            return generate(step, start, search=self.search, rules=rules, stop=self.stop, **how)
        among = self.shortlist.candidates(source, lengths, self.always)
        step = EncoderDecoderStep(self.model, source, lengths, self.head_of(among.ids))
        found = generate(
            CandidateStep(step, among), among.numbers(start), search=among.search(self.search),
            rules=self.logit_rules(source, lengths, among), stop=[CandidateStop(rule, among) for rule in self.stop],
            **how,
        )  # fmt: skip
        return among.answers(found)

    def longest(self, lengths: Tensor) -> Tensor:
        """The most tokens of an answer to sources of these lengths [B], unless somebody says how many."""
        return 2 * lengths + 30


def batches_of(lengths: Sequence[int], search: Search) -> list[list[int]]:
    """Which sources of these lengths go together."""
    return sorted_batches(lengths, budget=BATCH_TOKENS, rows=max(1, min(ROWS, MOST_ROWS // rows_each(search))))


def forced(search: Search) -> set[int]:
    """The tokens of the phrases that a search forces."""
    phrases = search.forced if isinstance(search, ConstrainedBeam) else ()
    return {token for some in phrases for phrase in some for token in phrase}


def start_of(loaded: Loaded) -> int:
    """The token that answers start from."""
    start = loaded.config.start_id
    start = loaded.generation.get("decoder_start_token_id") if start is None else start
    if not is_whole(start):
        raise ConfigError(f"{loaded.folder or 'The model'} names no decoder_start_token_id; add it to its config.json.")
    return start
