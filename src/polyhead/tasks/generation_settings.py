"""A folder's generation settings become a search and the rules of tokens, as `transformers` reads and orders them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from polyhead.errors import ConfigError
from polyhead.generation import (
    Beam,
    ConstrainedBeam,
    Contrastive,
    DiverseBeam,
    EndsGrow,
    Forbid,
    ForbidFirst,
    ForcedAt,
    Greedy,
    Hypothesis,
    LogitRule,
    MinLength,
    NoRepeatNgram,
    Normalize,
    RepetitionPenalty,
    Sample,
    SampledBeam,
    Search,
    SequenceBias,
    Source,
    SourceNoRepeatNgram,
    SourceReward,
)
from polyhead.generation.candidates import Candidates
from polyhead.generation.search import WIDEST
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.load import Loaded


class Settings:
    """Settings of a folder's file, each read with what it must be; `task` outweighs them. Raises ConfigError."""

    def __init__(
        self, loaded: Loaded, said: Mapping[str, Any], file: str, task: Mapping[str, Any] | None = None
    ) -> None:
        self.task = task or {}
        self.asked = {key: value for key, value in {**said, **self.task}.items() if value is not None}
        self.place = str(loaded.folder / file) if loaded.folder else "The generation settings"

    def get(self, key: str, default: Any, what: str, fits: Callable[[Any], bool]) -> Any:
        value = self.asked.get(key, default)
        if not fits(value):
            where = "task_specific_params of config.json" if key in self.task else self.place
            raise ConfigError(f"{where}: {key} is {value!r}, but must be {what}.")
        return value

    def whole(self, key: str, default: int, least: int, most: float = math.inf) -> int:
        what = f"a whole number of at least {least}" + (f" and at most {most}" if most < math.inf else "")
        return self.get(key, default, what, lambda n: is_whole(n) and least <= n <= most)

    def number(self, key: str, default: float, what: str, fits: Callable[[float], bool]) -> float:
        return self.get(key, default, what, lambda x: is_number(x) and fits(x))

    def flag(self, key: str) -> bool:
        return self.get(key, False, "true or false", lambda x: isinstance(x, bool))

    def ids(self, key: str, words: float) -> list[int]:
        """A list of tokens, which may be empty."""
        return self.get(key, [], "a list of token ids", lambda ids: ids == [] or are_ids([ids], words))

    def asks(self, neutral: Mapping[str, tuple[Any, ...]]) -> list[str]:
        """Which of some settings are asked for, and not with a value that asks for nothing."""
        return [key for key, none in neutral.items() if key in self.asked and self.asked[key] not in none]


