"""Batches of rows are answered by several processes side by side: this one, and helpers that open the same folder.

batches, the longest first    60 | 58 | 41 | 40 | 22 | 20 | 9     who is free takes the next
this process, 1 of 2 threads  60 .......... | 40 ..... | 20 .. |
a helper, 1 of 2 threads      58 ........ | 41 ..... | 22 ... | 9

A small model spends much of its time between products, where a process keeps one core busy, however many threads it
has. The batches are those of one process, and so are the answers; all have as many threads, so that it is of no account
to a batch who takes it.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from polyhead.errors import ArgumentError
from polyhead.processes import Process

if TYPE_CHECKING:
    from polyhead.tasks.load import Loaded

MOST = 64  # processes, each with a model of its own

Batch = Mapping[str, Any]
"""What a task's `batch` is called with."""
Answered = tuple[int, Any]
"""A batch's place, and what was answered."""


class Workers:
    """So many processes that answer batches, this one among them; the others run as long as its `with` block.

    They start when the block begins, and so load what they need while this process does. most: how many batches there
    may be, where that is known; more processes than that do not start. Raises ArgumentError for a number that is none.
    """

    def __init__(self, count: int = 1, *, most: int | None = None) -> None:
        if type(count) is not int or not 1 <= count <= MOST:
            raise ArgumentError(f"workers is {count!r}, but must be a whole number from 1 to {MOST}.")
        self.count = count if most is None else max(1, min(count, most))
        self.helpers: list[Helper] = []
        self.threads = 0  # of each while it answers; 0: as many as this process has, of which there is no other
        self.answering = threading.RLock()  # how many threads PyTorch has is the same for all of this process

    def __enter__(self) -> Workers:
        try:
            while len(self.helpers) < self.count - 1:
                self.helpers.append(Helper(self.count))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the helpers, at once: what they are at is needed no more. This process answers alone from then on."""
        self.threads = 0
        for helper in self.helpers:
            helper.process.kill()
        while self.helpers:
            self.helpers.pop().close()

    def open(self, kind: type[Any], loaded: Loaded, **how: Any) -> None:
        """Let every helper make this task of the folder, with a fair share of the threads; nobody waits for it here."""
        if self.count == 1:
            return
        import torch

        from polyhead.core.panels import wake
        from polyhead.tasks.wire import to_wire

        if loaded.device.type != "cpu":
            raise ArgumentError(
                f"Several workers share the cores of a CPU, but the model is on {loaded.device}; leave workers out, or"
                " choose the device cpu."
            )
        assert loaded.folder, "helpers open a folder"
        self.threads = max(1, torch.get_num_threads() // self.count)
        told = {"folder": str(loaded.folder), "precision": loaded.precision, "how": to_wire(how)}
        for helper in self.helpers:
            helper.open(kind=kind.__name__, threads=self.threads, **told)
        wake()  # many texts follow, in this process too

    def each(self, batches: Sequence[Batch], here: Callable[..., Any]) -> Generator[Answered, None, None]:
        """What is answered to each batch as soon as it is, with its place; `here` answers in this process.

        The first that goes wrong, here or in a helper, is raised, and ends the helpers; so does whoever closes this
        before its end. Where there are helpers, one call waits for the other.
        """
        if self.count == 1:
            yield from ((place, here(**batch)) for place, batch in enumerate(batches))
            return
        left, found = deque(enumerate(batches)), SimpleQueue[Answered | Exception]()
        with self.answering:
            try:
                with threads_of(self.threads):
                    for helper in self.helpers:
                        helper.jobs.put((left, found))
                    for _ in batches:
                        mine = taken(left) if found.empty() else None
                        answer = found.get() if mine is None else (mine[0], here(**mine[1]))
                        if isinstance(answer, Exception):
                            raise answer
                        yield answer
            except BaseException:
                self.close()
                raise


class Helper(Process):
    """Another process of the same task, and the thread that hands it batches and waits for their answers."""

    def __init__(self, count: int) -> None:
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        super().__init__("polyhead.tasks.worker", errors=self.said)
        self.count = count
        self.jobs = SimpleQueue[Job | None]()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def open(self, **how: Any) -> None:
        self.send("open", **how)
        self.thread.start()

    def work(self) -> None:
        """Take batches of one job after the other until there is none; what goes wrong once is told of every job."""
        from polyhead.tasks.wire import from_wire

        wrong: Exception | None = None
        try:
            self.receive()
        except Exception as error:
            wrong = error
        while (job := self.jobs.get()) is not None:
            left, found = job
            try:
                if wrong is not None:
                    raise wrong
                while (mine := taken(left)) is not None:
                    found.put((mine[0], from_wire(self.ask("batch", **mine[1]))))
            except Exception as error:
                wrong = error
                found.put(error)

    def end(self) -> str:
        code = self.process.wait()
        if code < 0:
            why = f"was ended by {signal.Signals(-code).name}, as happens where memory runs out"
        else:
            self.said.seek(0)
            lines = [line.strip() for line in self.said if line.strip()]
            why = f"ended ({lines[-1][:200] if lines else f'with code {code}'})"
        return f"One of {self.count} workers {why}; each lays out the model for itself, so try fewer of them."

    def close(self, *, wait: bool = False) -> None:
        if not wait:
            self.process.kill()
        self.jobs.put(None)
        if self.thread.is_alive():
            self.thread.join()
        super().close(wait=wait)
        self.said.close()


def workable(count: int, model: object, *, most: int | None = None) -> Workers:
    """So many workers for the model that a function was given; several for a folder only, which each of them opens."""
    workers = Workers(count, most=most)
    if count > 1 and not isinstance(model, str | os.PathLike):
        raise ArgumentError(
            f"{count} workers each open the model's folder for themselves; give its name or folder as model, not what"
            " load returned."
        )
    return workers


Job = tuple[deque[tuple[int, Batch]], SimpleQueue[Answered | Exception]]
"""The batches that nobody has taken yet, and where answers go."""


def taken(left: deque[tuple[int, Batch]]) -> tuple[int, Batch] | None:
    """The next batch, taken away so that nobody else does it; None where all are."""
    try:
        return left.popleft()
    except IndexError:
        return None


@contextmanager
def threads_of(number: int) -> Iterator[None]:
    """PyTorch with so many threads; with 0 as it is."""
    if not number:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
