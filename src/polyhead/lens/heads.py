"""A model goes in; what each of its heads does comes out: roles known from papers, with intervals, beside chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.conllu import Sentence, read_conllu
from polyhead.lens.recording import Call, Facts, Part, Recording, said
from polyhead.lens.roles import chance, influence
from polyhead.lens.roles.alignment import Alignment, aer
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.measure import Measured, measure
from polyhead.lens.roles.metrics import METRICS, Metric
from polyhead.lens.roles.result import Attention, Heads
from polyhead.lens.roles.syntax import Syntax, syntax
from polyhead.lens.roles.tally import Numbers, Tally, estimate
from polyhead.lens.roles.trials import Trial, trials
from polyhead.lens.roles.wording import Both, both
from polyhead.lens.rulers import rulers_of
from polyhead.operator import Record
from polyhead.tasks.device import Device
from polyhead.tasks.load import Loaded, ready

REPEATED = ("duplicate", "induction", "prefix")  # asked of random tokens, repeated, where we choose the inputs
RESAMPLES = 1000


def ordinary(key: str) -> bool:
    """Whether a metric is asked of real inputs, where those of random tokens are read besides."""
    return key not in REPEATED


def repeating(key: str) -> bool:
    """Whether it is asked of random tokens, repeated."""
    return key in REPEATED


def any_of(key: str) -> bool:
    return True


Axes = Axis | tuple[Axis, Axis]
Progress = Callable[[float], None]


@dataclass(eq=False)
class Book:
    """What was found so far, by the name of the attention: of its heads, and of chance."""

    calls: dict[str, Facts] = field(default_factory=dict[str, Facts])  # what is known of the first of each
    own: dict[str, Tally] = field(default_factory=dict[str, Tally])
    lucky: dict[str, Tally] = field(default_factory=dict[str, Tally])

    def note(self, call: Call, own: Measured, lucky: Measured, keys: Callable[[str], bool] = any_of) -> None:
        """Add one call's numbers, those of the keys that are wanted of it."""
        self.calls.setdefault(call.name, call.facts)
        for book, found in ((self.own, own), (self.lucky, lucky)):
            some = {key: x for key, x in found.numbers.items() if keys(key)}
            offsets = found.offsets if keys("positional") else None
            book.setdefault(call.name, Tally()).add(Measured(some, offsets))

    def put(self, key: str, found: Mapping[str, Numbers]) -> None:
        for name, row in found.items():
            if name in self.calls:
                self.own[name].put(key, row)


def heads(
    model: str | Path | Loaded | Recording | Sequence[Recording],
    inputs: Any = None,
    *,
    axes: Axes | Mapping[str, Axes] | None = None,
    conllu: str | Path | None = None,
    alignments: Sequence[str] | None = None,
    prefix_offset: Literal[1, -1] = 1,
    ablate: Literal["mean", "zero"] | None = "mean",
    language: Literal["en", "zh"] | None = None,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
    device: Device = "auto",
) -> Heads:
    """What every head of a model does: the metrics of `polyhead.lens.roles.metrics`, with intervals, beside chance.

    model: a model folder, a shipped model, hf:owner/name or what `load` returned; or a Recording (level "rows") of any
    torch model, or several. inputs: texts, image files or sound files; for a translator texts, or texts with a tab and
    their translation; unless given, sentences of our own, in `language` or the one that the model spells in fewer
    tokens. Random tokens, repeated, are read besides, for the metrics that need them.
    axes: for recordings, what stands along the maps: an Axis, or a pair (queries, keys), for every self-attention or by
    the name of the attention. Unless given, what the recording's rulers say; without these, only metrics that need no
    tokens are told.
    conllu: a treebank; every sentence of it is read, and heads are compared with its grammar. alignments: for a
    translator whose inputs are pairs with spaces between words, a line for each, "0-0 1-2".
    prefix_offset: whether prefix matching looks at the token after the earlier one (+1), as it is usually told, or at
    the one before it (-1), as the appendix of Olsson et al. (2022) says. ablate: what a head's output is replaced by;
    None leaves ablation out. resamples: how often inputs are drawn again for intervals. progress: hears the share that
    is done, from 0 to 1.

    Raises ArgumentError, DataError and CheckpointError.
    """
    if prefix_offset not in (1, -1):
        raise ArgumentError(f"prefix_offset must be 1 or -1; found {prefix_offset!r}")
    if ablate not in ("mean", "zero", None):
        raise ArgumentError(f"ablate must be 'mean', 'zero' or None; found {ablate!r}")
    if type(resamples) is not int or resamples < 0:
        raise ArgumentError(f"resamples must be a whole number of at least 0; found {resamples!r}")
    if isinstance(model, Recording) or (isinstance(model, list | tuple) and model and isinstance(model[0], Recording)):
        if inputs is not None or conllu is not None or alignments is not None:
            raise ArgumentError("a recording holds its inputs; inputs, conllu and alignments are for a model")
        some = [model] if isinstance(model, Recording) else list(cast("Sequence[Recording]", model))
        return of_recordings(some, axes, prefix_offset, resamples)
    if axes is not None:
        raise ArgumentError("axes are for recordings; polyhead knows those of its own models")
    loaded = tower_for(ready(cast("str | Path | Loaded", model), device), inputs)
    given = None if inputs is None else [inputs] if isinstance(inputs, str | Path) else list(inputs)
    sentences = None if conllu is None else treebank(loaded, conllu)
    shown, total, notes = trials(loaded, given, language)
    golden = aligned(loaded, given, alignments)
    steps = total * (2 if ablate else 1) + len(sentences or ())
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(1.0, done / steps))

    book = Book()
    notes += played(loaded, shown, book, prefix_offset, ablate, golden, tell)
    found = None if sentences is None else syntax(loaded, sentences, resamples, tell)
    if progress is not None:
        progress(1.0)
    return result(str(loaded.folder or loaded.family.architecture), book, prefix_offset, resamples, notes, found)


