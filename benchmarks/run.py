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
  make bench                                          all of it, about two hours on two cores
  python benchmarks/run.py --data ../shared/data --model runs/zh-en
  python benchmarks/run.py --only translate,latency --rounds 7
  python benchmarks/run.py --quick                    do they run? a few minutes, no figures to keep"""

BENCHMARKS = ("translate", "latency", "encode", "decode", "hear", "load", "train")
ENGINES = (  # columns of the one table, as the pages call them; "fp32" is not said
    "polyhead", "polyhead, bf16", "polyhead, int8", "transformers", "transformers, bf16", "CTranslate2 float32",
    "CTranslate2 int8", "ONNX Runtime", "transformers Trainer", "transformers Trainer, bf16",
    "torch.nn.Transformer loop", "torch.nn.Transformer loop, bf16",
)  # fmt: skip
ANSWERS = ("translate", "latency", "encode", "decode", "hear")
DRAWN = ENGINES[:8]  # whose ratios to transformers are one picture
COLOURS = ("#1b6ca8", "#4f9bd0", "#8cc4ea", "#8a8a8a", "#bdbdbd", "#c8641e", "#e8a06a", "#5a8f3c")


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
        if name in ("translate", "latency"):
            yield name, [*shared, *(real if pairs.exists() else ["--random"])]
        elif name != "train":
            yield name, shared
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
            found = rows.setdefault(f"{page.stem}, {table['title']} ({unit})", {})
            for row in table["rows"]:
                found[row[0].removesuffix(", fp32")] = f"{row[1]} ({row[place]})"
    used = [name for name in ENGINES if any(name in found for found in rows.values())]
    return Table(
        "In one table",
        ("measured", *used),
        [[what, *map(found.get, used, [""] * len(used))] for what, found in rows.items()],
    )


def drawn(pages: Sequence[Path], path: Path) -> None:
    """How many times faster than transformers each engine is at each thing, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plots: list[tuple[str, list[tuple[str, float]]]] = []
    for page in pages:
        for table in json.loads(page.read_text(encoding="utf-8"))["tables"] if page.stem in ANSWERS else ():
            place = table["head"].index("ratio")
            bars = [(row[0], float(row[place].removesuffix("x"))) for row in table["rows"] if row[0] in DRAWN]
            plots.append((f"{page.stem}: {table['title']}", bars))
    half = -(-len(plots) // 2)
    sides = plots[:half], plots[half:]
    lines = max(sum(len(bars) + 1.6 for _, bars in side) for side in sides)
    most = max(ratio for _, bars in plots for _, ratio in bars)
    figure, columns = plt.subplots(1, 2, figsize=(13, 0.22 * lines + 0.8), layout="constrained")
    for axes, side in zip(columns, sides, strict=True):
        y = 0
        for title, bars in side:
            axes.text(0, y, title, fontsize=9, weight="bold", va="center")
            for name, ratio in bars:
                y += 1
                axes.barh(y, ratio, height=0.8, color=COLOURS[DRAWN.index(name)])
                axes.text(ratio, y, f" {name} {ratio:.2f}x", fontsize=8, va="center")
            y += 2
        axes.axvline(1, color="#8a8a8a", linewidth=0.8)
        axes.set(
            xlim=(0, 1.35 * most),
            ylim=(1.2 * lines, -0.8),
            yticks=[],
            xlabel="times faster than transformers in float32",
        )
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=100)


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
        if options.out:
            drawn(pages, options.out.with_suffix(".png"))
    report.finish("Figures with their ratios; what they mean stands on the page of each benchmark.")


if __name__ == "__main__":
    main()
