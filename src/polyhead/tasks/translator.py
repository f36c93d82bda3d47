"""Sentences of one language become sentences of another, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from polyhead.errors import DataError
from polyhead.generation import Search
from polyhead.inputs.text import clean
from polyhead.tasks.asking import Asking, asking
from polyhead.tasks.decoder import Candidate
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.needs import able
from polyhead.tasks.shortlist import Shortlist, passing
from polyhead.tasks.text_to_text import TextToText
from polyhead.tasks.workers import Workers, workable


@dataclass(frozen=True)
class Translation:
    """A source line, its best translation, and the n best with their scores (none for a line of only spaces)."""

    source: str
    text: str
    candidates: tuple[Candidate, ...]


class Translator(TextToText):
    """A loaded model made ready to translate: weights packed once, decoding settings read from its folder.

    search: unless given, the folder's beam. max_new: the most tokens of a translation, at least 1. said: what is said
    to a model that is asked in words; unless given, as its folder wants it. workers: who answers, this process alone
    unless given. shortlist: of the words that may be said, or its file. Raises ArgumentError and, for generation
    settings that are none, ConfigError; warns of those that are not obeyed.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        search: Search | None = None,
        max_new: int | None = None,
        said: Asking | None = None,
        workers: Workers | None = None,
        shortlist: Shortlist | str | Path | None = None,
    ):
        able(loaded, "translate")
        said = said or asking(loaded, "translation")
        super().__init__(loaded, said, search=search, max_new=max_new, workers=workers, shortlist=shortlist)
        few = passing(self.shortlist) if self.workers.count > 1 else None
        self.workers.open(Translator, loaded, search=self.search, max_new=max_new, said=said, shortlist=few)

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
        full = [i for i, text in enumerate(sources) if text]
        if progress and len(full) < len(lines):
            progress(len(lines) - len(full))
        found = self.answers([ids[i] for i in full], numbers=[numbers[i] for i in full], progress=progress)
        answers = dict(zip(full, found, strict=True))
        return [
            Translation(line, answers[i][0].text, answers[i]) if i in answers else Translation(line, "", ())
            for i, line in enumerate(lines)
        ]

    def read(
        self, lines: Sequence[str], *, numbers: Sequence[int], file: str = ""
    ) -> tuple[list[str], list[list[int]]]:
        """Lines cleaned, and the ids of each as it is asked. Raises DataError if one is longer than the model reads."""
        sources = [clean(line) for line in lines]
        ids = self.tokenizer.source.encode_batch([self.asking.of(text) for text in sources])
        for number, text, row in zip(numbers, sources, ids, strict=True):
            if len(row) > self.config.max_len and text:
                place = f"{file} line {number}" if file else f"Line {number}"
                raise DataError(
                    f"{place} has {len(row)} tokens, but the model reads at most {self.config.max_len}; "
                    "split it into sentences"
                )
        return sources, ids


@overload
def translate(
    texts: str,
    *,
    model: str | Path | Loaded = ...,
    beam: int | None = ...,
    n_best: int | None = ...,
    search: Search | None = ...,
    max_new: int | None = ...,
    task: str | None = ...,
    prefix: str | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    workers: int = ...,
    shortlist: Shortlist | str | Path | None = ...,
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
    task: str | None = ...,
    prefix: str | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    workers: int = ...,
    shortlist: Shortlist | str | Path | None = ...,
) -> list[Translation]: ...
def translate(
    texts: str | Iterable[str],
    *,
    model: str | Path | Loaded = "zh-en",
    beam: int | None = None,
    n_best: int | None = None,
    search: Search | None = None,
    max_new: int | None = None,
    task: str | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    workers: int = 1,
    shortlist: Shortlist | str | Path | None = None,
) -> Translation | list[Translation]:
    """Translate one text, or many.

    model: a folder, a shipped model's name, or what `load` returned. beam, n_best: how many translations are kept in
    sight (the folder's num_beams or 4, or `n_best` where that is more) and given back (1). search: another way to
    search, `Greedy()`, `Sample(...)`, `ConstrainedBeam(...)`, ..., in place of the beam. max_new: the most tokens a
    translation may have; unless given, twice as many as its source and 30 more, within the folder's max_length. Rules
    of the folder's generation_config.json, such as no_repeat_ngram_size, hold for every search. task: for a model that
    is asked in words, what it is asked, such as "en-de" for config.json's translation_en_to_de; needed where it knows
    several.
    prefix: words of your own before the text, or around it ("Say in German: {text} In German:").
    device: "auto" is CUDA where there is one, else the CPU; a loaded model stays where it is. precision: "fp32", "bf16"
    or "int8" (see `load`); unless given, fp32 or the loaded model's own. workers: how many processes answer, which
    share the threads; the others start with the call, which takes seconds and pays for thousands of lines, and open
    the folder themselves, so that `model` must be one. shortlist: what `polyhead.shortlist` gave, or a file of it: a
    word is then looked for among those that are likely in view of the source, which is faster and not quite the same.

    An empty text gives an empty translation; as many come back as went in, in the same order. Raises ArgumentError,
    CheckpointError, and DataError for a text beyond the model's positions.
    """
    lines = texts_of(texts)
    with workable(workers, model, most=sum(map(bool, map(clean, lines)))) as crew:
        loaded = ready(model, device, precision)
        able(loaded, "translate")
        said = asking(loaded, "translation", task=task, prefix=prefix)
        search = chosen_search(loaded, search, beam, n_best, task=said.settings)
        found = Translator(loaded, search=search, max_new=max_new, said=said, workers=crew, shortlist=shortlist)(lines)
    return found[0] if isinstance(texts, str) else found
