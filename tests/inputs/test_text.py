"""What every line goes through before anything else sees it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyhead.inputs.text import INVISIBLE, clean

# Any code point at all, with those that matter drawn often.
MATTERS = INVISIBLE + "\x1b\0\r\n\t \u3000\xa0\x85\ud800ab我"
texts = st.text(st.one_of(st.characters(), st.sampled_from(MATTERS)), max_size=30)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("plain", "plain"),
        ("  one\t two \r\n", "one two"),
        ("\ufeff我爱吃苹果。", "我爱吃苹果。"),
        ("我\u3000爱\u200b吃", "我 爱吃"),
        ("\x1b[31mred\x07", "[31mred"),
        ("a\u202eb\u2066c\x9b", "abc"),
        ("cafe\u0301 👩‍🚀", "cafe\u0301 👩‍🚀"),
        ("one\u2028two\x85three\x0bfour", "one two three four"),
        ("\u200b \ufeff", ""),
        ("half \ud83d a pair", "half \ufffd a pair"),
    ],
)
def test_words_stay_and_the_rest_goes(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(texts)
def test_a_clean_line_is_one_line_without_control_characters(raw: str) -> None:
    line = clean(raw)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") or c in INVISIBLE for c in line)
    assert line == " ".join(line.split())
    assert len((line + "x").splitlines()) == 1
    assert clean(line) == line


@given(texts)
def test_no_visible_character_is_lost(raw: str) -> None:
    def visible(text: str) -> str:
        return "".join(c for c in text if unicodedata.category(c)[0] in "LMNPS" and c != "\ufffd")

    assert visible(clean(raw)) == visible(raw)
