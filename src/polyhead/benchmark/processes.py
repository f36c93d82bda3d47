"""Engines in processes of their own answer requests, and take turns in rounds.

An engine reads requests from standard input, one JSON object a line, `{"do": verb, ...}`, and answers each with one
line. It times its own work, so that the transport is never in a figure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from polyhead.errors import PolyheadError

PAUSE = 0.3  # seconds between two measurements, in which the threads of the engine before stop spinning

T = TypeVar("T")


class Engine:
    """A process that answers requests; see `serve` for its side.

    command: the module that is run, and its words. paths: where it may import from besides. errors: where it writes
    what its libraries say; this process's standard error unless given.
    """

    def __init__(
        self, *command: str, threads: int, paths: Sequence[Path] = (), errors: IO[Any] | None = None, **environment: str
    ) -> None:
        self.name = command[-1].rpartition(".")[2]
        found = [*map(str, paths), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *command],  # -P: a file of the reader's folder is no library
            env=os.environ | {
                "PYTHONPATH": os.pathsep.join(filter(None, found)),
                "OMP_NUM_THREADS": str(threads),
                "MKL_NUM_THREADS": str(threads),
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "TRANSFORMERS_VERBOSITY": "error",
                "KINETO_LOG_LEVEL": "99",  # of PyTorch's profiler, which says when it begins and ends
                **environment,
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1, encoding="utf-8",
        )  # fmt: skip

    def ask(self, verb: str, **how: Any) -> Any:
        """The answer to one request. Raises PolyheadError where there is none."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": verb, **how}) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.fail(f"The engine {self.name} ended at '{verb}'{self.last_words()}")
        answer = json.loads(line)
        if "refused" in answer:
            self.fail(answer["refused"])
        return answer["answer"]

    def last_words(self) -> str:
        """What is known of an end that nobody asked for."""
        return ""

    def fail(self, why: str) -> NoReturn:
        raise PolyheadError(why)

    def close(self, *, wait: bool = True) -> None:
        """End the process: when it has done what it does, or at once."""
        assert self.process.stdin and self.process.stdout
        if not wait:
            self.process.kill()
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # it has ended, with a request in the pipe
            pass
        self.process.wait()
        self.process.stdout.close()


def serve(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until standard input ends; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": verbs[request.pop("do")](**request)}
        except PolyheadError as refused:
            answer = {"refused": str(refused)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def interleaved(
    engines: Mapping[str, Callable[[], T]],
    *,
    rounds: int,
    say: str = "",
    warm: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, list[T]]:
    """A B C A B C ...: the answers of each, one a round; a first round, not kept, warms up. `tell` hears how far."""
    answers: dict[str, list[T]] = {name: [] for name in engines}
    for n in range(0 if warm else 1, rounds + 1):
        tell(f"{say}: round {n} of {rounds}" if n else f"{say}: warming up")
        for name, ask in engines.items():
            time.sleep(PAUSE)
            answer = ask()
            if n:
                answers[name].append(answer)
    return answers
