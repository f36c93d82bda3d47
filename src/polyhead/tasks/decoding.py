"""A folder's generation settings become the beam, the rules and the limit that an encoder-decoder answers by."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from polyhead.errors import ArgumentError, ConfigError
from polyhead.generation import (
    Beam,
    Forbid,
    ForcedAt,
    LogitRule,
    MinLength,
    NoRepeatNgram,
    RepetitionPenalty,
    Search,
)
from polyhead.tasks.load import Loaded

WIDEST = 1000  # rows of one source; a beam of more asks for memory and finds nothing

# What would change words and is not done here, each with the values that ask for nothing.
UNHEEDED: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "min_new_tokens": (0,),
    "forced_bos_token_id": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "constraints": ([],),
    "renormalize_logits": (False,),
    "guidance_scale": (1,),
    "penalty_alpha": (0,),
    "stop_strings": ([],),
}


@dataclass(frozen=True)
class Decoding:
    """How a folder wants its answers made. `longest`: tokens in a row, the start token included; `limited`: whether the
    folder says so, and not only the model's places. `last`: of these tokens one ends a row that reaches the limit."""

    beam: Beam
    rules: tuple[LogitRule, ...]
    longest: int
    limited: bool
    unheeded: tuple[str, ...]
    last: tuple[int, ...] = ()


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
        return self.get(key, default, what, lambda x: type(x) in (int, float) and math.isfinite(x) and fits(x))


def decoding(loaded: Loaded, task: Mapping[str, Any] | None = None) -> Decoding:
    """What generation_config.json, or config.json in folders of before 2023, asks for; a beam of 4 unless it says.

    num_beams, length_penalty, early_stopping, no_repeat_ngram_size, repetition_penalty, bad_words_ids (of one token
    each), forced_bos_token_id, forced_eos_token_id, min_length, max_length and max_new_tokens mean what they mean to
    `transformers`. `task`: settings for what is asked of the model, which outweigh the others. `unheeded` names those
    that `transformers` would obey and polyhead does not. Raises ConfigError for a value that is none.
    """
    config, file = loaded.config, "generation_config.json" if loaded.generation else "config.json"
    said = loaded.generation or loaded.raw or {"forced_eos_token_id": config.forced_end_id}  # of a new model: its own
    read = Settings(loaded, said, file, task)
    asked, get, whole, number = read.asked, read.get, read.whole, read.number

    words = get("bad_words_ids", [], "a list of lists of token ids", lambda rows: are_ids(rows, config.words))
    longest = whole("max_length", config.max_len, 2)
    longest = min(config.max_len, whole("max_new_tokens", longest - 1, 1) + 1)
    beam = Beam(
        whole("num_beams", 4, 1, WIDEST),
        length_penalty=number("length_penalty", 1.0, "a finite number", lambda _: True),
        early_stopping=get(
            "early_stopping", False, 'true, false or "never"', lambda x: isinstance(x, bool) or x == "never"
        ),
    )
    penalty = number("repetition_penalty", 1.0, "a number above 0", lambda x: x > 0)
    repeat, least = whole("no_repeat_ngram_size", 0, 0), whole("min_length", 0, 0)
    rules: list[LogitRule] = [RepetitionPenalty(penalty)] if penalty != 1 else []
    rules += [NoRepeatNgram(repeat)] if repeat else []
    rules += [Forbid(sorted({config.pad_id, *(row[0] for row in words if len(row) == 1)}))]
    rules += [MinLength(least, [config.eos_id])] if least else []
    first = get("forced_bos_token_id", None, "a token id", lambda n: n is None or are_ids([[n]], config.words))
    rules += [] if first is None else [ForcedAt(2, [first])]  # the token that makes a row, of a start alone, 2 long
    last = get(
        "forced_eos_token_id", [], "a token id, or several", lambda n: n == [] or are_ids([listed(n)], config.words)
    )

    heeded = {"forced_bos_token_id"}
    unheeded = [k for k, none in UNHEEDED.items() if k not in heeded and k in asked and asked[k] not in none]
    unheeded += ["bad_words_ids of several tokens"] if any(len(row) > 1 for row in words) else []
    ends = config.eos_id, [config.eos_id]
    unheeded += ["eos_token_id"] if asked.get("eos_token_id", ends[0]) not in ends else []
    limited = "max_length" in asked or "max_new_tokens" in asked
    return Decoding(beam, tuple(rules), longest, limited, tuple(unheeded), tuple(listed(last)))


def told(how: Decoding, loaded: Loaded) -> Decoding:
    """The same, after a warning that names what the folder asks for and will not get."""
    if how.unheeded:
        warnings.warn(
            f"{loaded.folder or 'The model'} asks for {', '.join(how.unheeded)} in its generation settings, which "
            "polyhead does not do; answers may differ from those of transformers.",
            stacklevel=3,
        )
    return how


def chosen_search(
    loaded: Loaded,
    search: Search | None,
    beam: int | None,
    n_best: int | None = None,
    *,
    task: Mapping[str, Any] | None = None,
) -> Search:
    """The search that was given, or the folder's beam, made as wide as was asked for; not both."""
    for name, value in {"beam": beam, "n_best": n_best}.items():
        if value is not None and not (is_whole(value) and 1 <= value <= WIDEST):
            raise ArgumentError(f"{name} is {value!r}, but must be a whole number from 1 to {WIDEST}.")
    if search is None:
        usual, answers = decoding(loaded, task).beam, n_best or 1
        return replace(usual, width=max(usual.width, answers) if beam is None else beam, n_best=answers)
    if beam is not None or n_best is not None:
        raise ArgumentError(f"beam and n_best are Beam's, but search is {search}; leave them out, or give search=Beam.")
    return search


def listed(value: Any) -> Any:
    """One thing as a list of it."""
    return value if isinstance(value, list) else [value]


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether this is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_ids(rows: Any, words: float) -> bool:
    """Whether these are lists of tokens, none empty, of a vocabulary of so many words."""
    return isinstance(rows, list) and all(
        isinstance(row, list) and row and all(is_whole(token) and 0 <= token < words for token in row) for row in rows
    )
