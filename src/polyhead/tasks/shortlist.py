"""Source ids of a batch go in, the target words that an answer may be made of leave: a short-list, learned from pairs.

A word is on the list of a source where it is one of the most frequent of all, one of the likeliest translations of one
of its tokens, or spelled as one of them (Jean et al. 2015, "On using very large target vocabulary", section 3; Kim et
al. 2019, "From research to production and back", section 2.2: lexical short-lists). What a model says next is then
looked for among some hundreds of words instead of all; the weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from polyhead.errors import ArgumentError, DataError
from polyhead.files import write_tensors
from polyhead.generation.candidates import Candidates
from polyhead.inputs.readers import Example
from polyhead.inputs.text import clean
from polyhead.tasks.asking import asking
from polyhead.tasks.device import Device
from polyhead.tasks.generation_settings import is_whole
from polyhead.tasks.learning.lexicon import lexicon
from polyhead.tasks.load import Loaded, ready
from polyhead.tasks.needs import able

FORMAT = "polyhead shortlist 1"
CHUNK = 4096  # pairs tokenised at a time
LONGEST = 128  # tokens of a side; what is longer is no sentence, and says little of its words
TABLES = "frequent", "starts", "words"

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Which target words may be said of which source tokens.

    frequent: LongTensor [F], of every source. words: LongTensor [n], of source token s those from place starts[s] to
    starts[s + 1] (`starts` LongTensor [source words + 1]). targets: how many target words there are. tokenizers: the
    fingerprint of those that the ids are of. path: the file that it was read from, if it was.
    """

    frequent: Tensor
    starts: Tensor
    words: Tensor
    targets: int
    tokenizers: str
    path: Path | None = None

    @classmethod
    def load(cls, path: str | Path) -> Shortlist:
        """Read a file that `save` wrote. Raises DataError for one that is no short-list."""
        try:
            Path(path).open("rb").close()  # which says why it cannot be read; safe_open does not
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("kind") != FORMAT:
                    raise ValueError(f"it says {told.get('kind')!r:.40}, expected {FORMAT!r}")
                if lacking := [name for name in TABLES if name not in file.keys()]:
                    raise ValueError(f"it has no {' and no '.join(lacking)}")
                tables = {name: file.get_tensor(name) for name in TABLES}
            if wrong := [name for name, x in tables.items() if x.dim() != 1 or x.dtype != torch.int32]:
                raise ValueError(f"{' and '.join(wrong)} must be rows of int32")
            rows, where = {name: x.long() for name, x in tables.items()}, Path(path).resolve()
            found = cls(**rows, targets=int(told["targets"]), tokenizers=told["tokenizers"], path=where)
            found.check()
        except OSError as wrong:
            raise DataError(
                f"{path} cannot be read ({wrong.strerror or wrong}); check the path and the file."
            ) from None
        except (SafetensorError, ValueError, KeyError) as wrong:
            why = "damaged, or something else" if isinstance(wrong, SafetensorError) else f"{wrong!s:.200}"
            raise DataError(
                f"{path} is not a short-list that polyhead shortlist wrote ({why}); make one with polyhead shortlist."
            ) from None
        return found

    def size(self, source: Sequence[int]) -> int:
        """How many words may be said of one source, given its ids; the end and what rules ask for not counted."""
        own = [self.words[self.starts[token] : self.starts[token + 1]] for token in source]
        return len(torch.cat((self.frequent, *own)).unique())

    def check(self) -> None:
        """Raise ValueError where the tables do not fit together."""
        tables: list[object] = [getattr(self, name) for name in TABLES]  # which somebody may have made by hand
        if not all(isinstance(x, Tensor) and x.dim() == 1 and x.dtype == torch.long and x.is_cpu for x in tables):
            raise ValueError(f"{', '.join(TABLES)} must each be a LongTensor of one dimension, on the CPU")
        starts = self.starts
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(self.words) or bool((starts.diff() < 0).any()):
            raise ValueError("starts must rise from 0 to the number of words")
        for name, ids in (("frequent", self.frequent), ("words", self.words)):
            if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < self.targets):
                raise ValueError(f"{name} must be ids below {self.targets}")

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all. Raises WriteError."""
        tables = {name: getattr(self, name).to(torch.int32) for name in TABLES}
        words = {"kind": FORMAT, "targets": str(self.targets), "tokenizers": self.tokenizers}
        write_tensors(Path(path), tables, words)

    def fit(self, loaded: Loaded) -> None:
        """Refuse a model of other words, and tables that do not fit together. Raises ArgumentError."""
        try:
            self.check()
        except ValueError as wrong:
            raise ArgumentError(f"This is no short-list ({wrong}); make one with polyhead.shortlist.") from None
        sizes = loaded.config.vocab_size, loaded.config.words
        if self.tokenizers != fingerprint(loaded) or (len(self.starts) - 1, self.targets) != sizes:
            raise ArgumentError(
                f"The short-list was made for the words of another model than {loaded.folder or 'this one'}; make one"
                " for it with polyhead shortlist."
            )

    def candidates(self, source: Tensor, lengths: Tensor, always: Iterable[int]) -> Candidates:
        """The words of a batch of sources [B, S] of these lengths [B], and which of them each may say; all may say
        those of `always`."""
        real = torch.arange(source.shape[1]) < lengths.cpu()[:, None]
        rows, tokens = real.nonzero()[:, 0], source.cpu()[real]  # [n]
        counts = self.starts[tokens + 1] - self.starts[tokens]
        place = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        words = self.words[self.starts[tokens].repeat_interleave(counts) + place]  # of one token after the other
        common = torch.cat((self.frequent, torch.tensor(list(always), dtype=torch.long)))
        there = torch.zeros(self.targets, dtype=torch.bool)
        there[common], there[words] = True, True
        number = there.cumsum(0) - 1
        allowed = torch.zeros(len(source), int(there.sum()), dtype=torch.bool)
        allowed[:, number[common]] = True
        allowed[rows.repeat_interleave(counts), number[words]] = True
        every = bool(allowed.all())
        return Candidates(there.nonzero().flatten().to(source.device), None if every else allowed.to(source.device))


def fingerprint(loaded: Loaded) -> str:
    return f"{loaded.tokenizer.source.fingerprint()} {loaded.tokenizer.target.fingerprint()}"


def shortlist_of(given: Shortlist | str | Path | None, loaded: Loaded) -> Shortlist | None:
    """A short-list, or the file that it is in, for this model. Raises ArgumentError, DataError."""
    if given is None:
        return None
    if not isinstance(given, Shortlist | str | Path):
        raise ArgumentError(f"shortlist must be a Shortlist or the name of its file, found {given!r:.80}.")
    found = given if isinstance(given, Shortlist) else Shortlist.load(given)
    found.fit(loaded)
    return found


def passing(given: Shortlist | None) -> str | None:
    """The name by which another process finds it. Raises ArgumentError where it is in no file."""
    if given is not None and given.path is None:
        raise ArgumentError("Several workers read a short-list from its file; save it, and give the file's name.")
    return None if given is None else str(given.path)


def shortlist(
    pairs: Iterable[tuple[str, str] | Example],
    *,
    model: str | Path | Loaded = "zh-en",
    frequent: int = 100,
    best: int = 100,
    most: int = 100_000,
    task: str | None = None,
    prefix: str | None = None,
    device: Device = "auto",
    progress: Callable[[int], None] | None = None,
) -> Shortlist:
    """Learn which target words a translator needs for which source tokens, from pairs of texts (source, target).

    frequent: how many of the most frequent target words are on every list. best: how many of the likeliest translations
    of each source token are on its list (by IBM model 1, see `tasks.learning.lexicon`), beside the word that is spelled
    as it is. most: how many pairs are read; those of more than 128 tokens on a side are passed over. model, task,
    prefix, device: as `translate` takes them. The targets may be the model's own translations, where there are no
    others. `progress` hears how many pairs, and then rounds of counting, more are done.

    Memory grows with the pairs, by a few KB for one of 20 tokens a side. Raises ArgumentError, and DataError where no
    pair can be used.
    """
    if not isinstance(pairs, Iterable):
        raise ArgumentError(f"pairs must be an iterable of (source, target), two texts each, found {pairs!r:.80}.")
    for name, n, least in (("frequent", frequent, 1), ("best", best, 0), ("most", most, 1)):
        if not (is_whole(n) and n >= least):
            raise ArgumentError(f"{name} is {n!r}, but must be a whole number of at least {least}.")
    loaded = ready(model, device)
    able(loaded, "shortlist")
    said = asking(loaded, "translation", task=task, prefix=prefix)
    words, config = loaded.tokenizer, loaded.config
    read, found, number = iter(pairs), list[tuple[list[int], list[int]]](), 0
    while chunk := list(islice(read, min(CHUNK, most - number))):
        for pair in chunk:
            number += 1
            if not (isinstance(pair, tuple | list) and len(pair) >= 2 and all(isinstance(x, str) for x in pair[:2])):
                raise ArgumentError(f"Pair {number} must be (source, target), two texts, found {pair!r:.80}.")
        left = words.source.encode_batch([said.of(clean(pair[0])) for pair in chunk])
        right = words.target.encode_batch([clean(pair[1]) for pair in chunk])
        found += [pair for pair in zip(left, right, strict=True) if all(pair) and max(map(len, pair)) <= LONGEST]
        if progress:
            progress(len(chunk))
    if not found:
        raise DataError(f"There is no pair of at most {LONGEST} tokens on either side; expected at least one.")
    counts = np.bincount(np.concatenate([right for _, right in found]), minlength=config.words)
    usual = np.sort(np.argsort(-counts, kind="stable")[: min(frequent, np.count_nonzero(counts))])
    known = lexicon(found, sources=config.vocab_size, targets=config.words, progress=progress and (lambda: progress(1)))
    starts, near = with_copies(*known.best(best), copies(loaded), config.words)
    every, begin, own = (torch.from_numpy(x.astype(np.int64)) for x in (usual, starts, near))
    return Shortlist(every, begin, own, config.words, fingerprint(loaded))


def copies(loaded: Loaded) -> Ids:
    """Of each source token the target word that is spelled as it is, or -1."""
    source, target, config = loaded.tokenizer.source, loaded.tokenizer.target, loaded.config
    spelled = {target.token(i): i for i in reversed(range(min(target.size, config.words)))}
    spelled.pop("", None)
    own = [spelled.get(source.token(i), -1) for i in range(min(source.size, config.vocab_size))]
    return np.array(own + [-1] * (config.vocab_size - len(own)), np.int64)


def with_copies(starts: Ids, words: Ids, copies: Ids, targets: int) -> tuple[Ids, Ids]:
    """The lists, each with the copy of its token, ascending and each word once."""
    keys = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) * targets + words  # as numbers of two digits
    copied = np.flatnonzero(copies >= 0)
    keys = np.unique(np.concatenate((keys, copied * targets + copies[copied])))
    return np.searchsorted(keys, np.arange(len(starts)) * targets), keys % targets
