"""A recipe's labelled texts or pictures become what training asks of them: lengths, labels, inputs of some rows.

`TextExamples` and `PictureExamples` say the same verbs; the task beside them knows no difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import DataError
from polyhead.inputs.batch import Indices, pad
from polyhead.inputs.corpus import Corpus, Part, stretch
from polyhead.inputs.image import Images, open_image
from polyhead.inputs.label_names import LabelNames, found
from polyhead.inputs.pictures import read_album
from polyhead.inputs.readers import Skipped, read
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.learning.classification_recipe import Pictures, Texts
from polyhead.tasks.learning.recipe import DataSource


@dataclass(frozen=True)
class Judged:
    """Things as `classify` takes them, and the numbers of their labels."""

    items: Sequence[Any]
    labels: Sequence[Sequence[int]]
    skipped: Skipped  # lines that are left out


class Examples(Protocol):
    """What is learned from."""

    counts: NDArray[np.int64]  # of each label
    parts: list[int]  # how many examples each source holds

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.integer]:
        """What each takes of a batch, [n]."""
        ...

    def epoch(self, seed: int, epoch: int) -> Indices:
        """Which are visited in an epoch, by the weights of their sources, determined by (seed, epoch)."""
        ...

    def labels(self, rows: Indices) -> list[Sequence[int]]:
        """The numbers of the labels of some."""
        ...

    def inputs(self, rows: Indices, random: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """What the model reads of some [B, ...], varied by chance, and their lengths [B] where these differ."""
        ...

    def told(self) -> Iterator[str]:
        """What is left out, or not read whole, a sentence for each reason."""
        ...


class TextExamples:
    """Texts as ids in memory-mapped files. What is read of one is drawn anew each time: a window of a text beyond
    `longest` tokens, and some of its words hidden.
    """

    def __init__(self, data: Texts, tokenizer: Tokenizer, names: LabelNames, *, scratch: Path | None = None):
        for source in data.train:  # a label that is none is told with its line
            deque(numbered(rows_of(data, source), names), maxlen=0)
        sources = [data.read(source) for source in data.train]
        where = {"cache": data.cache, "scratch": scratch}
        self.corpus = Corpus.build(sources, tokenizer, names, **where, on_error=data.on_error)
        self.tokenizer, self.longest, self.hide = tokenizer, data.max_length, data.hide
        self.unknown = tokenizer.unk_id if data.hide else None
        self.parts = [len(part) for part in self.corpus.parts]
        self.counts = sum((labels_in(part, len(names)) for part in self.corpus.parts), np.zeros(len(names), np.int64))

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def lengths(self) -> NDArray[np.integer]:
        return np.minimum(self.corpus.source_lengths, self.longest)

    def epoch(self, seed: int, epoch: int) -> Indices:
        return self.corpus.epoch(seed, epoch)

    def labels(self, rows: Indices) -> list[Sequence[int]]:
        return [self.corpus[int(i)][1].tolist() for i in rows]

    def inputs(self, rows: Indices, random: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        read = [self.hidden(self.window(self.corpus[int(i)][0], random), random) for i in rows]
        return pad(read, self.tokenizer.pad_id)

    def hidden(self, ids: Any, random: np.random.Generator) -> Any:
        """The ids, a share `hide` of the words' own drawn to be unknown."""
        if self.unknown is None:
            return ids
        before, behind = self.around
        drawn = random.random(len(ids)) < self.hide
        drawn[:before] = drawn[len(ids) - behind :] = False
        return np.where(drawn, self.unknown, ids)

    def window(self, ids: Any, random: np.random.Generator) -> Any:
        """The ids, or a part of them of the greatest length between the signs that stand around every text."""
        if len(ids) <= self.longest:
            return ids
        before, behind = self.around
        room = self.longest - before - behind
        start = before + int(random.integers(len(ids) - before - behind - room + 1))
        return np.concatenate([ids[:before], ids[start : start + room], ids[len(ids) - behind :]])

    @cached_property
    def around(self) -> tuple[int, int]:
        """How many special tokens open and close a text."""
        own = [place for place, of in enumerate(self.tokenizer.read("a").texts) if of is not None]
        return own[0], len(self.tokenizer.read("a").ids) - 1 - own[-1]

    def told(self) -> Iterator[str]:
        for part in self.corpus.parts:
            if part.skipped.total:
                yield f"{part.source.name}: {part.skipped.total:,} lines left out: {part.skipped}"
        if long := int((self.corpus.source_lengths > self.longest).sum()):
            yield (
                f"{long:,} of {len(self):,} texts are longer than data.max_length = {self.longest}; of these, each "
                "epoch reads another window"
            )


