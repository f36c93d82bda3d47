"""Who may import whom: the table of ARCHITECTURE.md, enforced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.page import PACKAGE, folder_of, imports, sources, table, third_party

TABLE = table()
FILES = [pytest.param(file, id=str(file.relative_to(PACKAGE))) for file in sources()]
COMMON = ("errors", "files", "memory", "processes")  # which every folder may import
PEERS = {"transformers", "ctranslate2", "onnxruntime", "timm", "bertviz", "accelerate"}
REFUSED = {"shelve", "marshal", "dill", "cloudpickle", "joblib", "urllib", "http", "requests", "httpx", "socket"}


@pytest.mark.parametrize("file", FILES)
def test_a_folder_imports_only_what_the_table_allows(file: Path):
    folder = folder_of(file)
    if not folder:
        return  # the public names: test_public_names.py
    row = TABLE[folder]
    for module in imports(file):
        assert not module.startswith("."), f"{module}: imports inside the package are absolute"
        if module.startswith("polyhead."):
            assert module.split(".")[1] in {folder, *COMMON, *row.inside}, f"{folder} may not import {module}"
        elif third_party(module) and module != "polyhead":
            assert module.split(".")[0] in row.outside, f"{folder} may not import {module}"


@pytest.mark.parametrize("file", FILES)
def test_no_file_imports_a_peer_or_the_network(file: Path):
    """But for the engines of `polyhead bench`: each of them runs one peer, after which its file is called."""
    found = {module.split(".")[0] for module in imports(file)}
    own = {file.stem.removeprefix("by_")} if file.parent == PACKAGE / "benchmark" / "engines" else set[str]()
    assert not found & (PEERS | REFUSED) - own


def test_engines_are_imported_by_nobody_but_their_processes():
    for file in sources():
        if file.parent != PACKAGE / "benchmark" / "engines":
            assert not [module for module in imports(file) if module.startswith("polyhead.benchmark.engines")], file


def test_nothing_imports_the_lens_but_the_doors():
    assert {folder for folder, row in TABLE.items() if "lens" in row.inside} == {"cli"}


def test_no_two_folders_import_each_other():
    pairs = {frozenset((a, b)) for a, row in TABLE.items() for b in row.inside if a in TABLE[b].inside}
    assert not pairs


def test_the_table_has_a_row_for_every_folder_and_no_other():
    folders = {folder_of(file) for file in sources()} - {""}
    assert set(TABLE) == folders
