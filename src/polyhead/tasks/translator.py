"""Sentences of one language become sentences of another, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from polyhead.core import Run
from polyhead.core.packed import packed
from polyhead.errors import ArgumentError, DataError
from polyhead.generation import EndToken, ForcedEnd, Hypothesis, LogitRule, Search, generate, sorted_batches
from polyhead.inputs.batch import pad
from polyhead.inputs.text import clean
from polyhead.operator import Cache, Dense, Lengths
from polyhead.tasks.decoding import chosen_search, decoding, is_whole, told
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, able, ready, texts_of

BATCH_TOKENS = 1024  # source tokens, padding included, in one batch
ROWS = 64  # sentences in one batch


@dataclass(frozen=True)
class Candidate:
    """One translation and its score, the log-probability divided by length ** length_penalty."""

    text: str
    score: float | None


@dataclass(frozen=True)
class Translation:
    """A source line, its best translation, and the n best with their scores (none for a line of only spaces)."""

    source: str
    text: str
    candidates: tuple[Candidate, ...]


class EncoderDecoderStep:
    """What `generate` asks of an encoder-decoder: the memory is made once, each step reads only the newest tokens."""

    def __init__(self, model: Any, source: Tensor, lengths: Tensor):
        self.model, self.cache = model, Cache()
        self.seen = torch.arange(source.shape[1], device=source.device) < lengths[:, None]  # [B, S]
        memory = model.encode(source, Run(mask=Lengths(lengths)))
        self.run = Run(memory=memory, memory_mask=self.mask(), cache=self.cache)

    def __call__(self, tokens: Tensor) -> Tensor:
        new = tokens[:, self.cache.length :]
        return self.model.head(self.model.decode(new, self.run)[:, -1])  # [N, V]

    def keep(self, rows: Tensor, sources: Tensor | None = None) -> None:
        self.cache.keep(rows, sources)
        if sources is not None:
            assert self.run.memory is not None
            self.seen = self.seen[sources]
            self.run = replace(self.run, memory=self.run.memory[sources], memory_mask=self.mask())

    def mask(self) -> Dense | None:
        """What every step sees of the memory, written out once: it is read again and again."""
        return None if self.seen.all() else Dense(self.seen[:, None, None])  # [B, 1, 1, S]


class Translator:
    """A loaded model made ready to translate: weights packed once, decoding settings read from its folder.

    search: unless given, the folder's beam. max_new: the most tokens of a translation, at least 1. Raises ArgumentError
    and, for generation settings that are none, ConfigError; warns of those that are not obeyed.
    """

    def __init__(self, loaded: Loaded, *, search: Search | None = None, max_new: int | None = None):
        if max_new is not None and not (is_whole(max_new) and max_new >= 1):
            raise ArgumentError(f"max_new is {max_new!r}, but must be a whole number of at least 1.")
        able(loaded, ("translation", "text to text"), "translate")
        self.config, self.tokenizer, self.device = loaded.config, loaded.tokenizer, loaded.device
        how = told(decoding(loaded), loaded)
        self.model = packed(loaded.model)
        self.search = search or how.beam
        self.most = self.config.max_len - 1 if max_new else how.longest - 1  # the start token is one of the row
        self.max_new = max_new and min(max_new, self.most)
        self.stop = EndToken([self.config.eos_id])
        self.rules: list[LogitRule] = [*how.rules]
        if self.config.forced_end_id is not None:
            self.rules.append(ForcedEnd(self.most + 1, [self.config.forced_end_id]))

    def __call__(
        self,
        lines: Sequence[str],
        *,
        numbers: Sequence[int] | None = None,
        file: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> list[Translation]:
        """Translate lines; as many come back, in order. `progress` hears how many more are done.

        `numbers` are the lines' numbers in their `file` (1, 2, ... unless given): messages cite both, sampling draws by
        the numbers. Raises DataError, before anything is translated, if a line is longer than the model's positions.
        """
        numbers = range(1, len(lines) + 1) if numbers is None else numbers
        sources, ids = self.read(lines, numbers=numbers, file=file)
        answers: dict[int, list[Hypothesis]] = {i: [] for i, text in enumerate(sources) if not text}
        if progress and answers:
            progress(len(answers))
        full = [i for i, text in enumerate(sources) if text]
        for places in sorted_batches([len(ids[i]) for i in full], budget=BATCH_TOKENS, rows=ROWS):
            batch = [full[place] for place in places]
            found = self.batch([ids[i] for i in batch], numbers=[numbers[i] for i in batch])
            answers.update(zip(batch, found, strict=True))
            if progress:
                progress(len(batch))
        texts = iter(self.tokenizer.target.decode_batch([a.tokens for i in range(len(lines)) for a in answers[i]]))
        result: list[Translation] = []
        for i, line in enumerate(lines):
            candidates = tuple(Candidate(next(texts), answer.score) for answer in answers[i])
            result.append(Translation(line, candidates[0].text if candidates else "", candidates))
        return result

    def read(
        self, lines: Sequence[str], *, numbers: Sequence[int], file: str = ""
    ) -> tuple[list[str], list[list[int]]]:
        """Lines cleaned, and their ids. Raises DataError if one is longer than the model's positions."""
        sources = [clean(line) for line in lines]
        ids = self.tokenizer.source.encode_batch(sources)
        for number, text, row in zip(numbers, sources, ids, strict=True):
            if len(row) > self.config.max_len and text:
                place = f"{file} line {number}" if file else f"Line {number}"
                raise DataError(
                    f"{place} has {len(row)} tokens, but the model reads at most {self.config.max_len}; "
                    "split it into sentences"
                )
        return sources, ids

    @torch.inference_mode()
    def batch(self, ids: Sequence[Sequence[int]], *, numbers: Sequence[int] | None = None) -> list[list[Hypothesis]]:
        """The hypotheses for each row of source ids, best first."""
        source, lengths = (side.to(self.device) for side in pad(ids, self.config.pad_id))
        start = torch.full((len(ids), 1), self.config.start_id, device=self.device)
        longest = 2 * lengths + 30 if self.max_new is None else torch.full_like(lengths, self.max_new)
        longest = longest.clamp(max=self.most)
        step = EncoderDecoderStep(self.model, source, lengths)
        return generate(
            step, start, search=self.search, max_new=longest, rules=self.rules, stop=self.stop, numbers=numbers
        )


