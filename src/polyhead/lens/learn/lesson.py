"""A text goes in; one head of a model that read it comes out, worked from words to output and checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from polyhead.errors import ArgumentError, DataError, did_you_mean
from polyhead.files import write_text
from polyhead.inputs.text import clean
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.words import merge
from polyhead.lens.learn.caught import Caught, Part, caught, parts_of, place_of, stack_of, without_places
from polyhead.lens.learn.cutting import LONGEST, Cut, cut
from polyhead.lens.learn.ending import Ending, ending
from polyhead.lens.learn.working import Breaks, Working, off, work
from polyhead.operator.kernels.reference import Array
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, ready

AGREE = 1e-3  # beyond this our numbers would not be the model's


@dataclass(frozen=True, eq=False)
class Broken:
    """The same lesson with something changed.

    done    what was changed, as (key of its sentence, its words).
    order   where each row and each column of the unchanged lesson stands here.
    ending  what the model says in the end, None where it says nothing.
    """

    done: list[tuple[str, dict[str, Any]]]
    breaks: Breaks
    caught: Caught
    working: Working
    order: tuple[list[int], list[int]]
    ending: Ending | None

    @property
    def weights(self) -> Array:
        """[H, T, S] in the order of the unchanged lesson, to be compared with it."""
        rows, columns = self.order
        return self.working.weights[:, rows][:, :, columns]

    @property
    def output(self) -> Array:
        """[T, D] in the order of the unchanged lesson."""
        return self.working.output[self.order[0]]


@dataclass(frozen=True, eq=False)
class Lesson:
    """One head, with every number between the words that came in and the words that went on.

    rows, columns  those that look and those looked at, as the model reads them.
    row, column    the pinned cell, counted in pieces.
    off            the largest difference between our numbers and the model's.
    chosen         whether nobody named a layer or a head, so that one was chosen whose words look at other words.
    """

    text: str
    name: str
    part: Part
    layer: int
    layers: int
    head: int
    rows: Cut
    columns: Cut
    row: int
    column: int
    caught: Caught
    working: Working
    off: float
    chosen: bool
    broken: Broken | None
    ending: Ending | None
    source: Cut  # the text that was given, as it was read
    loaded: Loaded
    given: tuple[list[int], ...]  # what the model read

    @property
    def heads(self) -> int:
        return self.caught.projections.heads

    @property
    def width(self) -> int:
        """K, the features of a head."""
        return self.caught.query.shape[-1]

    @property
    def speaking(self) -> tuple[list[int], list[int]]:
        """The rows and the columns that are of words, and not of signs or punctuation."""
        sides = [self.rows, self.columns]
        rows, columns = ([i for i, label in enumerate(s.labels) if speaks(label) and i not in s.signs] for s in sides)
        return rows, columns

    @property
    def joined(self) -> bool:
        """Whether some word is made of several pieces."""
        return self.rows.words.joined or self.columns.words.joined

    def weights(self) -> Array:
        """The weights [H, T, S] of the layer, by words: what is looked at adds up, those who look are averaged."""
        return cast(Array, merge(self.working.weights, self.rows.words.pieces, self.columns.words.pieces))

    def weights_broken(self) -> Array:
        """The same after what was changed, in the order of `weights`."""
        assert self.broken is not None
        return cast(Array, merge(self.broken.weights, self.rows.words.pieces, self.columns.words.pieces))

    def draw(self, *, lang: str = "en", canvas: Canvas | None = None, answers: bool = True) -> Any:
        """The whole lesson as text, its questions answered at the end (unless told otherwise)."""
        from polyhead.lens.learn.terminal import draw

        return draw(self, lang, canvas or Canvas(), answers=answers)

    def html(self, *, lang: str = "en") -> str:
        """The lesson as one page to play with, which needs nothing else and asks nobody."""
        from polyhead.lens.learn.page import html

        return html(self, lang)

    def save(self, path: str | Path, *, lang: str = "en") -> None:
        """Write the page to a file, whole or not at all. Raises WriteError."""
        write_text(Path(path), self.html(lang=lang))

    def __str__(self) -> str:
        return self.draw().plain


def learn(
    text: str,
    *,
    model: str | Path | Loaded = "zh-en",
    part: Part | None = None,
    layer: int | None = None,
    head: int | None = None,
    query: str | None = None,
    key: str | None = None,
    translation: str | None = None,
    scale: bool = True,
    mask: bool | None = None,
    positions: bool = True,
    heads_off: Sequence[int] = (),
    temperature: float = 1.0,
    swap: tuple[str, str] | None = None,
    device: Device = "auto",
) -> Lesson:
    """Work one attention head of a real model by the formula, from words to output.

    The numbers are the model's own vectors and weights, computed in float64 by the reference kernel, and checked
    against what the model computed: `lesson.off` is the largest difference. `print(lesson)` shows it, and
    `lesson.save("lesson.html")` writes it as a page to play with.

    text         Chinese written with spaces is cut into words there, and read without the spaces. A text of more than
                 64 pieces is cut to 64 round the word that looks, and the model reads these alone.
    model        a folder, a shipped model, or what `load` gave; it reads text.
    part         "encoder", "decoder", or "cross" (the translation looks at the source); the model's first unless given.
    layer, head  counted from 0; unless given, those whose words look at other words most clearly.
    query, key   the words of the cell that is worked in full; unless given, a strong link.
    translation  what the decoder of a translator reads; the model's own unless given.
    scale, mask, positions, heads_off, temperature, swap
                 what to break, for a before and after: see `Breaks`; positions=False lets no word know its place, in
                 the whole model; swap: two words of the text in each other's place, and the model reads it again.

    Raises ArgumentError for what the model or the text has not, DataError for an empty text, and CheckpointError.
    """
    for name, value in {"text": text, "translation": translation or "", "query": query or "", "key": key or ""}.items():
        if not isinstance(value, str):
            raise ArgumentError(f"{name} must be a text, found {type(value).__name__}.")
    if not (cleaned := clean(text)):
        raise DataError("There is nothing to learn from an empty text; give a sentence.")
    loaded = ready(model, device)
    if loaded.family.reads not in ("text", "pair"):
        raise ArgumentError(
            f"learn works on a text; {loaded.folder or 'this model'} is a {loaded.family.architecture}, which reads"
            f" {loaded.family.reads}."
        )
    here = parts_of(loaded.model)
    part = here[0] if part is None else part
    if part not in here:
        raise ArgumentError(f"This model has {' and '.join(here)}, but part is '{part}'.{did_you_mean(part, here)}")
    breaks = checked(scale, mask, temperature, heads_off)
    source = windowed(cut(getattr(loaded.tokenizer, "source", loaded.tokenizer), cleaned), query, loaded)
    end, target = None, None
    if "encoder" in here and "decoder" in here:
        end, target = answered(loaded, source, translation)
    elif translation is not None:
        raise ArgumentError("Only a model that reads one text and writes another has a translation to be given.")
    else:
        end = ending(loaded, source.ids)
    lesson = chosen(loaded, cleaned, part, (layer, head), (query, key), source, target)
    lesson = replace(lesson, ending=end)
    if breaks == Breaks() and positions and swap is None:
        return lesson
    return replace(lesson, broken=changed(lesson, breaks, positions, swap))


def checked(scale: bool, mask: bool | None, temperature: float, heads_off: Sequence[int]) -> Breaks:
    if not 0 < temperature < float("inf"):
        raise ArgumentError(f"temperature must be a number above 0, found {temperature!r}.")
    return Breaks(scale=scale, mask=mask, temperature=float(temperature), heads_off=tuple(heads_off))


def windowed(source: Cut, query: str | None, loaded: Loaded) -> Cut:
    """The text as far as the lesson and the model reach."""
    longest = min(LONGEST, getattr(loaded.config, "max_len", LONGEST))
    near = 0 if query is None else index(source, query, "query")
    return source.window(near, longest)


def answered(loaded: Loaded, source: Cut, translation: str | None) -> tuple[Ending | None, Cut]:
    """What the model writes, and how its decoder reads it."""
    side = loaded.tokenizer.target
    if translation is not None:
        if not (given := clean(translation)):
            raise DataError("There is nothing to learn from an empty translation; give a sentence.")
        return None, cut(side, given).window(0).read(loaded.config.start_id)
    end = ending(loaded, source.ids)
    assert end is not None
    from polyhead.inputs.pair import spelled
    from polyhead.lens.learn.cutting import labelled

    text, pieces = spelled(side, end.ids[: LONGEST - 1])
    return end, labelled(text, pieces).read(loaded.config.start_id)


def chosen(
    loaded: Loaded,
    text: str,
    part: Part,
    place: tuple[int | None, int | None],
    cell: tuple[str | None, str | None],
    source: Cut,
    target: Cut | None,
) -> Lesson:
    """The lesson of a layer and a head, those that were named or those that show most."""
    layer, head = place
    stack = stack_of(loaded.model, part)
    assert stack is not None
    count = len(stack.blocks)
    if layer is not None and not 0 <= layer < count:
        raise ArgumentError(f"The {part} has layers 0 to {count - 1}, but layer is {layer}.")
    given = (source.ids,) if target is None else (source.ids, target.ids)
    rows = source if part == "encoder" or target is None else target
    columns = target if part == "decoder" and target is not None else source
    found: list[tuple[float, int, int, Caught, Working]] = []
    for number in range(count) if layer is None else [layer]:
        met = caught(loaded.model, given, part, number)
        working, heads = work(met), met.projections.heads
        if head is not None and not 0 <= head < heads:
            raise ArgumentError(f"The layer has heads 0 to {heads - 1}, but head is {head}.")
        words = merge(working.weights, rows.words.pieces, columns.words.pieces)
        for h in range(heads) if head is None else [head]:
            found.append((telling(words[h], rows, columns), number, h, met, working))
    best, layer, head, met, working = max(found, key=lambda each: each[0])
    row, column = pinned(working.weights[head], rows, columns, cell)
    apart = off(met, working)
    assert apart < AGREE, f"{place_of(part, layer)}: off by {apart}"
    name = str(loaded.folder.name if loaded.folder else type(loaded.model).__name__)
    return Lesson(
        text, name, part, layer, count, head, rows, columns, row, column, met, working, apart,
        None in place and best > 0, None, None, source, loaded, given,
    )  # fmt: skip


def speaks(label: str) -> bool:
    """Whether it is a word, and no punctuation."""
    return any(unicodedata.category(c)[0] in "LN" for c in label)


def spoken_in(text: Cut, word: int) -> bool:
    return word not in text.words.signs and speaks(text.words.labels[word])


def telling(weights: Array, rows: Cut, columns: Cut) -> float:
    """How clearly words look at other words, from 0 to 1; little for a head that always looks equally far."""
    own = rows.labels == columns.labels
    named = [j for j in range(len(columns.words.labels)) if spoken_in(columns, j)]
    looking = [i for i in range(len(rows.words.labels)) if spoken_in(rows, i)]
    shares = [max((weights[i, j] for j in named if not own or i != j), default=0.0) for i in looking]
    if not shares:
        return 0.0
    far = [int(weights[i].argmax()) - i for i in range(len(weights))]
    monotone = own and max(far.count(distance) for distance in set(far)) >= 0.8 * len(far)
    return float(np.sqrt(shares).mean()) * (0.5 if monotone else 1.0)


def pinned(weights: Array, rows: Cut, columns: Cut, cell: tuple[str | None, str | None]) -> tuple[int, int]:
    """The pieces of the cell that is worked: of the words that were named, or of a strong link between words."""
    own = rows.labels == columns.labels
    look = range(len(rows.words.pieces)) if cell[0] is None else [index(rows, cell[0], "query")]
    looked = range(len(columns.words.pieces)) if cell[1] is None else [index(columns, cell[1], "key")]
    best: tuple[float, int, int] | None = None
    for i in look:
        for j in looked:
            spoken = spoken_in(rows, i) + spoken_in(columns, j) - 2 * (own and i == j)
            for a in rows.words.pieces[i]:
                for b in columns.words.pieces[j]:
                    worth = float(weights[a, b]) + (spoken if None in cell else 0)
                    if best is None or worth > best[0]:
                        best = worth, a, b
    assert best is not None
    return best[1], best[2]


def index(text: Cut, name: str, what: str) -> int:
    """The number of a word of the text: its first unless it is written `word#2`."""
    label, _, nth = name.rpartition("#")
    label, wanted = (label, int(nth)) if label and nth.isdigit() else (name, 1)
    places = [w for w, known in enumerate(text.words.labels) if known == label]
    if not 1 <= wanted <= len(places):
        known = ", ".join(text.words.labels)
        raise ArgumentError(f"{what} is '{name}', but the words are {known}.{did_you_mean(label, text.words.labels)}")
    return places[wanted - 1]


def changed(lesson: Lesson, breaks: Breaks, positions: bool, swap: tuple[str, str] | None) -> Broken:
    """The lesson again with what was broken, and what the model then says."""
    done = done_by(lesson, breaks, positions, swap)
    source, given, model = lesson.source, lesson.given, lesson.loaded
    order = list(range(len(lesson.rows.ids))), list(range(len(lesson.columns.ids)))
    if swap is not None:
        one, other = (index(source, name, "swap") for name in swap)
        if one == other:
            raise ArgumentError(f"swap needs two different words, found '{swap[0]}' twice.")
        source, moved = swapped(source, one, other)
        given = (source.ids, *given[1:])
        order = (
            moved if lesson.rows is lesson.source else order[0],
            moved if lesson.columns is lesson.source else order[1],
        )
    if not positions:
        model = replace(model, model=without_places(model.model))
    met = lesson.caught
    if swap is not None or not positions:
        met = caught(model.model, given, lesson.part, lesson.layer)
    end = None
    if lesson.ending is not None:
        attention: Any = model.model.get_submodule(place_of(lesson.part, lesson.layer))
        end = ending(model, source.ids, attention, breaks)
    return Broken(done, breaks, met, work(met, breaks), order, end)


def swapped(source: Cut, one: int, other: int) -> tuple[Cut, list[int]]:
    """The text with two words swapped, and where each of its pieces now stands."""
    words = list(range(len(source.words.pieces)))
    words[one], words[other] = words[other], words[one]
    pieces = [i for w in words for i in source.words.pieces[w]]
    return source.swapped(one, other), list(np.argsort(pieces))


def done_by(
    lesson: Lesson, breaks: Breaks, positions: bool, swap: tuple[str, str] | None
) -> list[tuple[str, dict[str, Any]]]:
    """What is broken, in the order of the stations; refuses what would change nothing."""
    met, done = lesson.caught, list[tuple[str, dict[str, Any]]]()
    if swap is not None:
        done.append(("broken_swap", {"one": swap[0].partition("#")[0], "other": swap[1].partition("#")[0]}))
    if not positions:
        done.append(("broken_positions", {}))
    if not breaks.scale:
        if met.scale == 1:
            raise ArgumentError("This model does not divide its scores, so there is nothing to leave out.")
        done.append(("broken_scale", {"root": 1 / met.scale}))
    if breaks.mask is not None:
        causal = np.tril(np.ones(met.visible.shape[1:], bool))
        if not breaks.mask and met.visible.all():
            more = "" if lesson.part == "cross" else "; mask=True (--mask) hides what comes later"
            raise ArgumentError(f"Nothing is hidden in this layer, so without a mask all stays as it is{more}.")
        if breaks.mask and (lesson.part == "cross" or (met.visible == causal).all()):
            raise ArgumentError("What comes later is hidden in this layer already, or there is no later in it.")
        done.append(("broken_mask_on" if breaks.mask else "broken_mask_off", {}))
    if breaks.temperature != 1:
        done.append(("broken_temperature", {"temperature": breaks.temperature}))
    for head in breaks.heads_off:
        if not 0 <= head < lesson.heads:
            raise ArgumentError(f"The layer has heads 0 to {lesson.heads - 1}, but head {head} is to be off.")
        done.append(("broken_head", {"head": head}))
    return done