def tower_for(loaded: Loaded, inputs: Any) -> Loaded:
    """The tower that reads inputs of this kind, by its own names: texts are text, files are images; a model without
    towers as it is."""
    first = inputs[0] if isinstance(inputs, list | tuple) and inputs else inputs
    return replace(loaded.tower("text" if first is None or isinstance(first, str) else "image"), whole=None)


def played(
    loaded: Loaded,
    shown: Iterator[Trial],
    book: Book,
    shift: int,
    ablate: str | None,
    golden: Sequence[Alignment] | None,
    tell: Callable[[], None],
) -> list[Both]:
    """Run every trial, and note what its calls tell; what is to be said about it."""
    words = influence.unembedding(loaded)
    means = influence.Means.none() if ablate == "mean" else None
    kept: list[Trial] = []
    reads_words = loaded.family.reads in ("text", "pair")
    vectors, spoken = False, 0
    for number, trial in enumerate(shown):
        calls = {call.name: call for call in trial.one.watched()}
        axes = {name: trial.axes[call.part] for name, call in calls.items()}
        for name, call in calls.items():
            rows, columns = axes[name]
            own, lucky = measure(call, [rows], [columns], shift=shift, seed=number)
            book.note(call, own, lucky, any_of if not reads_words else ordinary if trial.spoken else repeating)
        if not trial.spoken:
            if words is not None:
                known = {name: pair for name, pair in axes.items() if readable(loaded, calls[name])}
                for name, (row, due) in influence.copying(loaded, trial, calls, known, words).items():
                    book.own[name].put("copying", row)
                    book.lucky[name].put("copying", np.full(len(row), due))
        else:
            if golden is not None and trial.words is not None:
                errors(book, calls, trial.words, golden[spoken], number)
            book.put("importance", influence.importance(loaded, trial, number))
            vectors |= trial.loss is None
            spoken += 1
            if ablate:
                kept.append(trial)
                if means is not None:
                    means.add(loaded.model, trial)
        tell()
    if not spoken:
        raise DataError("There was nothing to look at: the model read no input whole; give others.")
    for trial in kept:
        book.put("ablation", influence.ablation(loaded, trial, means))
        tell()
    alone = [both("one input")] if spoken == 1 else []
    return told(loaded, words is not None, vectors, ablate, shift) + alone


def readable(loaded: Loaded, call: Call) -> bool:
    """Whether the keys of a call are tokens that the readout knows, on the way of which it stands."""
    if loaded.family.reads == "text":
        return True
    sides = loaded.tokenizer
    return call.part == "decoder" or (call.part == "cross" and sides.source is sides.target)


