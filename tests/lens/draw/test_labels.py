"""Labels and texts are safe: whatever a token holds, the terminal shows it and never obeys it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from polyhead.lens.draw.labels import acts, fit, graphemes, pad, printable, shown
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
        ("\U0001f3fb", "◌\U0001f3fb"),  # a skin tone alone has no width
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


def test_every_character_alone_is_a_label_that_can_be_seen():
    characters = (chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000)
    assert [c for c in characters if cell_len(printable(c)) == 0] == []


BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
INVISIBLE = "\u200b\u2060\u2063\ufeff\u00ad\u180e\ufff9\U000e0041"


@pytest.mark.parametrize("character", [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *BIDI, *INVISIBLE])
def test_what_acts_is_named_in_a_text(character: str):
    assert acts(character)
    text = shown(f"a{character}b")
    assert character not in text
    assert text.startswith("a") and text.endswith("b") and len(text) > 3 - (character == "\x1b")


@pytest.mark.parametrize(
    "text", ["我爱 苹果。", "a\u3000b", "👨\u200d👩\u200d👧", "می\u200cخواهم", "e\u0301", "[red]x[/]", ""]
)
def test_what_does_not_act_stays_as_it_is(text: str):
    assert shown(text) == text


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_a_shown_text_is_one_line_that_cannot_act(text: str):
    assert not any(map(acts, shown(text)))
    assert len(shown(text).splitlines()) <= 1
    shown(text).encode("utf-8")
    assert shown(text, "ascii").isascii()


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
