"""Documents become summaries; what is longer than the model reads well is summarised in parts, and these again.

a document of 1,500 tokens ->  512 | 512 | 476  ->  three summaries, one after the other: 210  ->  one summary
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.generation import Search
from polyhead.inputs.sentences import joined, unwrapped
from polyhead.tasks.asking import asking
from polyhead.tasks.decoder import Candidate
from polyhead.tasks.decoding import chosen_search, is_whole
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, Precision, ready, texts_of
from polyhead.tasks.needs import able
from polyhead.tasks.portions import portions
from polyhead.tasks.text_to_text import TextToText
from polyhead.tasks.workers import Workers, workable

USUAL = 512  # tokens that models whose places have no end are taught to read, where the folder does not say
LONGEST = 200  # most tokens of a summary, where neither the folder nor anybody says
SHORTER = 0.9  # of the tokens before: summaries of parts that leave more are not summarised again


@dataclass(frozen=True)
class Summary:
    """A document, its best summary, and the n best with their scores (none for a document of only spaces).

    parts: in how many parts it was read; with more than one, their summaries were summarised, in so many parts again,
    and so on: (1,) is read at once, (7, 2, 1) are seven parts, then two, then all. prefix: what the model was asked.
    merged: False where the summaries of the parts stand one after the other, since they are hardly shorter than it.
    """

    source: str
    text: str
    candidates: tuple[Candidate, ...]
    parts: tuple[int, ...]
    prefix: str
    merged: bool = True

    @property
    def finished(self) -> bool:
        """Whether the summary ended by itself, and not by the limit on its length."""
        return all(candidate.finished for candidate in self.candidates[:1])


class Summarizer(TextToText):
    """A loaded model made ready to summarise: asked, and answering, as its folder wants it for "summarization".

    task, prefix, min_new, max_new, window, whole: see `summarize`; search: unless given, the folder's beam. workers:
    who answers, this process alone unless given.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        task: str | None = None,
        prefix: str | None = None,
        beam: int | None = None,
        n_best: int | None = None,
        search: Search | None = None,
        min_new: int | None = None,
        max_new: int | None = None,
        window: int | None = None,
        whole: bool = False,
        workers: Workers | None = None,
    ):
        able(loaded, "summarize")
        said = asking(loaded, "summarization", task=task, prefix=prefix)
        search = chosen_search(loaded, search, beam, n_best, task=said.settings)
        super().__init__(loaded, said, search=search, min_new=min_new, max_new=max_new, workers=workers)
        if whole and window is not None:
            raise ArgumentError(f"whole reads all at once, but window is {window}; give one of them.")
        self.whole, self.window = whole, self.config.max_len if whole else window_of(loaded, window)
        self.around = len(self.tokenizer.source.encode(said.of("")))  # tokens of the asking, and of the end
        if not whole and self.window < 2 * self.around + 8:
            raise ArgumentError(
                f"window is {self.window} tokens, of which the words around the text take {self.around}; "
                f"give at least {2 * self.around + 8}"
            )
        self.workers.open(
            Summarizer, loaded, task=task, prefix=prefix, search=self.search, min_new=min_new, max_new=max_new,
            window=window, whole=whole,
        )  # fmt: skip

    def __call__(
        self,
        documents: Sequence[str],
        *,
        numbers: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Summary]:
        """A summary for each document, in order. `progress` hears how many parts of the documents more are read.

        `numbers` are the documents' numbers in the caller's whole input: sampling draws by them. Raises DataError,
        before anything is summarised, for a document that is to be read whole and is too long for that.
        """
        numbers = range(1, len(documents) + 1) if numbers is None else numbers
        left = {i: self.parts(text, number) for i, (text, number) in enumerate(zip(documents, numbers, strict=True))}
        prefix, read = self.asking.prefix, dict[int, tuple[int, ...]](dict.fromkeys(left, ()))
        found = {i: Summary(documents[i], "", (), (), prefix) for i, parts in left.items() if not parts}
        while left := {i: parts for i, parts in left.items() if i not in found}:
            answers = self.level(left, numbers, progress)
            progress = None  # of the document it is all read; summaries of summaries are few
            for i, some in answers.items():
                read[i] = *read[i], len(some)
                if len(some) == 1:
                    found[i] = Summary(documents[i], some[0][0].text, some[0], read[i], prefix)
                    continue
                text = joined([said for candidates in some if (said := unwrapped(candidates[0].text))])
                if text and self.size(text) <= SHORTER * sum(self.sizes(left[i])):
                    left[i] = self.parts(text)
                else:
                    all_of_it = Candidate(text, None, all(candidates[0].finished for candidates in some))
                    found[i] = Summary(documents[i], text, (all_of_it,), read[i], prefix, merged=not text)
        if stuck := [str(numbers[i]) for i in sorted(found) if not found[i].merged]:
            warnings.warn(
                f"The summaries of the parts of document {', '.join(stuck)} are together hardly shorter than it; they "
                "are given one after the other (a smaller max_new or a larger window mends that).",
                stacklevel=2,
            )
        return [found[i] for i in range(len(documents))]

    def level(
        self, parts: Mapping[int, Sequence[str]], numbers: Sequence[int], progress: Callable[[int], None] | None
    ) -> dict[int, list[tuple[Candidate, ...]]]:
        """The summaries of every part of some documents."""
        rows = [(i, self.ids(part)) for i, some in parts.items() for part in some]
        answers = self.answers([ids for _, ids in rows], numbers=[numbers[i] for i, _ in rows], progress=progress)
        found: dict[int, list[tuple[Candidate, ...]]] = {i: [] for i in parts}
        for (i, _), candidates in zip(rows, answers, strict=True):
            found[i].append(candidates)
        return found

    def parts(self, document: str, number: int | str = 1) -> list[str]:
        """The document in as many parts as it is read in, each as one clean line; none where it has no words."""
        text = unwrapped(document)
        if not text or len(self.ids(text)) <= self.window:
            return [text] if text else []
        if self.whole:
            raise DataError(
                f"Document {number} has {len(self.ids(text))} tokens, but the model reads at most {self.window} at "
                "once; let it be read in parts"
            )
        room = self.window - self.around
        while True:  # a part may have more tokens than its sentences have one by one
            found = [part for part in map(unwrapped, portions(document, room, self.sizes)) if part]
            over = max(len(self.ids(part)) for part in found) - self.window
            if over <= 0:
                return found
            room -= over

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.source.encode(self.asking.of(text))

    def sizes(self, texts: Sequence[str]) -> list[int]:
        """How many tokens texts have, without the words around them."""
        nothing = len(self.tokenizer.source.encode(""))
        return [len(row) - nothing for row in self.tokenizer.source.encode_batch([unwrapped(text) for text in texts])]

    def size(self, text: str) -> int:
        return self.sizes([text])[0]

    def longest(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.most if self.how.limited else LONGEST)


