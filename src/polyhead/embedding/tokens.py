"""Ids of words [B, T] become x [B, T, D]: what each word is, where it stands, of which kind it is."""

from __future__ import annotations

from torch import Tensor, nn

from polyhead.core.dropout import dropout
from polyhead.core.run import Run


class Tokens(nn.Module):
    """tokens * scale + positions + kinds, normed: those of the four that a family has.

    positions: a module from places [B or 1, T] to vectors. kinds: an embedding of, say, which sentence of a pair a word
    belongs to; all are of kind 0 unless told. p: dropout on x. project: to the width of the stack, where words are
    narrower.
    """

    def __init__(
        self,
        tokens: nn.Embedding,
        *,
        scale: float = 1.0,
        positions: nn.Module | None = None,
        kinds: nn.Embedding | None = None,
        norm: nn.Module | None = None,
        p: float = 0.0,
        project: nn.Module | None = None,
    ):
        super().__init__()
        self.tokens, self.positions, self.kinds = tokens, positions, kinds
        self.norm = nn.Identity() if norm is None else norm
        self.project = nn.Identity() if project is None else project
        self.scale, self.p = scale, p

    def forward(self, ids: Tensor, run: Run, kinds: Tensor | None = None) -> Tensor:
        x = self.tokens(ids) * self.scale
        if self.positions is not None:
            x = x + self.positions(run.span(ids.shape[1]))
        if self.kinds is not None:
            x = x + (self.kinds.weight[0] if kinds is None else self.kinds(kinds))
        return self.project(dropout(self.norm(x), self.p, self.training))
