"""Pictures in a terminal: every line fits, every column lines up, every weight can be read, nothing acts."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from polyhead.errors import ArgumentError
from polyhead.lens.draw.canvas import Canvas
from polyhead.lens.draw.terminal import SENTENCE, TALLEST, Axes, head_grid, head_map, links
from tests.hostile import HOSTILE

COLOUR, SHADE, ASCII = Canvas(colours=16_777_216), Canvas(colours=0), Canvas(colours=0, encoding="ascii")
CUBE = Canvas(colours=256)
CANVASES = pytest.mark.parametrize("canvas", [COLOUR, CUBE, SHADE, ASCII], ids=["colour", "256", "shade", "ascii"])
SOURCE = ["我", "爱", "吃", "苹果", "。", "</s>"]
TARGET = ["I", "like", "eating", "apples", ".", "</s>"]
WORDS = Axes(TARGET, SOURCE)


def diagonal(n: int, heads: int | None = None) -> np.ndarray:
    one = np.eye(n) * 0.8 + 0.2 / n
    return one if heads is None else np.stack([np.roll(one, h, axis=1) for h in range(heads)])


def plain(lines: list[Text]) -> list[str]:
    return [line.plain for line in lines]


def test_a_sentence_says_what_is_shown():
    line = plain(head_map(diagonal(6), WORDS, title="Layer 5 head 3", canvas=COLOUR))[0]
    assert line == f"Layer 5 head 3: {SENTENCE}."
    assert "importan" not in line


def test_the_picture_of_one_head_without_colour():
    lines = plain(head_map(diagonal(6), WORDS, title="Layer 5 head 3", canvas=SHADE))
    assert lines[1] == "0% ·░▒▓█ 100%"
    assert [line.rstrip() for line in lines[3:]] == [
        "        我   爱   吃  苹果  。  </s>",
        "     I ████ ···· ···· ···· ···· ····",
        "  like ···· ████ ···· ···· ···· ····",
        "eating ···· ···· ████ ···· ···· ····",
        "apples ···· ···· ···· ████ ···· ····",
        "     . ···· ···· ···· ···· ████ ····",
        "  </s> ···· ···· ···· ···· ···· ████",
        "",
    ]


def test_values_are_written_in_per_cent():
    lines = plain(head_map(diagonal(6), WORDS, title="x", canvas=COLOUR, values=True))
    assert re.findall(r"\d+", lines[4]) == ["83", "3", "3", "3", "3", "3"]


def test_long_labels_stand_upright_on_the_map():
    lines = plain(head_map(diagonal(2), Axes(["是", "的"], ["internationalisation", "a"]), title="x", canvas=SHADE))
    assert [line[3:].split() for line in lines[3 : 3 + TALLEST]] == [[letter] for letter in "internation"] + [
        ["…", "a"]
    ]


@CANVASES
@settings(deadline=None, max_examples=15)
@given(
    T=st.integers(1, 9), S=st.integers(1, 70), width=st.integers(50, 120), values=st.booleans(), seed=st.integers(0, 99)
)
def test_every_line_fits_and_every_row_lines_up(canvas: Canvas, T: int, S: int, width: int, values: bool, seed: int):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(S), size=(2, T))
    words = rng.choice(
        ["我", "苹果", "apples", "internationalization", "한국", "e\u0301", *HOSTILE], size=T + S
    ).tolist()
    axes, canvas = Axes(words[:T], words[T:]), replace(canvas, width=width)
    one = head_map(weights[0], axes, title="t", canvas=canvas, values=values)
    many = head_grid(weights, axes, title="t", canvas=canvas)
    table = links(weights, axes, title="t", canvas=canvas)
    for lines in (one, many, table):
        assert all(line.cell_len <= width for line in lines[1:])
    assert len({line.cell_len for line in one[-1 - T : -1]}) == 1


@pytest.mark.parametrize("colours", [0, 256, 16_777_216])
def test_a_terminal_without_blocks_gets_ascii_only(colours: int):
    canvas = Canvas(colours=colours, encoding="ascii")
    weights = diagonal(20, heads=2)
    names = ["苹果"] * 20
    lines = head_grid(weights, Axes(names, names), title="x", canvas=canvas) + links(
        weights, Axes(names, names), title="x", canvas=canvas
    )
    lines += head_map(weights[0], Axes(names, names), title="x", canvas=canvas)
    assert all(line.plain.isascii() for line in lines)


@CANVASES
@pytest.mark.parametrize("token", HOSTILE)
def test_hostile_tokens_reach_the_terminal_only_as_text(canvas: Canvas, token: str):
    axes = Axes([token], [token])
    lines = head_map(np.ones((1, 1)), axes, title="x", canvas=canvas)
    lines += head_grid(np.ones((1, 1, 1)), axes, title="x", canvas=canvas)
    lines += links(np.ones((1, 1, 1)), axes, title="x", canvas=canvas)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system="truecolor", width=200)
    for line in lines:
        console.print(line)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())  # the colours that we ask for
    assert not any(c in bare for c in "\x1b\x07\x08\r\t\x00\x7f\x9b\u202e\u2028\ufeff")


def test_small_maps_put_two_rows_on_a_line():
    weights = diagonal(20, heads=2)
    names = [str(i) for i in range(20)]
    lines = plain(head_grid(weights, Axes(names, names), title="Layer 0", canvas=COLOUR))
    assert sum("▀" in line for line in lines) == 10


def test_every_head_is_named_with_its_strongest_link():
    weights = diagonal(6, heads=8)
    weights[3, 3, 3] = 0.95
    text = "\n".join(plain(head_grid(weights, WORDS, title="Layer 0", canvas=COLOUR)))
    assert all(f"head {h}" in text for h in range(8))
    assert "apples → 苹果 95%" in text


def test_long_words_are_cut_but_the_weight_is_not():
    weights = np.array([[[0.97]]])
    lines = plain(head_grid(weights, Axes(["internationalisation"], ["国际化国际化国际化"]), title="x", canvas=COLOUR))
    assert "inte… → 国际… 97%" in lines
    assert all(cell_len(line) <= 18 for line in lines[4:])


def test_small_weights_are_drawn_on_a_scale_that_shows_them_and_says_so():
    assert plain(head_map(np.full((3, 3), 1 / 3), Axes(["a"] * 3, ["b"] * 3), title="x", canvas=SHADE))[1].endswith(
        " 100%"
    )
    assert plain(head_map(np.full((9, 9), 1 / 9), Axes(["a"] * 9, ["b"] * 9), title="x", canvas=SHADE))[1].endswith(
        " 11%"
    )


def test_quiet_columns_are_drawn_but_never_named():
    weights = np.zeros((1, 6, 6))
    weights[0, :, 5] = 0.9
    weights[0, 1, 1] = 0.1
    text = "\n".join(plain(head_grid(weights, Axes(TARGET, SOURCE, quiet=[5]), title="x", canvas=SHADE)))
    assert "like → 爱 10%" in text
    assert "█" in text
    ended = Axes([*TARGET[:5], "."], SOURCE, quiet=[5])
    named, *lines = plain(links(weights, ended, title="x", canvas=SHADE))
    assert "</s> " not in "\n".join(lines)
    assert "strongest link; left out: </s>." in text and named.endswith("looks at most; left out: </s>.")
    every = Axes(TARGET, SOURCE, quiet=range(6))  # where nothing else is left, signs are named
    assert plain(links(weights, every, title="x", canvas=SHADE))[0].endswith("looks at most.")


def test_links_name_the_word_each_head_looks_at_most():
    lines = plain(links(diagonal(6, heads=2), WORDS, title="Layer 0", canvas=SHADE))
    apples = next(line for line in lines if line.strip().startswith("apples"))
    assert apples.split() == ["apples", "苹果", "83%", "。", "83%"]


def test_a_map_wider_than_the_terminal_keeps_its_brightest_cells_and_says_so():
    weights = np.zeros((1, 100, 200))
    weights[0, 50, 100] = 1.0
    names = [str(i) for i in range(200)]
    lines = plain(head_grid(weights, Axes(names[:100], names), title="x", canvas=SHADE))
    assert "Each cell is the largest of 3 x 3 weights." in lines
    assert sum(line.count("█") for line in lines[2:]) == 1


@CANVASES
def test_a_weight_that_is_not_a_number_is_shown_as_a_question_mark(canvas: Canvas):
    weights = diagonal(6, heads=1)
    weights[0, 2] = np.nan
    for lines in (
        head_map(weights[0], WORDS, title="x", canvas=canvas),
        head_grid(weights, WORDS, title="x", canvas=canvas),
        links(weights, WORDS, title="x", canvas=canvas),
    ):
        assert any("??" in line for line in plain(lines))


@CANVASES
def test_rows_that_look_nowhere_are_drawn_as_zeros(canvas: Canvas):
    assert plain(head_map(np.zeros((6, 6)), WORDS, title="x", canvas=canvas))[1].endswith(" 100%")
    assert "0%" in plain(head_grid(np.zeros((2, 6, 6)), WORDS, title="x", canvas=canvas))[6]
    assert "0%" in plain(links(np.zeros((2, 6, 6)), WORDS, title="x", canvas=canvas))[3]


@given(width=st.integers(16, 49), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_a_narrow_terminal_is_never_overrun(width: int, seed: int):
    rng = np.random.default_rng(seed)
    words = rng.choice(["我", "苹果", "internationalization", "한국"], size=(2, 5)).tolist()
    axes, canvas, weights = Axes(*words), replace(SHADE, width=width), rng.dirichlet(np.ones(5), size=(3, 5))
    for lines in (
        head_map(weights[0], axes, title="t", canvas=canvas, values=True),
        head_grid(weights, axes, title="t", canvas=canvas),
        links(weights, axes, title="t", canvas=canvas),
    ):
        assert all(line.cell_len <= width for line in lines[1:])


@pytest.mark.parametrize(("rows", "columns"), [(TARGET, []), ([], SOURCE), ([], [])])
def test_an_empty_axis_is_refused(rows: list[str], columns: list[str]):
    for draw in (head_grid, links):
        with pytest.raises(ArgumentError, match="nothing to draw"):
            draw(np.zeros((2, len(rows), len(columns))), Axes(rows, columns), title="x", canvas=SHADE)


def test_words_that_do_not_match_the_weights_are_refused_with_both_shapes():
    with pytest.raises(ArgumentError, match=r"shape \[6, 6\].*\[2 rows, 6 columns\]"):
        head_map(diagonal(6), Axes(TARGET[:2], SOURCE), title="x", canvas=SHADE)


@pytest.mark.parametrize(
    ("environment", "encoding", "colours", "blocks"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "utf-8", 16_777_216, True),
        ({"TERM": "xterm-256color"}, "utf-8", 256, True),
        ({"TERM": "xterm-16color"}, "utf-8", 0, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "utf-8", 0, True),
        ({"TERM": "dumb"}, "utf-8", 0, True),
        ({"TERM": "xterm-256color"}, "ascii", 256, False),
    ],
)
def test_the_terminal_decides_what_is_drawn_with(
    environment: dict[str, str], encoding: str, colours: int, blocks: bool
):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    canvas = Canvas.of(Console(file=file, force_terminal=True, _environ=environment))
    assert (canvas.colours, canvas.blocks) == (colours, blocks)


def test_chinese_takes_two_cells():
    assert cell_len("苹果") == 4
