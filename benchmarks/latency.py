"""Latency: one sentence at a time in polyhead, transformers and CTranslate2; milliseconds at the median and at 95 %."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common import AT_HAND, Engine, Report, Table, interleaved, parsed, parser_of, percentile
from workloads import (
    SEARCHES,
    SHAPE,
    TINY,
    Workload,
    add_options,
    engines,
    log_uniform,
    made_up,
    particular,
    real,
    trained,
    write_random_model,
)

EXAMPLES = """\
  python benchmarks/latency.py                                       random weights, and zoo/zh-en if it is there
  python benchmarks/latency.py --model runs/zh-en --data ../shared/data/zh_en_tatoeba/test.tsv.gz
  python benchmarks/latency.py --quick                               does it run? seconds, no figures to keep"""

NOTES = (
    "Milliseconds from source ids to target ids of one sentence, tokenising not counted; p50 and p95 over all "
    "sentences and rounds. The ratio is transformers' p50 to this one's: how many times faster.",
    AT_HAND,
)


def measure(workload: Workload, search: str, running: dict[str, Engine], rounds: int) -> dict[str, list[float]]:
    """For each engine the seconds of every sentence in every round."""
    how = {"sources": workload.sources, "beams": SEARCHES[search], "new": workload.new}
    asks = {name: partial(engine.ask, "one_by_one", **how, **particular(name)) for name, engine in running.items()}
    answers = interleaved(asks, rounds=rounds, say=f"{workload.name}, {search}")
    return {name: [second for answer in each for second in answer] for name, each in answers.items()}


def table(workload: Workload, search: str, seconds: dict[str, list[float]]) -> Table:
    base = percentile(seconds["transformers"], 0.5)
    rows: list[list[str]] = []
    for name, each in seconds.items():
        p50, p95 = percentile(each, 0.5), percentile(each, 0.95)
        rows.append([name, f"{1000 * p50:.1f}", f"{1000 * p95:.1f}", f"{base / p50:.2f}x"])
    return Table(f"{workload}, {search}", ("engine", "p50, ms", "p95, ms", "ratio"), rows)


def run(report: Report, model: Path, workload: Workload, options: argparse.Namespace) -> None:
    """One workload by every search, into the report."""
    running = engines(model, options.threads)
    for search in options.searches.split(","):
        seconds = measure(workload, search, running, options.rounds)
        report.tables.append(table(workload, search, seconds))
        report.raw[report.tables[-1].title] = seconds
    for engine in running.values():
        engine.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("latency", __doc__ or "", EXAMPLES, rounds=3)
    add_options(parser)
    parser.add_argument("--sentences", type=int, default=50, help="how many (default %(default)s)")
    options = parsed(parser, arguments)
    shape, count, new = (TINY, 4, 5) if options.quick else (SHAPE, options.sentences, 30)
    own = trained(options)
    real_ones = real(own, options.data, count) if own else None
    report = Report("Latency of one sentence", options)
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(Path(folder) / "random", shape, options.threads)
        sources = made_up(shape["words"], log_uniform(count, 4, 40))
        run(report, model, Workload(f"{count} sources of 4 to 40 tokens", sources, new, ragged=True), options)
    if own and real_ones:
        run(report, own, real_ones, options)
    report.finish(*NOTES)


if __name__ == "__main__":
    main()
