"""Labelled pictures: tables, folders and IDX files give the same things in order; what is damaged is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.pictures import Album, read_album, read_idx

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 6), np.uint8)
LABELS = np.array([3, 0, 1, 9, 3], np.uint8)


def idx(values: np.ndarray) -> bytes:
    """As MNIST's files: two zeros, 8 for bytes, how many dimensions, their sizes big-endian, the bytes."""
    sizes = b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    (tmp_path / "images").write_bytes(gzip.compress(idx(PIXELS)))
    (tmp_path / "labels").write_bytes(idx(LABELS))
    return [tmp_path / "images", tmp_path / "labels"]


def test_idx_files_are_read_packed_or_not_and_in_part(pair: list[Path]) -> None:
    album = read_album(Album(path=pair))
    assert np.array_equal(np.stack(list(album.pictures)), PIXELS) and list(album.labels) == ["3", "0", "1", "9", "3"]
    part = read_album(Album(path=pair, rows=(1, 3)))
    assert np.array_equal(np.stack(list(part.pictures)), PIXELS[1:3]) and list(part.labels) == ["0", "1"]
    with pytest.raises(DataError, match=r"rows = \[3, 6\] is not within the 5 pictures"):
        read_album(Album(path=pair, rows=(3, 6)))


def test_folders_and_tables_name_their_files(tmp_path: Path) -> None:
    for label, n in (("dog", 2), ("cat", 1)):
        (tmp_path / "all" / label).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(PIXELS[i]).save(tmp_path / "all" / label / f"{i}.png")
    (tmp_path / "all" / "dog" / "notes.txt").write_text("no picture")
    album = read_album(Album(path=tmp_path / "all"))
    assert [(Path(p).name, label) for p, label in zip(album.pictures, album.labels, strict=True)] == [
        ("0.png", "cat"), ("0.png", "dog"), ("1.png", "dog"),
    ]  # fmt: skip
    (tmp_path / "all" / "table.tsv").write_text("dog/1.png\tdog\ncat/0.png\tcat\n", "utf-8")
    table = read_album(Album(path=tmp_path / "all" / "table.tsv"))
    assert [Path(p).is_file() for p in table.pictures] == [True, True] and list(table.labels) == ["dog", "cat"]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is no IDX file"),
        (b"\x89PNG....", "is no IDX file"),
        (idx(PIXELS)[:-1], "says it holds 5 x 4 x 6 bytes, but holds 119"),
        (idx(PIXELS) + b"x", "but holds 121"),
        (gzip.compress(idx(PIXELS))[:-9], "cannot be read"),
        (gzip.compress(idx(PIXELS))[:30], "cannot be read"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "is no IDX file of bytes"),
        (bytes([0, 0, 8, 2]) + b"\xff" * 8, "4294967295 x 4294967295"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(DataError) as refused:
        read_idx(tmp_path / "damaged")
    assert sentence in str(refused.value) and "damaged" in str(refused.value)


def test_what_does_not_belong_together_is_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in this order"):
        read_album(Album(path=pair[::-1]))
    (tmp_path / "few").write_bytes(idx(LABELS[:3]))
    with pytest.raises(DataError, match=r"5 pictures, but .*few 3 labels"):
        read_album(Album(path=[pair[0], tmp_path / "few"]))
    with pytest.raises(ArgumentError, match="reads one path, but path names 2"):
        read_album(Album(path=pair, format="folder"))
    with pytest.raises(DataError, match="is no folder"):
        read_album(Album(path=tmp_path / "nowhere", format="folder"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no folders of pictures"):
        read_album(Album(path=tmp_path / "empty"))
