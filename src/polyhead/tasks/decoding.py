"""A folder's generation settings become the search, the rules and the limit that an encoder-decoder answers by."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyhead.errors import ArgumentError
from polyhead.generation import Beam, DiverseBeam, Greedy, Sample, SampledBeam, Search
from polyhead.generation.search import WIDEST
from polyhead.tasks.generation_settings import (
    Settings,
    TokenRules,
    ends_of,
    is_whole,
    search_of,
    stops_of,
    token_rules,
)
from polyhead.tasks.load import Loaded

# What would change words and is not done, each with the values that ask for nothing.
UNHEEDED: dict[str, tuple[Any, ...]] = {
    "constraints": ([],),  # objects of another program; `force_words_ids` says the same in numbers
    "dola_layers": (),  # compares what layers inside the model would say, which a step does not tell
    "token_healing": (False,),  # changes the prompt
    "watermarking_config": (),  # marks answers for a detector, of which there is none here
    "max_time": (),  # answers would depend on the machine
}
GUIDED = {"guidance_scale": (1,)}  # a second reading, without the prompt, of which only decoders are capable


@dataclass(frozen=True)
class Decoding:
    """How a folder wants its answers made. `beam`: by which it searches, or would. `longest`: tokens in a row, the
    start token included; `limited`: whether the folder says so, and not only the model's places. `stop`: strings that
    end an answer."""

    search: Search
    beam: Beam
    rules: TokenRules
    longest: int
    limited: bool
    unheeded: tuple[str, ...]
    stop: tuple[str, ...] = ()


def decoding(loaded: Loaded, task: Mapping[str, Any] | None = None) -> Decoding:
    """What generation_config.json, or config.json in folders of before 2023, asks for; a beam of 4 unless it says.

    Settings mean what they mean to `transformers`. `task`: settings for what is asked of the model, which outweigh the
    others. `unheeded` names those that `transformers` would obey and polyhead does not. Raises ConfigError for a value
    that is none.
    """
    config, file = loaded.config, "generation_config.json" if loaded.generation else "config.json"
    said = loaded.generation or loaded.raw or {"forced_eos_token_id": config.forced_end_id}  # of a new model: its own
    read = Settings(loaded, said, file, task)
    longest = read.whole("max_length", config.max_len, 2)
    longest = min(config.max_len, read.whole("max_new_tokens", longest - 1, 1) + 1)
    search, beam = search_of(read, config.words, 4)
    ends = ends_of(read, config.eos_id, config.words)
    rules = token_rules(read, config.words, ends, never={config.pad_id} - {*ends})  # some models end by their padding
    limited = "max_length" in read.asked or "max_new_tokens" in read.asked
    search = beam if isinstance(search, Greedy) else search  # a beam of one row, which tells its score
    unheeded = (*read.asks(UNHEEDED | GUIDED), *unmarried(search, rules))
    return Decoding(search, beam, rules, longest, limited, unheeded, stops_of(read))


def unmarried(search: Search, rules: TokenRules) -> list[str]:
    """What is done, but not together."""
    both = rules.normalize and isinstance(search, SampledBeam)  # after the cuts of draws, which are no rules here
    return ["renormalize_logits beside num_beams and do_sample"] if both else []


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
        how = decoding(loaded, task)
        return as_wide(how.search, how.beam, beam, n_best or 1)
    if beam is not None or n_best is not None:
        raise ArgumentError(f"beam and n_best are Beam's, but search is {search}; leave them out, or give search=Beam.")
    return search


def as_wide(search: Search, usual: Beam, beam: int | None, answers: int) -> Search:
    """A folder's search, as wide as was asked for and for as many answers; `usual`: the beam where it has none."""
    if beam is None and isinstance(search, Sample):
        return replace(search, n_best=answers, scored=answers > 1)
    if beam is None and answers == 1 and not isinstance(search, Beam):
        return search
    usual = search if isinstance(search, Beam) else usual
    return replace(usual, width=widened(usual, answers) if beam is None else beam, n_best=answers)


def widened(beam: Beam, answers: int) -> int:
    """The width of a beam, or as much more as so many answers need."""
    groups = beam.groups if isinstance(beam, DiverseBeam) else 1
    return max(beam.width, -(-answers // groups) * groups)
