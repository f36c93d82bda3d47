"""Texts go in, read by a model whose layers have experts; which expert each token was sent to comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, Literal

import torch
from rich.cells import cell_len
from rich.text import Text
from torch import Tensor, nn

from polyhead.core.experts import DROPPED, Mixture, routing
from polyhead.errors import ArgumentError
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.labels import fit, pad, shown
from polyhead.lens.looking import answer_text, answering, read_text
from polyhead.lens.passes import Pass
from polyhead.lens.rulers import Words
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, ready, texts_of

Side = Literal["encoder", "decoder"]
Told = tuple[tuple[str, ...], Tensor, Tensor]  # tokens, their probabilities [T, E] and choices [T, k]
CELL = 4  # of the terminal, for the number of an expert's tokens
BUSIEST = 8  # experts that are named where not all fit


@dataclass(frozen=True, eq=False)
class Layer:
    """What the router of one layer did with N tokens, those of all texts one after the other.

    name           of the mixture, such as `decoder.blocks.2.mlp`.
    part, number   the stack that it is of, and its layer there, from 0.
    tokens         N labels, as they are read.
    probabilities  [N, E] of every expert, before a few are chosen.
    chosen         [N, k] the experts that each token was sent to, the likeliest first; -1 where it was dropped, for the
                   expert had no room left.
    """

    name: str
    part: Side
    number: int
    tokens: tuple[str, ...]
    probabilities: Tensor
    chosen: Tensor

    @property
    def counts(self) -> Tensor:
        """How many tokens each expert took, [E]."""
        return torch.bincount(self.chosen[self.chosen != DROPPED], minlength=self.probabilities.shape[1])

    @property
    def dropped(self) -> float:
        """The share of all choices for which there was no room."""
        return float((self.chosen == DROPPED).float().mean())

    @property
    def entropy(self) -> float:
        """How undecided the router is: the mean entropy of a token's probabilities in nats, from 0 to ln E."""
        return float(torch.special.entr(self.probabilities).sum(-1).mean())

    def sent(self, expert: int) -> list[str]:
        """The tokens that an expert took, in their order. Raises ArgumentError for an expert that there is not."""
        if not 0 <= expert < (n := self.probabilities.shape[1]):
            raise ArgumentError(f"The layer has experts 0 to {n - 1}, but expert is {expert}.")
        return self.of(expert)

    def of(self, expert: int) -> list[str]:
        return [self.tokens[n] for n in (self.chosen == expert).any(-1).nonzero()[:, 0].tolist()]  # pyright: ignore


@dataclass(frozen=True, eq=False)
class Routing:
    """Where the tokens of some texts went, layer by layer. `print(routing)` shows all layers, `draw` one by its words.

    sources, targets  what was read and what was written, a text each; targets are empty where nothing is written.
    """

    model: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    layers: tuple[Layer, ...]

    def __getitem__(self, name: str) -> Layer:
        """A layer by the name of its mixture."""
        found = next((layer for layer in self.layers if layer.name == name), None)
        if found is None:
            names = ", ".join(layer.name for layer in self.layers)
            raise ArgumentError(f"There are no experts at '{name}'; there are at {names}")
        return found

    def draw(self, part: Side | None = None, *, layer: int | None = None, canvas: Canvas | None = None) -> Text:
        """How many tokens each expert took, a line for each layer; or of one layer (`layer`) which tokens these are.

        The canvas has 80 cells a line and no colours unless given. Raises ArgumentError for layers without experts.
        """
        canvas = canvas or Canvas()
        some = [each for each in self.layers if part in (None, each.part) and layer in (None, each.number)]
        if not some:
            there = ", ".join(f"{each.part} layer {each.number}" for each in self.layers)
            asked = " ".join(x for x in (part, "layers" if layer is None else f"layer {layer}") if x)
            raise ArgumentError(f"The model has no experts in its {asked}; it has some in {there}.")
        above = [Text(shown(text, canvas.encoding), "bold") for text in (*self.sources, *self.targets)]
        below = [line for each in some for line in words(each, canvas)] if layer is not None else overview(some, canvas)
        return Text("\n").join([*above, Text(), *below])

    def __str__(self) -> str:
        return self.draw().plain


def experts(
    texts: str | Sequence[str],
    *,
    model: str | Path | Loaded,
    beam: int | None = None,
    prefix: str | None = None,
    device: Device = "auto",
) -> Routing:
    """Let a model with experts read texts, and tell which expert each token was sent to, in every layer that has some.

    texts: one, or many that are told together. A model that answers in words answers each text and reads its answer
    again at once, as `see` does, and may find less room in its experts than when it wrote it word by word; `beam` and
    `prefix` are of that. model: a folder, hf:owner/name or what `load` returned.
    Raises ArgumentError for a model without experts, CheckpointError, and DataError for an empty text or one that is
    too long.
    """
    loaded = ready(model, device)
    named: dict[nn.Module, str] = {m: name for name, m in loaded.model.named_modules() if isinstance(m, Mixture)}
    called = loaded.folder.name if loaded.folder else loaded.family.architecture
    if not named:
        raise ArgumentError(f"{called} is a {loaded.family.architecture} without experts: each layer has one MLP.")
    answers = loaded.family.reads == "pair"
    if not answers and (beam is not None or prefix is not None):
        raise ArgumentError(f"{called} writes no answer, so {'prefix' if beam is None else 'beam'} says nothing.")
    translator = answering(loaded, beam=beam, prefix=prefix) if answers else None
    lines = texts_of(texts)
    if not lines:
        raise ArgumentError("There are no texts; give one, or some.")
    passes = [
        answer_text(loaded, text, translator=translator) if answers else read_text(loaded, text) for text in lines
    ]
    found: dict[str, list[Told]] = {name: [] for name in named.values()}
    for one in passes:
        for name, told in routes(one, named).items():
            found[name].append(told)
    layers = tuple(layer_of(name, several) for name, several in found.items())
    targets = tuple(one.target for one in passes if one.target is not None)
    return Routing(called, tuple(one.source for one in passes), targets, layers)


