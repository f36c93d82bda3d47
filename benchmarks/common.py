"""What all benchmarks share: engines in processes of their own, rounds that take turns, tables with their machine.

What `polyhead bench` needs too lies in polyhead/benchmark.

An engine is a module of `engines/`. It reads requests from standard input, one JSON object a line, `{"do": verb, ...}`,
and answers each with one line. It times its own work, so that the transport is never in a figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from unicodedata import east_asian_width

from polyhead.benchmark import machine, processes
from polyhead.benchmark.machine import QUIET, Neighbours, hardware
from polyhead.benchmark.result import Parts
from polyhead.benchmark.speeds import percentile, ratio, spread
from polyhead.processes import serve as answer

__all__ = [
    "APART", "AT_HAND", "HERE", "PARTS", "Engine", "Neighbours", "Report", "Table", "apart", "hardware", "interleaved",
    "needs", "parsed", "parser_of", "percentile", "progress", "ratio", "serve", "serve_translator", "shares", "spread",
    "stop", "told", "versions",
]  # fmt: skip

HERE = Path(__file__).resolve().parent
PACKAGES = ("polyhead", "torch", "transformers", "ctranslate2", "accelerate")

AT_HAND = (
    "polyhead has its loops at hand from the first round on, as a command with many lines soon has; a process that "
    "answers a line or two ends before it would load them."
)

T = TypeVar("T")


# --- engines ---------------------------------------------------------------------------------------------------------


class Engine(processes.Engine):
    """A module of `engines/` in a process of its own; see `serve` for its side."""

    def __init__(self, module: str, *, threads: int, **environment: str) -> None:
        super().__init__(f"engines.{module}", threads=threads, paths=[HERE], errors=None, **environment)

    def fail(self, why: str) -> NoReturn:
        stop(f"{why}; what it said is above (the peers need the extra `bench`)")


def serve(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Serve an engine; one that PyTorch runs can also be asked for the `parts` of what it does at a verb."""

    def parts(of: str, **how: Any) -> dict[str, float]:
        from polyhead.benchmark.parts import looked_at

        return looked_at(partial(verbs[of], **how))

    answer({**verbs, "parts": parts})


def serve_translator(load: Callable[..., Any], translate: Callable[..., list[list[int]]]) -> None:
    """Serve an engine that turns rows of source ids into rows of target ids: all of them, or one at a time."""

    def timed(sources: list[list[int]], **how: Any) -> dict[str, Any]:
        start = time.perf_counter()
        rows = translate(sources, **how)
        return {"seconds": time.perf_counter() - start, "rows": rows}

    def one_by_one(sources: list[list[int]], **how: Any) -> list[float]:
        return [timed([source], **how)["seconds"] for source in sources]

    serve({"load": load, "translate": timed, "one_by_one": one_by_one})


def interleaved(
    engines: Mapping[str, Callable[[], T]], *, rounds: int, say: str = "", warm: bool = True
) -> dict[str, list[T]]:
    """A B C A B C ...: the answers of each, one a round; a first round, not kept, warms up."""
    return processes.interleaved(engines, rounds=rounds, say=say, warm=warm, tell=progress)


# --- where the time goes ---------------------------------------------------------------------------------------------

PARTS = ("products", "attention", "the rest")  # columns of a table
APART = (
    "Products, attention, the rest: where the time of a measurement goes, in engines that PyTorch runs. Products are "
    "those of matrices and convolutions, with their gradients; attention is scores, softmax and weighted sum, and in "
    "polyhead the choice of a kernel; the rest is norms, activations, caches, rounding to 8 bits, the search and "
    "Python. The first two are as PyTorch's profiler sees them in one more round, whose whole is not used, for the "
    "profiler takes time itself; the rest is what they leave of the median of all rounds."
)


def apart(
    asks: Mapping[str, Callable[[], Any]], answers: Mapping[str, Sequence[Any]], *, say: str = ""
) -> dict[str, Parts]:
    """The parts of what each engine that PyTorch runs does in the median of its rounds; an ask is a partial of its.

    Workers are processes of their own, of which the profiler sees one; nothing is told of them.
    """
    found: dict[str, Parts] = {}
    for name, ask in asks.items():
        if name.startswith(("polyhead", "transformers", "torch")) and not name.endswith("workers"):
            progress(f"{say}: where the time goes in {name}")
            assert isinstance(ask, partial)
            seen = ask.func("parts", of=ask.args[0], **ask.keywords)
            found[name] = Parts.of(statistics.median(each["seconds"] for each in answers[name]), **seen)
    return found


