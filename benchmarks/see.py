"""Seeing: attention that records and tells statistics beside blind attention, on the same tensors; time and memory."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from common import Engine, Report, Table, interleaved, parsed, parser_of, ratio

EXAMPLES = """\
  python benchmarks/see.py                                 12 heads of 64, 1k to 16k, causal and full
  python benchmarks/see.py --lengths 4096 --only full --rounds 9
  python benchmarks/see.py --long                          65,536 tokens on 12 heads, 131,072 on one: does it end?
  python benchmarks/see.py --training                      received weight within a forward and a backward
  python benchmarks/see.py --quick                         does it run? seconds, no figures to keep"""

NAMES = {
    "blind": "blind: SDPA's fused kernel",
    "products": "the products of queries and keys alone (floor)",
    "recording": "recording",
    "received": "received weight",
    "rows": "row statistics and top-8 links",
    "everything": "these, received weight and a 256 x 256 map",
    "rows beside": "SDPA kept: row statistics and top-8 links beside it",
    "everything beside": "SDPA kept: everything beside it",
    "unfused": "all weights written out",
}
MOST = 4096  # tokens for which all weights are written out: 12 heads take 3 GB


def measured(options: argparse.Namespace, heads: int, length: int, causal: bool, ways: Sequence[str]) -> Table:
    """A row for each way, each in its own process."""
    engines = {way: Engine("attend", threads=options.threads) for way in ways}
    for engine in engines.values():
        engine.ask(
            "prepare", heads=heads, length=length, width=64, causal=causal, threads=options.threads,
            learns=options.training,
        )  # fmt: skip
    title = f"{heads} heads of 64, {length:,} tokens, {'causal' if causal else 'full'}"
    title += ", forward and backward" if options.training else ""
    asked = {way: lambda way=way, engine=engine: engine.ask("run", way=way) for way, engine in engines.items()}
    found = interleaved(asked, rounds=options.rounds, say=title)
    for engine in engines.values():
        engine.close()
    seconds = {way: [answer["seconds"] for answer in answers] for way, answers in found.items()}
    rows = [
        [
            NAMES[way],
            f"{1000 * statistics.median(seconds[way]):,.1f} ms",
            ratio(seconds[way], seconds[ways[0]]),
            f"{max(answer['resident'] for answer in found[way]) / 2**20:,.0f} MiB",
        ]
        for way in ways
    ]
    return Table(title, ["way", "time", "ratio", "peak memory"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("see", __doc__ or "", EXAMPLES)
    parser.add_argument("--lengths", default="1024,4096,16384", help="tokens, by comma (default %(default)s)")
    parser.add_argument("--only", choices=("causal", "full"), help="one kind of mask instead of both")
    parser.add_argument("--long", action="store_true", help="besides, 65,536 tokens on 12 heads and 131,072 on one")
    parser.add_argument("--training", action="store_true", help="forward and backward, with the received weight")
    options = parsed(parser, arguments)
    report = Report("see", options)
    heads, lengths = (2, [256]) if options.quick else (12, [int(n) for n in options.lengths.split(",")])
    for length in lengths:
        for causal in (True, False):
            if options.only in (None, "causal" if causal else "full"):
                ways = ["blind", "received"] if options.training else [*NAMES]
                if length > MOST:
                    ways = [way for way in ways if way != "unfused"]
                report.tables.append(measured(options, heads, length, causal, ways))
    if options.long:
        options.rounds = 1
        for heads, length in ((12, 65_536), (1, 131_072)):
            report.tables.append(measured(options, heads, length, True, ["blind", "everything"]))
    report.finish("Each way in its own process, in turns; the ratio is the median of the rounds' own ratios to blind.")


if __name__ == "__main__":
    main()
