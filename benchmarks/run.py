"""`make bench`: every benchmark of speed, one after the other, each into its own page; then one table of them all."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import HERE, Report, Table, parsed, parser_of, stop

EXAMPLES = """\
  make bench                                          all of it, about an hour on two cores
  python benchmarks/run.py --data ../shared/data --model runs/zh-en
  python benchmarks/run.py --only translate,latency --rounds 7
  python benchmarks/run.py --quick                    do they run? a few minutes, no figures to keep"""

BENCHMARKS = ("translate", "latency", "train")
ENGINES = {  # as the pages call them, and as the table does
    "polyhead": "polyhead", "transformers": "transformers", "CTranslate2 float32": "CTranslate2 float32",
    "CTranslate2 int8": "CTranslate2 int8", "transformers Trainer": "Trainer",
    "torch.nn.Transformer loop": "plain loop",
}  # fmt: skip


def commands(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Each benchmark and its arguments."""
    shared = [
        "--threads",
        str(options.threads),
        "--rounds",
        str(options.rounds),
        *(["--quick"] if options.quick else []),
    ]
    pairs = options.data / "zh_en_tatoeba" / "test.tsv.gz"
    real = ["--data", str(pairs), *(["--model", options.model] if options.model else [])]
    for name in options.only.split(","):
        if name not in BENCHMARKS:
            stop(f"There is no benchmark {name}; there are {', '.join(BENCHMARKS)}")
        if name != "train":
            yield name, [*shared, *(real if pairs.exists() else ["--random"])]
        elif options.data.exists():
            yield name, [*shared, "--data", str(options.data)]
    if not options.data.exists():
        print(f"{options.data} is not there, so that real sentences and training are left out; give --data")


def summary(pages: Sequence[Path]) -> Table:
    """A row for each thing measured, a column for each engine: its first figure, and its ratio as on its own page."""
    rows: dict[str, dict[str, str]] = {}
    for page in pages:
        for table in json.loads(page.read_text(encoding="utf-8"))["tables"]:
            unit, place = table["head"][1], table["head"].index("ratio")
            for engine, figure, *rest in table["rows"]:
                name, _, variant = engine.partition(", ")  # "polyhead, bf16"
                measured = f"{page.stem}, {table['title']}" + (f", {variant}" if variant else "")
                rows.setdefault(f"{measured} ({unit})", {})[name] = f"{figure} ({rest[place - 2]})"
    cells = [[measured, *(found.get(engine, "") for engine in ENGINES)] for measured, found in rows.items()]
    return Table("In one table", ("measured", *ENGINES.values()), [row for row in cells if row[1]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("speed", __doc__ or "", EXAMPLES, rounds=3)
    data = Path("../shared/data")
    parser.add_argument("--data", type=Path, default=data, help="the folder of data sets (default %(default)s)")
    parser.add_argument("--model", help="a trained model, for real sentences (default: zoo/zh-en, if it is there)")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="some of them (default %(default)s)")
    options = parsed(parser, arguments)
    report = Report("Speed", options)
    with tempfile.TemporaryDirectory() as aside:
        folder = options.out.parent if options.out else Path(aside)
        pages: list[Path] = []
        for name, given in commands(options):
            page = folder / f"{name}.md"
            done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *given, "--out", str(page)])
            if done.returncode:
                stop(f"The benchmark {name} failed; what it said is above")
            pages.append(page.with_suffix(".json"))
        report.tables.append(summary(pages))
    report.finish("Figures with their ratios; what they mean stands on the page of each benchmark.")


if __name__ == "__main__":
    main()
