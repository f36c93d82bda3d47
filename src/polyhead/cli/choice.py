"""How a decoder chooses its next tokens: the options that say so enter, written once for all verbs, a choice leaves."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyhead.errors import ArgumentError

if TYPE_CHECKING:
    from polyhead.generation import Beam as Beam_
    from polyhead.generation import Search
    from polyhead.generation.speculative import Lookup
    from polyhead.tasks.load import Loaded

choosing = functools.partial(typer.Option, rich_help_panel="How words are chosen")

Stop = Annotated[list[str] | None, choosing("--stop", help="End before this text; may be given often.")]
Beam = Annotated[
    int | None,
    choosing("--beam", min=1, max=1000, show_default="the model's", help="Answers kept open at once; 1 is greedy."),
]
Groups = Annotated[
    int | None,
    choosing("--groups", min=1, max=1000, help="Part the beam in groups that avoid each other's words; for --nbest."),
]
Diversity = Annotated[
    float | None, choosing("--diversity", show_default="1.0", help="How much groups avoid each other's words.")
]
Force = Annotated[
    list[str] | None,
    choosing("--force", metavar="TEXT", help="The answer holds this text, or one of A|B; may be given often."),
]
Contrast = Annotated[
    float | None,
    choosing(
        "--contrastive",
        metavar="ALPHA",
        help="Of the k likeliest tokens take what is least like those before, to this degree (0 to 1); no loops.",
    ),
]
Temperature = Annotated[float | None, choosing("--temperature", help="Draw, at this temperature, with no beam.")]
TopK = Annotated[
    int | None,
    choosing("--top-k", min=1, show_default="all; 4 with --contrastive", help="Of the k likeliest tokens."),
]
TopP = Annotated[float | None, choosing("--top-p", help="Draw from tokens of this probability together.")]
MinP = Annotated[float | None, choosing("--min-p", help="Draw from tokens at least this likely beside the likeliest.")]
TypicalP = Annotated[
    float | None, choosing("--typical-p", help="Draw from the most typical tokens of this probability together.")
]
Seed = Annotated[int | None, choosing("--seed", min=0, show_default="0", help="The same seed draws the same.")]
Draft = Annotated[
    str | None, choosing("--draft", metavar="MODEL", help="A smaller model proposes; the same comes sooner.")
]
Guidance = Annotated[
    float | None,
    choosing("--guidance", show_default="1", help="Above 1, what is asked counts for more; reads everything twice."),
]
LookingUp = Annotated[bool, choosing("--lookup", help="Propose what followed before in the same text.")]
SHARES = {"top_p": "above 0 and at most 1", "min_p": "from 0 to 1", "typical_p": "above 0 and at most 1"}


@dataclass(frozen=True)
class Wanted:
    """How answers are to be searched, as it was typed. Raises ArgumentError for what does not go together."""

    beam: int | None = None
    groups: int | None = None
    diversity: float | None = None
    force: tuple[str, ...] = ()
    contrastive: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        ways = [("--beam", self.beam), ("--contrastive", self.contrastive), ("--temperature", self.temperature)]
        several = [name for name, value in ways if value is not None]
        several += ["--groups"] * (self.groups is not None) + ["--force"] * bool(self.force)
        if len(several) > 1 and several not in (["--beam", "--groups"], ["--beam", "--force"]):
            raise ArgumentError(f"{listing(several)} are different ways to choose tokens; give one of them.")
        if self.temperature is not None and not self.temperature > 0:
            raise ArgumentError(
                f"--temperature is {self.temperature}, but must be above 0; leave it out for the likeliest tokens."
            )
        for name, what in SHARES.items():
            share = getattr(self, name)
            if share is not None and not (0 < share <= 1 or (name == "min_p" and share == 0)):
                raise ArgumentError(f"{option(name)} is {share}, but must be {what}, a probability.")
        if self.contrastive is not None and not 0 <= self.contrastive <= 1:
            raise ArgumentError(
                f"--contrastive is {self.contrastive}, but must be from 0 to 1; 0 takes the likeliest token."
            )
        drawn = [name for name in ("top_k", "top_p", "min_p", "typical_p", "seed") if getattr(self, name) is not None]
        if self.temperature is None and (drawn := [name for name in drawn if not (name == "top_k" and self.alpha)]):
            raise ArgumentError(
                f"{listing(list(map(option, drawn)))} shape{'s' * (len(drawn) == 1)} how tokens are drawn; give"
                " --temperature as well, which draws."
            )
        if self.diversity is not None and self.groups is None:
            raise ArgumentError("--diversity says how much groups avoid each other; give --groups as well.")
        if self.groups is not None and self.beam is not None and self.beam % self.groups:
            raise ArgumentError(
                f"--groups is {self.groups}, but must divide --beam, {self.beam}; leave --beam out, or change one."
            )
        if self.diversity is not None and not 0 <= self.diversity < math.inf:
            raise ArgumentError(f"--diversity is {self.diversity}, but must be at least 0; 0 lets groups agree.")
        if any(not part.strip() for text in self.force for part in text.split("|")):
            raise ArgumentError("--force is empty, or has nothing beside its |; give the text that the answer holds.")

    @property
    def alpha(self) -> bool:
        return self.contrastive is not None

    def unhelped(self, n_best: int) -> str:
        """The option, if there is one, that asks for a search that proposals cannot help."""
        ways = {
            "--nbest": n_best > 1, "--groups": self.groups is not None, "--force": bool(self.force),
            "--contrastive": self.contrastive is not None, "--beam": (self.beam or 1) > 1,
        }  # fmt: skip
        return next((name for name, there in ways.items() if there), "")

    def search(self, *, n_best: int = 1, like: Beam_ | None = None) -> Search | None:
        """A search, or None where no more was asked than a width. `like`: the beam whose other settings hold."""
        from polyhead.generation import Beam, ConstrainedBeam, Contrastive, DiverseBeam, Sample

        if self.beam is not None and self.beam < n_best:
            raise ArgumentError(f"--nbest {n_best} needs --beam {n_best} or more, found --beam {self.beam}.")
        like = like or Beam()
        if self.temperature is not None:
            cuts = {name: value for name in SHARES if (value := getattr(self, name)) is not None}
            return Sample(self.temperature, self.top_k, seed=self.seed or 0, n_best=n_best, scored=n_best > 1, **cuts)
        if self.contrastive is not None:
            if n_best > 1:
                raise ArgumentError("--contrastive finds one answer; leave out --nbest, or search with a beam.")
            return Contrastive(self.contrastive, self.top_k or 4)
        how = {"n_best": n_best, "length_penalty": like.length_penalty, "early_stopping": like.early_stopping}
        if self.groups is not None:
            width = self.beam or max(like.width, self.groups, n_best)
            width = width if self.beam else -(-width // self.groups) * self.groups
            penalty = 1.0 if self.diversity is None else self.diversity
            return DiverseBeam(width, groups=self.groups, penalty=penalty, **how)
        if self.force:
            words = [tuple(text.split("|")) for text in self.force]
            return ConstrainedBeam(self.beam or max(FORCED, like.width, n_best), words=words, **how)
        return None


ANY = Wanted()
FORCED = 10  # rows of a beam that must hold a text, unless somebody says how many


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def listing(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]


@dataclass(frozen=True)
class Choice:
    """What the options come to: how to search; the texts to end before; and who proposes, if anybody does."""

    by: Wanted = ANY
    stop: tuple[str, ...] = ()
    draft: str | Lookup | None = None
    guidance: float | None = None

    def search(self, loaded: Loaded, *, n_best: int = 1) -> Search:
        """The search that was asked for; what was not said of it is as the model's folder says."""
        from polyhead.tasks.decoder import search_as_wide, searching
        from polyhead.tasks.needs import able_by_name

        if self.draft is not None and (against := self.by.unhelped(n_best)):
            proposer = "--draft" if isinstance(self.draft, str) else "--lookup"
            raise ArgumentError(f"{proposer} cannot go with {against}; leave one out.")
        if isinstance(self.draft, str):
            able_by_name(self.draft, "complete", told="--draft")
        _, like = searching(loaded)
        return self.by.search(n_best=n_best, like=like) or search_as_wide(loaded, self.by.beam, n_best)


