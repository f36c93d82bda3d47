"""Which of the loops that are kept compiled may be used."""

from __future__ import annotations

from pathlib import Path

from polyhead.operator.loops import forget_others


def test_loops_compiled_of_other_versions_are_forgotten(tmp_path: Path):
    """numba would use them where their own file stayed as it was, with tiles of another one as they were."""
    kept = tmp_path / "cache"
    forget_others(kept)  # nothing there yet
    (kept / "products.nbi").touch()
    forget_others(kept)
    assert (kept / "products.nbi").exists()
    (kept / "loops.version").write_text("that of yesterday")
    (kept / "products.1.nbc").touch()
    forget_others(kept)
    assert not (kept / "products.nbi").exists() and (kept / "products.1.nbc").exists()
    (kept / "products.nbi").touch()
    forget_others(kept)
    assert (kept / "products.nbi").exists()