def window_of(loaded: Loaded, asked: int | None) -> int:
    """How many tokens are read at a time: as many as asked for, else as many as the model was taught to read."""
    if asked is not None:
        if not (is_whole(asked) and 1 <= asked <= loaded.config.max_len):
            raise ArgumentError(
                f"window is {asked!r}, but must be a whole number of tokens up to {loaded.config.max_len}."
            )
        return asked
    told = loaded.tokenizer.source.config.get("model_max_length"), loaded.raw.get("n_positions")
    usual = loaded.config.max_len if "max_len" in loaded.family.keys.table else USUAL
    return next((n for n in told if is_whole(n) and 1 <= n <= loaded.config.max_len), usual)


@overload
def summarize(
    documents: str,
    *,
    model: str | Path | Loaded,
    prefix: str | None = ...,
    beam: int | None = ...,
    n_best: int | None = ...,
    search: Search | None = ...,
    min_new: int | None = ...,
    max_new: int | None = ...,
    window: int | None = ...,
    whole: bool = ...,
    task: str | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    workers: int = ...,
) -> Summary: ...
@overload
def summarize(
    documents: Iterable[str],
    *,
    model: str | Path | Loaded,
    prefix: str | None = ...,
    beam: int | None = ...,
    n_best: int | None = ...,
    search: Search | None = ...,
    min_new: int | None = ...,
    max_new: int | None = ...,
    window: int | None = ...,
    whole: bool = ...,
    task: str | None = ...,
    device: Device = ...,
    precision: Precision | None = ...,
    workers: int = ...,
) -> list[Summary]: ...
def summarize(
    documents: str | Iterable[str],
    *,
    model: str | Path | Loaded,
    prefix: str | None = None,
    beam: int | None = None,
    n_best: int | None = None,
    search: Search | None = None,
    min_new: int | None = None,
    max_new: int | None = None,
    window: int | None = None,
    whole: bool = False,
    task: str | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
    workers: int = 1,
) -> Summary | list[Summary]:
    """Summarise one document, or many.

    model: a folder of a text-to-text model, or what `load` returned. device, precision: as `load` takes them. prefix:
    the words that ask for a summary; the text goes behind them, or to where they say {text}; unless given, those of the
    folder, else of the family, else none. task: which of the folder's summaries, where it knows several, such as "cnn"
    for config.json's summarization_cnn; unless given, the one named summarization. beam, n_best, search: as `translate`
    takes them. min_new, max_new: the fewest and the most tokens of a summary; unless given, the folder's
    (task_specific_params, generation_config.json), else at most 200.

    A document of more than `window` tokens (unless given, as many as the model was taught to read: model_max_length,
    n_positions, its learned places, else 512) is read in parts that end where sentences end; their summaries, one after
    the other, are summarised again, until they fit. `parts` of a summary says so. whole: read all at once, however
    long.

    An empty document gives an empty summary. Raises ArgumentError, ConfigError, CheckpointError, and DataError for a
    document beyond what the model can read at once, with `whole`.
    """
    texts = texts_of(documents)
    with workable(workers, model) as crew:
        how = Summarizer(
            ready(model, device, precision), prefix=prefix, beam=beam, n_best=n_best, search=search, min_new=min_new,
            max_new=max_new, window=window, whole=whole, task=task, workers=crew,
        )  # fmt: skip
        found = how(texts)
    return found[0] if isinstance(documents, str) else found
