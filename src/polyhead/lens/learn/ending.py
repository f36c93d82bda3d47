"""What a model says in the end: a translation, or the likeliest next words; also while one of its layers is broken."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.lens.learn.working import Breaks
from polyhead.lens.watch import Watcher, shown
from polyhead.operator import Causal, attention
from polyhead.operator.kernels.reference import Array
from polyhead.tasks.asking import Asking
from polyhead.tasks.load import Loaded
from polyhead.tasks.translator import Translator

NEXT = 3


@dataclass(frozen=True)
class Ending:
    """The text that is written and its ids, or the likeliest next words with their probabilities."""

    text: str
    ids: list[int] = field(default_factory=list[int])
    next: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])


@dataclass(eq=False)
class Breaker(Watcher):
    """Breaks one layer while the model runs."""

    layer: nn.Module = field(default_factory=nn.Identity)
    breaks: Breaks = field(default_factory=Breaks)

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        if place == "z" and self.breaks.heads_off and getattr(at, "original", at) is self.layer:
            x = x.clone()
            x[:, list(self.breaks.heads_off)] = 0
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        if getattr(at, "original", at) is self.layer:
            scale = how.get("scale")
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            how["scale"] = (scale if self.breaks.scale else 1.0) / self.breaks.temperature
            if self.breaks.mask is not None:
                how["mask"] = Causal() if self.breaks.mask else None
        return attention(query, key, value, **how)


def ending(
    loaded: Loaded, ids: Sequence[int], layer: nn.Module | None = None, breaks: Breaks | None = None
) -> Ending | None:
    """What the model says of one text; None where it says nothing in words."""
    return endings(loaded, [ids], layer, breaks)[0]


def endings(
    loaded: Loaded, texts: Sequence[Sequence[int]], layer: nn.Module | None = None, breaks: Breaks | None = None
) -> list[Ending | None]:
    """What the model says of each text, one layer broken where one is named."""
    watcher = nullcontext()
    if layer is not None and breaks is not None and breaks != Breaks():
        watcher = shown(Breaker({}, lambda call: None, layer=layer, breaks=breaks))
    with watcher:
        if loaded.family.does in ("translation", "text to text"):
            found = Translator(loaded, said=Asking()).batch([list(ids) for ids in texts])
            return [written(loaded, best.tokens, best.finished) for best, *_ in found]
        if loaded.family.does == "next word":
            return [likeliest(loaded, ids) for ids in texts]
    return [None] * len(texts)


def written(loaded: Loaded, tokens: list[int], finished: bool) -> Ending:
    return Ending(loaded.tokenizer.target.decode(tokens), tokens + ([loaded.config.eos_id] if finished else []))


def likeliest(loaded: Loaded, ids: Sequence[int]) -> Ending:
    with torch.inference_mode():
        scores = loaded.model(torch.tensor([list(ids)], device=loaded.device))[0, -1].double()
    top = scores.softmax(-1).topk(min(NEXT, len(scores)))
    words = [loaded.tokenizer.decode([int(id)]) for id in top.indices]
    return Ending("", next=list(zip(words, top.values.tolist(), strict=True)))


def pushes(loaded: Loaded, parts: Array) -> list[list[tuple[list[tuple[str, float]], list[tuple[str, float]]]]] | None:
    """What each head's part [H, T, D] of an output would do to the scores of the words if it went straight to them: by
    head and row, the words that it raises most and lowers most. None where the model's head chooses no words."""
    weight = getattr(loaded.model.head, "weight", None)
    if loaded.family.does not in ("translation", "text to text", "next word") or not isinstance(weight, Tensor):
        return None
    words = getattr(loaded.tokenizer, "target", loaded.tokenizer)
    scores = torch.from_numpy(parts).to(weight) @ weight.T  # [H, T, V]
    most = min(NEXT, scores.shape[-1])
    ends = scores.topk(most), scores.topk(most, largest=False)

    def named(end: Any, h: int, i: int) -> list[tuple[str, float]]:
        ids, values = end.indices[h, i].tolist(), end.values[h, i].tolist()
        return [(words.decode([id]).strip() or words.token(id), value) for id, value in zip(ids, values, strict=True)]

    return [[(named(ends[0], h, i), named(ends[1], h, i)) for i in range(parts.shape[1])] for h in range(len(parts))]
