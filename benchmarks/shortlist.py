"""What a short-list of target words saves: the same weights with all words and with a list, in turns; seconds a batch.

Random weights in the shape of most Marian models, which know 65,001 words. Tokens of the sources are drawn as words of
a language are (the n-th as often as 1/n), and each has its own list of words, drawn alike: what sentences share, they
share as in a language.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import Report, Table, interleaved, parsed, parser_of, ratio, spread
from workloads import TINY, write_random_model

from polyhead.generation import Beam, Greedy
from polyhead.tasks.load import Loaded, load, ready
from polyhead.tasks.shortlist import Shortlist, fingerprint
from polyhead.tasks.translator import Translator

EXAMPLES = """\
  python benchmarks/shortlist.py                    one sentence, then 16 at once; a few minutes on two cores
  python benchmarks/shortlist.py --best 30 --precisions int8
  python benchmarks/shortlist.py --quick            does it run? seconds, no figures to keep"""

SHAPE = {"d_model": 512, "layers": 6, "d_ff": 2048, "heads": 8, "words": 65_001}
NOTES = (
    "Seconds for a batch of sentences of 20 tokens, as many out; the median of all rounds, and from the lowest to the "
    "highest as a share of it; how many times faster, the median of the rounds' own ratios. Laying out the rows of a "
    "batch's words is counted in. words: how many the batch chooses among, at most.",
)


def drawn(words: int, count: int, draw: random.Random) -> list[int]:
    """Words of a language, the n-th as often as 1/n; none is special."""
    return [3 + int((words - 3) ** draw.random()) - 1 for _ in range(count)]


def made_up(loaded: Loaded, best: int) -> Shortlist:
    """A list of the 100 most frequent words, and so many for each token."""
    draw, words = random.Random(0), loaded.config.words
    own = torch.tensor([drawn(words, best, draw) for _ in range(words)]).view(-1)
    return Shortlist(torch.arange(3, 103) % words, torch.arange(words + 1) * best, own, words, fingerprint(loaded))


def seconds(translator: Translator, rows: Sequence[Sequence[int]]) -> float:
    start = time.perf_counter()
    translator.batch(rows)
    return time.perf_counter() - start


def table(loaded: Loaded, few: Shortlist, precision: str, options: argparse.Namespace, report: Report) -> Table:
    """Both ways to choose words, by every search and size of batch."""
    rows: list[list[str]] = []
    made, new = ready(loaded, precision=precision), options.new  # pyright: ignore[reportArgumentType]
    for name, search in {"greedy": Greedy(), "beam 4": Beam(4)}.items():
        ways = {k: Translator(made, search=search, shortlist=s, max_new=new) for k, s in (("all", None), ("list", few))}
        for way in ways.values():
            way.rules = replace(way.rules, min_new=new)  # so that both do the same work
        for count in map(int, options.batches.split(",")):
            draw = random.Random(count)
            sources = [[*drawn(loaded.config.words, 19, draw), 1] for _ in range(count)]
            asks = {k: partial(seconds, way, sources) for k, way in ways.items()}
            found = interleaved(asks, rounds=options.rounds, say=f"{precision}, {name}, {count}")
            among = few.candidates(torch.tensor(sources), torch.full((count,), 20), ways["list"].always)
            rows.append(
                [
                    f"{name}, {count} sentence{'s' * (count > 1)}",
                    f"{len(among):,}",
                    *(f"{statistics.median(found[k]):.3f} ({spread(found[k])})" for k in ways),
                    ratio(found["all"], found["list"]),
                ]
            )
            report.raw[f"{precision}, {rows[-1][0]}"] = found
    return Table(precision, ("search", "words", "all words, s", "a list, s", "times faster"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("shortlist", __doc__ or "", EXAMPLES)
    parser.add_argument("--batches", default="1,16", help="sentences at once (default %(default)s)")
    parser.add_argument("--best", type=int, default=50, help="words of each token (default %(default)s)")
    parser.add_argument("--new", type=int, default=20, help="tokens out (default %(default)s)")
    parser.add_argument("--precisions", default="fp32,bf16,int8", help="default %(default)s")
    options = parsed(parser, arguments)
    torch.set_num_threads(options.threads)
    report = Report("A short-list of words", options)
    with TemporaryDirectory() as folder:
        shape = TINY if options.quick else SHAPE
        loaded = load(write_random_model(Path(folder) / "random", shape, options.threads))
        few = made_up(loaded, options.best)
        for precision in options.precisions.split(","):
            report.tables.append(table(loaded, few, precision, options, report))
    report.finish(*NOTES)


if __name__ == "__main__":
    main()
