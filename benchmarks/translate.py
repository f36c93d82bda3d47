"""Translation speed: the same weights and sources in polyhead, transformers and CTranslate2; output tokens a second.

Random weights in the shape of Marian, exactly 30 words out, so that all do the same work; then, where a trained model
is at hand, real sentences with the model's own ends. Tokenising is in no figure.
"""

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

from polyhead.benchmark.result import Parts
from polyhead.tasks.text_to_text import BATCH_TOKENS, ROWS

EXAMPLES = """\
  python benchmarks/translate.py                                     random weights, and zoo/zh-en if it is there
  python benchmarks/translate.py --model runs/zh-en --data ../shared/data/zh_en_tatoeba/test.tsv.gz
  python benchmarks/translate.py --searches greedy --rounds 9
  python benchmarks/translate.py --quick                             does it run? seconds, no figures to keep"""

NOTES = (
    "Output tokens a second, the end token not counted; the median of all rounds, and from the lowest to the highest "
    "as a share of it. The ratio is to transformers, the median of the rounds' own ratios.",
    f"polyhead and CTranslate2 sort by length and cut batches of {BATCH_TOKENS:,} source tokens themselves "
    f"(polyhead at most {ROWS} rows); transformers gets the very batches that polyhead makes. 'file order' is "
    "transformers as most scripts call it: 32 sentences a batch, as they come.",
    "With the model's own ends, the engines may stop a beam by different rules; look at the rows that differ.",
    "The floor is the time of the matrix products alone, in plain `F.linear` and with weights laid out for oneDNN.",
    "Two workers share the threads: processes of polyhead, threads of CTranslate2 (inter_threads), each a batch.",
    AT_HAND,
    APART,
)


def random_workloads(words: int, quick: bool, sentences: int) -> list[Workload]:
    if quick:
        even, ragged, new = [8] * 4, log_uniform(12, 4, 20), 5
    else:
        even, ragged, new = [20] * 16, log_uniform(sentences, 4, 60), 30
    found = [Workload(f"{len(even)} sentences of {even[0]} tokens", made_up(words, even), new, ragged=False)]
    if ragged:
        name = f"{len(ragged)} sentences of {min(ragged)} to {max(ragged)}"
        found.append(Workload(name, made_up(words, ragged), new, ragged=True))
    return found


def measure(
    workload: Workload, beams: int, running: dict[str, Engine], floor: Engine | None, rounds: int, *, warm: bool
) -> tuple[dict[str, list[Any]], dict[str, Parts]]:
    """Answers of every engine, one a round: seconds, and rows of words (none from the floor); and where time goes."""
    how = {"beams": beams, "new": workload.new}
    asks: dict[str, Callable[[], Any]] = {}
    for name, engine in running.items():
        given = {"batches": workload.batches} if name == "transformers" else particular(name)
        asks[name] = partial(engine.ask, "translate", sources=workload.sources, **how, **given)
    if workload.ragged:
        asks["transformers, file order"] = partial(
            running["transformers"].ask, "translate", sources=workload.sources, batches=workload.file_order, **how
        )
    if floor and workload.new:
        lengths = [[len(workload.sources[i]) for i in batch] for batch in workload.batches]
        for name, kind in {"floor: F.linear": "plain", "floor: prepacked": "packed"}.items():
            asks[name] = partial(floor.ask, "measure", batches=lengths, kind=kind, **how)
    say = f"{workload.name}, {beams} beams"
    answers = interleaved(asks, rounds=rounds, say=say, warm=warm)
    return answers, apart(asks, answers, say=say)


def table(
    workload: Workload, search: str, answers: dict[str, list[Any]], parts: dict[str, Parts]
) -> tuple[Table, dict[str, Any]]:
    """Speeds, their ratios to transformers, and how many rows of words are not as transformers has them."""
    words = {name: rounds[-1].get("rows") for name, rounds in answers.items()}
    tokens = {name: sum(map(len, rows)) for name, rows in words.items() if rows}
    speeds = {
        name: [tokens.get(name, tokens["polyhead"]) / answer["seconds"] for answer in rounds]
        for name, rounds in answers.items()
    }
    rows: list[list[str]] = []
    for name, speed in speeds.items():
        if workload.new and words[name]:
            assert {len(row) for row in words[name]} == {workload.new}, f"{name} did not do the same work"
        differ = sum(a != b for a, b in zip(words[name], words["transformers"], strict=True)) if words[name] else ""
        median = f"{statistics.median(speed):,.0f}"
        figures = [median, spread(speed), ratio(speed, speeds["transformers"]), str(differ)]
        rows.append([name, *figures, *shares(parts, name)])
    head = ("engine", "tokens/s", "spread", "ratio", "rows that differ")
    raw = {"tokens/s": speeds, "tokens": tokens, "differ": {row[0]: row[4] for row in rows}, "parts": told(parts)}
    return Table(f"{workload}, {search}", (*head, *PARTS), rows), raw


def rounds_of(workload: Workload, options: argparse.Namespace) -> int:
    """A short one is measured three times as often, one of many random words, which is long, half as often."""
    if options.quick or not workload.new:
        return options.rounds
    return max(2, (options.rounds + 1) // 2) if workload.ragged else 3 * options.rounds


def run(
    report: Report, model: Path, workloads: Sequence[Workload], floor: Engine | None, options: argparse.Namespace
) -> None:
    """Every workload by every search, into the report; the first of them warms the engines up."""
    several = floor is None and options.threads > 1  # of real sentences, whose ends are the model's own
    running = engines(model, options.threads, workers=2 if several else 1)
    for workload in workloads:
        for search in options.searches.split(","):
            rounds, warm = rounds_of(workload, options), workload is workloads[0]
            answers, parts = measure(workload, SEARCHES[search], running, floor, rounds, warm=warm)
            found, raw = table(workload, search, answers, parts)
            report.tables.append(found)
            report.raw[found.title] = raw
    for engine in running.values():
        engine.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("translate", __doc__ or "", EXAMPLES)
    add_options(parser)
    parser.add_argument(
        "--ragged", type=int, default=500,
        help="ragged sentences of random words, in half of the rounds, two at least (default %(default)s: a quarter of "
        "an hour in two rounds by both searches, all engines on two cores; 0: none)",
    )  # fmt: skip
    options = parsed(parser, arguments)
    own = trained(options)
    real_ones = [real(own, options.data, 12 if options.quick else 500)] if own else []
    report = Report("Translation speed", options)
    with tempfile.TemporaryDirectory() as folder:
        shape = TINY if options.quick else SHAPE
        model = write_random_model(Path(folder) / "random", shape, options.threads)
        floor = Engine("products", threads=options.threads)
        sides = (shape["layers"], shape["d_ff"])
        sizes = {"d_model": shape["d_model"], "encoder": sides, "decoder": sides, "words": shape["words"]}
        floor.ask("load", threads=options.threads, **sizes)
        run(report, model, random_workloads(shape["words"], options.quick, options.ragged), floor, options)
        floor.close()
    if own:
        run(report, own, real_ones, None, options)
    report.finish(*NOTES)


if __name__ == "__main__":
    main()