def told(loaded: Loaded, words: bool, vectors: bool, ablate: str | None, shift: int) -> list[Both]:
    """What was asked, and what could not be."""
    does = loaded.family.does
    loss = "of a vector" if vectors else {
        "labels": "of a label", "image labels": "of a label", "place labels": "of labels",
        "hidden words": "of hidden words", "next word": "of the next word",
    }.get(does, "of the target")  # fmt: skip
    notes = [both(f"worth, {ablate}" if ablate else "worth", loss=both(loss))]
    if loaded.family.reads in ("text", "pair"):
        notes.append(prefix(shift))
    if not words:
        notes.append(both("no copying", does=does))
    return notes


def prefix(shift: int) -> Both:
    """Which of the two ways prefix matching was asked."""
    return both("prefix after" if shift == 1 else "prefix before")


def errors(
    book: Book, calls: Mapping[str, Call], words: tuple[list[list[int]], list[list[int]]], gold: Alignment, seed: int
) -> None:
    """The alignment error rate of each cross-attention head on one pair, its own and that of chance."""
    source, target = words
    for name, call in calls.items():
        if call.kind != "cross":
            continue
        for tallies, record in ((book.own, call.record), (book.lucky, chance.random(call.record.request, seed))):
            tallies[name].put("aer", np.array([aer(links, gold) for links in linked(record, source, target)]))


def linked(record: Record, source: Sequence[list[int]], target: Sequence[list[int]]) -> list[list[tuple[int, int]]]:
    """Of each head, the source word that each target word looks at most, (source, target)."""
    H, T = record.lse.shape[1:3]
    found: list[list[tuple[int, int]]] = [[] for _ in range(H)]
    for number, rows in enumerate(target):
        rows = [i for i in rows if i < T]
        if not rows:
            continue
        weights = record.weights(rows=rows)[0].double().mean(1)  # [H, S]
        shares = torch.stack([weights[:, columns].sum(-1) for columns in source], -1)  # [H, words]
        for head, best in enumerate(shares.argmax(-1).tolist()):
            found[head].append((best, number))
    return found


def aligned(loaded: Loaded, inputs: Sequence[Any] | None, alignments: Sequence[str] | None) -> list[Alignment] | None:
    """The given word alignments, if they fit the inputs."""
    if alignments is None:
        return None
    if loaded.family.reads != "pair":
        raise ArgumentError("alignments are for a model that reads one text and writes another")
    lines = [line for line in inputs or () if line.strip()]
    if any("\t" not in line for line in lines) or not lines:
        raise ArgumentError("alignments need inputs with their translation: a text, a tab, and its translation")
    if len(lines) != len(alignments):
        raise ArgumentError(f"there are {len(lines)} inputs and {len(alignments)} alignments; give one for each")
    return [Alignment.read(line, f"alignment {n}") for n, line in enumerate(alignments, 1)]


def treebank(loaded: Loaded, path: str | Path) -> list[Sentence]:
    """The sentences of a treebank, for a model that reads texts."""
    if loaded.family.reads not in ("text", "pair"):
        raise ArgumentError(f"conllu is for a model that reads texts; this one reads {loaded.family.reads}s")
    return list(read_conllu(path))


# --- recordings -------------------------------------------------------------------------------------------------------


def of_recordings(
    recordings: Sequence[Recording], axes: Axes | Mapping[str, Axes] | None, shift: int, resamples: int
) -> Heads:
    """What the heads of any model do, from recordings of its runs."""
    book, names = Book(), set(chain.from_iterable(recording.names() for recording in recordings))
    unknown = [name for name in axes if name not in names] if isinstance(axes, Mapping) else []
    if unknown:
        raise ArgumentError(f"'{unknown[0]}' was not recorded; recorded are {', '.join(sorted(names))}")
    known = False
    for number, recording in enumerate(recordings):
        for call in recording:
            rows, columns = axes_of(call, axes, recording)
            known |= columns.ids is not None
            own, lucky = measure(call, [rows], [columns], shift=shift, seed=number)
            book.note(call, own, lucky)
    notes = [both("one recording" if len(recordings) == 1 else "recordings", n=len(recordings))]
    notes += [prefix(shift)] if known else []
    missed = dict.fromkeys((len(one.missed), said(one.missed)) for one in recordings if one.missed)
    notes += [both("missed", n=n, what=what) for n, what in missed]
    named = next(
        (type(recording.model).__name__ for recording in recordings if recording.model is not None), "a recording"
    )
    return result(named, book, shift, resamples, notes, None)