@overload
def translate(
    texts: str,
    *,
    model: str | Path | Loaded = ...,
    beam: int | None = ...,
    n_best: int | None = ...,
    search: Search | None = ...,
    max_new: int | None = ...,
    device: Device = ...,
) -> Translation: ...
@overload
def translate(
    texts: Iterable[str],
    *,
    model: str | Path | Loaded = ...,
    beam: int | None = ...,
    n_best: int | None = ...,
    search: Search | None = ...,
    max_new: int | None = ...,
    device: Device = ...,
) -> list[Translation]: ...
def translate(
    texts: str | Iterable[str],
    *,
    model: str | Path | Loaded = "zh-en",
    beam: int | None = None,
    n_best: int | None = None,
    search: Search | None = None,
    max_new: int | None = None,
    device: Device = "auto",
) -> Translation | list[Translation]:
    """Translate one text, or many.

    model: a folder, a shipped model's name, or what `load` returned. beam, n_best: how many translations are kept in
    sight (the folder's num_beams or 4, or `n_best` where that is more) and given back (1). search: another way to
    search, `Greedy()` or `Sample(...)`, in place of the beam. max_new: the most tokens a translation may have; unless
    given, twice as many as its source and 30 more, within the folder's max_length. Rules of the folder's
    generation_config.json, such as no_repeat_ngram_size, hold for every search.
    device: "auto" is CUDA where there is one, else the CPU; a loaded model stays where it is.

    An empty text gives an empty translation; as many come back as went in, in the same order. Raises ArgumentError,
    CheckpointError, and DataError for a text beyond the model's positions.
    """
    lines, loaded = texts_of(texts), ready(model, device)
    found = Translator(loaded, search=chosen_search(loaded, search, beam, n_best), max_new=max_new)(lines)
    return found[0] if isinstance(texts, str) else found
