"""A model and a verb go in; a sentence comes out where the verb needs another, with what can be asked of this one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polyhead.errors import ArgumentError
from polyhead.families import Family, family_of, sibling
from polyhead.tasks.load import Loaded, called, find
from polyhead.weights.config_keys import read_json

TRANSLATES = "translation", "text to text"
LABELS = "labels", "image labels", "similarity"
VECTORS = "vectors", "hidden words", "replaced words", "labels", "place labels", "spans", "similarity"

#  verb -> what the head of its model may give; each is of one thing read, so that says what goes in, too
NEEDS: dict[str, tuple[str, ...]] = {
    "translate": TRANSLATES,
    "summarize": ("text to text",),
    "complete": ("next word",),
    "chat": ("next word",),
    "classify": LABELS,
    "answer": ("spans",),
    "embed": VECTORS,
    "search": VECTORS,
    "transcribe": ("speech to text",),
    "evaluate": (*TRANSLATES, *LABELS),
    "shortlist": TRANSLATES,
}


def able(loaded: Loaded, verb: str, *, gives: Sequence[str] = (), told: str | None = None) -> None:
    """Refuse a model whose head gives something else than a verb needs. gives: what it needs here, of all that it
    takes. told: who needs it, unless the verb."""
    meets(loaded.family, loaded.name, verb, gives=gives, told=told)


def able_by_name(model: str | Path, verb: str, *, told: str | None = None) -> None:
    """The same of a model that is not loaded, by its config.json alone; what is called hf: is fetched."""
    folder = find(model)
    meets(family_of(read_json(folder / "config.json")), called(folder), verb, told=told)


def meets(family: Family, name: str, verb: str, *, gives: Sequence[str] = (), told: str | None = None) -> None:
    """Refuse a model of such a family, by its name."""
    gives = gives or NEEDS[verb]
    if family.does in gives:
        return
    verbs = takers(family)
    which = f": {listed(verbs, 'and')} take{'s' * (len(verbs) == 1)} it" if verbs else ""
    raise ArgumentError(
        f"{told or verb} needs a model that gives {listed(gives, 'or')}; {name} is a {family.architecture}, which"
        f" reads {family.reads} and gives {family.does}{which}"
    )


def takers(family: Family) -> list[str]:
    """The verbs that take such a model."""
    one_way = sibling(family, "next word") is not None  # a decoder's words see only those before them
    return [verb for verb, does in NEEDS.items() if family.does in does and not (does is VECTORS and one_way)]


def listed(names: Sequence[str], last: str) -> str:
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else names[0]
