"""What all benchmarks share: engines in processes of their own, rounds that take turns, tables with their machine.

An engine is a module of `engines/`. It reads requests from standard input, one JSON object a line, `{"do": verb, ...}`,
and answers each with one line. It times its own work, so that the transport is never in a figure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from unicodedata import east_asian_width

HERE = Path(__file__).resolve().parent
PAUSE = 0.3  # seconds between two measurements, in which the threads of the engine before stop spinning
PACKAGES = ("polyhead", "torch", "transformers", "ctranslate2", "accelerate")

T = TypeVar("T")


# --- engines ---------------------------------------------------------------------------------------------------------


class Engine:
    """A process that answers requests; see `serve` for its side."""

    def __init__(self, module: str, *, threads: int) -> None:
        self.module = module
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        command = [sys.executable, "-m", f"engines.{module}"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, verb: str, **how: Any) -> Any:
        """The answer to one request."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": verb, **how}) + "\n")
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            stop(
                f"The engine {self.module} ended at '{verb}'; what it said is above (the peers need the extra `bench`)"
            )
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def serve(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until standard input ends; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(verbs[request.pop("do")](**request)) + "\n")
        answers.flush()


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
    answers: dict[str, list[T]] = {name: [] for name in engines}
    for n in range(0 if warm else 1, rounds + 1):
        progress(f"{say}: round {n} of {rounds}" if n else f"{say}: warming up")
        for name, ask in engines.items():
            time.sleep(PAUSE)
            answer = ask()
            if n:
                answers[name].append(answer)
    return answers


# --- figures ---------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """From the lowest to the highest, as a share of the median."""
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}"


def ratio(values: Sequence[float], base: Sequence[float]) -> str:
    """The median of the rounds' own ratios: what slows a whole round down cancels out."""
    return f"{statistics.median(a / b for a, b in zip(values, base, strict=True)):.2f}x"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


# --- the machine -----------------------------------------------------------------------------------------------------


def hardware() -> str:
    """Processor, number of CPUs, the instructions that matter here, memory."""
    cpu, memory = _facts("/proc/cpuinfo"), _facts("/proc/meminfo")
    flags = set(cpu.get("flags", "").split())
    told = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    size = f"{int(memory['MemTotal'].split()[0]) / 2**20:.0f} GiB" if "MemTotal" in memory else "memory unknown"
    name = cpu.get("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} CPUs ({' '.join(told)}), {size}"


def versions() -> str:
    """Python, the packages that are installed, and the commit that was measured."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            pass
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return ", ".join([*found, f"commit {commit}"])


class Neighbours:
    """How many CPUs processes that are not ours keep busy, on average since it was made; Linux only."""

    def __init__(self) -> None:
        self.then = self._now()

    def busy(self) -> float | None:
        if self.then is None or (now := self._now()) is None:
            return None
        seconds, everyone, ours = (b - a for a, b in zip(self.then, now, strict=True))
        return max(0.0, everyone - ours) / seconds

    def _now(self) -> tuple[float, float, float] | None:
        """The clock, the CPU seconds of everyone, and those of this process and all below it."""
        try:
            user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        except OSError:
            return None
        ticks = {pid: (parent, used) for pid, parent, used in _processes()}
        ours, found = 0, [os.getpid()]
        for pid in found:
            ours += ticks[pid][1]
            found += [child for child, (parent, _) in ticks.items() if parent == pid]
        tick = os.sysconf("SC_CLK_TCK")
        return time.monotonic(), (user + nice + system + irq + softirq + steal) / tick, ours / tick


def _processes() -> list[tuple[int, int, int]]:
    """(id, parent's id, ticks used by it and the children it has waited for) of every process."""
    found: list[tuple[int, int, int]] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        found.append((int(folder.name), int(fields[1]), sum(map(int, fields[11:15]))))
    return found


def _facts(path: str) -> dict[str, str]:
    """The `key : value` lines of a file; of a repeated key the last."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


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
        warning = " **Not a quiet machine: read the ratios only.**" if busy is not None and busy > 0.1 else ""
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
