"""Requests come at any time and are answered together: every step reads what each of them lacks, and those that are
done leave at once (Yu et al. 2022, "Orca"; Kwon et al. 2023, arXiv 2309.06180).

step    first       second      third                       one step reads
1       prompt                                              16 tokens of the first prompt
2       token       prompt                                  1 and the second prompt
3       token       token       prompt, first half          1, 1, and as much of the third as the budget leaves
4       done        token       prompt, second half
5                   token       token

Each request is chosen for as `generate` chooses for a source of its own, so its answer is the same whoever else is
there. Where the pool has no block left, the youngest request gives back all of its own, waits, and is read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.beam import Beam
from polyhead.generation.loop import checked_limit
from polyhead.generation.rules import LogitRule
from polyhead.generation.search import Call, Greedy, Hypothesis, Sample, Search, State, as_list
from polyhead.generation.stop import AnyOf, StopRule
from polyhead.operator import Pages, Pool, Table


class PagedStep(Protocol):
    """The model, as the engine sees it."""

    def __call__(self, tokens: Tensor, pages: Pages) -> Tensor:
        """What N sequences add, [N, T], padded on the left -> the logits after the last token of each [N, V]."""
        ...


@dataclass(frozen=True)
class Request:
    """What is asked for: the arguments of `generate` for one source. `prompt`: its ids; `number`: what `Sample` draws
    by, beside its seed."""

    prompt: Sequence[int]
    max_new: int
    search: Search = field(default_factory=Greedy)
    rules: Sequence[LogitRule] = ()
    stop: StopRule | Sequence[StopRule] = ()
    number: int = 0


class Handle:
    """A request that was handed in, and what has become of it so far.

    done: whether that is all. answers: all of them, best first, once it is; none where it was cancelled, or where its
    search or one of its rules failed, which `error` then tells.
    """

    def __init__(self, request: Request, device: torch.device):
        prompt = torch.tensor([list(request.prompt)], dtype=torch.long, device=device)
        limit = checked_limit(prompt, request.max_new)
        stop = AnyOf(request.stop) if isinstance(request.stop, Sequence) else request.stop
        self.request, self.start, self.rows = request, prompt.shape[1], rows_of(request.search)
        self.state: State = request.search.begin(Call([request.number], self.start, limit, stop))
        self.history = prompt  # [R, t]
        self.tables: list[Table] = []  # of the rows, while it runs; a single one until the prompt is read
        self.answers: list[Hypothesis] = []
        self.error: BaseException | None = None
        self.done = False

    @property
    def tokens(self) -> list[int]:
        """What was added so far, without the token that ends it; under a beam, to a row that may yet lose."""
        return self.answers[0].tokens if self.answers else as_list(self.history[0, self.start :])

    @property
    def parting(self) -> bool:
        """Whether it has several rows whose prompt is being read again, once for all of them."""
        return len(self.history) > len(self.tables) == 1

    @property
    def unread(self) -> int:
        """How many tokens of each row, or of the prompt that is read for all rows, must be read next."""
        return (self.start if self.parting else self.history.shape[1]) - self.tables[0].length

    def choose(self, scores: Tensor) -> list[int]:
        """Scores after the last token [R, V] add a token to each row; which rows the next ones continue."""
        scores = self.state.scores(scores)
        for rule in self.request.rules:
            scores = rule(scores, self.history)
        choice = self.state.choose(scores, self.history)
        if bool(choice.done) and not self.done:  # else a rule of its own has cancelled it
            self.done, self.answers = True, self.state.answers(0)
        rows = choice.rows.flatten()
        self.history = torch.cat((self.history[rows], choice.tokens.view(-1, 1)), 1)
        return as_list(rows)


def rows_of(search: Search) -> int:
    """How many rows a search may have at once. Raises ArgumentError for one that the engine does not know."""
    if isinstance(search, Greedy):
        return 1
    if isinstance(search, Sample | Beam):
        return search.n_best if isinstance(search, Sample) else search.width
    raise ArgumentError(
        f"Requests are answered by Greedy, Sample or a kind of Beam, but this one's search is {search}."
    )


class Engine:
    """Answers requests as they come. It belongs to one thread, which hands in and steps.

    step: the model. pool: where keys and values are kept. budget: the most tokens that one step reads, those of running
    answers and of new prompts together. rows: the most rows that run at once. apart: how many places of keys and values
    are read in the time that a pass takes for the weights alone; where padding costs more than that, answers are read
    in several passes, by their lengths.

    `handle = engine.submit(request)`, then `engine.step()` until `handle.done`, or `for token in
    engine.stream(handle)`; `engine.cancel(handle)` ends it early.
    """

    def __init__(
        self,
        step: PagedStep,
        pool: Pool,
        device: torch.device,
        *,
        budget: int = 256,
        rows: int = 32,
        apart: int = 2048,
    ):
        if not 1 <= rows < budget:
            raise ArgumentError(f"rows is {rows} and budget {budget}, but rows must be at least 1 and budget above it.")
        self.model, self.pool, self.device = step, pool, device
        self.budget, self.rows, self.apart = budget, rows, apart
        self.running: list[Handle] = []  # the oldest first
        self.waiting: deque[Handle] = deque()  # all of them younger than those that run
        self.preempted = 0  # how often a request gave its blocks back

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def submit(self, request: Request) -> Handle:
        """Take a request in. Raises ArgumentError for one that could not be answered even if it were alone."""
        handle = Handle(request, self.device)
        size, whole = self.pool.size, handle.start // self.pool.size  # blocks of the prompt, which rows share
        blocks = whole + handle.rows * (-(-(handle.start + request.max_new) // size) - whole)
        if blocks > self.pool.blocks or handle.rows > self.rows:
            raise ArgumentError(
                f"A prompt of {handle.start} tokens with {request.max_new} to add to {handle.rows} rows needs {blocks}"
                f" blocks of {size}, but the pool has {self.pool.blocks}, and the engine {self.rows} rows; shorten it,"
                " lower max_new, or make these larger."
            )
        self.waiting.append(handle)
        return handle

    def cancel(self, handle: Handle) -> None:
        """Let a request go; one that is done stays as it is."""
        if not handle.done:
            handle.done = True
            self.leave(handle)

    def stream(self, handle: Handle) -> Iterator[int]:
        """The tokens of a request of one row as they are chosen; steps are taken, for all requests, as need be. Raises
        what went wrong with it."""
        told = 0
        while True:
            done, tokens = handle.done, handle.tokens
            yield from tokens[told:]
            if handle.error is not None:
                raise handle.error
            if done:
                return
            told = len(tokens)
            self.step()

    def run(self) -> None:
        """Step until nobody waits for anything."""
        while self.busy:
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Handle]:
        """Read what fits into the budget; the requests that gained a token or are done come back."""
        plan = self.plan()
        answers = [handle for handle, n in plan.items() if n == 1]
        long = {handle: n for handle, n in plan.items() if n > 1}  # apart: no answer is padded to the width of a prompt
        lengths = [(handle.tables[0].length + 1, len(handle.tables)) for handle in answers]
        alike = [{answers[i]: 1 for i in group} for group in side_by_side(lengths, self.apart)]
        try:
            return [handle for some in (*alike, long) for handle in self.read(some)]
        except BaseException:  # such as Ctrl-C: whoever was read and not answered is read again
            for handle in [each for each in reversed(self.running) if each in plan]:
                self.put_back(handle)
            raise

    def plan(self) -> dict[Handle, int]:
        """How many tokens to read of which requests, each with its room in the pool: first the next token of answers,
        then prompts, the oldest first, padded to the longest of them."""
        plan: dict[Handle, int] = {}
        for handle in [each for each in self.running if each.unread == 1]:
            self.reserve(handle, 1, plan)
        left, rows, widest = self.budget - sum(len(handle.tables) for handle in plan), 0, 1
        for handle in [each for each in self.running if each.unread > 1]:
            if handle.tables and (most := left // (rows + len(handle.tables))) >= widest:
                n = min(handle.unread, most)
                self.reserve(handle, n, plan)
                rows, widest = rows + len(handle.tables), max(widest, n)
        while self.waiting and (most := left // (rows + 1)) >= widest and self.admit(self.waiting[0], plan):
            handle = self.running[-1]
            n = min(handle.unread, most)
            self.reserve(handle, n, plan)
            rows, widest = rows + 1, max(widest, n)
        return plan

    def admit(self, handle: Handle, plan: dict[Handle, int]) -> bool:
        """Let the oldest of those that wait begin where there are rows, and blocks for all that it must read; not while
        somebody else reads what comes first in it."""
        if sum(each.rows for each in self.running) + handle.rows > self.rows:
            return False
        tokens = handle.history[0] if len(handle.history) == 1 else handle.history[0, : handle.start]
        handle.tables = [self.pool.begun(tokens)]
        begins = self.pool.name(handle.tables[0], tokens)
        shared = len(begins[1]) == self.pool.size and any(
            self.pool.name(other.tables[0], other.history[0]) == begins for other in plan
        )
        lacking = self.running and self.pool.needed(handle.tables, handle.unread) + handle.rows > self.pool.open
        if shared or lacking:
            self.release(handle)
            return False
        self.running.append(self.waiting.popleft())
        return True

    def reserve(self, handle: Handle, n: int, plan: dict[Handle, int]) -> None:
        """Plan to read n tokens of a running request; where blocks lack, the youngest gives its own back and waits."""
        while handle.tables and self.pool.needed(handle.tables, n) > self.pool.open:
            youngest = self.running[-1]
            self.put_back(youngest)
            plan.pop(youngest, None)
            self.preempted += 1
        if handle.tables:
            for table in handle.tables:
                self.pool.grow(table, n)
            plan[handle] = n

    def read(self, plan: dict[Handle, int]) -> list[Handle]:
        """One pass over the next tokens of these requests; those that gained a token or are done come back."""
        plan = {handle: n for handle, n in plan.items() if not handle.done}  # a rule of another may have cancelled one
        if not plan:
            return []
        tables = [table for handle in plan for table in handle.tables]
        new = [n for handle, n in plan.items() for _ in handle.tables]
        rows = [row for handle in plan for row in handle.history[: len(handle.tables)]]
        tokens = rows[0].new_zeros(len(rows), max(new))  # [N, T]
        for place, (row, table, n) in enumerate(zip(rows, tables, new, strict=True)):
            tokens[place, -n:] = row[table.length : table.length + n]
        scores = self.model(tokens, Pages(self.pool, tables, new, self.device))  # [N, V]
        for table, row in zip(tables, rows, strict=True):
            self.pool.learn(table, row)
        moved: list[Handle] = []
        for handle, own in zip(plan, torch.split(scores, [len(handle.tables) for handle in plan]), strict=True):
            if handle.done or handle.unread > 0:
                continue
            if handle.parting:
                handle.tables += [self.pool.fork(handle.tables[0]) for _ in handle.history[1:]]
            else:
                self.choose(handle, own)
                moved.append(handle)
        return moved

    def choose(self, handle: Handle, scores: Tensor) -> None:
        """Let a request go on by scores after its last token [R, V], or leave; what fails in it harms no other."""
        try:
            rows = handle.choose(scores)
        except BaseException as wrong:
            handle.error, handle.done, rows = wrong, True, []
            if not isinstance(wrong, Exception):
                self.leave(handle)
                raise
        if handle.done:
            self.leave(handle)
        elif rows != list(range(len(handle.tables))):
            old, handle.tables = handle.tables, [self.pool.fork(handle.tables[row]) for row in rows]
            for table in old:
                self.pool.free(table)

    def put_back(self, handle: Handle) -> None:
        """A running request gives its blocks back and is the first to wait."""
        self.running.remove(handle)
        self.waiting.appendleft(handle)
        self.release(handle)

    def leave(self, handle: Handle) -> None:
        """A request waits and runs no more."""
        self.release(handle)
        for line in (self.running, self.waiting):
            if handle in line:
                line.remove(handle)

    def release(self, handle: Handle) -> None:
        """Give all of a request's blocks back."""
        for table in handle.tables:
            self.pool.free(table)
        handle.tables = []


def side_by_side(sizes: Sequence[tuple[int, int]], apart: int) -> list[list[int]]:
    """Which of some (length, rows) share a pass, where a pass costs `apart` and every row in it as much as the longest.

    The cheapest way, found from the longest on: those of a pass are neighbours by length.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i][0])
    best: list[tuple[int, list[list[int]]]] = [(0, [])]  # of the first so many: the cost, and the passes
    for end in range(1, len(order) + 1):
        ways: list[tuple[int, int]] = []  # cost, and where the last pass begins
        rows = 0
        for start in range(end - 1, -1, -1):
            rows += sizes[order[start]][1]
            ways.append((best[start][0] + apart + rows * sizes[order[start]][0], start))
        cost, start = min(ways)
        best.append((cost, [*best[start][1], order[start:end]]))
    return best[-1][1]