def axes_of(call: Call, axes: Axes | Mapping[str, Axes] | None, recording: Recording) -> tuple[Axis, Axis]:
    """The axes of one call: those given, those of the recording's rulers that fit it, or places without names."""
    given = axes.get(call.name) if isinstance(axes, Mapping) else axes if call.kind == "self" else None
    if given is not None:
        return given if isinstance(given, tuple) else (given, given)
    T, S = call.lse.shape[2], call.norms.values.shape[2]
    rulers = {name: Axis.of(ruler) for name, ruler in rulers_of(recording.rulers).items()}
    if call.kind == "cross":
        rows = next(
            (rulers[name] for name in ("chosen", "decoder") if name in rulers and rulers[name].count == T), Axis(T)
        )
        rows, columns = replace(rows, skipped=frozenset()), rulers.get("encoder")
    else:
        columns = rulers.get(call.part)
        rows = columns if columns is not None and columns.count >= S else Axis(T)
    return rows, columns if columns is not None and columns.count >= S else Axis(S)


# --- numbers become one value -----------------------------------------------------------------------------------------


def result(model: str, book: Book, shift: int, resamples: int, notes: Sequence[Both], grammar: Syntax | None) -> Heads:
    """Means, intervals and chance, in the order of the calls."""
    calls = attentions(book.calls.values())
    own = {name: tally.settled() for name, tally in book.own.items()}
    lucky = {name: tally.settled() for name, tally in book.lucky.items()}
    there = set(chain.from_iterable(found for found in own.values()))
    if grammar is not None:
        there.add("syntax")
    metrics = tuple(worded(metric, shift) for metric in METRICS if metric.key in there)
    shape = (len(calls), max(call.heads for call in calls), len(metrics))
    values, low, high = (np.full(shape, np.nan, np.float32) for _ in range(3))
    by_chance, inputs = np.full((shape[0], shape[2]), np.nan, np.float32), np.zeros((shape[0], shape[2]), np.int64)
    for c, call in enumerate(calls):
        for m, metric in enumerate(metrics):
            if metric.key == "syntax" and grammar is not None:
                if call.name in grammar.calls:
                    place = grammar.calls.index(call.name)
                    for out, x in ((values, grammar.margins), (low, grammar.low_margins), (high, grammar.high_margins)):
                        out[c, : call.heads, m] = x[place, : call.heads]
                    by_chance[c, m], inputs[c, m] = 0.0, grammar.sentences
                continue
            if metric.key not in own[call.name]:
                continue
            found = estimate(own[call.name][metric.key], resamples)
            norm = float(np.sqrt(np.nansum(found.mean**2))) if metric.key == "importance" else 1.0
            norm = norm or 1.0
            for out, x in ((values, found.mean), (low, found.low), (high, found.high)):
                out[c, : call.heads, m] = x / norm
            inputs[c, m] = found.inputs
            if metric.chance != "none" and metric.key in lucky[call.name]:
                by_chance[c, m] = estimate(lucky[call.name][metric.key], 0).mean.mean()
    english, chinese = zip(*notes, strict=True)
    return Heads(model, calls, metrics, values, low, high, by_chance, inputs, grammar, english, chinese)


def worded(metric: Metric, shift: int) -> Metric:
    """The metric as it was asked: prefix matching has two ways."""
    if metric.key != "prefix" or shift == 1:
        return metric
    return replace(
        metric,
        about_en="The weight on tokens that came before the same token, at any earlier place.",
        about_zh="落在此前任何一处相同词元之前的词元上的权重。",
        formula="(1/N) sum_i sum_(j < i - 1, x_(j+1) = x_i) P[i, j]",
        source="Olsson et al. 2022, appendix, to the letter (offset -1)",
    )


def attentions(calls: Iterable[Facts]) -> tuple[Attention, ...]:
    """The attentions of a model, each with its number among those of its part."""
    found: list[Attention] = []
    counts: dict[Part, int] = {}
    for one in calls:
        counts[one.part] = counts.get(one.part, -1) + 1
        found.append(Attention(one.name, one.kind, one.part, counts[one.part], one.shape[1]))
    return tuple(found)
