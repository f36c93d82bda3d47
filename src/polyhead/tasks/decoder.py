"""Rows of ids go on, token by token, by a decoder that reads its own past; what is added comes back as text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polyhead.core import Run
from polyhead.errors import ArgumentError, DataError
from polyhead.generation import (
    Beam,
    Contrastive,
    EndToken,
    Greedy,
    Guided,
    Hypothesis,
    Sample,
    Search,
    Source,
    StopRule,
    generate,
    sorted_batches,
)
from polyhead.generation.continuous import Request
from polyhead.generation.speculative import Drafted, Proposer, speculable, speculate
from polyhead.generation.stop import AnyOf
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.operator import Cache, Dense
from polyhead.tasks.decoding import UNHEEDED, as_wide, unmarried
from polyhead.tasks.generation_settings import (
    Settings,
    TokenRules,
    ends_of,
    is_number,
    is_whole,
    search_of,
    spelled,
    stops_of,
    tell_lacking,
    token_rules,
)
from polyhead.tasks.load import Loaded
from polyhead.tasks.needs import able

BATCH_TOKENS = 2048  # of prompts, padding included, in one batch
ROWS = 32  # prompts in one batch
MOST_ROWS = 128  # of their answers, of which a search may keep many for each prompt
NEW = 128  # most new tokens unless somebody says how many


@dataclass(frozen=True)
class Candidate:
    """One of several answers and its score, where the search tells it: the log-probability, a beam's divided by
    length ** length_penalty. finished: whether it ended by itself, and not by the limit on its length. stop: the stop
    string that ended it."""

    text: str
    score: float | None
    finished: bool = True
    stop: str | None = None


@dataclass(frozen=True)
class Written:
    """What was added to a row: its tokens without the end token, their text up to the first stop string, and which.

    finished: by an end token or a stop string, not by the limit. score: the log-probability, where the search tells it.
    drafted: how many proposals were taken, where somebody proposed.
    """

    tokens: Sequence[int]
    text: str
    finished: bool
    stop: str | None = None
    score: float | None = None
    drafted: Drafted | None = None

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.text, self.score, self.finished, self.stop)


class Decoder:
    """A loaded decoder made ready to go on with rows of ids, for the verb that the errors name.

    search, stop, max_new, guidance: see `complete`. proposer: who says what may follow, for several tokens a pass.
    Rules of the folder's generation_config.json hold for every search.
    """

    def __init__(
        self,
        loaded: Loaded,
        verb: str,
        *,
        search: Search | None = None,
        max_new: int | None = None,
        stop: Sequence[str] = (),
        usual_new: int = NEW,
        proposer: Proposer | None = None,
        guidance: float | None = None,
    ):
        able(loaded, "complete", told=verb)
        if max_new is not None and not (is_whole(max_new) and max_new >= 1):
            raise ArgumentError(f"max_new is {max_new!r}, but must be a whole number of at least 1.")
        if isinstance(stop, str) or not all(isinstance(s, str) and s for s in stop):
            raise ArgumentError(f"stop must be a list of strings that are not empty; found {stop!r}")
        self.config, self.tokenizer = loaded.config, loaded.tokenizer
        self.model: Any = loaded.packed
        how = ways(loaded)
        self.device, self.max_new = loaded.device, how.most if max_new is None else max_new
        self.search, self.rules, self.ends = spelled(search or how.search, self.tokenizer), how.rules, how.rules.ends
        self.stop = *stop, *(text for text in how.stop if text not in stop)
        if guidance is not None and not is_number(guidance):
            raise ArgumentError(f"guidance is {guidance!r}, but must be a finite number; 1 changes nothing.")
        self.guidance = how.guidance if guidance is None else guidance
        self.proposer = proposer
        if proposer is not None:
            speculable(self.search)
            if self.guidance != 1:
                raise ArgumentError(
                    f"Guidance, of {self.guidance} here, reads every token twice, which drafts and lookups do not do;"
                    " leave them out, or set guidance to 1."
                )
        longest = how.longest if max_new is None else None
        self.most = self.max_new or (usual_new if longest is None else None)  # new tokens, where places allow
        self.places, self.given = int(self.config.max_len), f"the model has {self.config.max_len} places"
        if longest is not None and longest < self.places:
            self.places, by = longest, "max_length; max_new outweighs it"
            self.given = f"the model's generation_config.json gives it {longest} places ({by})"

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
        if self.proposer is not None and len(ids) > 1:  # each is proposed to by itself
            return [
                self([row], numbers=[n], until=until)[0] for row, n in zip(ids, numbers or range(len(ids)), strict=True)
            ]
        width = max(len(row) for row in ids)
        prompt = torch.full((len(ids), width), self.tokenizer.roles.get("pad", self.ends[0] if self.ends else 0))
        real = torch.zeros_like(prompt, dtype=torch.bool)
        for i, row in enumerate(ids):
            prompt[i, width - len(row) :], real[i, width - len(row) :] = torch.tensor(row), True
        prompt, real = prompt.to(self.device), real.to(self.device)
        room = torch.tensor([self.places - len(row) for row in ids], device=self.device)
        telling = [] if tell is None else [Telling(self.tokenizer, width, self.stop, tell)]
        step: Any = DecoderStep(self.model, None if bool(real.all()) else real, cache=cache)
        limit = room if self.most is None else room.clamp(max=self.most)
        rules = self.rules.rules(width, limit=int(limit.max()), source=Source(prompt, real))
        if self.guidance != 1:
            step = Guided(
                step, DecoderStep(self.model), negative=prompt[:, -1:], start=width, scale=self.guidance
            )  # without the prompt, all but its last token
        drafted = None
        if self.proposer is None:
            found = generate(
                step, prompt, search=self.search, max_new=limit, stop=self.ending(width, until), numbers=numbers,
                rules=[*rules, *(telling if self.one_row else [])],
            )  # fmt: skip
        else:
            answer, drafted = speculate(
                step, prompt, proposer=self.proposer, search=self.search, max_new=int(limit), rules=rules,
                stop=self.ending(width, until), number=numbers[0] if numbers else 0, tell=telling,
            )  # fmt: skip
            found = [[answer]]
        tell_lacking(self.search, found)
        most = int(limit.max())
        answers = [
            [self.written(each.tokens, self.ended(each, most), each.score, drafted) for each in some] for some in found
        ]
        for each in telling:
            each.show(answers[0][0].text, last=True)
        return answers

    def request(self, ids: Sequence[int], *, number: int = 0, tell: Telling | None = None) -> Request:
        """The same of one row, as an engine takes it. tell: hears what is added."""
        n, prompt = len(ids), torch.tensor([list(ids)], device=self.device)
        limit = self.places - n if self.most is None else min(self.most, self.places - n)
        source = Source(prompt, torch.ones_like(prompt, dtype=torch.bool))
        rules = self.rules.rules(n, limit=limit, source=source)
        rules += [] if tell is None or not self.one_row else [tell]
        return Request(ids, limit, self.search, rules, self.ending(n), number)

    def ending(self, start: int, until: Sequence[StopRule] = ()) -> StopRule:
        """What ends rows whose prompt is `start` tokens long."""
        texts = [StopText(self.stop, self.tokenizer, start)] if self.stop else []
        return AnyOf([EndToken(self.ends), *texts, *until])

    def check(self, ids: Sequence[int], what: str, mend: str) -> None:
        """Refuse a row that leaves its answer no place, by the name of `what` it is and how to mend it."""
        if len(ids) >= self.places:
            raise DataError(f"{what} has {len(ids)} tokens, but {self.given}, of which the answer needs some; {mend}")

    @property
    def one_row(self) -> bool:
        """Whether what is written stays: a search that may take another row tells only its final text."""
        return isinstance(self.search, Greedy) or (isinstance(self.search, Sample) and self.search.n_best == 1)

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which rows go together; only those of one length where rules look at what stands in a row already, and each
        by itself where somebody proposes."""
        if self.proposer is not None:
            return [[i] for i in range(len(lengths))]
        most = max(1, min(ROWS, MOST_ROWS // rows_each(self.search)))
        if not self.rules.look:
            return sorted_batches(lengths, budget=BATCH_TOKENS, rows=most)
        alike = [[i for i, length in enumerate(lengths) if length == n] for n in sorted(set(lengths))]
        return [some[start : start + most] for some in alike for start in range(0, len(some), most)]

    def ended(self, answer: Hypothesis, limit: int) -> bool:
        """Whether an answer of at most so many tokens ended by itself; not where the folder's end was put there."""
        return answer.finished and not (self.rules.last and len(answer.tokens) == limit - 1)

    def written(
        self, tokens: Sequence[int], finished: bool, score: float | None, drafted: Drafted | None = None
    ) -> Written:
        """What was added as text, up to the first stop string."""
        text = self.tokenizer.decode(tokens)
        text, string = before(text, self.stop)
        return Written(tokens, text, finished, string, score, drafted)


def rows_each(search: Search) -> int:
    """How many rows of one prompt a search keeps at once."""
    if isinstance(search, Contrastive):
        return search.top_k
    return search.n_best if isinstance(search, Sample) else search.width if isinstance(search, Beam) else 1


def before(text: str, strings: Sequence[str]) -> tuple[str, str | None]:
    """A text up to the first of some strings in it, and which."""
    place, string = min([(text.find(s), s) for s in strings if s in text], default=(len(text), None))
    return text[:place], string


def grows(config: Any) -> bool:
    """Whether a model turns its keys by how long a text has become, so that they depend on when they are made."""
    rotary = getattr(config, "rotary", None)
    return rotary is not None and rotary.speeds.grows


class DecoderStep:
    """What `generate` asks of a model that reads its own past, and a memory [B, S, D] where it is given one: each step
    reads only what the cache lacks.

    real: which places of prompts [B, t], padded on the left, hold something; None where all do.
    """

    def __init__(
        self, model: Any, real: Tensor | None = None, *, memory: Tensor | None = None, cache: Cache | None = None
    ):
        self.model, self.real, self.memory = model, real, memory
        self.cache = Cache(vouches=real is not None) if cache is None else cache
        self.scores: Tensor | None = None  # after the last token that was read

    def __call__(self, tokens: Tensor) -> Tensor:
        if self.scores is None or self.cache.length < tokens.shape[1]:  # else it was asked already
            self.scores = self.last(tokens, 1)[:, -1]
        return self.scores

    def last(self, tokens: Tensor, n: int) -> Tensor:
        """All rows so far [N, t] -> the scores after each of the last n tokens [N, n, V], which it has not read."""
        start, stop = self.cache.length, tokens.shape[1]
        run = Run(cache=self.cache, memory=self.memory)
        if self.real is not None:
            seen = torch.nn.functional.pad(self.real, (0, stop - self.real.shape[1]), value=True)  # [N, t]
            places = (seen.long().cumsum(1) - 1).clamp(min=0)[:, start:]
            run = replace(run, mask=Dense(seen[:, None, None]), positions=places)
        self.vectors = self.model.decode(tokens[:, start:], run)
        return self.model.head(self.vectors[:, -n:])

    def hidden(self) -> Tensor:
        """See `Step`; of places that the last call was the first to read."""
        if self.real is None or self.cache.length > self.real.shape[1]:
            return self.vectors
        return self.vectors.masked_fill(~self.real[:, -self.vectors.shape[1] :, None], 0)

    def cut(self, length: int) -> None:
        """Forget all places from `length` on."""
        self.cache.cut(length)

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        self.cache.keep(rows, sources)
        if self.real is not None:
            self.real = self.real[rows]
        if sources is not None and self.memory is not None:
            self.memory = self.memory[sources]


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


def searching(loaded: Loaded) -> tuple[Search, Beam]:
    """How a folder wants its texts continued, and the beam that it would search by, of 4 rows unless it says."""
    read, words = Settings(loaded, loaded.generation, "generation_config.json"), loaded.config.words
    return search_of(read, words, 1)[0], search_of(read, words, 4)[1]


def search_as_wide(loaded: Loaded, beam: int | None, n_best: int = 1) -> Search:
    """A folder's search, made as wide as was asked for; with one row, the greedy one, which tells what it writes."""
    found = as_wide(*searching(loaded), beam, n_best)
    return Greedy() if type(found) is Beam and found.width == 1 else found


@dataclass(frozen=True)
class Ways:
    """How a folder wants its continuations made: at most `most` new tokens, `longest` tokens in a row, prompt included.
    `stop`: strings that end one. `guidance`: how far the prompt is made stronger."""

    search: Search
    rules: TokenRules
    most: int | None
    longest: int | None
    stop: tuple[str, ...]
    guidance: float


def ways(loaded: Loaded) -> Ways:
    """What generation_config.json asks for, checked; warns of what `transformers` would obey and polyhead does not."""
    read = Settings(loaded, loaded.generation, "generation_config.json")
    search, _ = searching(loaded)
    rules = token_rules(read, loaded.config.words, ends_of(read, loaded.config.eos_id, loaded.config.words))
    most = read.whole("max_new_tokens", 1, 1) if "max_new_tokens" in read.asked else None
    longest = read.whole("max_length", 1, 1) if "max_length" in read.asked and most is None else None
    guidance = read.number("guidance_scale", 1.0, "a number", lambda _: True)
    if unheeded := [*read.asks(UNHEEDED), *unmarried(search, rules)]:
        warnings.warn(
            f"{loaded.folder or 'The model'} asks for {', '.join(unheeded)} in its generation settings, which "
            "polyhead does not do; answers may differ from those of transformers.",
            stacklevel=4,
        )
    return Ways(search, rules, most, longest, stops_of(read), guidance)