USUAL = Choice()


def wanted(
    beam: Beam = None, groups: Groups = None, diversity: Diversity = None, force: Force = None,
    contrastive: Contrast = None, temperature: Temperature = None, top_k: TopK = None, top_p: TopP = None,
    min_p: MinP = None, typical_p: TypicalP = None, seed: Seed = None,
) -> Wanted:  # fmt: skip
    """The options of searching, as a person is shown them."""
    return Wanted(
        beam, groups, diversity, tuple(force or ()), contrastive, temperature, top_k, top_p, min_p, typical_p, seed
    )


def asked(
    stop: Stop = None, draft: Draft = None, lookup: LookingUp = False, guidance: Guidance = None, **how: Any
) -> Choice:
    """All options, those of searching among them."""
    return Choice(wanted(**how), plain(stop or []), proposing(draft, lookup), guidance)


def shown(options: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a function; before them, in the place of its **how, those of searching."""
    named = [*inspect.signature(options, eval_str=True).parameters.values()]
    own = [each.replace(kind=each.KEYWORD_ONLY) for each in named if each.kind != each.VAR_KEYWORD]
    return own if len(own) == len(named) else [*shown(wanted), *own]


def taking(
    options: Callable[..., Any], verb: Callable[..., None], *, without: tuple[str, ...] = ()
) -> Callable[..., None]:
    """Give a verb these options, but some, in the place of its parameter `by`, which gets what they come to."""
    theirs = [each for each in shown(options) if each.name not in without]
    own = inspect.signature(verb, eval_str=True)

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        by = options(**{each.name: given.pop(each.name) for each in theirs})
        verb(**given, by=by)

    ours = [each.replace(kind=each.KEYWORD_ONLY) for each in own.parameters.values()]
    places = [theirs if each.name == "by" else [each] for each in ours]
    run.__signature__ = own.replace(parameters=[each for place in places for each in place])  # pyright: ignore[reportAttributeAccessIssue]  # what typer reads
    return run


asks = functools.partial(taking, asked)
asks_for_one = functools.partial(taking, asked, without=("groups", "diversity"))  # which make several answers differ
searches = functools.partial(taking, wanted)


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
