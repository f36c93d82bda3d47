"""The plain loop that ours must beat: torch.nn.Transformer, pre-norm, one vocabulary, one small file of pairs.

Nothing of polyhead is in it but the reader of lines. Sizes and settings are those of the BASELINE that it stands for:
d 256, 3 + 3 layers, 8 heads, d_ff 1024, dropout 0.2, label smoothing 0.1, joint BPE of 8,000, 20 epochs, batches of
1,400 tokens, a cosine from 1e-3, greedy search.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

PAD, END, START = 0, 1, 2
EPOCHS, LR, BATCH_TOKENS = 20, 1e-3, 1400

warnings.filterwarnings("ignore", message="enable_nested_tensor is True")  # PyTorch's advice on pre-norm encoders

Pair = tuple[str, str]
Ids = tuple[list[int], list[int]]


class PlainTransformer(nn.Module):
    """torch.nn.Transformer with one embedding for both sides and the readout, and sines for positions."""

    def __init__(self, words: int, d_model: int, n_layers: int, n_heads: int, d_ff: int, dropout: float, n_places: int):
        super().__init__()
        self.embedding = nn.Embedding(words, d_model, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.transformer = nn.Transformer(
            d_model, n_heads, n_layers, n_layers, d_ff, dropout, batch_first=True, norm_first=True
        )
        self.dropout = nn.Dropout(dropout)
        angle = torch.arange(n_places)[:, None] * torch.exp(torch.arange(0, d_model, 2) * (-math.log(1e4) / d_model))
        self.register_buffer("places", torch.stack((angle.sin(), angle.cos()), -1).flatten(1), persistent=False)
        self.scale = math.sqrt(d_model)

    places: Tensor

    def embed(self, ids: Tensor) -> Tensor:
        return self.dropout(self.embedding(ids) * self.scale + self.places[: ids.shape[1]])

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Source ids [B, S] and target ids [B, T] that begin with START -> scores [B, T, V]."""
        hidden = source == PAD
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        x = self.transformer(
            self.embed(source), self.embed(target), tgt_mask=causal, tgt_is_causal=True,
            src_key_padding_mask=hidden.float().masked_fill(hidden, -math.inf),
            memory_key_padding_mask=hidden.float().masked_fill(hidden, -math.inf),
        )  # fmt: skip
        return F.linear(x, self.embedding.weight)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, source: Tensor, target: Tensor, start: int, bf16: bool
) -> float:
    """Learn one batch: source [B, S] and target [B, T], both padded with PAD. Returns the loss."""
    before = torch.cat((target.new_full((len(target), 1), start), target[:, :-1]), 1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        scores = model(source, before)
        loss = F.cross_entropy(scores.flatten(0, 1).float(), target.flatten(), ignore_index=PAD, label_smoothing=0.1)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def train(
    pairs: Sequence[Pair], folder: Path, *, minutes: float, say: Callable[[str], None], epochs: int = EPOCHS
) -> str:
    """Train on pairs into `folder`, weights and vocabulary; returns what was done. `minutes` (0: none) is a limit."""
    torch.manual_seed(0)
    tokenizer = vocabulary(pairs)
    data = encode(tokenizer, pairs)
    model = plain(tokenizer.get_vocab_size())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.98))
    steps = epochs * len(batches(data, 0))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    begun, tokens, done = time.monotonic(), 0, 0
    for epoch in range(epochs):
        model.train()
        for batch in batches(data, epoch):
            source, target = padded([data[i][0] for i in batch]), padded([data[i][1] for i in batch])
            loss = step(model, optimizer, source, target, START, bf16=False)
            schedule.step()
            tokens += int((source != PAD).sum() + (target != PAD).sum())
            done += 1
            if 0 < minutes < (time.monotonic() - begun) / 60:
                break
        told = f"{done:,} of {steps:,} steps, {tokens / (time.monotonic() - begun):,.0f} tokens/s"
        say(f"epoch {epoch + 1}: {told}, loss {loss:.3f}")
        if done < len(batches(data, 0)) * (epoch + 1):
            break
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(model.state_dict(), folder / "model.safetensors")
    return f"{told}, {(time.monotonic() - begun) / 60:.0f} minutes"


def load(folder: Path) -> Callable[[Sequence[str]], list[str]]:
    """What a trained folder translates with, greedily."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = plain(tokenizer.get_vocab_size())
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()

    @torch.inference_mode()
    def translate(lines: Sequence[str]) -> list[str]:
        rows = [[*encoding.ids, END] for encoding in tokenizer.encode_batch(list(lines))]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        texts: dict[int, str] = {}
        for places in (order[i : i + 64] for i in range(0, len(order), 64)):
            source = padded([rows[i] for i in places])
            target = torch.full((len(places), 1), START)
            for _ in range(2 * source.shape[1] + 30):
                words = model(source, target)[:, -1].argmax(-1)
                words = words.where(~(target == END).any(1), PAD)
                target = torch.cat((target, words[:, None]), 1)
                if bool((target == END).any(1).all()):
                    break
            texts.update(zip(places, tokenizer.decode_batch(target.tolist()), strict=True))
        return [texts[i] for i in range(len(rows))]

    return translate


def plain(words: int) -> PlainTransformer:
    return PlainTransformer(words, d_model=256, n_layers=3, n_heads=8, d_ff=1024, dropout=0.2, n_places=1024)


def vocabulary(pairs: Sequence[Pair], size: int = 8000) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator((line for pair in pairs for line in pair), trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> list[Ids]:
    sides = [[[*e.ids, END] for e in tokenizer.encode_batch([pair[i] for pair in pairs])] for i in (0, 1)]
    return list(zip(*sides, strict=True))


def batches(data: Sequence[Ids], epoch: int) -> list[list[int]]:
    """Pairs of like length together, at most BATCH_TOKENS with padding, in random order."""
    draw = random.Random(epoch)
    order = sorted(range(len(data)), key=lambda i: (len(data[i][1]), len(data[i][0]), draw.random()))
    found: list[list[int]] = [[]]
    source = target = 0
    for i in order:
        source, target = max(source, len(data[i][0])), max(target, len(data[i][1]))
        if found[-1] and (len(found[-1]) + 1) * (source + target) > BATCH_TOKENS:
            found.append([])
            source, target = map(len, data[i])
        found[-1].append(i)
    draw.shuffle(found)
    return found


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
