"""Sheets: every image is where it belongs, small and whole; words fit and are only words."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.sheet import GAP, LINE, SIDE, Row, drawn, fitted, page, save_sheet

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (128, 0, 0)]


def images(n: int, size: tuple[int, int] = (600, 300)) -> list[Image.Image]:
    return [Image.new("RGB", size, COLOURS[i]) for i in range(n)]


def test_images_stand_in_rows_of_five_in_their_order() -> None:
    sheet = np.asarray(drawn([Row("what", images(7), ["x"] * 7)]))
    for i in range(7):
        left, top = GAP + i % 5 * (SIDE + GAP), GAP + 2 * LINE + i // 5 * (SIDE // 2 + 2 * LINE + GAP)
        assert (sheet[top : top + SIDE // 2, left : left + SIDE] == COLOURS[i]).all()  # 2 to 1, as it was
    assert len(sheet) == GAP + 2 * LINE + 2 * (SIDE // 2 + 2 * LINE + GAP)


def test_images_stand_on_their_words_and_nothing_is_left_above_the_tallest() -> None:
    wide, tall = images(1, (600, 90))[0], images(2, (150, 600))[1]
    sheet = np.asarray(drawn([Row("what", [wide, wide, wide, wide, tall, wide], ["x"] * 6)]))
    first, second = GAP + 2 * LINE, GAP + 2 * LINE + SIDE + 2 * LINE + GAP
    assert (sheet[first + SIDE - 30 : first + SIDE, GAP : GAP + SIDE] == COLOURS[0]).all()
    assert (sheet[first : first + SIDE - 30, GAP : GAP + SIDE] == 255).all()
    assert (sheet[first : first + SIDE, -GAP - SIDE // 2 - 25 : -GAP - SIDE // 2 + 25] == COLOURS[1]).all()
    assert (sheet[second : second + 30, GAP : GAP + SIDE] == COLOURS[0]).all()
    assert len(sheet) == second + 30 + 2 * LINE + GAP


def test_each_that_was_asked_has_its_images_and_words() -> None:
    row = Row("a", images(2), ["b", "c"])
    one, two = (np.asarray(drawn(rows)) for rows in ([row], [row, row]))
    assert two.shape[1] == one.shape[1] and two.shape[0] == 2 * one.shape[0] - GAP
    assert (one[GAP : GAP + 2 * LINE] < 128).any() and (one[-2 * LINE - GAP :] < 128).any()


def test_small_and_transparent_images_are_shown_as_they_are() -> None:
    small = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    sheet = np.asarray(drawn([Row("", [small, images(1)[0]], ["", ""])]))
    assert (sheet[GAP : GAP + SIDE // 2, GAP : GAP + SIDE] == 255).all()  # nothing, on white


def test_of_a_long_name_the_end_is_shown() -> None:
    font = ImageFont.load_default(LINE - 3)
    name = "photos/2019/a-very-long-name-of-a-folder-of-photos/bicycle.jpg"
    shown = fitted(name, SIDE, font)
    assert shown.startswith("…") and shown.endswith("bicycle.jpg") and font.getlength(shown) <= SIDE
    assert fitted("short.jpg", SIDE, font) == "short.jpg"


def test_a_page_holds_its_images_and_no_address() -> None:
    text = page([Row('<b>"a" & b', images(2), ["0.3\n<i>", "x"])])
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(each))).size for each in found]
    assert sizes == [(SIDE, SIDE // 2)] * 2
    assert "&lt;b&gt;&quot;a&quot; &amp; b" in text and "<i>" not in text and "http" not in text


def test_the_ending_says_what_is_written_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("a.png", "a.HTML"):
        save_sheet(tmp_path / name, [Row("a", images(1), ["b"])])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "a.HTML").read_text("utf-8")[:2] == "<!"
    with pytest.raises(ArgumentError, match=r"ends in \.png or \.html; found a\.jpg"):
        save_sheet(tmp_path / "a.jpg", [Row("a", images(1), ["b"])])
    with pytest.raises(ArgumentError, match="at most 2,000 images, but would get 2,001; show fewer of each"):
        save_sheet(tmp_path / "a.png", [Row("a", ["none.png"] * 2001, ["b"] * 2001)])
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        save_sheet(tmp_path / "b.png", [Row("a", [str(tmp_path / "none.png")], ["b"])])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.HTML", "a.png"]
