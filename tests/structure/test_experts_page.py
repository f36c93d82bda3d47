"""docs/experts.md: its commands and its Python run as they stand there, in both languages, and both say the same."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tests.cli import conftest
from tests.cli.conftest import Polyhead
from tests.structure.page import ROOT
from tests.structure.test_readme import blocks
from tests.tasks.words import decoder_in_folder

pytestmark = pytest.mark.parity
PAGES = ("docs/experts.md", "docs/experts.zh.md")
polyhead = conftest.polyhead  # the fixture that types commands


@pytest.mark.parametrize("page", PAGES)
def test_its_commands_and_its_python_run(
    page: str, polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder_in_folder(tmp_path / "my-mixtral", "MixtralForCausalLM", num_local_experts=4)
    monkeypatch.chdir(tmp_path)
    told = [polyhead(*shlex.split(line)[1:]) for block in blocks(page, "sh") for line in block.splitlines()]
    assert [answer.code for answer in told] == [0, 0, 0], [answer.err for answer in told]
    shown = next(block for block in blocks(page, "text"))
    assert {" ".join(line.split()) for line in shown.splitlines()} <= {" ".join(line.split()) for line in told[1].lines}
    assert all(text in told[2].out for text in ("124.7 kB", "27.7 GB"))
    world: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        for code in blocks(page, "python"):
            exec(compile(code, page, "exec"), world)
    assert out.getvalue().splitlines()[-1] == "torch.Size([1, 10, 64])"


def test_both_pages_show_the_same() -> None:
    def shown(page: str) -> object:
        text = (ROOT / page).read_text("utf-8")
        code = [line.partition("#")[0].strip() for block in blocks(page, "python") for line in block.splitlines()]
        return code, blocks(page, "sh"), blocks(page, "text"), len(re.findall("^## ", text, re.MULTILINE))

    assert shown(PAGES[0]) == shown(PAGES[1])


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text("utf-8")):
        assert target.startswith("https://") or (file.parent / target).exists(), target
