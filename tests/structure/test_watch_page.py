"""docs/watch.md: what it says runs, in both languages."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from tests.structure.test_readme import blocks


@pytest.mark.parity
@pytest.mark.parametrize("page", ["docs/watch.md", "docs/watch.zh.md"])
def test_the_examples_run_and_miss_nothing(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out, world = io.StringIO(), dict[str, object]()
    with contextlib.redirect_stdout(out):
        for code in blocks(page, "python"):
            exec(compile(code, page, "exec"), world)
    said = out.getvalue().splitlines()
    assert said[0].startswith(
        "encoder.layer.1.attention.self: [1, 12, 40, 40] by flash_attention_for_cpu; weights exact"
    )
    assert said[1:] == ["torch.Size([1, 12, 1, 40])", "torch.Size([1, 12, 40])", "[]", "torch.Size([1, 8, 2, 3])"]
    assert Path("run.safetensors").exists()
