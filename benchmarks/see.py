"""Seeing: attention that records and tells statistics beside blind attention, on the same tensors; time and memory."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import Engine, Report, Table, interleaved, parsed, parser_of, ratio

EXAMPLES = """\
  python benchmarks/see.py                                 12 heads of 64, 1k to 16k, causal and full; a picture too
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
DRAWN = {  # what the picture shows, in which colour
    "blind": "black", "recording": "tab:blue", "rows": "tab:green", "everything": "tab:red", "unfused": "tab:gray",
}  # fmt: skip
MOST = 4096  # tokens for which all weights are written out: 12 heads take 3 GB


def measured(
    options: argparse.Namespace, heads: int, length: int, causal: bool, ways: Sequence[str]
) -> tuple[Table, dict[str, Any]]:
    """A row for each way, each in its own process; and what was measured."""
    engines = {way: Engine("attend", threads=options.threads) for way in ways}
    for way, engine in engines.items():
        engine.ask(
            "prepare", heads=heads, length=length, width=64, causal=causal, threads=options.threads,
            learns=options.training,
        )  # fmt: skip
        engine.ask("warm", way=way)
    title = f"{heads} heads of 64, {length:,} tokens, {'causal' if causal else 'full'}"
    title += ", forward and backward" if options.training else ""
    asked = {way: lambda way=way, engine=engine: engine.ask("run", way=way) for way, engine in engines.items()}
    found = interleaved(asked, rounds=options.rounds, say=title)
    for engine in engines.values():
        engine.close()
    seconds = {way: [answer["seconds"] for answer in answers] for way, answers in found.items()}
    taken = {way: max(answer["bytes"] for answer in answers) for way, answers in found.items()}
    rows = [
        [
            NAMES[way],
            f"{1000 * statistics.median(seconds[way]):,.1f} ms",
            ratio(seconds[way], seconds[ways[0]]),
            f"{taken[way] / 2**20:,.0f} MiB",
            f"{max(answer['resident'] for answer in found[way]) / 2**20:,.0f} MiB",
        ]
        for way in ways
    ]
    raw = {"heads": heads, "tokens": length, "causal": causal, "seconds": seconds, "bytes": taken}
    return Table(title, ["way", "time", "ratio", "the call's memory", "process at most"], rows), raw


def drawn(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Time and memory against length, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True, sharey="row", layout="constrained")
    for column, causal in zip(places.T, (True, False), strict=True):
        some = sorted((each for each in found if each["causal"] == causal), key=lambda each: each["tokens"])
        column[0].set_title("causal" if causal else "full")
        for way, colour in DRAWN.items():
            mine = [each for each in some if way in each["seconds"]]
            lengths = [each["tokens"] for each in mine]
            times = [statistics.median(p / q for p, q in paired(each, way)) for each in mine]
            style = {"color": colour, "marker": "o", "markersize": 4, "label": NAMES[way]}
            column[0].plot(lengths, times, **style)
            column[1].plot(lengths, [each["bytes"][way] / 2**20 for each in mine], **style)
        lengths = [each["tokens"] for each in some]
        base = some[0]["bytes"]["everything"] / 2**20
        column[1].plot(lengths, [base * n / lengths[0] for n in lengths], ":", color="silver", label="grows as n")
        squares = [base * (n / lengths[0]) ** 2 for n in lengths]
        column[1].plot(lengths, squares, "--", color="silver", label="grows as n squared")
        column[1].set_xlabel("tokens")
        for place in column:
            place.set_xscale("log", base=2)
            place.set_yscale("log")
            place.set_xticks(lengths, [f"{n:,}" for n in lengths])
            place.grid(alpha=0.3)
    places[0, 0].set_ylabel("time, of blind SDPA")
    places[0, 0].set_yticks([1, 2, 4, 8, 16, 32], ["1x", "2x", "4x", "8x", "16x", "32x"])
    places[0, 0].minorticks_off()
    places[1, 0].set_ylabel("memory of the call, MiB")
    figure.legend(*places[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=100)
    print(f"drawn: {path}")


def paired(found: dict[str, Any], way: str) -> Iterator[tuple[float, float]]:
    """The seconds of a way and of blind attention, round by round."""
    return zip(found["seconds"][way], found["seconds"]["blind"], strict=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("see", __doc__ or "", EXAMPLES)
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384", help="tokens, by comma (default %(default)s)")
    parser.add_argument("--only", choices=("causal", "full"), help="one kind of mask instead of both")
    parser.add_argument("--long", action="store_true", help="besides, 65,536 tokens on 12 heads and 131,072 on one")
    parser.add_argument("--training", action="store_true", help="forward and backward, with the received weight")
    options = parsed(parser, arguments)
    report = Report("see", options)
    runs: list[tuple[Table, dict[str, Any]]] = []
    heads, lengths = (2, [512]) if options.quick else (12, [int(n) for n in options.lengths.split(",")])
    for length in lengths:
        for causal in (True, False):
            if options.only in (None, "causal" if causal else "full"):
                ways = ["blind", "received"] if options.training else [*NAMES]
                if length > MOST:
                    ways = [way for way in ways if way != "unfused"]
                runs.append(measured(options, heads, length, causal, ways))
    short = [raw for _, raw in runs]
    if options.long:
        options.rounds = 1
        for heads, length in ((12, 65_536), (1, 131_072)):
            runs.append(measured(options, heads, length, True, ["blind", "everything"]))
    report.tables, report.raw["runs"] = [table for table, _ in runs], [raw for _, raw in runs]
    report.finish(
        "Each way in its own process, in turns; the ratio is the median of the rounds' own ratios to blind. The call's"
        " memory is what the process grew by beyond its tensors and loaded code: output, record and statistics, and"
        " what it took to find them."
    )
    if options.out is not None and not options.training and options.only is None:
        drawn(short, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
