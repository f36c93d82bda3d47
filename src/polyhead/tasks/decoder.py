"""Rows of ids go on, token by token, by a decoder that reads its own past; what is added comes back as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyhead.core import Run
from polyhead.core.packed import packed
from polyhead.errors import ArgumentError
from polyhead.generation import Beam, EndToken, Greedy, LogitRule, Sample, Search, StopRule, generate, sorted_batches
from polyhead.generation.rules import NoRepeatNgram, RepetitionPenalty
from polyhead.generation.stop import AnyOf
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Cache, Dense
from polyhead.tasks.decoding import is_whole
from polyhead.tasks.load import Loaded, able

BATCH_TOKENS = 2048  # of prompts, padding included, in one batch
ROWS = 32  # prompts in one batch
NEW = 128  # most new tokens unless somebody says how many


@dataclass(frozen=True)
class Written:
    """What was added to a row: its tokens without the end token, their text up to the first stop string, and which.

    finished: by an end token or a stop string, not by the limit. score: the log-probability, where the search tells it.
    """

    tokens: Sequence[int]
    text: str
    finished: bool
    stop: str | None = None
    score: float | None = None


class Decoder:
    """A loaded decoder made ready to go on with rows of ids, for the verb that the errors name.

    search, stop, max_new: see `complete`. Rules of the folder's generation_config.json hold for every search.
    """

    def __init__(
        self,
        loaded: Loaded,
        verb: str,
        *,
        search: Search | None = None,
        max_new: int | None = None,
        stop: Sequence[str] = (),
    ):
        able(loaded, ("next word",), verb, reads=("text",))
        if max_new is not None and not (is_whole(max_new) and max_new >= 1):
            raise ArgumentError(f"max_new is {max_new!r}, but must be a whole number of at least 1.")
        if isinstance(stop, str) or not all(isinstance(s, str) and s for s in stop):
            raise ArgumentError(f"stop must be a list of strings that are not empty; found {stop!r}")
        self.config, self.tokenizer, self.stop = loaded.config, loaded.tokenizer, tuple(stop)
        self.model: Any = packed(loaded.model)
        self.device, self.max_new = loaded.device, max_new
        self.search, self.rules = (search or usual(loaded), rules_of(loaded))
        self.ends = ends_of(loaded)

    @torch.inference_mode()
    def __call__(
        self,
        ids: Sequence[Sequence[int]],
        *,
        numbers: Sequence[int] | None = None,
        tell: Callable[[str], None] | None = None,
        cache: Cache | None = None,
        until: Sequence[StopRule] = (),
    ) -> list[list[Written]]:
        """What follows each row, best first.

        tell: hears what is added to a single row. cache: what the model has read of a single row already, all but its
        last token at most. until: more rules that end a row.
        """
        width = max(len(row) for row in ids)
        prompt = torch.full((len(ids), width), self.tokenizer.roles.get("pad", self.ends[0] if self.ends else 0))
        real = torch.zeros_like(prompt, dtype=torch.bool)
        for i, row in enumerate(ids):
            prompt[i, width - len(row) :], real[i, width - len(row) :] = torch.tensor(row), True
        prompt, real = prompt.to(self.device), real.to(self.device)
        room = torch.tensor([self.config.max_len - len(row) for row in ids], device=self.device)
        stops = [EndToken(self.ends), *([StopText(self.stop, self.tokenizer, width)] if self.stop else []), *until]
        telling = [] if tell is None else [Telling(self.tokenizer, width, self.stop, tell)]
        found = generate(
            DecoderStep(self.model, real, cache), prompt, search=self.search,
            max_new=room.clamp(max=self.max_new or NEW), rules=[*self.rules, *telling], stop=AnyOf(stops),
            numbers=numbers,
        )  # fmt: skip
        answers = [[self.told(each.tokens, each.finished, each.score) for each in some] for some in found]
        for each in telling:
            each.show(answers[0][0].text, last=True)
        return answers

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which rows go together; only those of one length where rules look at what stands in a row already."""
        if not self.rules:
            return sorted_batches(lengths, budget=BATCH_TOKENS, rows=ROWS)
        alike = [[i for i, length in enumerate(lengths) if length == n] for n in sorted(set(lengths))]
        return [some[start : start + ROWS] for some in alike for start in range(0, len(some), ROWS)]

    def told(self, tokens: Sequence[int], finished: bool, score: float | None) -> Written:
        """What was added as text, up to the first stop string."""
        text = self.tokenizer.decode(tokens)
        places = [(text.find(string), string) for string in self.stop if string in text]
        place, string = min(places, default=(len(text), None))
        return Written(tokens, text[:place], finished, string, score)


