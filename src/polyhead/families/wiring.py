"""The ways that models are put together: a family says of what, these say in which order.

Encoder           input -> embed -> stack -> head
Tower             input -> embed -> stack -> head, which makes one vector of it, in a space that two towers share
TwoTowers         text -> tower -> vector;  image -> tower -> vector;  both -> head
Decoder           ids so far -> embed -> causal stack -> head
EncoderDecoder    input -> source -> encoder -> memory;  ids so far -> target -> decoder, which reads memory -> head
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from polyhead.core import Run, Stack
from polyhead.core.init import initialise
from polyhead.operator import Lengths


class Encoder(nn.Module):
    """Reads all at once: words or an image go in, what the head makes of their vectors comes out."""

    def __init__(self, config: Any, embed: nn.Module, stack: Stack, head: nn.Module):
        super().__init__()
        self.config, self.embed, self.encoder, self.head = config, embed, stack, head
        initialise(self)

    def encode(self, x: Tensor, run: Run | None = None, **more: Tensor) -> Tensor:
        """Ids [B, T], or what the family's embedding reads, -> vectors [B, T, D]; the run's mask hides padding."""
        run = run or Run()
        return self.encoder(self.embed(x, run, **more), run)

    def forward(self, x: Tensor, lengths: Tensor | None = None, **more: Tensor) -> Tensor:
        """Rows of the given lengths [B] -> what the head makes of their vectors."""
        return self.head(self.encode(x, Run(mask=hidden(lengths)), **more))


class Tower(Encoder):
    """An encoder of a text or an image as one vector, in a space where both kinds are; its head knows what was read."""

    def forward(self, x: Tensor, lengths: Tensor | None = None, **more: Tensor) -> Tensor:
        """Ids [B, T] of the given lengths [B], or pixels, -> vectors [B, E], as long as they come."""
        return self.head(self.encode(x, Run(mask=hidden(lengths)), **more), x)


class TwoTowers(nn.Module):
    """Reads texts and images, each kind by a tower of its own, and says how near they are."""

    def __init__(self, config: Any, text: Tower, image: Tower, head: nn.Module):
        super().__init__()
        self.config, self.text, self.image, self.head = config, text, image, head

    def forward(self, ids: Tensor, pixels: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Texts [B, T] of the given lengths [B] and images [I, C, height, width] -> scores [B, I]."""
        return self.head(self.text(ids, lengths), self.image(pixels))


class Decoder(nn.Module):
    """Reads its own past and says what comes next."""

    def __init__(self, config: Any, embed: nn.Module, stack: Stack, head: nn.Module):
        super().__init__()
        self.config, self.embed, self.decoder, self.head = config, embed, stack, head
        initialise(self)

    def decode(self, ids: Tensor, run: Run) -> Tensor:
        """Ids so far [B, T] -> vectors [B, T, D] of which `head` makes next words. Padding on the left is hidden by
        the run's mask, and its `positions` say where the words stand."""
        return self.decoder(self.embed(ids, run), run)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Ids [B, T] of the given lengths [B] -> scores of the next word [B, T, V]."""
        return self.head(self.decode(ids, Run(mask=hidden(lengths))))


class EncoderDecoder(nn.Module):
    """Reads a source once, and says an answer word by word."""

    def __init__(
        self, config: Any, source: nn.Module, encoder: Stack, target: nn.Module, decoder: Stack, head: nn.Module
    ):
        super().__init__()
        self.config = config
        self.source, self.encoder = source, encoder
        self.target, self.decoder, self.head = target, decoder, head
        initialise(self)

    def encode(self, x: Tensor, run: Run | None = None) -> Tensor:
        """Source ids [B, S], or what the embedding reads, -> memory [B, S, D]; the run's mask hides padding."""
        run = run or Run()
        return self.encoder(self.source(x, run), run)

    def decode(self, ids: Tensor, run: Run) -> Tensor:
        """Target ids so far [B, T], memory in the run -> vectors [B, T, D] of which `head` makes next words."""
        return self.decoder(self.target(ids, run), run)

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Sources of the given lengths [B], and target ids [B, T] from the start sign on, -> scores [B, T, V]."""
        mask = hidden(lengths)
        memory = self.encode(source, Run(mask=mask))
        return self.head(self.decode(target, Run(memory=memory, memory_mask=mask)))


def hidden(lengths: Tensor | None) -> Lengths | None:
    return None if lengths is None else Lengths(lengths)
