"""A process of our own answers requests: what is asked goes in as a line of JSON, its answer comes back as one.

A request is `{"do": verb, ...}`, an answer `{"answer": ...}` or `{"refused": sentence, "error": its class's name}`.
Nothing is pickled, and all goes through the pipes of the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, DataError, MissingExtra, PolyheadError

ERRORS = {kind.__name__: kind for kind in (ArgumentError, CheckpointError, ConfigError, DataError, MissingExtra)}


class Process:
    """A module at work as a process that answers requests; see `serve` for its side.

    command: the module that is run, and its words. threads: how many its libraries take; the usual ones unless given.
    paths: where it may import from besides. errors: where it writes what its libraries say; this process's standard
    error unless given. A Ctrl-C does not reach it: who started it ends it, and it ends when nobody can ask it any more.
    """

    def __init__(
        self,
        *command: str,
        threads: int | None = None,
        paths: Sequence[Path] = (),
        errors: IO[Any] | None = None,
        **environment: str,
    ) -> None:
        self.name = command[-1].rpartition(".")[2]
        found = [*map(str, paths), os.environ.get("PYTHONPATH", "")]
        if threads is not None:
            environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *command],  # -P: a file of the reader's folder is no library
            env=os.environ | {
                "PYTHONPATH": os.pathsep.join(filter(None, found)), "TOKENIZERS_PARALLELISM": "false", **environment
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1, encoding="utf-8",
            start_new_session=True,
        )  # fmt: skip

    def ask(self, verb: str, **how: Any) -> Any:
        """The answer to one request. Raises what `receive` does."""
        self.send(verb, **how)
        return self.receive()

    def send(self, verb: str, **how: Any) -> None:
        """Ask, and do not wait for the answer."""
        assert self.process.stdin
        self.verb = verb
        with suppress(BrokenPipeError):  # it has ended, which its answer will tell
            self.process.stdin.write(json.dumps({"do": verb, **how}) + "\n")

    def receive(self) -> Any:
        """The answer to what was asked. Raises PolyheadError where there is none: where it was refused by an error of
        `ERRORS`, the same."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            self.fail(self.end())
        try:
            answer = json.loads(line)
            refused, kind = answer.get("refused"), ERRORS.get(answer.get("error"), PolyheadError)
            if refused is None:
                return answer["answer"]
        except (ValueError, AttributeError, KeyError):  # a library has printed before `serve` turned it away
            self.fail(f"The process {self.name} printed {line.strip()!r:.200} in the place of its answer")
        self.fail(refused, kind)

    def end(self) -> str:
        """What is said of an end that nobody asked for."""
        return f"The process {self.name} ended at '{self.verb}'"

    def fail(self, why: str, kind: type[PolyheadError] = PolyheadError) -> NoReturn:
        raise kind(why)

    def close(self, *, wait: bool = True) -> None:
        """End the process: when it has done what it does, or at once."""
        assert self.process.stdin and self.process.stdout
        if not wait:
            self.process.kill()
        with suppress(BrokenPipeError):  # it has ended, with a request in the pipe
            self.process.stdin.close()
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
            answer = {"refused": str(refused), "error": type(refused).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
