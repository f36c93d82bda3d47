"""Watching a whole model of somebody else's: BERT-base of `transformers`, blind, watched, and eager with its weights.

Then what a picture of it takes: our recording of a text beside the page that bertviz writes for the same text.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common import Engine, Report, Table, interleaved, parsed, parser_of, progress, ratio

EXAMPLES = """\
  python benchmarks/watch.py                               512 to 32,768 tokens; an hour on two cores
  python benchmarks/watch.py --lengths 512,4096 --rounds 7
  python benchmarks/watch.py --lengths 32768 --ways blind,rows
  python benchmarks/watch.py --quick                       does it run? seconds, no figures to keep"""

NAMES = {
    "blind": "blind, on SDPA",
    "rows": "watched: every weight can be had later",
    "into": "watched, into a file",
    "summary": "watched: entropy, received weight and a 64 x 64 map",
    "eager": "eager, output_attentions=True",
}
MOST = 4096  # tokens for which eager's weights fit: 12 layers of 12 heads take 9.7 GB, twice while they are made
ROUNDS = {8192: 2, 32_768: 1}  # from so many tokens on, where a round takes minutes: two; one, that nothing warms up


def measured(options: argparse.Namespace, length: int, layers: int) -> tuple[Table, dict[str, Any]]:
    """A row for each way, each in its own process; and what was measured."""
    ways = [way for way in options.ways.split(",") if way != "eager" or length <= MOST]
    engines = {way: Engine("watched", threads=options.threads) for way in ways}
    for way, engine in engines.items():
        engine.ask("prepare", way=way, length=length, layers=layers, threads=options.threads)
    asked = {way: lambda engine=engine: engine.ask("run") for way, engine in engines.items()}
    rounds = min([options.rounds, *(few for least, few in ROUNDS.items() if length >= least)])
    found = interleaved(asked, rounds=rounds, say=f"{length:,} tokens", warm=length < max(ROUNDS))
    for engine in engines.values():
        engine.close()
    seconds = {way: [answer["seconds"] for answer in answers] for way, answers in found.items()}
    taken = {way: max(answer["bytes"] for answer in answers) for way, answers in found.items()}
    same = {way: found[way][0]["sum"] == found["blind"][0]["sum"] for way in ways}
    rows = [
        [
            NAMES[way],
            f"{statistics.median(seconds[way]):,.2f} s",
            ratio(seconds[way], seconds["blind"]),
            f"{taken[way] / 2**20:,.0f} MiB",
            "the same" if same[way] else "other",
        ]
        for way in ways
    ]
    raw = {"tokens": length, "seconds": seconds, "bytes": taken}
    return Table(f"{length:,} tokens", ["way", "time", "ratio", "memory of the run", "bits of the output"], rows), raw


def sizes(lengths: Sequence[int], layers: int) -> Table:
    """Bytes on disk for the same model and text."""
    import torch
    import transformers

    from polyhead.lens.watch import watch

    bertviz: Any = import_module("bertviz") if find_spec("bertviz") else None
    if bertviz is None:
        print("bertviz is not installed, so its page is left out: pip install bertviz")
    rows: list[list[str]] = []
    for length in lengths:
        progress(f"sizes, {length:,} tokens")
        how: dict[str, Any] = {"num_hidden_layers": layers, "attn_implementation": "eager"}
        config: Any = transformers.BertConfig(**how)
        model: Any = transformers.BertModel(config).eval()
        words = torch.randint(5, 30_000, (1, length), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
            weights = model(words, output_attentions=True).attentions
            file = Path(folder) / "run"
            with watch(model, into=file):
                model(words)
            ours = file.stat().st_size
            theirs = None
            if bertviz is not None:
                page = bertviz.model_view(weights, [f"w{i}" for i in range(length)], html_action="return")
                theirs = len(page.data.encode())
        cells = layers * config.num_attention_heads * length**2
        rows.append(
            [
                f"{length:,}",
                f"{ours / 1e6:,.1f} MB",
                f"{ours / cells:.2f}",
                "-" if theirs is None else f"{theirs / 1e6:,.1f} MB",
                "-" if theirs is None else f"{theirs / cells:.1f}",
                "-" if theirs is None else f"{theirs / ours:.1f}x",
            ]
        )
    head = ["tokens", "our recording", "bytes a weight", "bertviz's page", "bytes a weight", "theirs / ours"]
    return Table(f"Files, {layers} layers of 12 heads, float32", head, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("watch", __doc__ or "", EXAMPLES)
    parser.add_argument("--lengths", default="512,1024,2048,4096,8192,32768", help="tokens (default %(default)s)")
    parser.add_argument("--ways", default=",".join(NAMES), help="which of them, blind first (default %(default)s)")
    options = parsed(parser, arguments)
    report = Report("watch", options)
    lengths, layers = ([64], 2) if options.quick else ([int(n) for n in options.lengths.split(",")], 12)
    runs = [measured(options, length, layers) for length in lengths]
    report.tables, report.raw["runs"] = [table for table, _ in runs], [raw for _, raw in runs]
    report.tables.append(sizes([64] if options.quick else [64, 128, 256, 512], layers))
    report.finish(
        "Each way in its own process, in turns; the ratio is the median of the rounds' own ratios to blind. The memory"
        " of the run is what the process grew by, the recording included. From the recording every weight of every"
        " head can be had exactly; bertviz's page holds the weights as text."
    )


if __name__ == "__main__":
    main()
