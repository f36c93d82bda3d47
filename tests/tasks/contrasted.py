"""Contrastive search as its paper writes it (Su et al., 2022), every vector made anew by transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def contrastive(
    read: Callable[[list[int]], Any], prompt: Sequence[int], *, alpha: float, k: int, end: int, limit: int,
    never: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """What follows a prompt, its end token included. `read` gives the model's output for a row, vectors included."""

    def last(out: Any) -> torch.Tensor:
        states = out.decoder_hidden_states if "decoder_hidden_states" in out else out.hidden_states
        return torch.nn.functional.normalize(states[-1][0].double(), dim=-1)  # [t, D]

    row = list(prompt)
    while len(row) < len(prompt) + limit and (len(row) == len(prompt) or row[-1] != end):
        with torch.no_grad():
            logits = read(row).logits[0, -1].double()
            logits[list(never)] = -torch.inf
            share, tokens = logits.softmax(-1).topk(k)
            values: list[float] = []
            for p, token in zip(share.tolist(), tokens.tolist(), strict=True):
                vectors = last(read([*row, token]))
                values.append((1 - alpha) * p - alpha * float((vectors[:-1] @ vectors[-1]).max()))
        row.append(int(tokens[max(range(k), key=lambda i: values[i])]))
    return row[len(prompt) :]
