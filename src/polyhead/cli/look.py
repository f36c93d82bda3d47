"""A sentence goes in; its translation, and every attention call of the model that read both, come out for `see`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polyhead.errors import ArgumentError, DataError
from polyhead.generation import Beam
from polyhead.inputs.text import clean
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.draw.words import group, merge, word
from polyhead.lens.recording import Call, Recording
from polyhead.lens.watch import watch
from polyhead.tasks.load import Loaded
from polyhead.tasks.translator import translate

START, END = "<start>", "</s>"
PLACES = {"cross": "decoder.blocks.{}.cross", "encoder": "encoder.blocks.{}.attn", "decoder": "decoder.blocks.{}.attn"}


@dataclass(frozen=True)
class Axis:
    """The words along one side of a map, and the pieces that make each of them."""

    labels: list[str]
    pieces: list[list[int]]

    @property
    def joined(self) -> bool:
        """Whether some word is made of several pieces."""
        return any(len(numbers) > 1 for numbers in self.pieces)

    @property
    def signs(self) -> list[int]:
        """The places that hold no word: the start sign and the end sign."""
        return [i for i, label in enumerate(self.labels) if label in (START, END)]

    @classmethod
    def of(cls, text: str, pieces: Sequence[Piece], *, by_words: bool) -> Axis:
        places = [(piece.start, piece.end) for piece in pieces]
        if not by_words:
            return cls([piece.text for piece in pieces], [[i] for i in range(len(pieces))])
        words = group(text, places)
        return cls([word(text, places, numbers) or END for numbers in words], words)

    def read(self) -> Axis:
        """The same words as the decoder reads them: one place later, after the start sign."""
        return Axis([START, *self.labels[:-1]], [[0], *([i + 1 for i in numbers] for numbers in self.pieces[:-1])])


@dataclass(frozen=True)
class Seen:
    """A sentence, its translation, and every attention call of the model that read both."""

    source: str
    target: str
    source_axis: Axis
    target_axis: Axis
    recording: Recording

    def axes(self, part: str) -> tuple[Axis, Axis]:
        """The words that look and the words looked at."""
        rows = self.source_axis if part == "encoder" else self.target_axis
        return rows, self.target_axis.read() if part == "decoder" else self.source_axis

    def weights(self, call: Call, part: str) -> NDArray[np.floating]:
        """The exact weights [H, T, S] of one call, by the words of both axes."""
        rows, columns = self.axes(part)
        return merge(call.weights()[0].double().numpy(), rows.pieces, columns.pieces)

    def layers(self, part: str, layer: int | None) -> list[tuple[int, Call]]:
        """The calls of one part of the model, by layer."""
        names = self.recording.names()
        numbers = [i for i in range(len(names)) if PLACES[part].format(i) in names]
        if layer is not None and layer not in numbers:
            raise ArgumentError(f"The model's layers are 0 to {len(numbers) - 1}, but --layer is {layer}.")
        return [(i, self.recording[PLACES[part].format(i)]) for i in (numbers if layer is None else [layer])]


def look(loaded: Loaded, text: str, translation: str | None, *, beam: int, by_words: bool) -> Seen:
    """Translate the text, unless a translation is given, and watch the model read both.

    The weights of the words that a tokenizer cuts into pieces are joined, if `by_words`: see `lens/draw/words.py`.
    """
    source = clean(text)
    if not source:
        raise DataError("There is nothing to see in an empty text; give a sentence.")
    target = clean(translation) if translation else translate(source, model=loaded, search=Beam(beam)).text
    sides = loaded.tokenizer.source.pieces(source), loaded.tokenizer.target.pieces(target)
    for side in sides:
        if len(side) > loaded.config.max_len:
            raise DataError(f"The text has {len(side)} tokens, but the model reads at most {loaded.config.max_len}.")
    source_ids, target_ids = ([piece.id for piece in side] for side in sides)
    read = [loaded.config.start_id, *target_ids[:-1]]  # what the decoder has before it when it chooses each word
    with watch(loaded.model) as recording, torch.inference_mode():
        loaded.model(torch.tensor([source_ids]), torch.tensor([read]))  # [1, S], [1, T]
    rows, columns = (Axis.of(*side, by_words=by_words) for side in ((target, sides[1]), (source, sides[0])))
    return Seen(source, target, columns, rows, recording)
