"""docs/families.md: the families, their architectures, lines and verbs are those of the source, in both languages; and
the page of a verb names every family that it takes."""

from __future__ import annotations

import re

import pytest

from polyhead.families import ARCHITECTURES
from polyhead.families.sizes import SIZES
from tests.structure.families_tables import OPEN, PAGES, VERBS, lines_of, tables, verbs_of, written
from tests.structure.page import ROOT

each = pytest.mark.parametrize("page", PAGES)


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def names_of(page: str) -> dict[str, str]:
    """Family -> how people write it, by the paragraphs that tell how each differs."""
    told = re.findall(r"^\*\*([\w-]+)\*\*", text_of(page), re.MULTILINE)
    return {name.replace("-", "").lower(): name for name in told}


@pytest.fixture(scope="module")
def verbs() -> dict[str, list[str]]:
    return {architecture: verbs_of(architecture) for architecture in ARCHITECTURES}


@each
def test_its_tables_are_those_of_the_source(page: str, verbs: dict[str, list[str]]) -> None:
    text = text_of(page)
    assert written(text, verbs).splitlines() == text.splitlines(), f"{page}: `make format` writes its tables"
    left = [row for row in tables(text)[0] if OPEN in row]
    assert not left, f"{page}: write in the place of {OPEN} what goes in and comes out, and the paper: {left}"


@each
def test_a_family_without_a_row_is_given_one_to_be_filled(page: str, verbs: dict[str, list[str]]) -> None:
    text = text_of(page)
    without = "\n".join(line for line in text.splitlines() if not line.startswith("| [bloom]"))
    again = written(without.replace(" `BloomForCausalLM`", ""), verbs)
    link = "[bloom](../src/polyhead/families/bloom.py)"
    assert [link, OPEN, "chat complete", str(lines_of("bloom")), OPEN] in tables(again)[0]
    assert tables(again)[1] == tables(text)[1]


@each
def test_a_paragraph_tells_how_each_family_differs(page: str) -> None:
    odd = ", ".join(sorted(set(names_of(page)) ^ set(ARCHITECTURES.values())))
    assert not odd, f"{page} has a paragraph that begins **Name** for each family, and no other; mend that of {odd}"


@pytest.mark.parametrize("ending", [".md", ".zh.md"])
@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_a_verb_names_every_family_that_it_takes(
    verb: str, ending: str, verbs: dict[str, list[str]]
) -> None:
    page, names = f"docs/verbs/{verb}{ending}", names_of(PAGES[0])
    taken = {names.get(of, of) for kind, of in ARCHITECTURES.items() if verb in verbs[kind]}
    text = text_of(page)
    missing = [name for name in sorted(taken) if name not in text]
    assert not missing, f"{page}, which says what models `{verb}` takes, does not name {', '.join(missing)}"


@pytest.mark.parametrize("page", ["docs/verbs/info.md", "docs/verbs/info.zh.md"])
def test_the_page_of_info_names_every_family_of_published_sizes(page: str) -> None:
    names, text = names_of(PAGES[0]), text_of(page)
    sized = {ARCHITECTURES[size.architecture] for size in SIZES.values()} - {"marian"}  # whose sizes are those of 2017
    missing = [name for name in (names.get(of, of) for of in sorted(sized)) if name not in text]
    assert not missing, f"{page}, where it tells of --sizes, does not name {', '.join(missing)}"


def test_both_languages_say_the_same() -> None:
    (english, heads), (chinese, same) = (tables(text_of(page)) for page in PAGES)
    assert heads == same
    assert [[row[0], *row[2:]] for row in english] == [[row[0], *row[2:]] for row in chinese]
    texts = [text_of(page) for page in PAGES]
    assert len({len(re.findall(r"^## ", text, re.MULTILINE)) for text in texts}) == 1
    assert list(names_of(PAGES[0]).items()) == list(names_of(PAGES[1]).items())


@each
def test_its_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(page)):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target
