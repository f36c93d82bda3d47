"""A model enters; each engine that is installed does its work in a process of its own, in turns; figures leave."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from polyhead.benchmark import machine
from polyhead.benchmark.job import Job
from polyhead.benchmark.processes import Engine, interleaved
from polyhead.benchmark.result import Comparison, Line, Measured, Parts, agreement
from polyhead.errors import ArgumentError, CheckpointError, PolyheadError, did_you_mean

SILENT = "wrote no token in any answer, so that it has no speed"
LEAST = 0.25  # seconds that a measurement takes at least; what is shorter is done again and again
ENGINES = {  # by their names: the file in engines/, and the precisions that are measured
    "polyhead": ("ours", ("fp32", "bf16", "int8")),
    "transformers": ("by_transformers", ("fp32",)),
    "ctranslate2": ("by_ctranslate2", ("fp32", "int8")),
    "onnxruntime": ("by_onnxruntime", ("fp32",)),
}
GET = {name: f"pip install {name}" for name in ENGINES} | {"onnxruntime": "pip install onnxruntime 'polyhead[onnx]'"}
TORCH = ("polyhead", "transformers")  # whom PyTorch's profiler sees
PACKAGES = ("polyhead", "torch", "transformers", "ctranslate2", "onnxruntime")


@dataclass(frozen=True)
class Settings:
    """What all comparisons of a call have in common."""

    engines: Sequence[str]
    threads: int
    rounds: int
    quick: bool
    profile: bool
    scratch: str
    tell: Callable[[str], None]


class Process(Engine):
    """An engine, whose libraries are not heard unless it ends."""

    def __init__(self, file: str, threads: int) -> None:
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        engine = "polyhead.benchmark.engines.engine", file
        super().__init__(*engine, threads=threads, errors=self.said, CUDA_VISIBLE_DEVICES="")

    def last_words(self) -> str:
        self.said.seek(0)
        lines = [line.strip() for line in self.said if line.strip()]
        return f" ({lines[-1][:200]})" if lines else ""

    def close(self, *, wait: bool = True) -> None:
        super().close(wait=wait)
        self.said.close()


def bench(
    model: str | Path = "zh-en",
    *,
    data: str | Path | None = None,
    beam: int | None = None,
    sizes: bool = False,
    engines: Sequence[str] | None = None,
    threads: int | None = None,
    rounds: int = 5,
    quick: bool = False,
    profile: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Measured:
    """How fast this machine's engines do a model's work: polyhead beside the peers that are installed.

    model: a folder, a shipped model, or hf:owner/name that was fetched before. data: a text file, or images or sounds,
    to work on; unless given, sentences of our own or made-up images. beam: the width of a translator's beam, 1 is
    greedy; unless given, the folder's. sizes: an encoder and a decoder of usual sizes with random weights too. engines:
    some of "polyhead", "transformers", "ctranslate2" and "onnxruntime"; all unless given. threads: of each engine, as
    many as there are CPUs unless given. rounds: how often each is measured, after a round that warms up. quick: a smoke
    run. profile: tell of polyhead and of transformers, from one more round of each, how much of their time goes into
    matrix products, into attention and into the rest (`Line.parts`). progress: hears what is being done.

    All are given the same weights and the same rows, already tokenised, run on the CPU, and take turns. Peers are
    imported in their own processes only; nothing is fetched, and nothing is left on the disk. Raises ArgumentError, and
    PolyheadError with what a model or a file lacks.
    """
    chosen = [*ENGINES] if engines is None else list(dict.fromkeys(engines))
    if unknown := [name for name in chosen if name not in ENGINES]:
        raise ArgumentError(
            f"There is no engine '{unknown[0]}', only {', '.join(ENGINES)}.{did_you_mean(unknown[0], ENGINES)}"
        )
    for name, value in {"threads": threads, "rounds": rounds, "beam": beam}.items():
        if value is not None and value < 1:
            raise ArgumentError(f"{name} is {value}, but must be at least 1")
    if not chosen:
        raise ArgumentError(f"engines is empty; name some of {', '.join(ENGINES)}, or leave it out")
    if profile and not {*chosen} & {*TORCH}:
        raise ArgumentError(f"--profile is for {' and '.join(TORCH)}; name one of them as engine, or leave it out.")
    neighbours, many = machine.Neighbours(), threads or machine.cpus()
    tell = progress or (lambda line: None)
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="polyhead-bench-") as scratch:
        how = Settings(chosen, many, 1 if quick else rounds, quick, profile, scratch, tell)
        jobs = planned(how, str(model), None if data is None else str(data), beam, sizes)
        found = tuple(compared(job, how, missing) for job in jobs)
    return Measured(
        found, missing, many, how.rounds, str(date.today()), machine.hardware(), tuple(machine.versions(PACKAGES)),
        neighbours.busy(), quick,
    )  # fmt: skip


def planned(how: Settings, model: str, data: str | None, beam: int | None, sizes: bool) -> list[Job]:
    """What is measured, as the models themselves say; found out in a process that ends again."""
    how.tell(f"reading {model}")
    with running() as begun:
        planner = begun("plan", how.threads)
        try:
            jobs = [planner.ask("plan", model=model, scratch=how.scratch, data=data, beam=beam, quick=how.quick)]
        except PolyheadError as why:
            if "HF_HUB_OFFLINE" not in str(why):
                raise
            raise CheckpointError(
                f"{model} is not on this machine, and bench fetches nothing; run first: polyhead info {model}"
            ) from why
        if sizes:
            how.tell("making models of usual sizes")
            jobs += planner.ask("sizes", scratch=how.scratch, quick=how.quick)
    return [Job(**job) for job in jobs]


def compared(job: Job, how: Settings, missing: dict[str, str]) -> Comparison:
    """One model's work in every engine; those that are not installed are told in `missing`."""
    ready: dict[tuple[str, str], Process] = {}
    refused: dict[tuple[str, str], str] = {}
    shown = Path(job.model).name
    with running() as begun:
        for name in how.engines:
            file, precisions = ENGINES[name]
            for precision in precisions if name not in missing else ():
                how.tell(f"{shown}: loading {name} {precision}")
                process = begun(file, how.threads)
                try:
                    lacks = process.ask(
                        "open", job=job.__dict__, precision=precision, threads=how.threads, scratch=how.scratch
                    )
                    if lacks:
                        missing[name] = how_to_get(name, **lacks)
                        break
                    process.ask("run", least=0.0)  # so that an engine that cannot do it says so before the rounds
                    ready[name, precision] = process
                except PolyheadError as why:
                    refused[name, precision] = str(why)
        if not ready:
            every = "; ".join(filter(None, [listed(refused), *missing.values()]))
            raise ArgumentError(f"No engine can do the work of {job.model}: {every}")

        def run(key: tuple[str, str]) -> Any:
            """An engine's answer; of one that has ended none, and the others go on."""
            if key in refused:
                return None
            try:
                return ready[key].ask("run", least=0.0 if how.quick else LEAST)
            except PolyheadError as why:
                refused[key] = str(why)

        asks = {" ".join(key): partial(run, key) for key in ready}
        answers = interleaved(asks, rounds=how.rounds, say=shown, tell=how.tell)
        refused |= {
            key: SILENT for key in ready if key not in refused and not any(map(job.speed, answers[" ".join(key)]))
        }
        ready = {key: process for key, process in ready.items() if key not in refused}
        answers = {" ".join(key): answers[" ".join(key)] for key in ready}
        if not ready:
            raise ArgumentError(f"No engine can do the work of {job.model}: {listed(refused)}")
        parts = apart(ready, answers, shown, how.tell) if how.profile else {}
    first = next((key for key in ready if key[0] == "transformers"), next(iter(ready)))
    base = answers[" ".join(first)][-1]["rows"]
    lines = [
        line_of(job, name, precision, answers.get(f"{name} {precision}"), base, refused.get((name, precision), ""),
                parts.get(f"{name} {precision}"))
        for name in how.engines if name not in missing for precision in ENGINES[name][1]
    ]  # fmt: skip
    rows = len(job.rows) or sum(map(len, job.batches))
    return Comparison(job.model, job.kind, job.unit, rows, job.beams, job.new, tuple(lines), tuple(job.rules))


