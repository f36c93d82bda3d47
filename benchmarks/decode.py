"""Decoding speed: GPT-2 (small) writes after prompts, the same weights in every engine; tokens a second."""

from __future__ import annotations

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
from workloads import made_up

from polyhead.benchmark.result import Parts

EXAMPLES = """\
  python benchmarks/decode.py                       one prompt, then 16 at once; ten minutes on two cores
  python benchmarks/decode.py --batches 1 --engines polyhead,transformers
  python benchmarks/decode.py --quick               does it run? seconds, no figures to keep"""

SMALL = {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
TINY = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
WORDS = 50_257
ENGINES = {
    "polyhead": ("decode_polyhead", "fp32"),
    "polyhead, bf16": ("decode_polyhead", "bf16"),
    "polyhead, int8": ("decode_polyhead", "int8"),
    "transformers": ("decode_transformers", "fp32"),
    "transformers, bf16": ("decode_transformers", "bf16"),
    "ONNX Runtime": ("decode_onnxruntime", "float32"),
    "CTranslate2 float32": ("decode_ctranslate2", "float32"),
    "CTranslate2 int8": ("decode_ctranslate2", "int8"),
}
NOTES = (
    "Tokens written a second, the reading of the prompts counted in; the median of all rounds, and from the lowest to "
    "the highest as a share of it. The ratio is to transformers, the median of the rounds' own ratios.",
    "The bound is that of one prompt: every matrix in float32 is read once for each token, where polyhead has it, as "
    "fast as PyTorch's sum or maximum reads it in the same run. One block: as many bytes side by side in another "
    "process. On a machine that is shared, two processes may have memory of unlike speed.",
    AT_HAND,
    APART,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("decode", __doc__ or "", EXAMPLES)
    parser.add_argument("--batches", default="1,16", help="prompts at once (default %(default)s)")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each (default %(default)s)")
    parser.add_argument("--new", type=int, default=64, help="tokens that follow (default %(default)s)")
    parser.add_argument("--engines", default="all", help="the beginnings of their names, with commas (default all)")
    options = parsed(parser, arguments)
    sizes, words = (TINY, 100) if options.quick else (SMALL, WORDS)
    if options.quick:
        options.prompt, options.new, options.batches = 5, 4, "1,2"
    names = [name for name in ENGINES if options.engines == "all" or name.startswith(tuple(options.engines.split(",")))]
    report = Report("Decoding speed", options)
    running: dict[str, Engine] = {}
    with tempfile.TemporaryDirectory() as folder:
        maker = Engine("random_folder", threads=options.threads)
        ends = {"bos_token_id": 1, "eos_token_id": 1}
        maker.ask("write", folder=folder, kind="gpt2", vocab_size=words, **sizes, **ends)
        maker.close()
        for name in names:
            module, precision = ENGINES[name]
            running[name] = Engine(module, threads=options.threads)
            running[name].ask("load", model=str(Path(folder).resolve()), threads=options.threads, precision=precision)
    reader = Engine("reading", threads=options.threads)
    width = sizes["n_embd"]
    numbers = 12 * width * width * sizes["n_layer"] + width * words
    reader.ask("load", threads=options.threads, bytes=4 * numbers)
    for count in map(int, options.batches.split(",")):
        rows = [row[:-1] for row in made_up(words, [options.prompt + 1] * count, seed=count)]
        asks: dict[str, Callable[[], Any]] = {
            name: partial(engine.ask, "decode", rows=rows, new=options.new) for name, engine in running.items()
        }
        if count == 1 and "polyhead" in running:
            asks["bound"] = partial(running["polyhead"].ask, "read", times=3)
            asks["one block"] = partial(reader.ask, "read", times=3)
        answers = interleaved(asks, rounds=options.rounds, say=f"{count} prompts")
        parts = apart(asks, answers, say=f"{count} prompts")
        report.tables.append(table(options, count, answers, parts))
        seconds = {name: [each["seconds"] for each in found] for name, found in answers.items()}
        report.raw[report.tables[-1].title] = {"seconds": seconds, "parts": told(parts)}
    for engine in (*running.values(), reader):
        engine.close()
    report.finish(*NOTES)


def table(options: Any, count: int, answers: dict[str, list[Any]], parts: dict[str, Parts]) -> Table:
    base = "transformers" if "transformers" in answers else next(iter(answers))
    work = {"bound": 1, "one block": 1}
    speeds = {
        name: [work.get(name, count * options.new) / each["seconds"] for each in found]
        for name, found in answers.items()
    }
    wanted = answers[base][-1]["rows"]
    lines: list[list[str]] = []
    for name, speed in speeds.items():
        rows = answers[name][-1].get("rows")
        assert rows is None or {len(row) for row in rows} == {options.new}, f"{name} did not do the same work"
        differ = "" if rows is None else str(sum(a != b for a, b in zip(rows, wanted, strict=True)))
        share = ratio(speed, speeds["bound"]) if "bound" in speeds else ""
        figures = [f"{statistics.median(speed):,.1f}", spread(speed), ratio(speed, speeds[base]), share, differ]
        lines.append([name, *figures, *shares(parts, name)])
    title = f"{count} prompt{'s' * (count > 1)} of {options.prompt} tokens, {options.new} tokens out, greedy"
    return Table(title, ("engine", "tokens/s", "spread", "ratio", "of the bound", "rows that differ", *PARTS), lines)


if __name__ == "__main__":
    main()