class DecoderStep:
    """What `generate` asks of a decoder: prompts are padded on the left, each step reads only what the cache lacks."""

    def __init__(self, model: Any, real: Tensor, cache: Cache | None = None):
        self.model, self.cache = model, Cache() if cache is None else cache
        self.real = None if bool(real.all()) else real  # [N, prompt]

    def __call__(self, tokens: Tensor) -> Tensor:
        start, stop = self.cache.length, tokens.shape[1]
        run = Run(cache=self.cache)
        if self.real is not None:
            seen = torch.nn.functional.pad(self.real, (0, stop - self.real.shape[1]), value=True)  # [N, t]
            places = (seen.long().cumsum(1) - 1).clamp(min=0)[:, start:]
            run = Run(cache=self.cache, mask=Dense(seen[:, None, None]), positions=places)
        return self.model.head(self.model.decode(tokens[:, start:], run)[:, -1])  # [N, V]

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        self.cache.keep(rows, sources)
        if self.real is not None:
            self.real = self.real[rows]


@dataclass(frozen=True)
class StopText:
    """Complete as soon as what was added spells one of these strings, wherever tokens begin and end."""

    strings: Sequence[str]
    tokenizer: Tokenizer
    start: int  # the length of the prompts
    ids: Sequence[int] = ()  # none ends a row by itself

    def __call__(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        rows, options = tokens[:, self.start :].tolist(), chosen.tolist()  # pyright: ignore
        grown = [[*row, token] for row, some in zip(rows, options, strict=True) for token in some]
        texts = self.tokenizer.decode_batch(grown)
        found = [any(string in text for string in self.strings) for text in texts]
        return torch.tensor(found, device=chosen.device).view(chosen.shape)


@dataclass
class Telling:
    """A logit rule that changes nothing and tells what is written, whole characters at a time.

    What may turn out to be the beginning of a stop string, and bytes that make no character yet, wait.
    """

    tokenizer: Tokenizer
    start: int
    strings: Sequence[str]
    tell: Callable[[str], None]
    told: str = ""

    def __call__(self, scores: Tensor, tokens: Tensor) -> Tensor:
        self.show(self.tokenizer.decode(tokens[0, self.start :].tolist()), last=False)  # pyright: ignore
        return scores

    def show(self, text: str, *, last: bool) -> None:
        """Tell what of the text is new and will stay."""
        if not last:
            text = text.rstrip("\ufffd")
            held = max((n for s in self.strings for n in range(len(s)) if n and text.endswith(s[:n])), default=0)
            text = text[: len(text) - held]
        if len(text) > len(self.told) and text.startswith(self.told):
            self.tell(text[len(self.told) :])
            self.told = text


def usual(loaded: Loaded) -> Search:
    """How the folder wants its continuations: drawn, by a beam, or, without word of it, greedily."""
    asked = {key: value for key, value in loaded.generation.items() if value is not None}
    if asked.get("do_sample", False):
        return Sample(asked.get("temperature", 1.0), asked.get("top_k", 50) or None, asked.get("top_p", 1.0))
    width = asked.get("num_beams", 1)
    return Greedy() if width == 1 else Beam(width, length_penalty=asked.get("length_penalty", 1.0))


def rules_of(loaded: Loaded) -> list[LogitRule]:
    asked = loaded.generation
    penalty, repeat = asked.get("repetition_penalty") or 1.0, asked.get("no_repeat_ngram_size") or 0
    return [*([RepetitionPenalty(penalty)] if penalty != 1 else []), *([NoRepeatNgram(repeat)] if repeat else [])]


def ends_of(loaded: Loaded) -> list[int]:
    """The tokens that end an answer: generation_config.json's, else the model's."""
    ends = loaded.generation.get("eos_token_id", loaded.config.eos_id)
    return [] if ends is None else list(ends) if isinstance(ends, list) else [ends]