def labels_in(part: Part, n_labels: int) -> NDArray[np.int64]:
    """How often each label stands in a part, whose ids are text, labels, text, labels ..."""
    sides = np.diff(part.ends, prepend=0)
    return np.bincount(part.ids[np.repeat(np.arange(len(sides)) % 2 == 1, sides)], minlength=n_labels).astype(np.int64)


class PictureExamples:
    """Pictures, opened when they are asked for, moved and mirrored by chance."""

    def __init__(self, data: Pictures, images: Images, names: LabelNames):
        self.data, self.images = data, images
        self.skipped = Skipped()
        albums = [list(numbered(rows_of(data, source, self.skipped), names)) for source in data.train]
        self.parts = [len(album) for album in albums]
        self.pictures = [picture for album in albums for picture, _ in album]
        self.numbers = [labels for album in albums for _, labels in album]
        self.weights = [source.weight for source in data.train]
        self.counts = np.bincount(np.concatenate(self.numbers), minlength=len(names)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> NDArray[np.integer]:
        return np.ones(len(self), np.int64)

    def epoch(self, seed: int, epoch: int) -> Indices:
        starts = np.cumsum([0, *self.parts])[:-1]
        parts = zip(starts, self.parts, self.weights, strict=True)
        return np.concatenate(
            [s + stretch(n, epoch * w, (epoch + 1) * w, (seed, i)) for i, (s, n, w) in enumerate(parts)]
        )

    def labels(self, rows: Indices) -> list[Sequence[int]]:
        return [self.numbers[int(i)] for i in rows]

    def inputs(self, rows: Indices, random: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        shown = [self.images.picture(self.pictures[int(i)]) for i in rows]
        return self.images.numbers([self.varied(picture, random) for picture in shown]), None

    def varied(self, picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """The picture [height, width, C] moved, its edge drawn out, and mirrored."""
        if self.data.shift:
            most = [round(side * self.data.shift) for side in picture.shape[:2]]
            wide = np.pad(picture, [(most[0],) * 2, (most[1],) * 2, (0, 0)], mode="edge")
            top, left = (int(random.integers(2 * n + 1)) for n in most)
            picture = wide[top : top + picture.shape[0], left : left + picture.shape[1]]
        return picture[:, ::-1] if self.data.mirror and random.random() < 0.5 else picture

    def told(self) -> Iterator[str]:
        if self.skipped.total:
            yield f"{self.skipped.total:,} lines left out: {self.skipped}"


class Row(NamedTuple):
    """A text or a picture, its labels as they are written, and where it stands, for messages."""

    item: Any
    label: str
    place: str


def rows_of(data: Texts | Pictures, source: Any, report: Skipped | None = None) -> Iterator[Row]:
    """What a source holds."""
    how: dict[str, Any] = {"on_error": data.on_error, "report": report}
    if isinstance(data, Texts):
        place = data.read(source)
        yield from (Row(row.source, row.target, f"{place.name} line {row.line}") for row in read(place, **how))
    else:
        album = read_album(data.read(source), **how)
        yield from map(Row, album.pictures, album.labels, album.places)


def numbered(rows: Iterable[Row], names: LabelNames) -> Iterator[tuple[Any, list[int]]]:
    """Each thing and the numbers of its labels. Raises DataError naming the place of a label that is none."""
    for item, label, place in rows:
        try:
            numbers = names.encode(label)
        except DataError as wrong:
            raise DataError(f"{place}: {wrong} Mend it, or give all names in [labels] (labels.names).") from None
        yield item, numbers


def judged(data: Texts | Pictures, sources: Sequence[DataSource], names: LabelNames) -> Judged:
    """What sources of valid or test data hold, all of it opened once: what is damaged is told before a training."""
    skipped = Skipped()
    pairs = [pair for source in sources for pair in numbered(rows_of(data, source, skipped), names)]
    for item, _ in pairs:
        if isinstance(item, Path):
            open_image(item)
    return Judged([item for item, _ in pairs], [labels for _, labels in pairs], skipped)


def names_in(data: Texts | Pictures, separator: str) -> LabelNames:
    """The names of the labels of the training data."""
    labels = (row.label for source in data.train for row in rows_of(data, source))
    return LabelNames(found(labels, separator), separator)
