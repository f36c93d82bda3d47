"""Which of the loops that are kept compiled may be used."""

from __future__ import annotations

import os
from pathlib import Path

from polyhead import operator
from polyhead.operator.loops import forget_older


def test_loops_compiled_before_a_file_of_loops_changed_are_forgotten(tmp_path: Path):
    """numba would use them where their own file stayed as it was, with tiles of another one as they were."""
    changed = max(file.stat().st_mtime for file in (Path(operator.__file__).parent / "loops").glob("*.py"))
    for name, time in {"older.nbi": changed - 1, "newer.nbi": changed + 1, "older.nbc": changed - 1}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    forget_older(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"newer.nbi", "older.nbc"}
