"""Heads against a treebank: does the word that a head looks at most, from a word, stand in a given relation to it?

Pieces of a word are joined: what is looked at adds up, those who look are averaged, and a word's own place does not
count (Clark et al. 2019, section 4.2). The best fixed offset, "always the next word", is what a head must beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyhead.errors import DataError
from polyhead.inputs.conllu import Sentence, Word
from polyhead.lens.looking import text_of
from polyhead.lens.recording import Call
from polyhead.lens.roles.tally import Numbers, bounds, draws
from polyhead.tasks.load import Loaded

Direction = Literal["dependent to head", "head to dependent"]
DIRECTIONS: tuple[Direction, Direction] = ("dependent to head", "head to dependent")
LEAST = 20  # pairs of a relation in either half of the sentences, or it says too little to choose a head by
MARGIN = 10.0  # points by which a head must beat the best fixed offset to be called syntactic (Voita et al. 2019)
AT_ONCE = 32  # words whose rows are looked at together


@dataclass(frozen=True)
class Best:
    """The head that finds a relation best: chosen on every other sentence, measured on those between.

    call, head: which. score, low, high: per cent of pairs found, and its interval. offset, baseline: the best fixed
    offset, in words, chosen on the same sentences, and per cent of pairs that it finds. pairs: how many were measured.
    """

    relation: str
    direction: Direction
    call: str
    head: int
    score: float
    low: float
    high: float
    offset: int
    baseline: float
    pairs: int

    @property
    def margin(self) -> float:
        """Points by which it beats the best fixed offset."""
        return self.score - self.baseline

    @property
    def syntactic(self) -> bool:
        """Whether that is enough, also at the lower end of the interval."""
        return self.low - self.baseline >= MARGIN


@dataclass(frozen=True, eq=False, repr=False)
class Syntax:
    """What heads found in a treebank.

    relations, pairs: by name and how many pairs each has, the commonest first. calls: names of the attentions.
    scores, low, high: per cent of pairs found [2, calls, H, relations], by direction, over all sentences; NaN where a
    call has fewer heads, or there were no pairs. baseline, offset: of the best fixed offset [2, relations]. best: the
    head for each relation and direction, chosen and measured on different sentences. margins, low_margins and
    high_margins: of each head [calls, H], for what suits it, chosen (by the lower end of its interval) and measured so
    too; suits: that relation and direction, as numbers [calls, H, 2], -1 for none. sentences: how many were read;
    left_out: how many were too long.
    """

    relations: tuple[str, ...]
    pairs: tuple[int, ...]
    calls: tuple[str, ...]
    scores: Numbers
    low: Numbers
    high: Numbers
    baseline: Numbers
    offset: NDArray[np.int64]
    best: tuple[Best, ...]
    margins: Numbers
    low_margins: Numbers
    high_margins: Numbers
    suits: NDArray[np.int64]
    sentences: int
    left_out: int

    def __repr__(self) -> str:
        return f"Syntax of {len(self.calls)} calls in {self.sentences:,} sentences, {sum(self.pairs):,} pairs"


@dataclass(eq=False)
class Pairs:
    """Pairs of a dependent and its head, one after another: what they are, and which heads found them, by direction."""

    relations: list[str] = field(default_factory=list[str])
    sentences: list[int] = field(default_factory=list[int])
    offsets: list[int] = field(default_factory=list[int])  # head's place - dependent's place, in words
    asked: list[NDArray[np.bool_]] = field(default_factory=list[NDArray[np.bool_]])  # [2]: whether it can be seen
    found: list[NDArray[np.bool_]] = field(default_factory=list[NDArray[np.bool_]])  # [pairs, 2, heads of all calls]


def tokens_of(word: Word, places: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens that stand for characters of a word."""
    return [i for i, (start, end) in enumerate(places) if start < word.end and end > word.start]


