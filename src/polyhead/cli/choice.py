"""How a decoder chooses its next tokens: the options that say so enter, written once for all verbs, a choice leaves."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.generation import Search
    from polyhead.generation.speculative import Lookup

Stop = Annotated[list[str] | None, typer.Option("--stop", help="End before this text; may be given often.")]
Beam = Annotated[int | None, typer.Option("--beam", min=1, max=1000, help="Search with a beam; 1 is greedy.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="Draw, at this temperature.")]
TopK = Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens.")]
TopP = Annotated[float, typer.Option("--top-p", help="Draw from tokens of this probability together.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same.")]
Draft = Annotated[
    str | None, typer.Option("--draft", metavar="MODEL", help="A smaller model proposes; the same comes sooner.")
]
LookingUp = Annotated[bool, typer.Option("--lookup", help="Propose what followed before in the same text.")]


@dataclass(frozen=True)
class Choice:
    """What the options come to: a beam, a draw, or None, as the model's folder says; the texts to end before; and who
    proposes, if anybody does."""

    search: Search | None = None
    stop: tuple[str, ...] = ()
    draft: str | Lookup | None = None


USUAL = Choice()


def asked(
    stop: Stop = None, beam: Beam = None, temperature: Temperature = None, top_k: TopK = None, top_p: TopP = 1.0,
    seed: Seed = 0, draft: Draft = None, lookup: LookingUp = False,
) -> Choice:  # fmt: skip
    """The options, as a person is shown them."""
    search = chosen(beam, temperature, top_k=top_k, top_p=top_p, seed=seed)
    return Choice(search, plain(stop or []), proposing(draft, lookup))


def asks(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb all options of this file in the place of its parameter `by`, which gets what they come to."""
    options, own = inspect.signature(asked, eval_str=True), inspect.signature(verb, eval_str=True)

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        by = asked(**{name: given.pop(name) for name in options.parameters})
        verb(**given, by=by)

    places = [[*options.parameters.values()] if name == "by" else [each] for name, each in own.parameters.items()]
    shown = own.replace(parameters=[each for place in places for each in place])
    run.__signature__ = shown  # pyright: ignore[reportAttributeAccessIssue]  # what typer reads
    return run


def plain(stop: list[str]) -> tuple[str, ...]:
    """Stop texts as typed, in which only \\n and \\t stand for something else."""
    if "" in stop:
        raise ArgumentError("--stop is empty, which stands everywhere; give the text to end before, or leave it out.")
    return tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in stop)


def proposing(draft: str | None, lookup: bool) -> str | Lookup | None:
    """The name of a draft, a look-up, or nobody."""
    if draft is not None and lookup:
        raise ArgumentError("--draft and --lookup both propose what may follow; give one of them.")
    if not lookup:
        return draft

    from polyhead.generation.speculative import Lookup

    return Lookup()


def chosen(beam: int | None, temperature: float | None, *, top_k: int | None, top_p: float, seed: int) -> Search | None:
    """A beam, a draw, or None: as the model's folder says."""
    if beam is not None and temperature is not None:
        raise ArgumentError("--temperature draws and --beam searches for the best; give one of them.")
    if temperature is not None and not temperature > 0:
        raise ArgumentError(
            f"--temperature is {temperature}, but must be above 0; leave it out for the likeliest tokens."
        )
    if not 0 < top_p <= 1:
        raise ArgumentError(f"--top-p is {top_p}, but must be above 0 and at most 1, a probability.")
    if temperature is None and (top_k is not None or top_p != 1.0):
        raise ArgumentError("--top-k and --top-p shape how tokens are drawn; give --temperature as well, which draws.")

    from polyhead.generation import Beam, Greedy, Sample

    if temperature is not None:
        return Sample(temperature, top_k, top_p, seed)
    return None if beam is None else Greedy() if beam == 1 else Beam(beam)
