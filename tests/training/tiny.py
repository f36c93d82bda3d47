"""A task small enough to train a thousand times: read a letter, say the next; with dropout and noise in the data."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyhead.training.loss import label_smoothed
from polyhead.training.rng import seed_everything
from polyhead.training.settings import Training
from polyhead.training.task import Loss

PADDING, LETTERS, WIDTH = 0, 11, 8


@dataclass(frozen=True)
class Letters:
    """ids [B, T] and what follows each, padded with PADDING."""

    ids: Tensor
    next: Tensor


class Speller(nn.Module):
    """Tied embeddings, a norm, dropout: one of each thing that could be forgotten. Every parameter is random."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(LETTERS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, LETTERS)
        self.out.weight = self.letters.weight
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            self.get_buffer("steps_seen").add_(1)
        x = nn.functional.dropout(self.letters(ids), 0.3, self.training)  # [B, T, WIDTH]
        return self.out(self.norm(x + torch.tanh(self.mix(x))))  # [B, T, LETTERS]


class Shuffled(Sequence[Letters]):
    """Batches made when they are asked for, with noise from all three generators, as augmentation would."""

    def __init__(self, task: Spelling, epoch: int) -> None:
        self.task = task
        order = torch.Generator().manual_seed(1000 * task.seed + epoch)
        self.order = torch.randperm(task.count, generator=order).tolist()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> Letters:  # pyright: ignore[reportIncompatibleMethodOverride]
        batch = self.task.letters(self.order[i])
        noise = [random.randrange(1, LETTERS), int(np.random.randint(1, LETTERS)), int(torch.randint(1, LETTERS, ()))]
        ids = batch.ids.clone()
        ids[0, :3] = torch.tensor(noise)
        return Letters(ids, batch.next)


class Spelling:
    """Eight batches an epoch; `broken` makes one batch's loss infinite."""

    def __init__(self, settings: Training, *, seed: int = 3, count: int = 8, broken: int | None = None) -> None:
        seed_everything(seed)
        self.settings, self.seed, self.count, self.broken = settings, seed, count, broken
        self.model = Speller()
        self.fetched: list[int] = []
        self.evaluations = 0

    @property
    def scores(self) -> Sequence[str]:
        return "loss", "right", "noise"

    def letters(self, i: int) -> Letters:
        """Batch i of the data, of a length of its own, its last row padded."""
        dice = torch.Generator().manual_seed(i)
        ids = torch.randint(1, LETTERS, (3, 5 + i % 4), generator=dice)
        following = ids % (LETTERS - 1) + 1
        following[-1, 4:] = PADDING
        self.fetched.append(i)
        return Letters(ids, following)

    def batches(self, epoch: int) -> Sequence[Letters]:
        return Shuffled(self, epoch)

    def loss(self, batch: Letters) -> Loss:
        logits = self.model(batch.ids)
        total = label_smoothed(logits, batch.next, padding=PADDING, smoothing=self.settings.label_smoothing)
        if self.broken is not None and int(self.model.get_buffer("steps_seen")) > self.broken:
            total = total * torch.inf
        targets = int((batch.next != PADDING).sum())
        return Loss(total=total, targets=targets, tokens=batch.ids.numel() + targets)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        self.evaluations += 1
        noise = random.random() + np.random.random() + torch.rand(3)  # a careless evaluation draws numbers too
        with torch.no_grad():
            logits, batch = model(self.letters(99).ids), self.letters(99)
            total = label_smoothed(logits, batch.next, padding=PADDING)
            right = (logits.argmax(-1) == batch.next)[batch.next != PADDING].float().mean()
        return {"loss": float(total) / batch.next.numel(), "right": float(right), "noise": float(noise.sum())}

    def save(self, folder: Path, model: nn.Module, card: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(everything(model), folder / "model.safetensors")
        (folder / "README.md").write_text(card, encoding="utf-8")


def everything(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and buffers, tied ones once, as they are now."""
    return {name: t.detach().clone() for name, t in (*model.named_parameters(), *model.named_buffers())}


def same_bits(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved_model(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")
