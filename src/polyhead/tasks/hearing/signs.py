"""What a model of speech is told, and what it may not say: its folder's generation settings become signs by id.

<start> <language> <task> <no times>   ->  words ... <end>
<start> <language> <task>              ->  <0.00> words <2.40> ... <end>
<start> <no times>                         where a model knows one language only
<before> words that stand before           in front of any of these
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from polyhead.errors import ArgumentError, ConfigError, did_you_mean
from polyhead.generation import Beam, Forbid, Greedy, LogitRule, Search
from polyhead.generation.rules import ForbidFirst, NoRepeatNgram, RepetitionPenalty
from polyhead.generation.times import Times
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.decoding import is_whole
from polyhead.tasks.hearing.languages import CODES, code_of
from polyhead.tasks.load import Loaded

TASKS = ("transcribe", "translate")
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
SILENCE = ("<|nospeech|>", "<|nocaptions|>")  # as newer and older folders call it
LATEST = 1.0  # seconds: the first time of a window, unless the folder says (Radford et al. 2022, section 4.5)


@dataclass(frozen=True)
class Signs:
    """The ids that steer a model of speech, all from its folder.

    languages, tasks: their signs by code and name, empty where the model knows one language. language, task: what the
    folder asks for where nobody says. no_times, silence, before: None where the folder has none. latest: see `Times`.
    forbidden, forbidden_first: ids that are never said, or not at once. longest: tokens after the prompt. heads:
    (layer, head) pairs whose attention follows the speech, None where the folder names none; width: of the median that
    smooths it. marks: special tokens, which are no words. vocabulary: how many ids there are.
    """

    start: int
    end: int
    languages: Mapping[str, int]
    tasks: Mapping[str, int]
    language: str | None
    task: str
    no_times: int | None
    silence: int | None
    before: int | None
    latest: int | None
    forbidden: tuple[int, ...]
    forbidden_first: tuple[int, ...]
    more: tuple[LogitRule, ...]
    longest: int
    search: Search
    heads: tuple[tuple[int, int], ...] | None
    width: int
    marks: frozenset[int]
    vocabulary: int

    @property
    def first_time(self) -> int:
        """The id of time zero; what lies below is no time."""
        return self.vocabulary if self.no_times is None else self.no_times + 1

    def prompt(self, language: str | None, task: str, *, times: bool) -> list[int]:
        """What a window is begun with."""
        told = [self.start]
        if self.languages and language is not None:
            told += [self.languages[language], self.tasks[task]]
        return told if times or self.no_times is None else [*told, self.no_times]

    def rules(self, start: int, *, times: bool) -> list[LogitRule]:
        """What may be said after a prompt of `start` tokens."""
        rules: list[LogitRule] = [*self.more]
        rules += [ForbidFirst(start, self.forbidden_first)] if self.forbidden_first else []
        rules += [Forbid(self.forbidden)] if self.forbidden else []
        if times:
            assert self.no_times is not None
            rules.append(Times(start, self.first_time, self.end, self.no_times, self.latest))
        return rules

    def chosen(self, language: str | None, task: str | None) -> tuple[str | None, str]:
        """The code of the language, None where it must be heard, and the task. Raises ArgumentError for others."""
        task = self.task if task is None else task
        if task not in TASKS:
            raise ArgumentError(
                f"task must be transcribe or translate; found {task!r}.{did_you_mean(str(task), TASKS)}"
            )
        if language is not None and not isinstance(language, str):
            raise ArgumentError(f"language must be a language such as 'zh' or 'Chinese'; found {language!r}")
        code = self.language if language is None else code_of(language)
        if not self.languages:
            if task == "translate" or code not in (None, "en"):
                asked = "task='translate'" if task == "translate" else f"language={language!r}"
                raise ArgumentError(f"The model hears English only, and {asked} asks for more; leave it out")
            return "en", task
        if code is not None and code not in self.languages:
            known = {name: code for name, code in CODES.items() if code in self.languages}
            names = [*self.languages, *known]
            raise ArgumentError(
                f"The model knows no language '{language or code}'; its languages are {', '.join(self.languages)}."
                + did_you_mean((language or code).lower(), names)
            )
        if task not in self.tasks:
            raise ArgumentError(
                f"The model knows no task '{task}', only {', '.join(self.tasks) or 'none'}; leave it out"
            )
        return code, task


def signs(loaded: Loaded, step: float) -> Signs:
    """The signs of a folder: generation_config.json, where there is none config.json, and the tokens by their names.

    step: seconds from one time to the next. Raises ConfigError for settings that cannot be honoured, all at once.
    """
    config, tokenizer = loaded.config, loaded.tokenizer.target
    said = {key: value for key, value in (loaded.generation or loaded.raw).items() if value is not None}
    faults: list[str] = []

    def is_id(value: Any) -> bool:
        return is_whole(value) and 0 <= value < config.words

    def ids(key: str) -> tuple[int, ...]:
        found = said.get(key, [])
        if not isinstance(found, list) or not all(map(is_id, found)):
            faults.append(f"{key} is {found!r:.60}, expected a list of ids below {config.words}")
            return ()
        return tuple(found)

    def table(key: str, known: Mapping[str, int]) -> dict[str, int]:
        found = said.get(key, known)
        if not isinstance(found, Mapping) or not all(isinstance(k, str) and is_id(v) for k, v in found.items()):
            faults.append(f"{key} is {found!r:.60}, expected ids below {config.words} by name")
            return {}
        return {name.removeprefix("<|").removesuffix("|>"): id for name, id in found.items()}

    def one(key: str, default: Any, what: str, fits: Callable[[Any], bool]) -> Any:
        value = said.get(key, default)
        if value is not None and not fits(value):
            faults.append(f"{key} is {value!r:.60}, expected {what}")
            return default
        return value

    named = {name: tokenizer.named(name) for name in tokenizer.specials} if isinstance(tokenizer, Tokenizer) else {}
    named_languages = {found[1]: id for name, id in named.items() if (found := LANGUAGE.fullmatch(name))}
    named_tasks = {task: named[f"<|{task}|>"] for task in TASKS if f"<|{task}|>" in named}
    forced = forced_ids(said.get("forced_decoder_ids"), faults)
    languages, tasks = table("lang_to_id", named_languages), table("task_to_id", named_tasks)
    several = said.get("is_multilingual", speaks_several(said, forced, languages))
    own = {id: code for code, id in languages.items()}
    language = said.get("language") or own.get(forced.get(1, -1))
    no_times = one("no_timestamps_token_id", named.get("<|notimestamps|>"), "an id", is_id)
    no_times = None if no_times is not None and no_times + 1 >= config.words else no_times
    silence = next((named[name] for name in SILENCE if name in named), None if no_times is None else no_times - 1)
    penalty = one("repetition_penalty", 1.0, "a number above 0", lambda x: type(x) in (int, float) and x > 0)
    repeat = one("no_repeat_ngram_size", 0, "a whole number", lambda n: is_whole(n) and n >= 0)
    beams = one("num_beams", 1, "a whole number of at least 1", lambda n: is_whole(n) and n >= 1)
    length = one("length_penalty", 1.0, "a number", lambda x: type(x) in (int, float))
    latest = one(
        "max_initial_timestamp_index", round(LATEST / step), "a whole number", lambda n: is_whole(n) and n >= 0
    )
    longest = one("max_length", config.max_len, "a whole number of at least 2", lambda n: is_whole(n) and n >= 2)
    width = loaded.raw.get("median_filter_width", 7)
    if not (is_whole(width) and width > 0 and width % 2):
        faults.append(f"median_filter_width is {width!r:.60}, expected an odd number")
    made = Signs(
        start=one("decoder_start_token_id", config.start_id, "an id", is_id),
        end=config.eos_id,
        languages=languages if several else {},
        tasks=tasks if several else {},
        language=code_of(language) if isinstance(language, str) else None,
        task=said.get("task") or "transcribe",
        no_times=no_times,
        silence=silence,
        before=one("prev_sot_token_id", named.get("<|startofprev|>"), "an id", is_id),
        latest=latest,
        forbidden=ids("suppress_tokens"),
        forbidden_first=ids("begin_suppress_tokens"),
        more=(
            *([RepetitionPenalty(penalty)] if penalty != 1 else []),
            *([NoRepeatNgram(repeat)] if repeat else []),
        ),
        longest=longest,
        search=Greedy() if beams == 1 else Beam(beams, length_penalty=length),
        heads=heads_of(said.get("alignment_heads"), config.n_decoder_layers, config.n_decoder_heads, faults),
        width=width,
        marks=frozenset(named.values()),
        vocabulary=config.words,
    )
    if faults:
        raise ConfigError(f"{loaded.folder or 'The model'} has generation settings that are none: {'; '.join(faults)}.")
    return made


def forced_ids(pairs: Any, faults: list[str]) -> dict[int, int]:
    """What older folders force, id by place; places without an id are left open."""
    if pairs is None:
        return {}
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        faults.append(f"forced_decoder_ids is {pairs!r:.60}, expected pairs of a place and an id")
        return {}
    return {place: id for place, id in pairs if id is not None}


def speaks_several(said: Mapping[str, Any], forced: Mapping[int, int], languages: Mapping[str, int]) -> bool:
    """Whether a model that does not say so knows several languages: it has signs for them and forces no other first."""
    if "lang_to_id" in said:
        return bool(languages)
    return bool(languages) and (1 not in forced or forced[1] in languages.values())


def heads_of(pairs: Any, layers: int, heads: int, faults: list[str]) -> tuple[tuple[int, int], ...] | None:
    """The heads that follow the speech, as the folder names them."""
    if not pairs:
        return None
    fits = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(is_whole(n) and n >= 0 for n in pair) for pair in pairs
    )
    if not fits or any(layer >= layers or head >= heads for layer, head in pairs):
        faults.append(
            f"alignment_heads is {pairs!r:.60}, expected pairs of a layer below {layers} and a head below {heads}"
        )
        return None
    return tuple((layer, head) for layer, head in pairs)