def search_of(read: Settings, words: float, usual_width: int) -> tuple[Search, Beam]:
    """How a folder wants to search, and the beam that it would search by. `usual_width`: of a beam, unless it says."""
    power = read.number("length_penalty", 1.0, "a finite number", lambda _: True)
    early = read.get("early_stopping", False, 'true, false or "never"', lambda x: isinstance(x, bool) or x == "never")
    drawn, alpha = drawing(read), read.number("penalty_alpha", 0.0, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    alone = 1 if drawn or alpha else usual_width
    width = read.whole("num_beams", alone, 1, WIDEST)
    groups = read.get(
        "num_beam_groups", 1, f"a whole number that divides num_beams, {width}",
        lambda n: is_whole(n) and n >= 1 and width % n == 0,
    )  # fmt: skip
    penalty = read.number("diversity_penalty", 0.0, "a number of at least 0", lambda x: x >= 0)
    forced = read.get("force_words_ids", [], "a list of lists of token ids", lambda rows: are_forced(rows, words))
    top_k = read.whole("top_k", 50, 0, WIDEST if alpha and not drawn else math.inf)
    beam = Beam(width, length_penalty=power, early_stopping=early)
    if forced:
        whole = [[phrase] if is_whole(phrase[0]) else phrase for phrase in forced]
        beam = ConstrainedBeam(width, power, early_stopping=early, forced=whole)
        return beam, beam
    if groups > 1:
        beam = DiverseBeam(width, power, early_stopping=early, groups=groups, penalty=penalty)
        return beam, beam
    if width > 1:
        return (SampledBeam(width, power, early_stopping=early, draw=drawn), beam) if drawn else (beam, beam)
    if drawn:
        return drawn, beam
    return (Contrastive(alpha, top_k) if alpha and top_k > 1 else Greedy()), beam


def spelled(search: Search, words: Tokenizer) -> Search:
    """The same search, forced words in the tokens of what it writes."""
    return search.spelled(words.phrases) if isinstance(search, ConstrainedBeam) and search.words else search


def tell_lacking(search: Search, answers: Sequence[Sequence[Hypothesis]]) -> None:
    """Warn where the best answers do not hold all that was forced."""
    if isinstance(search, ConstrainedBeam):
        lacking = sum(search.missing(some[0].tokens) > 0 for some in answers if some)
        if lacking:
            warnings.warn(
                f"{lacking} of {len(answers)} answers do not hold all that was forced: the limit on their length came"
                " first. Allow more tokens or a wider beam, or force what the model may say.",
                stacklevel=3,
            )


def drawing(read: Settings) -> Sample | None:
    """How a folder wants its tokens drawn, if it does; with a temperature of 0 the likeliest is taken."""
    heat = read.number("temperature", 1.0, "a number of at least 0", lambda x: x >= 0)
    share = "a number above 0 and at most 1"
    cuts: dict[str, Any] = {
        "top_p": read.number("top_p", 1.0, share, lambda x: 0 < x <= 1),
        "min_p": read.number("min_p", 0.0, "a number from 0 to 1", lambda x: 0 <= x <= 1),
        "typical_p": read.number("typical_p", 1.0, share, lambda x: 0 < x <= 1),
        "epsilon_cutoff": read.number("epsilon_cutoff", 0.0, "a number from 0 to 1", lambda x: 0 <= x <= 1) % 1,
        "eta_cutoff": read.number("eta_cutoff", 0.0, "a number from 0 to 1", lambda x: 0 <= x <= 1) % 1,
    }  # a cut-off of 1 asks for nothing, as one of 0
    part = read.get("top_h", None, share, lambda x: x is None or (is_number(x) and 0 < x <= 1))
    top_k = read.whole("top_k", 50, 0) or None
    return Sample(heat, top_k, top_h=part, **cuts) if read.flag("do_sample") and heat else None


@dataclass(frozen=True)
class TokenRules:
    """What generation settings ask of tokens. Lengths count the prompt, but for `min_new`, `limit` and `decay`.

    ends: tokens that end an answer. last: of these one is the token at the limit.
    """

    ends: tuple[int, ...]
    biases: tuple[tuple[tuple[int, ...], float], ...] = ()
    source_reward: float = 1.0
    penalty: float = 1.0
    repeat: int = 0
    source_repeat: int = 0
    bad: tuple[tuple[int, ...], ...] = ()
    min_length: int = 0
    min_new: int = 0
    first: int | None = None
    last: tuple[int, ...] = ()
    decay: tuple[int, float] | None = None
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    normalize: bool = False

    @property
    def look(self) -> bool:
        """Whether they look at what stands in a row already, where padding must not be, or at a limit that differs."""
        several = any(len(ids) > 1 for ids in (*self.bad, *(ids for ids, _ in self.biases)))
        return (
            self.penalty != 1 or bool(self.repeat or self.min_length or self.last) or self.first is not None or several
        )

    @property
    def wanted(self) -> tuple[int, ...]:
        """Tokens that must be there to be said: ends, what is forced, and what is to gain."""
        forced = () if self.first is None else (self.first,)
        return (*self.ends, *forced, *self.last, *(token for ids, gain in self.biases if gain > 0 for token in ids))

    def among(self, candidates: Candidates) -> TokenRules:
        """The same in the candidates' numbers; what is asked of others falls away."""
        biases = ((candidates.run(ids), gain) for ids, gain in self.biases)
        return replace(
            self,
            ends=candidates.those(self.ends),
            biases=tuple((run, gain) for run, gain in biases if run),
            bad=tuple(run for ids in self.bad if (run := candidates.run(ids))),
            first=None if self.first is None else candidates.those([self.first])[0],
            last=candidates.those(self.last),
            never=candidates.those(self.never),
            never_first=candidates.those(self.never_first),
        )

    def rules(self, start: int, *, limit: int, source: Source | None = None) -> list[LogitRule]:
        """The rules of rows whose prompt is `start` tokens long and that get at most `limit` more, in the order of
        `transformers`. source: what the answer is to; without it, nothing is asked in view of it."""
        forbidden = sorted({*self.never, *(ids[0] for ids in self.bad if len(ids) == 1)})
        runs = tuple((ids, -math.inf) for ids in self.bad if len(ids) > 1)
        begin = start if start > 1 or self.first is None else start + 1  # a first token that is forced is no choice
        found: list[LogitRule | None] = [
            SequenceBias(self.biases) if self.biases else None,
            SourceReward(self.source_reward, source) if source and self.source_reward != 1 else None,
            RepetitionPenalty(self.penalty) if self.penalty != 1 else None,
            NoRepeatNgram(self.repeat) if self.repeat else None,
            SourceNoRepeatNgram(self.source_repeat, source) if source and self.source_repeat else None,
            SequenceBias(runs) if runs else None,
            Forbid(forbidden) if forbidden else None,
            MinLength(self.min_length, self.ends) if self.min_length and self.ends else None,
            MinLength(start + self.min_new, self.ends) if self.min_new and self.ends else None,
            ForcedAt(2, [self.first]) if self.first is not None else None,  # as the token that follows a start alone
            ForcedAt(start + limit, self.last) if self.last else None,
            EndsGrow(start + self.decay[0], self.decay[1], self.ends) if self.decay and self.ends else None,
            ForbidFirst(begin, self.never_first) if self.never_first else None,
            Normalize() if self.normalize else None,
        ]
        return [rule for rule in found if rule is not None]


def token_rules(read: Settings, words: float, ends: Sequence[int], never: Collection[int] = ()) -> TokenRules:
    """What settings ask of tokens, of a vocabulary of so many words; `ends` end an answer, `never` may not be said."""
    bad = read.get("bad_words_ids", [], "a list of lists of token ids", lambda rows: are_ids(rows, words))
    bias = read.get("sequence_bias", [], "a list of [token ids, number]", lambda pairs: are_biases(pairs, words))
    decay = read.get("exponential_decay_length_penalty", None, "[a whole number, a number above 0]", is_decay)
    first = read.get("forced_bos_token_id", None, "a token id", lambda n: n is None or are_ids([[n]], words))
    last = read.get(
        "forced_eos_token_id", [], "a token id, or several", lambda n: n == [] or are_ids([listed(n)], words)
    )
    new = "min_new_tokens" in read.asked
    shortest, min_new = read.whole("min_length", 0, 0), read.whole("min_new_tokens", 0, 0)
    return TokenRules(
        ends=tuple(ends),
        biases=tuple({tuple(ids): float(value) for ids, value in bias or ()}.items()),
        source_reward=read.number("encoder_repetition_penalty", 1.0, "a number above 0", lambda x: x > 0),
        penalty=read.number("repetition_penalty", 1.0, "a number above 0", lambda x: x > 0),
        repeat=read.whole("no_repeat_ngram_size", 0, 0),
        source_repeat=read.whole("encoder_no_repeat_ngram_size", 0, 0),
        bad=tuple(dict.fromkeys(tuple(ids) for ids in bad if ids not in [[end] for end in ends])),
        min_length=0 if new else shortest,
        min_new=min_new,
        first=first,
        last=tuple(listed(last)),
        decay=None if decay is None else (decay[0], float(decay[1])),
        never=tuple(sorted({*never, *read.ids("suppress_tokens", words)})),
        never_first=tuple(read.ids("begin_suppress_tokens", words)),
        normalize=read.flag("renormalize_logits"),
    )


def ends_of(read: Settings, usual: int | None, words: float) -> list[int]:
    """The tokens that end an answer, each once; one beyond the model's vocabulary ends none, and is left out."""
    what, none = "a token id or a list of them", [] if usual is None else usual
    ids = read.get("eos_token_id", none, what, lambda ids: ids == [] or are_ids([listed(ids)], math.inf))
    return [token for token in dict.fromkeys(listed(ids)) if token < words]


def stops_of(read: Settings) -> tuple[str, ...]:
    """The strings that end an answer."""
    what = "a string that is not empty, or a list of such"
    found = read.get("stop_strings", [], what, lambda some: all(isinstance(s, str) and s for s in listed(some)))
    return tuple(listed(found))


def listed(value: Any) -> Any:
    """One thing as a list of it."""
    return value if isinstance(value, list) else [value]


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether this is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether this is a finite number, and no truth value."""
    return type(value) in (int, float) and math.isfinite(value)


def are_ids(rows: Any, words: float) -> bool:
    """Whether these are lists of tokens, none empty, of a vocabulary of so many words."""
    return isinstance(rows, list) and all(
        isinstance(row, list) and row and all(is_whole(token) and 0 <= token < words for token in row) for row in rows
    )


def are_forced(rows: Any, words: float) -> bool:
    """Whether these are phrases, or lists of phrases of which one is wanted."""
    return isinstance(rows, list) and all(are_ids([row], words) or (row and are_ids(row, words)) for row in rows)


def are_biases(pairs: Any, words: float) -> bool:
    """Whether these are pairs of a list of tokens and what it gains."""
    return pairs == {} or (
        isinstance(pairs, list)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        and all(are_ids([ids], words) and is_number(gain) for ids, gain in pairs)
    )


def is_decay(value: Any) -> bool:
    """Whether this says from which token on, and how fast, ends become likelier; or nothing."""
    return value is None or (
        isinstance(value, list | tuple)
        and len(value) == 2
        and is_whole(value[0])
        and is_number(value[1])
        and value[1] > 0
    )
