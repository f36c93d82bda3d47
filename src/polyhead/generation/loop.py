"""Next-token generation: prompts go in, a model's `Step` is asked for logits again and again, answers come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation.rules import LogitRule, after
from polyhead.generation.search import Call, Hypothesis, Search, as_list
from polyhead.generation.source_rules import SourceRule
from polyhead.generation.stop import AnyOf, StopRule


class Step(Protocol):
    """The model, as the loop sees it: N rows of tokens, the same number of rows for each source, source by source.

    A step may have a third method, `hidden() -> Tensor [N, n, D]`: the vectors from which the newest logits were made,
    of the n tokens that the last call was the first to read, zero where a place is padding. `Contrastive` needs it.
    """

    def __call__(self, tokens: Tensor) -> Tensor:
        """All rows so far, LongTensor [N, t] -> logits [N, V] after the last token. The step keeps its own cache: it
        has seen all but the tokens added since the last call. Nobody changes the logits in place."""
        ...

    def keep(self, rows: Tensor, sources: Tensor | None) -> None:
        """Go on with these rows, LongTensor [N'], repeated, reordered or dropped. `sources`, LongTensor [B'], is given
        where finished sources leave: those that stay, in the order in which they go on; the last ones take the places
        of those that left. Called only where something changes."""
        ...


@torch.no_grad()
def generate(
    step: Step,
    prompt: Tensor,
    *,
    search: Search,
    max_new: int | Tensor,
    rules: Sequence[LogitRule] = (),
    stop: StopRule | Sequence[StopRule] = (),
    numbers: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """For each source its answers, best first.

    `prompt` LongTensor [B, t], t >= 1, one row for each source. `max_new` is the most tokens to add, for all sources or
    for each (LongTensor [B]); the end token counts. `rules` change the scores, in order; `stop` completes rows, by any
    of its rules. `numbers` are the sources' numbers in the caller's whole input (default 0 ... B-1): sampling draws by
    them, so that an answer does not depend on how the input was cut into batches.
    """
    limit = checked_limit(prompt, max_new)
    B, start = prompt.shape
    if B == 0:
        return []
    numbers = range(B) if numbers is None else numbers
    if len(numbers) != B:
        raise ArgumentError(f"numbers holds {len(numbers)} numbers for {B} sources, but must hold one for each.")
    stop = AnyOf(stop) if isinstance(stop, Sequence) else stop
    state = search.begin(Call(numbers, start, limit, stop, getattr(step, "hidden", None)))
    answers: list[list[Hypothesis]] = [[] for _ in range(B)]
    open_sources = list(range(B))
    history = prompt.new_zeros(B, start + int(limit.max()))  # [N, t + most new tokens]
    history[:, :start] = prompt

    for length in range(start, history.shape[1] + 1):  # one more for a search that looks at what follows a token
        tokens = history[:, :length]
        logits = step(tokens)
        scores = after(rules, state.scores(logits), tokens, own=getattr(state, "own", False))  # [N, V]
        del logits
        choice = state.choose(scores, tokens)
        rows, chosen, staying = choice.rows, choice.tokens, None

        if bool(choice.done.any()):
            for source in as_list(choice.done.nonzero().flatten()):
                answers[open_sources[source]] = state.answers(source)
            staying = remaining(choice.done)
            open_sources = [open_sources[source] for source in as_list(staying)]
            if not open_sources:
                break
            state.keep(staying)
            rules = [rule.keep(staying) if isinstance(rule, SourceRule) else rule for rule in rules]
            rows, chosen = rows[staying], chosen[staying]

        rows = rows.flatten()  # [N']
        if not torch.equal(rows, torch.arange(len(history), device=rows.device)):
            step.keep(rows, staying)
            history = history[rows]
        history[:, length] = chosen.flatten()
    return answers


def remaining(done: Tensor) -> Tensor:
    """The sources that are not done, bool [B] -> LongTensor [B']: the last of them go to the places of those that are,
    and no other moves, so that a cache copies few rows."""
    n = int((~done).sum())
    staying = torch.arange(n, device=done.device)
    staying[done[:n]] = n + (~done[n:]).nonzero().flatten()
    return staying


def checked_limit(prompt: Tensor, max_new: int | Tensor) -> Tensor:
    """`max_new` as a LongTensor [B], or one sentence about what is wrong with it or with the prompt."""
    if prompt.dim() != 2 or prompt.dtype != torch.long or prompt.shape[1] == 0:
        raise ArgumentError(
            f"prompt is {prompt.dtype} of shape {list(prompt.shape)}, but must be int64 of shape [sources, tokens] "
            "with at least one token; give the start token where nothing else is known."
        )
    if isinstance(max_new, int):
        limit = torch.full((len(prompt),), max_new, device=prompt.device)
    else:
        limit = max_new.to(prompt.device)
    if limit.dtype != torch.long or limit.shape != prompt.shape[:1]:
        raise ArgumentError(
            f"max_new is {limit.dtype} of shape {list(limit.shape)}, but must be a number or int64 of shape "
            f"[{len(prompt)}], one limit for each source."
        )
    if len(limit) and int(limit.min()) < 1:
        raise ArgumentError(f"max_new is {int(limit.min())}, but must be at least 1.")
    return limit
