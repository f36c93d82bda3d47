"""What is translated, by which models, in which engines: shared by the benchmarks of translation."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Engine, needs, stop

from polyhead.errors import CheckpointError
from polyhead.generation import sorted_batches
from polyhead.inputs.readers import Source, read
from polyhead.tasks.load import find, load
from polyhead.tasks.text_to_text import BATCH_TOKENS, ROWS

SHAPE = {"d_model": 512, "layers": 6, "d_ff": 2048, "heads": 8, "words": 16_000}
TINY = {"d_model": 64, "layers": 2, "d_ff": 128, "heads": 4, "words": 200}
SEARCHES = {"greedy": 1, "beam": 4}  # the number of beams


@dataclass(frozen=True)
class Workload:
    """Rows of source ids; `new` words out for each, or None: as many as the model says."""

    name: str
    sources: list[list[int]]
    new: int | None
    ragged: bool

    @property
    def batches(self) -> list[list[int]]:
        return sorted_batches([len(row) for row in self.sources], budget=BATCH_TOKENS, rows=ROWS)

    @property
    def file_order(self) -> list[list[int]]:
        places = range(len(self.sources))
        return [list(places[i : i + 32]) for i in places[::32]]

    def __str__(self) -> str:
        return f"{self.name}: " + (f"{self.new} tokens out" if self.new else "the model's own ends")


def made_up(words: int, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random words of the random model, </s> (1) at the end; a length counts it."""
    draw = random.Random(seed)
    return [[*(draw.randrange(3, words) for _ in range(length - 1)), 1] for length in lengths]


def log_uniform(count: int, low: int, high: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [round(math.exp(draw.uniform(math.log(low), math.log(high)))) for _ in range(count)]


def add_options(parser: argparse.ArgumentParser, *, searches: bool = True) -> None:
    """What the benchmarks of translation take besides."""
    data = Path("../shared/data/zh_en_tatoeba/test.tsv.gz")
    if searches:
        text = "greedy, beam (of 4) or both (default %(default)s)"
        parser.add_argument("--searches", default=",".join(SEARCHES), help=text)
    parser.add_argument("--model", help="a trained model, for real sentences (default: zoo/zh-en, if it is there)")
    parser.add_argument("--data", type=Path, default=data, help="pairs, Chinese in column 2 (default %(default)s)")
    parser.add_argument("--random", action="store_true", help="random weights only, no trained model and no data")


def trained(options: argparse.Namespace) -> Path | None:
    """The folder of the model that was asked for, or of the one that ships, if it is there."""
    if options.random:
        return None
    try:
        return find(options.model or "zh-en")
    except CheckpointError as missing:
        return stop(str(missing)) if options.model else None


def real(model: Path, data: Path, count: int) -> Workload:
    """Sentences from all over a file of pairs, Chinese in its second column; the model says where they end."""
    path = needs(data, "a file of pairs with --data")
    lines = [pair.source for pair in read(Source(path=path, columns=(2, 1)))]
    count = min(count, len(lines))
    lines = [lines[i * len(lines) // count] for i in range(count)]
    ids = load(model).tokenizer.source.encode_batch(lines)
    return Workload(f"{count} real sentences, {model.name}", ids, None, True)


def write_random_model(folder: Path, shape: dict[str, int], threads: int) -> Path:
    maker = Engine("random_marian", threads=threads)
    maker.ask("write", folder=str(folder), **shape)
    maker.close()
    return folder


def engines(model: Path, threads: int, *, workers: int = 1) -> dict[str, Engine]:
    """The translators, loaded; each in a process of its own. workers: of some more, which share the threads."""
    folder = str(model.resolve())
    loading: dict[str, tuple[str, dict[str, Any]]] = {
        "polyhead": ("translate_polyhead", {"model": folder, "precision": "fp32"}),
        "polyhead, bf16": ("translate_polyhead", {"model": folder, "precision": "bf16"}),
        "polyhead, int8": ("translate_polyhead", {"model": folder, "precision": "int8"}),
        "transformers": ("translate_transformers", {"model": folder}),
        "CTranslate2 float32": ("translate_ctranslate2", {"model": folder, "compute_type": "float32"}),
        "CTranslate2 int8": ("translate_ctranslate2", {"model": folder, "compute_type": "int8"}),
    }
    if workers > 1:
        for name in ("polyhead", "polyhead, int8", "CTranslate2 float32", "CTranslate2 int8"):
            module, how = loading[name]
            module = module.replace("translate_polyhead", "translate_workers")
            loading[f"{name}, {workers} workers"] = module, how | {"workers": workers}
    found: dict[str, Engine] = {}
    for name, (module, how) in loading.items():
        found[name] = Engine(module, threads=threads)
        found[name].ask("load", threads=threads, **how)
    return found


def particular(name: str) -> dict[str, Any]:
    """What an engine must be told besides."""
    return {"batch_tokens": BATCH_TOKENS} if name.startswith("CTranslate2") else {}
