"""`python -m polyhead.tasks.worker`: the process of a helper (see workers.py), which opens the folder that it is told
and answers batches of ids until nobody can ask it any more."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from polyhead.core.panels import wake
from polyhead.processes import serve
from polyhead.tasks.load import Precision, load
from polyhead.tasks.summarize import Summarizer
from polyhead.tasks.translator import Translator
from polyhead.tasks.wire import from_wire, to_wire

KINDS: dict[str, Callable[..., Any]] = {kind.__name__: kind for kind in (Summarizer, Translator)}


class Helper:
    """A task at work for another process."""

    task: Any

    def open(self, kind: str, folder: str, precision: Precision, threads: int, how: Any) -> None:
        """Make the same task of the same folder."""
        torch.set_num_threads(threads)
        wake()
        self.task = KINDS[kind](load(folder, precision=precision), **from_wire(how))

    def batch(self, ids: Sequence[Sequence[int]], numbers: Sequence[int]) -> Any:
        """The answers to rows of ids, by the numbers that sampling draws by."""
        return to_wire(self.task.batch(ids, numbers=numbers))


def main() -> None:
    warnings.simplefilter("ignore")  # who asks has made the same task, and was warned
    helper = Helper()
    serve({"open": helper.open, "batch": helper.batch})


if __name__ == "__main__":
    main()
