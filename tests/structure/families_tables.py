"""docs/families.md in, the page with its tables as the source has them out: rows, lines, verbs; for `make format`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from polyhead.errors import ArgumentError
from polyhead.families import ARCHITECTURES, family
from polyhead.tasks.answer import Answerer
from polyhead.tasks.chat import Chatter
from polyhead.tasks.classify import classifier
from polyhead.tasks.complete import Completer
from polyhead.tasks.embed import embedder
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded
from polyhead.tasks.search import Searcher
from polyhead.tasks.summarize import Summarizer
from polyhead.tasks.translator import Translator
from tests.structure.page import PACKAGE, ROOT

PAGES = ("docs/families.md", "docs/families.zh.md")
OPEN = "…"  # a cell that only a person can fill
VERBS: dict[str, Any] = {
    "answer": Answerer, "chat": Chatter, "classify": classifier, "complete": Completer, "embed": embedder,
    "search": Searcher, "summarize": Summarizer, "transcribe": Transcriber, "translate": Translator,
}  # fmt: skip


def verbs_of(architecture: str) -> list[str]:
    """The verbs that do not refuse a model of this architecture."""
    kind = family(architecture)
    with torch.device("meta"):  # its sizes do not matter
        loaded = Loaded(kind.build(kind.config()), None, kind)

    def takes(verb: str) -> bool:
        try:
            VERBS[verb](loaded)
        except ArgumentError as refused:
            return " needs a model " not in str(refused)
        except Exception:  # it would go on, to the tokenizer and other things that are not here
            return True
        return True

    return [verb for verb in VERBS if takes(verb)]


def lines_of(name: str) -> int:
    return len((PACKAGE / "families" / f"{name}.py").read_text("utf-8").splitlines())


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a page, row by row, cell by cell; without their heads."""
    found: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [rows[2:] for rows in found]


def families(rows: list[list[str]], verbs: dict[str, list[str]]) -> list[list[str]]:
    """A row for each family; what people wrote is kept, and open where they have not yet."""
    told = {row[0]: row for row in rows}
    found: list[list[str]] = []
    for name in dict.fromkeys(ARCHITECTURES.values()):
        link = f"[{name}](../src/polyhead/families/{name}.py)"
        own = sorted({verb for kind, of in ARCHITECTURES.items() if of == name for verb in verbs[kind]})
        _, gives, _, _, paper = told.get(link, ["", OPEN, "", "", OPEN])
        found.append([link, gives, " ".join(own), str(lines_of(name)), paper])
    return found


def heads(rows: list[list[str]], verbs: dict[str, list[str]]) -> list[list[str]]:
    """A row for all architectures whose heads give one thing to the same verbs, in the order in which the rows were."""
    order = {(row[0], row[2]): i for i, row in enumerate(rows)}
    kinds: dict[tuple[str, str], list[str]] = {}
    for architecture in ARCHITECTURES:
        kinds.setdefault((family(architecture).does, " ".join(verbs[architecture])), []).append(f"`{architecture}`")
    there = sorted(kinds, key=lambda kind: order.get(kind, len(order)))
    return [[does, " ".join(kinds[does, verb]), verb] for does, verb in there]


def shown(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]


def written(text: str, verbs: dict[str, list[str]]) -> str:
    """The page with its two tables as they must be."""
    old = tables(text)
    new = iter((families(old[0], verbs), heads(old[1], verbs)))
    lines, at = text.splitlines(), 0
    while at < len(lines):
        if lines[at].startswith("|---"):
            end = at + 1
            while lines[end].startswith("|"):
                end += 1
            lines[at + 1 : end] = shown(next(new))
        at += 1
    return "\n".join(lines) + "\n"


def main() -> None:
    verbs = {architecture: verbs_of(architecture) for architecture in ARCHITECTURES}
    for page in PAGES:
        path: Path = ROOT / page
        text = path.read_text("utf-8")
        if (new := written(text, verbs)) != text:
            path.write_text(new, "utf-8")
            print(f"{page}: the tables are as the source has them")


if __name__ == "__main__":
    main()
