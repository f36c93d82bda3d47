"""`make bench`: every benchmark of speed, one after the other, each into its own page; then one table of them all."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import HERE, PARTS, Report, Table, parsed, parser_of, stop

EXAMPLES = """\
  make bench                                          all of it, about two hours on two cores
  python benchmarks/run.py --data ../shared/data --model runs/zh-en
  python benchmarks/run.py --only translate,latency --rounds 7
  python benchmarks/run.py --quick                    do they run? a few minutes, no figures to keep"""

BENCHMARKS = ("translate", "latency", "encode", "decode", "hear", "load", "train")
ENGINES = (  # columns of the one table, as the pages call them; "fp32" is not said
    "polyhead", "polyhead, bf16", "polyhead, int8", "transformers", "transformers, bf16", "CTranslate2 float32",
    "CTranslate2 int8", "ONNX Runtime", "transformers Trainer", "transformers Trainer, bf16",
    "transformers Trainer, memory kept", "transformers Trainer, memory kept, bf16",
    "torch.nn.Transformer loop", "torch.nn.Transformer loop, bf16",
    "torch.nn.Transformer loop, memory kept", "torch.nn.Transformer loop, memory kept, bf16",
)  # fmt: skip
ANSWERS = ("translate", "latency", "encode", "decode", "hear")
DRAWN = ENGINES[:8]  # whose ratios to transformers are one picture
COLOURS = ("#1b6ca8", "#4f9bd0", "#8cc4ea", "#8a8a8a", "#bdbdbd", "#c8641e", "#e8a06a", "#5a8f3c")
SHADES: dict[str, str] = dict(zip(PARTS, ("#1b6ca8", "#e8a06a", "#cfcfcf"), strict=True))


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


@dataclass(frozen=True)
class Bar:
    """A bar of one or more pieces, one after the other: their lengths and colours."""

    name: str
    pieces: Sequence[tuple[float, str]]
    label: str

    @property
    def length(self) -> float:
        return sum(length for length, _ in self.pieces)


def tables(pages: Sequence[Path]) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """The page, the title and the rows of every table; a row's cells by the names of their columns."""
    for page in pages:
        for table in json.loads(page.read_text(encoding="utf-8"))["tables"]:
            rows = [dict(zip(table["head"], row, strict=True)) for row in table["rows"]]
            yield page.stem, f"{page.stem}: {table['title']}", rows


def speeds(pages: Sequence[Path]) -> list[tuple[str, list[Bar]]]:
    """How many times faster than transformers each engine is at each thing."""
    found: list[tuple[str, list[Bar]]] = []
    for page, title, rows in tables(pages):
        if page in ANSWERS:
            ratios = [(row["engine"], float(row["ratio"].removesuffix("x"))) for row in rows if row["engine"] in DRAWN]
            found.append((title, [Bar(n, [(x, COLOURS[DRAWN.index(n)])], f"{n} {x:.2f}x") for n, x in ratios]))
    return found


def times(pages: Sequence[Path]) -> list[tuple[str, list[Bar]]]:
    """The time of each engine that tells where it goes, in its parts; 1 is that of whom the page compares with."""
    found: list[tuple[str, list[Bar]]] = []
    for _, title, rows in tables(pages):
        bars: list[Bar] = []
        for row in rows:
            if row.get(PARTS[0], "").endswith("%") and "file order" not in row["engine"]:
                whole = 1 / max(float(row["ratio"].removesuffix("x")), 0.01)
                shares = [float(row[part].removesuffix("%")) / 100 for part in PARTS]
                pieces = [(whole * share, SHADES[part]) for part, share in zip(PARTS, shares, strict=True)]
                bars.append(Bar(row["engine"], pieces, f"{row['engine']}, {' + '.join(row[part] for part in PARTS)}"))
        if bars:
            found.append((title, bars))
    return found


def drawn(
    plots: Sequence[tuple[str, list[Bar]]], path: Path, says: str, legend: Mapping[str, str] | None = None
) -> None:
    """Groups of bars under their titles, in two columns."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    half = -(-len(plots) // 2)
    sides = plots[:half], plots[half:]
    lines = max(sum(len(bars) + 2 for _, bars in side) for side in sides)
    most = max(bar.length for _, bars in plots for bar in bars)
    figure, columns = plt.subplots(1, 2, figsize=(13, 0.19 * lines + 0.8), layout="constrained")
    for axes, side in zip(columns, sides, strict=True):
        y = 0
        for title, bars in side:
            axes.text(0, y, title, fontsize=9, weight="bold", va="center")
            for bar in bars:
                y, start = y + 1, 0.0
                for length, colour in bar.pieces:
                    axes.barh(y, length, left=start, height=0.8, color=colour)
                    start += length
                axes.text(start, y, f" {bar.label}", fontsize=8, va="center")
            y += 2
        axes.axvline(1, color="#8a8a8a", linewidth=0.8)
        axes.set(xlim=(0, (1.6 if legend else 1.35) * most), ylim=(lines - 1, -0.8), yticks=[], xlabel=says)
        axes.spines[["top", "right", "left"]].set_visible(False)
    if legend:
        patches = [Patch(color=colour, label=name) for name, colour in legend.items()]
        figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def pictures(pages: Sequence[Path], out: Path) -> None:
    """speed.png and parts.png beside the page."""
    if plots := speeds(pages):
        drawn(plots, out.with_suffix(".png"), "times faster than transformers in float32")
    if plots := times(pages):
        drawn(
            plots, out.with_name("parts.png"), "time; 1 is transformers in float32, in training the plain loop", SHADES
        )


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
            pictures(pages, options.out)
    report.finish("Figures with their ratios; what they mean stands on the page of each benchmark.")


if __name__ == "__main__":
    main()
