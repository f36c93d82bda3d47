"""A folder enters; its images or sounds, which are told by the endings of their names, leave."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from polyhead.errors import DataError

Kind = Literal["image", "sound"]
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "image": (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    "sound": (".flac", ".mp3", ".ogg", ".wav"),
}


def ends_like(path: str | Path, kind: Kind) -> bool:
    """Whether a path ends like that of an image or a sound."""
    return Path(path).suffix.lower() in ENDINGS[kind]


def below(folder: Path, kind: Kind) -> list[Path]:
    """Those of a folder and of the folders in it, sorted."""
    return sorted(path for path in folder.rglob("*") if ends_like(path, kind) and path.is_file())


def files_in(path: Path, kind: Kind) -> list[Path]:
    """Those of a folder and of the folders in it, or the one file, whatever it is called. Raises DataError."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"There is no {path}; give a file, or a folder of {kind}s.")
    if not (found := below(path, kind)):
        raise DataError(f"{path} holds no {kind}s ({', '.join(ENDINGS[kind])}); give another folder, or a file.")
    return found
