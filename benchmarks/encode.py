"""Encoding speed: texts of many lengths through BERT-base, the same weights in every engine; tokens a second."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    APART,
    AT_HAND,
    PARTS,
    Engine,
    Report,
    Table,
    apart,
    interleaved,
    parsed,
    parser_of,
    ratio,
    shares,
    spread,
    told,
)
from workloads import log_uniform, made_up

from polyhead.benchmark.result import Parts
from polyhead.generation import sorted_batches
from polyhead.tasks.windows import BATCH_TOKENS, PACKED, batches_of

EXAMPLES = """\
  python benchmarks/encode.py                       64 texts of 8 to 400 tokens; a quarter of an hour on two cores
  python benchmarks/encode.py --engines polyhead,transformers --rounds 3
  python benchmarks/encode.py --quick               does it run? seconds, no figures to keep"""

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
WORDS = 30_522
ENGINES = {
    "polyhead": ("encode_polyhead", "fp32"),
    "polyhead, bf16": ("encode_polyhead", "bf16"),
    "polyhead, int8": ("encode_polyhead", "int8"),
    "transformers": ("encode_transformers", "fp32"),
    "transformers, bf16": ("encode_transformers", "bf16"),
    "ONNX Runtime": ("encode_onnxruntime", "float32"),
    "CTranslate2 float32": ("encode_ctranslate2", "float32"),
    "CTranslate2 int8": ("encode_ctranslate2", "int8"),
}
NOTES = (
    "Tokens a second, padding not counted; the median of all rounds, and from the lowest to the highest as a share of "
    "it. The ratio is to transformers given the texts sorted by length, the median of the rounds' own ratios. Off: how "
    "far the means of the vectors are from those of transformers, as a share of their length.",
    f"polyhead takes the texts in file order, side by side in rows of {PACKED:,} tokens; the others get them sorted, in"
    f" batches of {BATCH_TOKENS:,} tokens with their padding. 'file order' is transformers with 32 texts a batch as"
    " they come.",
    "The bound is the time of the matrix products alone, for the tokens without padding.",
    AT_HAND,
    APART,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("encode", __doc__ or "", EXAMPLES)
    parser.add_argument("--texts", type=int, default=64, help="how many (default %(default)s)")
    parser.add_argument("--longest", type=int, default=400, help="tokens, from 8 on (default %(default)s)")
    parser.add_argument("--engines", default="all", help="the beginnings of their names, with commas (default all)")
    options = parsed(parser, arguments)
    sizes, words = (TINY, 100) if options.quick else (BASE, WORDS)
    if options.quick:
        options.texts, options.longest = 6, 40
    rows = made_up(words, log_uniform(options.texts, 8, options.longest))
    names = [name for name in ENGINES if options.engines == "all" or name.startswith(tuple(options.engines.split(",")))]
    report = Report("Encoding speed", options)
    with tempfile.TemporaryDirectory() as folder:
        maker = Engine("random_folder", threads=options.threads)
        maker.ask("write", folder=folder, kind="bert", vocab_size=words, max_position_embeddings=512, **sizes)
        maker.close()
        answers, parts = measured(options, folder, rows, names, sizes)
    report.tables.append(table(rows, answers, parts))
    report.raw["parts"] = told(parts)
    report.raw["seconds"] = {name: [each["seconds"] for each in found] for name, found in answers.items()}
    report.finish(*NOTES)


def measured(
    options: argparse.Namespace, folder: str, rows: list[list[int]], names: Sequence[str], sizes: dict[str, int]
) -> tuple[dict[str, list[Any]], dict[str, Parts]]:
    """The answers of every engine, one a round; and where its time goes."""
    lengths = [len(row) for row in rows]
    batches = sorted_batches(lengths, budget=BATCH_TOKENS, rows=64)
    running: dict[str, Engine] = {}
    asks: dict[str, Callable[[], Any]] = {}
    for name in names:
        module, precision = ENGINES[name]
        running[name] = Engine(module, threads=options.threads)
        running[name].ask("load", model=str(Path(folder).resolve()), threads=options.threads, precision=precision)
        given = {} if module == "encode_polyhead" else {"batches": batches}
        asks[name] = partial(running[name].ask, "encode", rows=rows, **given)
    order = [list(range(len(rows))[i : i + 32]) for i in range(0, len(rows), 32)]
    if "transformers" in running:
        asks["transformers, file order"] = partial(running["transformers"].ask, "encode", rows=rows, batches=order)
    floor = Engine("products", threads=options.threads)
    shape = (sizes["num_hidden_layers"], sizes["intermediate_size"])
    floor.ask(
        "load", threads=options.threads, d_model=sizes["hidden_size"], encoder=shape, decoder=(0, 1), words=1
    )  # fmt: skip
    counts = [sum(lengths[i] for i in batch) for batch in batches_of(lengths)]
    for name, kind in {"bound: F.linear": "plain", "bound: prepacked": "packed"}.items():
        asks[name] = partial(floor.ask, "encode", rows=counts, kind=kind)
    found = interleaved(asks, rounds=options.rounds, say="encoding")
    parts = apart(asks, found, say="encoding")
    for engine in (*running.values(), floor):
        engine.close()
    return found, parts


def table(rows: Sequence[Sequence[int]], answers: dict[str, list[Any]], parts: dict[str, Parts]) -> Table:
    tokens = sum(map(len, rows))
    speeds = {name: [tokens / each["seconds"] for each in found] for name, found in answers.items()}
    base = "transformers" if "transformers" in answers else "polyhead"
    wanted = answers[base][-1]["vectors"]
    lines: list[list[str]] = []
    for name, speed in speeds.items():
        vectors = answers[name][-1].get("vectors")
        off = "" if vectors is None else f"{far(vectors, wanted):.0e}"
        figures = [f"{statistics.median(speed):,.0f}", spread(speed), ratio(speed, speeds[base]), off]
        lines.append([name, *figures, *shares(parts, name)])
    lengths = [len(row) for row in rows]
    title = f"{len(rows)} texts of {min(lengths)} to {max(lengths)} tokens, {tokens:,} in all"
    return Table(title, ("engine", "tokens/s", "spread", "ratio", "off", *PARTS), lines)


def far(mine: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The root of the mean square of what differs, as a share of what is wanted."""
    pairs = [(a, b) for x, y in zip(mine, theirs, strict=True) for a, b in zip(x, y, strict=True)]
    return (sum((a - b) ** 2 for a, b in pairs) / sum(b * b for _, b in pairs)) ** 0.5


if __name__ == "__main__":
    main()
