"""docs/new-family.md: what a newcomer is told to run runs, and the family that it writes is right, in two languages."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from polyhead.families import ARCHITECTURES, family
from polyhead.tasks.load import read_model, write_model
from polyhead.weights.config_keys import read_json
from tests.families.tiny import Both, difference, ours_of, some_ids, theirs_for, theirs_of
from tests.structure.page import PACKAGE, ROOT
from tests.structure.test_readme import blocks

PAGES = ("docs/new-family.md", "docs/new-family.zh.md")
each = pytest.mark.parametrize("page", PAGES)


def written(page: str) -> ModuleType:
    """The family file of the page, as if it lay among the others."""
    code = next(block for block in blocks(page, "python") if block.startswith('"""'))
    module = ModuleType("polyhead.families.of_the_page")
    sys.modules[module.__name__] = module  # where dataclasses look for their types
    exec(compile(code, page, "exec"), module.__dict__)
    return module


@pytest.mark.parity
@each
@torch.no_grad()
def test_the_family_that_it_writes_gives_the_answers_of_the_reference(page: str, tmp_path: Path) -> None:
    small = {
        "vocab_size": 61, "hidden_size": 24, "word_embed_proj_dim": 24, "ffn_dim": 20, "num_hidden_layers": 2,
        "num_attention_heads": 3, "max_position_embeddings": 40, "dropout": 0.0,
    }  # fmt: skip
    kind = written(page).FAMILIES[0]
    theirs = theirs_of("OPTForCausalLM", small)
    theirs.save_pretrained(tmp_path / "theirs")
    raw = read_json(tmp_path / "theirs/config.json")
    pair = Both(theirs, read_model(tmp_path / "theirs", raw, kind).eval(), kind, raw, tmp_path / "theirs")
    x = some_ids(2, 9)
    assert difference(ours_of(pair, x, x), theirs_for(pair, x, x)) < 1e-5
    write_model(tmp_path / "ours", pair.ours, kind, raw)
    there = type(theirs).from_pretrained(tmp_path / "ours").eval()
    assert difference(ours_of(pair, x, x), there(x).logits) < 1e-5


@pytest.mark.parity
@each
def test_its_first_example_prints_names_and_shapes(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks(page, "python")[0], page, "exec"), {})
    assert "model.decoder.embed_positions.weight (42, 24)" in printed.getvalue()
    assert "lm_head.weight" not in printed.getvalue()


@each
def test_the_files_that_it_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for name in re.findall(r"`((?:families|core|readout|embedding|tasks)/\w+\.py)", text):
        assert (PACKAGE / name).is_file() or name == "tasks/VERB.py", name
    for name in re.findall(r"`(tests/\w+/\w+\.py)", text):
        assert (ROOT / name).is_file(), name


@each
def test_it_names_every_kind_of_answer(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert {family(architecture).does for architecture in ARCHITECTURES} <= set(re.findall(r"`([a-z ]+)`", text))


def test_both_pages_show_the_same_code_and_sections() -> None:
    def shown(page: str) -> object:
        return blocks(page, "python"), blocks(page, "sh"), len(re.findall("^#", (ROOT / page).read_text("utf-8"), re.M))

    assert shown(PAGES[0]) == shown(PAGES[1])


def test_the_family_of_the_page_is_not_built_here() -> None:
    assert "OPTForCausalLM" not in ARCHITECTURES