def apart(
    ready: dict[tuple[str, str], Process], answers: dict[str, list[Any]], shown: str, tell: Callable[[str], None]
) -> dict[str, Parts]:
    """Where the time of the median round goes in each engine that PyTorch runs."""
    found: dict[str, Parts] = {}
    for (engine, precision), process in ready.items():
        if engine in TORCH:
            name = f"{engine} {precision}"
            tell(f"{shown}: where the time goes in {name}")
            try:
                seen = process.ask("parts")
            except PolyheadError as why:  # which takes none of the figures away
                tell(f"{shown}: {name} does not tell where the time goes: {why}")
                continue
            found[name] = Parts.of(statistics.median(each["seconds"] for each in answers[name]), **seen)
    return found


def listed(refused: Mapping[tuple[str, str], str]) -> str:
    return "; ".join(dict.fromkeys(f"{name} {why}" for (name, _), why in refused.items()))


def line_of(
    job: Job, name: str, precision: str, answers: list[Any] | None, base: list[Any], why: str, parts: Parts | None
) -> Line:
    if answers is None:
        return Line(name, precision, why=why)
    agrees = agreement(answers[-1]["rows"], base, written=job.writes)
    return Line(name, precision, tuple(map(job.speed, answers)), agrees, parts=parts)


def how_to_get(name: str, lacks: str, why: str) -> str:
    """What to do for an engine whose package is not there, or cannot be imported."""
    return GET[name] if lacks == name else f"it cannot be imported: {why}"


@contextmanager
def running() -> Iterator[Callable[[str, int], Process]]:
    """Processes that end with the block, at once where something went wrong."""
    begun: list[Process] = []

    def begin(file: str, threads: int) -> Process:
        begun.append(Process(file, threads))
        return begun[-1]

    with ExitStack() as ending:
        try:
            yield begin
        except BaseException:
            for process in begun:
                ending.callback(process.close, wait=False)
            raise
        for process in begun:
            ending.callback(process.close)
