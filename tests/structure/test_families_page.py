"""docs/families.md: the families, their architectures, lines and verbs are those of the source, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from polyhead.errors import ArgumentError
from polyhead.families import ARCHITECTURES, family
from polyhead.tasks.answer import Answerer
from polyhead.tasks.chat import Chatter
from polyhead.tasks.classify import Classifier
from polyhead.tasks.complete import Completer
from polyhead.tasks.embed import Embedder
from polyhead.tasks.hearing.transcriber import Transcriber
from polyhead.tasks.load import Loaded
from polyhead.tasks.summarize import Summarizer
from polyhead.tasks.translator import Translator
from polyhead.weights.config_keys import read_json
from tests.families.tiny import SHAPES
from tests.structure.page import PACKAGE, ROOT

pytestmark = pytest.mark.parity
PAGES = ("docs/families.md", "docs/families.zh.md")
VERBS: dict[str, Any] = {
    "answer": Answerer, "chat": Chatter, "classify": Classifier, "complete": Completer, "embed": Embedder,
    "summarize": Summarizer, "transcribe": Transcriber, "translate": Translator,
}  # fmt: skip


def tables(page: str) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the two tables of a page, cell by cell."""
    found: list[list[list[str]]] = []
    before = ""
    for line in (ROOT / page).read_text("utf-8").splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    families, heads = (rows[2:] for rows in found)
    return families, heads


def verbs_of(architecture: str, folder: Path) -> set[str]:
    """The verbs that do not refuse a model of this architecture."""
    kind = family(architecture)
    theirs = getattr(transformers, architecture).config_class(**SHAPES[architecture][""])
    theirs.save_pretrained(folder / architecture)
    raw = read_json(folder / architecture / "config.json")
    loaded = Loaded(kind.build(kind.keys.read(raw, kind.config())), None, kind, raw)

    def takes(verb: str) -> bool:
        try:
            VERBS[verb](loaded)
        except ArgumentError as refused:
            return " needs a model " not in str(refused)
        except Exception:  # it would go on, to the tokenizer and other things that are not here
            return True
        return True

    return {verb for verb in VERBS if takes(verb)}


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("configs")
    with torch.random.fork_rng():
        return {architecture: verbs_of(architecture, folder) for architecture in ARCHITECTURES}


@pytest.mark.parametrize("page", PAGES)
def test_every_family_is_listed_with_its_lines_and_verbs(page: str, verbs: dict[str, set[str]]) -> None:
    rows, _ = tables(page)
    told = {re.match(r"\[(\w+)\]", row[0])[1]: row for row in rows}  # pyright: ignore[reportOptionalSubscript]
    assert set(told) == set(ARCHITECTURES.values()) and len(rows) == len(told)
    for name, row in told.items():
        file = PACKAGE / "families" / f"{name}.py"
        assert row[0] == f"[{name}](../src/polyhead/families/{name}.py)"
        assert int(row[3]) == len(file.read_text("utf-8").splitlines()), name
        own = set[str]().union(*(verbs[kind] for kind, of in ARCHITECTURES.items() if of == name))
        assert row[2].split() == sorted(own), name


@pytest.mark.parametrize("page", PAGES)
def test_every_architecture_is_listed_with_its_head_and_verbs(page: str, verbs: dict[str, set[str]]) -> None:
    _, rows = tables(page)
    told = [(name, row) for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(name for name, _ in told) == sorted(ARCHITECTURES)
    for name, (gives, _, can) in told:
        assert (gives, can.split()) == (family(name).does, sorted(verbs[name])), name


def test_both_languages_say_the_same() -> None:
    (english, heads), (chinese, same) = map(tables, PAGES)
    assert heads == same
    assert [[row[0], *row[2:]] for row in english] == [[row[0], *row[2:]] for row in chinese]
    texts = [(ROOT / page).read_text("utf-8") for page in PAGES]
    assert len({len(re.findall(r"^## ", text, re.MULTILINE)) for text in texts}) == 1
    assert len({tuple(re.findall(r"^\*\*([\w-]+)\*\*", text, re.MULTILINE)) for text in texts}) == 1


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8")):
        assert target.startswith("https://") or (file.parent / target).exists(), target
