"""Listing: images and sounds of a folder and below it, told by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead.errors import DataError
from polyhead.inputs.listing import files_in


def test_images_and_sounds_are_found_in_a_folder_and_below(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpg", "a/d.wav", "e.flac", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert files_in(tmp_path, "image") == [tmp_path / "a" / "c.jpg", tmp_path / "b.PNG"]
    assert files_in(tmp_path, "sound") == [tmp_path / "a" / "d.wav", tmp_path / "e.flac"]
    assert files_in(tmp_path / "f.txt", "image") == [tmp_path / "f.txt"]  # what somebody names is read
    with pytest.raises(DataError, match=r"folder\.png holds no images"):
        files_in(tmp_path / "folder.png", "image")
    with pytest.raises(DataError, match=r"There is no .*none; give a file, or a folder of sounds"):
        files_in(tmp_path / "none", "sound")
