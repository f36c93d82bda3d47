"""The tree of ARCHITECTURE.md is the tree there is."""

from __future__ import annotations

from tests.structure.page import PACKAGE, ROOT, sources, tree


def test_the_page_names_every_file_and_no_other():
    there: dict[str, set[str]] = {}
    for file in sources():
        folder = file.parent.relative_to(PACKAGE).as_posix().removeprefix(".")
        there.setdefault(folder, set()).add(file.stem)
    named = {folder: files for folder, files in tree().items() if folder != "zoo"}
    assert named == {folder: files - {"__init__"} if folder else files for folder, files in there.items()}


def test_every_file_opens_with_a_sentence():
    for file in sources():
        assert file.read_text(encoding="utf-8").startswith('"""'), f"{file.relative_to(ROOT)} says not what it is for"


def test_tests_mirror_the_source():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == there - {"zoo"} | {"page", "structure"}
