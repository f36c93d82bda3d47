"""Words and their times: the tokens of windows are read once more, and the heads that follow the speech are looked at.

The decoder reads <start> ... <no times> words; the row that says a word looks at the sound of it. Exact weights are
rebuilt from the calls the model made, so its scores are bit for bit those of a pass that nobody looks at.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from polyhead.core import Run
from polyhead.core.run import Observer, watching
from polyhead.inputs.pair import TextTokenizer, spelled
from polyhead.operator import attend
from polyhead.tasks.hearing.alignment import starts_of


@dataclass(frozen=True)
class Word:
    """A word, when it is heard, in seconds, and how likely its tokens were, their mean."""

    text: str
    start: float
    end: float
    probability: float


class Heard(NamedTuple):
    """Of each token: where it begins, one place more for where the last ends, and its probability."""

    places: list[int]
    probabilities: list[float]


@dataclass(eq=False)
class Listener:
    """Looks at some heads, and keeps their weights [B, heads, T, S]; who looked on already still does."""

    heads: Mapping[nn.Module, list[int]]
    kept: list[Tensor] = field(default_factory=list[Tensor])
    outer: Observer | None = field(default_factory=watching.get)

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        return x if self.outer is None else self.outer.see(at, place, x)

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        output, record = attend(query, key, value, **how)
        if at in self.heads:
            self.kept.append(record.weights()[:, self.heads[at]])
        return output if self.outer is None else self.outer.attend(at, query, key, value, **how)


@torch.inference_mode()
def listen(
    model: Any,
    memory: Tensor,
    prompt: Sequence[int],
    text: Sequence[int],
    *,
    heads: Sequence[tuple[int, int]],
    places: int,
    width: int,
) -> Heard:
    """Where the tokens of a window's words are heard: memory [1, S, D], of which the sound fills so many `places`.

    heads: (layer, head) pairs. width: of the median.
    """
    if not text:
        return Heard([0], [])
    tokens = torch.tensor([[*prompt, *text]], device=memory.device)  # [1, T]
    layers = sorted({layer for layer, _ in heads})
    listener = Listener({model.decoder.blocks[i].cross: [head for layer, head in heads if layer == i] for i in layers})
    x = model.decode(tokens, Run(memory=memory, observer=listener))[
        :, len(prompt) - 1 :
    ]  # rows that say a token or end
    likely = model.head(x[:, :-1])[0].float().softmax(-1)  # [n, V]
    seen = torch.cat(listener.kept, 1)[0, :, len(prompt) - 1 :, :places]  # [heads, n + 1, places]
    seen = seen / seen.sum(-1, keepdim=True)  # of the sound alone, without the silence behind it
    probabilities = likely.gather(1, tokens[0, len(prompt) :, None])[:, 0]
    return Heard(starts_of(seen, width=width).tolist(), probabilities.tolist())


def upper(layers: int, heads: int) -> tuple[tuple[int, int], ...]:
    """All heads of the upper half of the layers, which stand in where a folder names none."""
    return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))


def words_of(tokenizer: TextTokenizer, tokens: Sequence[int], *, spaced: bool) -> list[tuple[str, int]]:
    """The words that tokens spell, and how many tokens each has; in order, all tokens in one of them.

    A word ends before a space; in languages that write none, at each token, but Latin letters stay together, and
    punctuation stays with the word that it closes or opens.
    """
    text, pieces = spelled(tokenizer, tokens)
    words: list[list[int]] = []  # each its first token, its count, its first and last character
    reached = 0
    for piece in pieces:
        begins = piece.start >= reached and piece.end > piece.start
        if not words or (begins and (apart(text, piece.start) if spaced else alone(text, piece.start))):
            words.append([0, piece.start, piece.end])
        words[-1][0] += 1
        words[-1][2] = reached = max(reached, piece.end)
    joined: list[tuple[str, int]] = []
    waiting = 0  # tokens of mere spaces go with the word that follows, or with the last
    for count, start, stop in words:
        word = text[start:stop].strip()
        if not word:
            waiting += count
            continue
        joined.append((word, count + waiting))
        waiting = 0
    if waiting and joined:
        joined[-1] = (joined[-1][0], joined[-1][1] + waiting)
    return joined


def apart(text: str, place: int) -> bool:
    """Whether a space stands at this place or before it."""
    return place == 0 or text[place].isspace() or text[place - 1].isspace()


def alone(text: str, place: int) -> bool:
    """Whether a new word begins at this place of a text without spaces."""
    if apart(text, place):
        return True
    before, here = text[place - 1], text[place]
    latin = before.isascii() and before.isalnum() and here.isascii() and here.isalnum()
    kind = unicodedata.category(here)
    closes = kind[0] == "M" or kind in ("Pe", "Pf", "Po", "Pd", "Pc")
    opened = unicodedata.category(before) in ("Ps", "Pi")
    return not (latin or closes or opened)


def told(words: Sequence[tuple[str, int]], times: Sequence[float], probabilities: Sequence[float]) -> list[Word]:
    """Words with the times of their tokens, one time more than tokens, and the mean of their probabilities."""
    made: list[Word] = []
    at = 0
    for text, count in words:
        likely = probabilities[at : at + count]
        made.append(Word(text, times[at], times[at + count], sum(likely) / count))
        at += count
    return made
