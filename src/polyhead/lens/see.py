"""A sentence goes in; its translation, and where every head of the model looked for it, come out as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.text import Text

from polyhead.errors import ArgumentError, DataError, did_you_mean
from polyhead.inputs.pair import spelled
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.draw import terminal
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import shown
from polyhead.lens.draw.terminal import Axes
from polyhead.lens.draw.words import group, merge, word
from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch
from polyhead.tasks.asking import Asking
from polyhead.tasks.decoding import chosen_search
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, ready
from polyhead.tasks.translator import Translator

Part = Literal["cross", "encoder", "decoder"]
PLACES = {"cross": "decoder.blocks.{}.cross", "encoder": "encoder.blocks.{}.attn", "decoder": "decoder.blocks.{}.attn"}
START = "<start>"
NOTES = {
    "cross": "A row is the step that chose its {0} of the translation; columns are {0}s of the source.",
    "encoder": "Rows and columns are {0}s of the source.",
    "decoder": "A row is the step that chose its {0}; columns are the {0}s it had read, from the start sign on.",
}
JOINED = " Pieces of one word are joined: what is looked at adds up, those who look are averaged."


@dataclass(frozen=True)
class Words:
    """The words of a text, the pieces that make each of them, and the places that hold a sign and no word."""

    labels: list[str]
    pieces: list[list[int]]
    signs: list[int]
    unit: str = "word"  # or "piece", where each stands for itself

    @classmethod
    def of(cls, text: str, pieces: Sequence[Piece], *, by_words: bool) -> Words:
        places = [(piece.start, piece.end) for piece in pieces]
        if not by_words:
            return cls([piece.text for piece in pieces], [[i] for i in range(len(pieces))], _empty(places), "piece")
        words = group(text, places)
        labels = [word(text, places, numbers) or pieces[numbers[0]].text for numbers in words]
        return cls(labels, words, _empty([places[numbers[0]] for numbers in words]))

    @property
    def joined(self) -> bool:
        """Whether some word is made of several pieces."""
        return any(len(numbers) > 1 for numbers in self.pieces)

    def read(self) -> Words:
        """The same words as the decoder reads them: after the start sign, and without the last piece."""
        *words, last = self.pieces
        words += [last[:-1]] if len(last) > 1 else []
        shifted = [[i + 1 for i in numbers] for numbers in words]
        signs = [0, *(i + 1 for i in self.signs if i < len(words))]
        return Words([START, *self.labels[: len(words)]], [[0], *shifted], signs, self.unit)


@dataclass(frozen=True)
class Seen:
    """A sentence, its translation, and every attention call of the model that read both.

    A part of the model is "cross" (the translation looks at the source), "encoder" (the source at itself) or "decoder"
    (the translation at what it has read). `print(seen)` shows the first.
    """

    source: str
    target: str
    source_words: Words
    target_words: Words
    recording: Recording

    def words(self, part: Part = "cross") -> tuple[Words, Words]:
        """Those that look (rows) and those looked at (columns)."""
        _place(part)
        rows = self.source_words if part == "encoder" else self.target_words
        return rows, self.target_words.read() if part == "decoder" else self.source_words

    def layers(self, part: Part = "cross") -> list[int]:
        """The layers that have this part."""
        place, names = _place(part), self.recording.names()
        return [i for i in range(len(names)) if place.format(i) in names]

    def weights(self, part: Part = "cross", *, layer: int) -> NDArray[np.floating]:
        """The exact weights [H, T, S] of a layer's heads, by the words of both sides; a row sums to one."""
        rows, columns = self.words(part)
        if layer not in (layers := self.layers(part)):
            raise ArgumentError(f"The model's layers are {layers[0]} to {layers[-1]}, but layer is {layer}.")
        exact = self.recording[_place(part).format(layer)].weights()[0]
        return merge(exact.cpu().double().numpy(), rows.pieces, columns.pieces)

    def draw(
        self,
        part: Part = "cross",
        *,
        layer: int | None = None,
        head: int | None = None,
        links: bool = False,
        values: bool = False,
        canvas: Canvas | None = None,
    ) -> Text:
        """Pictures of one layer or of all: the heads as small maps, or the word that each head looks at most (`links`),
        or one head as a large map (`head`), with its weights in per cent (`values`).

        The canvas has 80 cells a line and no colours unless given. Raises ArgumentError for a layer or a head that
        the model has not, and for what cannot be had together.
        """
        if values and head is None:
            raise ArgumentError("values are written on the large map of one head; choose a head as well.")
        if links and head is not None:
            raise ArgumentError("links are a table of all heads, but one head is chosen; leave one of them out.")
        canvas = canvas or Canvas()
        rows, columns = self.words(part)
        axes = Axes(rows.labels, columns.labels, quiet=columns.signs)
        lines: list[Text] = []
        for number in self.layers(part) if layer is None else [layer]:
            weights = self.weights(part, layer=number)
            title = f"Layer {number}"
            if head is None:
                picture = terminal.links if links else terminal.head_grid
                lines += picture(weights, axes, title=title, canvas=canvas)
            elif 0 <= head < len(weights):
                title = f"{title} head {head}"
                lines += terminal.head_map(weights[head], axes, title=title, canvas=canvas, values=values)
            else:
                raise ArgumentError(f"The layer has heads 0 to {len(weights) - 1}, but head is {head}.")
        note = NOTES[part].format(rows.unit) + (JOINED if rows.joined or columns.joined else "")
        return Text("\n").join([*lines, Text(note, "dim")])

    def __str__(self) -> str:
        return f"{shown(self.source)}\n{shown(self.target)}\n\n{self.draw().plain}"


