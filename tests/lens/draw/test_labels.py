"""Labels are safe: whatever a token holds, the terminal shows it and never obeys it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from polyhead.lens.draw.labels import fit, graphemes, pad, printable
from tests.hostile import HOSTILE


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x07", "\\x07"),
        ("\u202e", "‹U+202E›"),
        ("\n", "\\n"),
        ("\x9b", "\\x9b"),
        ("\ud800", "‹U+D800›"),
        ("\u3000", "‹U+3000›"),
        (" like", "·like"),
        ("\u0301", "◌\u0301"),
        ("", "‹›"),
        ("苹果", "苹果"),
        ("</s>", "</s>"),
    ],
)
def test_what_acts_or_cannot_be_seen_is_named(token: str, label: str):
    assert printable(token) == label


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_no_label_holds_a_character_that_acts(token: str):
    label = printable(token)
    assert label
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in label)
    assert cell_len(label) > 0
    label.encode("utf-8")


@given(st.sampled_from(HOSTILE))
def test_an_ascii_terminal_gets_ascii(token: str):
    assert printable(token, "ascii").isascii()


@given(
    st.text(alphabet="ab苹果한é\u0301👍", max_size=12), st.integers(1, 20), st.sampled_from(["left", "right", "center"])
)
def test_padded_labels_have_exactly_the_width_asked_for(text: str, width: int, align: str):
    assert cell_len(pad(fit(printable(text), width), width, align)) == width


@given(st.text(max_size=20), st.integers(1, 12))
def test_fitted_labels_never_exceed_the_width(text: str, width: int):
    assert cell_len(fit(printable(text), width)) <= width


@given(st.text(alphabet="ab苹果e\u0301\u0323👍", max_size=12))
def test_graphemes_lose_nothing_and_keep_marks_with_their_letters(text: str):
    parts = graphemes(text)
    assert "".join(parts) == text
    assert all(cell_len(part) > 0 for part in parts[1:])