def groups_of(words: Sequence[Word], places: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The tokens of each word; a token that reaches into several is of the one it shares most characters with. A space
    that a token begins with is no character of a word's."""
    owners: dict[int, tuple[int, int]] = {}
    for number, word in enumerate(words):
        for i in tokens_of(word, places):
            shared = min(places[i][1], word.end) - max(places[i][0], word.start)
            if shared > owners.get(i, (0, 0))[0]:
                owners[i] = shared, number
    groups: list[list[int]] = [[] for _ in words]
    for i, (_, number) in sorted(owners.items()):
        groups[number].append(i)
    return groups


def strongest(call: Call, groups: Sequence[Sequence[int]]) -> Tensor:
    """The word [H, W] that each word looks at most, but itself; -1 for words without tokens. One sequence."""
    query, S = call.record.request.query, call.record.request.key.shape[2]
    H, W = query.shape[1], len(groups)
    joined = torch.zeros(S, W, dtype=torch.float64)
    for number, group in enumerate(groups):
        joined[list(group), number] = 1.0
    there = torch.tensor([bool(group) for group in groups])
    found = torch.full((H, W), -1)
    some = [number for number in range(W) if groups[number]]
    for start in range(0, len(some), AT_ONCE):
        part = some[start : start + AT_ONCE]
        rows = [i for number in part for i in groups[number]]
        weights = call.weights(rows=rows)[0].cpu().double() @ joined  # [H, rows, W]
        shares = torch.zeros(len(part), len(rows), dtype=torch.float64)
        at = 0
        for row, number in enumerate(part):
            shares[row, at : at + len(groups[number])] = 1 / len(groups[number])
            at += len(groups[number])
        looked = shares @ weights  # [H, part, W]
        looked[..., ~there] = -1.0
        looked[:, range(len(part)), part] = -1.0
        found[:, part] = looked.argmax(-1)
    return found


def read(pairs: Pairs, number: int, sentence: Sentence, groups: Sequence[Sequence[int]], calls: Sequence[Call]) -> None:
    """Add what the heads of one run found in its sentence."""
    words = sentence.words
    chosen = [
        i for i, word in enumerate(words)
        if word.head >= 0 and word.alone and words[word.head].alone and groups[i] and groups[word.head]
    ]  # fmt: skip
    if not chosen:
        return
    dependents, heads = np.array(chosen), np.array([words[i].head for i in chosen])
    best = torch.cat([strongest(call, groups) for call in calls]).numpy()  # [heads of all calls, W]
    later = np.concatenate([np.full(call.lse.shape[1], not call.causal) for call in calls])
    found = np.stack([best[:, dependents] == heads, best[:, heads] == dependents], 1)  # [heads, 2, pairs]
    pairs.found.append(np.transpose(found, (2, 1, 0)))
    if later.all():
        asked = np.ones((len(chosen), 2), np.bool_)
    else:  # a head that reads its past finds what stands there, or nothing
        asked = np.stack([heads < dependents, dependents < heads], 1)
    pairs.asked.append(asked)
    pairs.relations += [words[i].relation for i in chosen]
    pairs.sentences += [number] * len(chosen)
    pairs.offsets += (heads - dependents).tolist()


def syntax(
    loaded: Loaded, sentences: Iterable[Sentence], resamples: int, tell: Callable[[], None] = lambda: None
) -> Syntax:
    """Every self-attention head of a model of texts against the sentences of a treebank. Raises DataError."""
    pairs, sizes, number, left_out = Pairs(), dict[str, int](), 0, 0
    tokenizer = loaded.tokenizer if loaded.family.reads == "text" else loaded.tokenizer.source
    for each in sentences:
        tell()
        pieces = tokenizer.pieces(each.text)
        if len(pieces) > loaded.config.max_len:
            left_out += 1
            continue
        calls = [*text_of(loaded, each.text, pieces).watched()]
        sizes = {call.name: call.lse.shape[1] for call in calls}
        read(pairs, number, each, groups_of(each.words, [(piece.start, piece.end) for piece in pieces]), calls)
        number += 1
    if not pairs.found:
        raise DataError("The treebank holds no pair of a word and its head that the model reads")
    return judged(pairs, sizes, resamples, sentences=number, left_out=left_out)


def judged(pairs: Pairs, sizes: dict[str, int], resamples: int, *, sentences: int, left_out: int) -> Syntax:
    """Scores of every head, offset and relation."""
    relation, sentence, offset = np.array(pairs.relations), np.array(pairs.sentences), np.array(pairs.offsets)
    asked, found = np.concatenate(pairs.asked), np.concatenate(pairs.found)  # [pairs, 2], [pairs, 2, heads]
    counts = Counter(pairs.relations)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    heads = found.shape[2]
    shape = (2, len(names), heads)
    score, low, high = (np.full(shape, np.nan) for _ in range(3))
    baseline, fixed = np.full(shape[:2], np.nan), np.zeros(shape[:2], np.int64)
    margins, chosen_by = np.full((3, heads), np.nan), np.full(heads, -np.inf)  # value, low and high
    suits = np.full((2, heads), -1.0)
    best: list[Best] = []
    where = [(name, head) for name, size in sizes.items() for head in range(size)]
    for r, name in enumerate(names):
        for d, direction in enumerate(DIRECTIONS):
            some = np.flatnonzero((relation == name) & asked[:, d])
            if not len(some):
                continue
            hits, of, off = found[some, d].astype(np.float64), sentence[some], offset[some] * (1 if d == 0 else -1)
            score[d, r] = 100 * hits.mean(0)
            low[d, r], high[d, r] = interval(hits, of, resamples)
            fixed[d, r], baseline[d, r] = best_offset(off, off)
            even, odd = of % 2 == 0, of % 2 == 1
            if min(even.sum(), odd.sum()) < LEAST:
                continue
            place, expected = best_offset(off[even], off[odd])
            seen, measured = 100 * hits[even].mean(0), 100 * hits[odd].mean(0)
            most = int(seen.argmax())
            ends = interval(hits[odd], of[odd], resamples)
            best.append(
                Best(
                    name, direction, *where[most], float(measured[most]), float(ends[0][most]), float(ends[1][most]),
                    place, expected, int(odd.sum()),
                )
            )  # fmt: skip
            surely = interval(hits[even], of[even], resamples)[0]
            gain = np.where(np.isnan(surely), seen, surely) - 100 * float((off[even] == place).mean())
            better = gain > chosen_by
            chosen_by[better] = gain[better]
            margins[:, better] = (np.stack([measured, *ends]) - expected)[:, better]
            suits[0, better], suits[1, better] = r, d
    widest = max(sizes.values())

    def by_call(x: Numbers) -> Numbers:
        """[..., heads of all calls] -> [..., calls, H]."""
        out, at = np.full((*x.shape[:-1], len(sizes), widest), np.nan), 0
        for i, size in enumerate(sizes.values()):
            out[..., i, :size] = x[..., at : at + size]
            at += size
        return out

    scores, lows, highs = (np.moveaxis(by_call(x), 1, 3) for x in (score, low, high))
    return Syntax(
        tuple(names), tuple(counts[name] for name in names), tuple(sizes), scores, lows, highs, baseline, fixed,
        tuple(best), by_call(margins[0]), by_call(margins[1]), by_call(margins[2]),
        np.nan_to_num(np.moveaxis(by_call(suits), 0, 2), nan=-1).astype(np.int64),
        sentences, left_out,
    )  # fmt: skip


def best_offset(chosen_on: NDArray[np.int64], measured_on: NDArray[np.int64]) -> tuple[int, float]:
    """The commonest offset of some pairs, and per cent of others that have it."""
    values, counts = np.unique(chosen_on, return_counts=True)
    ties = values[counts == counts.max()]
    place = int(ties[np.abs(ties).argmin()])
    return place, 100 * float((measured_on == place).mean())


def interval(hits: Numbers, of: NDArray[np.int64], resamples: int) -> tuple[Numbers, Numbers]:
    """The interval of per cent of pairs found [pairs, heads] -> [heads], by drawing the sentences again."""
    numbers, at = np.unique(of, return_inverse=True)
    if len(numbers) < 2 or resamples < 2:
        return np.full(hits.shape[1], np.nan), np.full(hits.shape[1], np.nan)
    sums = np.zeros((len(numbers), hits.shape[1]))
    np.add.at(sums, at, hits)
    drawn = draws(len(numbers), resamples)
    return bounds(100 * (drawn @ sums) / (drawn @ np.bincount(at).astype(np.float64))[:, None])