def routes(one: Pass, named: Mapping[nn.Module, str]) -> dict[str, Told]:
    """Of each mixture by its name: the tokens of one pass, their probabilities [T, E] and choices [T, k]."""
    with torch.inference_mode(), routing() as seen:
        one.vectors()
    found: dict[str, Told] = {}
    for route in seen:
        name = named[route.at]
        ruler = one.rulers[name.partition(".")[0]]
        assert isinstance(ruler, Words)
        found[name] = ruler.labels, route.scores[0].float().softmax(-1).cpu(), route.chosen[0].cpu()
    return found


def layer_of(name: str, several: Sequence[Told]) -> Layer:
    """Passes over several texts as one."""
    stack, _, rest = name.partition(".blocks.")
    tokens = tuple(label for labels, _, _ in several for label in labels)
    part: Any = stack
    probabilities, chosen = torch.cat([told[1] for told in several]), torch.cat([told[2] for told in several])
    return Layer(name, part, int(rest.partition(".")[0]), tokens, probabilities, chosen)


# --- pictures ---------------------------------------------------------------------------------------------------------


def overview(layers: Sequence[Layer], canvas: Canvas) -> list[Text]:
    """A line for each layer: how many tokens each expert took, the shares that were dropped, how undecided it was."""
    n = layers[0].probabilities.shape[1]
    names = [f"{layer.part} layer {layer.number}" for layer in layers]
    margin, tail = max(map(len, names)) + 1, "  dropped  entropy"
    room = canvas.width - margin - len(tail)
    whole = n * CELL <= room
    columns = "".join(f"{e:>{CELL}}" for e in range(n)) if whole else pad("the busiest, and their tokens", room)
    lines = [
        Text(f"How many tokens each of {n} experts took; a token is sent to {layers[0].chosen.shape[1]}."),
        Text(f"entropy: 0 where the router is sure, {log(n):.2f} where all experts are alike to it", "dim"),
        Text(),
        Text(" " * margin + fit(columns, room, canvas.ellipsis) + tail, "bold"),
    ]
    for name, layer in zip(names, layers, strict=True):
        line = Text(pad(name, margin))
        line.append_text(numbers(layer, canvas) if whole else Text(pad(busiest(layer, room, canvas), room)))
        lines.append(line.append(f"{100 * layer.dropped:>7.1f} %  {layer.entropy:>7.2f}"))
    return lines


def numbers(layer: Layer, canvas: Canvas) -> Text:
    """The tokens of every expert, painted by their share."""
    total = max(len(layer.tokens), 1)
    return Text().join(
        Text(" ").append_text(canvas.cell(count / total, CELL - 1, str(count).rjust(CELL - 1)))
        for count in layer.counts.tolist()  # pyright: ignore
    )


def busiest(layer: Layer, room: int, canvas: Canvas) -> str:
    """`17: 12, 3: 9`: the experts that took most, and how many others took some."""
    order = in_order(layer)
    told = ", ".join(f"{e}: {count}" for e, count in order[:BUSIEST])
    more = f", {len(order) - BUSIEST} others" if len(order) > BUSIEST else ""
    return fit(told + more, room, canvas.ellipsis)


def in_order(layer: Layer) -> list[tuple[int, int]]:
    """The experts that took something, and how many tokens; the most first."""
    counts = enumerate(layer.counts.tolist())  # pyright: ignore
    return sorted(((e, count) for e, count in counts if count), key=lambda pair: -pair[1])


def words(layer: Layer, canvas: Canvas) -> list[Text]:
    """A line or more for each expert that took something: its number, how many tokens, and which."""
    n, k = layer.probabilities.shape[1], layer.chosen.shape[1]
    order = in_order(layer)
    title = f"{layer.part} layer {layer.number}: {len(order)} of {n} experts took some of {len(layer.tokens)} tokens"
    lines = [Text(f"{title}, each sent to {k}."), Text(), Text("expert  tokens", "bold")]
    for e, count in order:
        lines += wrapped(f"{e:>6}  {count:>6}  ", layer.of(e), canvas)
    if lost := layer.of(DROPPED):
        lines += wrapped(f"dropped {len(lost):>6}  ", lost, canvas)
    return [*lines, Text()]


def wrapped(start: str, tokens: Sequence[str], canvas: Canvas) -> list[Text]:
    """Tokens behind the start of a line, and below it where they are many."""
    lines, line = list[Text](), Text(start)
    for label in canvas.labels(tokens):
        if line.cell_len + cell_len(label) + 1 > canvas.width and line.cell_len > len(start):
            lines.append(line)
            line = Text(" " * len(start))
        line.append(label + " ")
    return [*lines, line]