def see(
    text: str,
    *,
    model: str | Path | Loaded = "zh-en",
    translation: str | None = None,
    beam: int | None = None,
    by_words: bool = True,
    device: Device = "auto",
) -> Seen:
    """Translate a text, or take the translation that is given, and watch the model read both.

    The model reads the very tokens that the beam found, as it did when it chose them. model, beam, device: as
    `translate` takes them. by_words: the weights of pieces of one word are joined (what is looked at adds up, those who
    look are averaged); False leaves the tokenizer's pieces as they are. Raises ArgumentError, CheckpointError, and
    DataError for an empty text or one beyond the model's positions.
    """
    for name, value in {"text": text, "translation": translation or ""}.items():
        if not isinstance(value, str):
            raise ArgumentError(f"{name} must be a text, found {type(value).__name__}.")
    if translation is not None and beam is not None:
        raise ArgumentError(
            "A translation is given, so there is none to search for with a beam; leave one of them out."
        )
    source, target = clean(text), None if translation is None else clean(translation)
    if not source or target == "":
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    loaded = ready(model, device)
    longest, sides = loaded.config.max_len, loaded.tokenizer
    source_pieces = _fitting(sides.source.pieces(source), longest)
    source_ids = [piece.id for piece in source_pieces]
    if target is None:
        translator = Translator(loaded, search=chosen_search(loaded, None, beam), said=Asking())  # the text as it is
        [[found, *_]] = translator.batch([source_ids])
        end = [loaded.config.eos_id] if found.finished else []
        target, target_pieces = spelled(sides.target, found.tokens + end)
    else:
        target_pieces = _fitting(sides.target.pieces(target), longest)
    read = [loaded.config.start_id, *(piece.id for piece in target_pieces[:-1])]  # before each choice of the decoder
    with watch(loaded.model) as recording, torch.inference_mode():
        loaded.model(*(torch.tensor([ids], device=loaded.device) for ids in (source_ids, read)))  # [1, S], [1, T]
    return Seen(
        source,
        target,
        Words.of(source, source_pieces, by_words=by_words),
        Words.of(target, target_pieces, by_words=by_words),
        recording,
    )


def _place(part: Part) -> str:
    """The name of a part's attention in the model, with room for the layer."""
    if part not in PLACES:
        raise ArgumentError(f"part must be one of {', '.join(PLACES)}, found '{part}'.{did_you_mean(part, PLACES)}")
    return PLACES[part]


def _fitting(pieces: list[Piece], longest: int) -> list[Piece]:
    if len(pieces) > longest:
        raise DataError(f"The text has {len(pieces)} tokens, but the model reads at most {longest}.")
    return pieces


def _empty(places: Sequence[tuple[int, int]]) -> list[int]:
    return [i for i, (start, end) in enumerate(places) if start == end]