def shares(parts: Mapping[str, Parts], name: str) -> list[str]:
    """The cells of a row under `PARTS`: a dash for an engine that does not tell, nothing for a bound."""
    if name not in parts:
        return [""] * 3 if name.startswith(("bound", "floor", "one block")) else ["–"] * 3
    return [f"{share:.0%}" for share in parts[name].shares]


def told(parts: Mapping[str, Parts]) -> dict[str, Any]:
    """The seconds, for the JSON of a report."""
    return {name: asdict(each) for name, each in parts.items()}


# --- the machine -----------------------------------------------------------------------------------------------------


def versions() -> str:
    """Python, the packages that are installed, and the commit that was measured."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return ", ".join([*machine.versions(PACKAGES), f"commit {commit}"])


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Rows of words under a head; the first column is a name, the others are figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        widths = [max(_width(row[i]) for row in (self.head, *self.rows)) for i in range(len(self.head))]
        lines = [self.title, "", *(_line(row, widths) for row in (self.head, ["-" * w for w in widths], *self.rows))]
        return "\n".join(lines)

    def markdown(self) -> str:
        rule = [":--", *["--:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]
        return f"### {self.title}\n\n" + "\n".join(lines)


@dataclass
class Report:
    """What one benchmark found, and the circumstances; `raw` are the figures that the tables were made of."""

    name: str
    options: argparse.Namespace
    tables: list[Table] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    neighbours: Neighbours = field(default_factory=Neighbours)

    def finish(self, *notes: str) -> None:
        """Print everything; write it to `--out` (Markdown), and the same as JSON beside it."""
        where, out = self.circumstances(), self.options.out
        print("\n\n".join([*(table.text() for table in self.tables), *notes, where]))
        if out is None:
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        pages = [f"## {self.name}", where, *(table.markdown() for table in self.tables), *notes]
        out.write_text("\n\n".join(pages) + "\n", encoding="utf-8")
        tables = [asdict(table) for table in self.tables]
        facts = {"name": self.name, "circumstances": where, "tables": tables, "notes": notes, "raw": self.raw}
        out.with_suffix(".json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nwritten: {out} and {out.with_suffix('.json').name}")

    def circumstances(self) -> str:
        busy = self.neighbours.busy()
        quiet = "not known" if busy is None else f"{busy:.2f} CPUs"
        warning = " **Not a quiet machine: read the ratios only.**" if busy is not None and busy > QUIET else ""
        warning += " **A smoke run: its figures mean nothing.**" if self.options.quick else ""
        threads = f"{self.options.threads} thread{'s' * (self.options.threads > 1)}"
        return f"{date.today()}; {hardware()}; {threads}; {versions()}. Used by others meanwhile: {quiet}.{warning}"


def _width(text: str) -> int:
    """Columns on a terminal; a Chinese character takes two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    room = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
    cells = [row[0] + room[0], *(space + cell for cell, space in zip(row[1:], room[1:], strict=True))]
    return "  ".join(cells).rstrip()


# --- the command line ------------------------------------------------------------------------------------------------


def parser_of(name: str, about: str, examples: str, *, rounds: int = 5, threads: int = 2) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; `rounds` is 0 for those that time nothing."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=f"examples:\n{examples}", formatter_class=shape)
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each (default %(default)s)")
    parser.add_argument("--threads", type=int, default=threads, help="threads of each engine (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny sizes, figures that mean nothing")
    default = HERE / "results" / f"{name}.md"
    text = f"the Markdown file to write, JSON beside it (default results/{default.name}; none with --quick)"
    parser.add_argument("--out", type=Path, help=text)
    parser.set_defaults(default_out=default)
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments, with `out` settled."""
    given = parser.parse_args(arguments)
    given.out = given.out or (None if given.quick else given.default_out)
    if given.quick and "rounds" in given:
        given.rounds = 1
    return given


def needs(path: Path, what: str) -> Path:
    """The path, if it is there; nothing is ever downloaded."""
    if not path.exists():
        stop(f"{path} is not there; give {what}")
    return path


def progress(text: str) -> None:
    """One line on a terminal, which the next one replaces; plain lines anywhere else."""
    start, end = ("\r\033[K", "\r") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


def stop(why: str) -> NoReturn:
    print(f"error: {why}", file=sys.stderr)
    raise SystemExit(2)
