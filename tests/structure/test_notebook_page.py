"""docs/notebook.md: what it says runs, in both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.structure.test_readme import blocks


@pytest.mark.parametrize("page", ["docs/notebook.md", "docs/notebook.zh.md"])
def test_the_example_runs_and_leaves_its_files(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [code] = blocks(page, "python")
    world: dict[str, Any] = {}
    exec(compile(code, page, "exec"), world)
    assert "image/svg+xml" in world["view"]._repr_mimebundle_()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.svg", "heads.tsv", "links.svg"]
    assert all(path.stat().st_size > 500 for path in tmp_path.iterdir())
