"""The bytes made here do in `tokenizers` what the table says."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from polyhead.errors import ArgumentError, MissingExtra
from polyhead.inputs.charsmap import precompile, traditional_to_simplified

han = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
lone = st.characters(categories=("Lo", "Lu", "Ll", "Nd", "Sm"), min_codepoint=0x21)  # stand alone, never join


@given(st.dictionaries(st.one_of(han, lone), st.text(han, max_size=3), min_size=1), st.text(st.one_of(han, lone)))
def test_a_charsmap_replaces_exactly_the_characters_of_its_table(table: dict[str, str], text: str) -> None:
    text += "".join(table)
    normalizer = normalizers.Precompiled(precompile(table))
    for character in text:  # one at a time: how characters join into one grapheme is not the table's affair
        assert normalizer.normalize_str(character) == table.get(character, character)


def test_a_whole_sentence_is_replaced_in_one_pass() -> None:
    normalizer = normalizers.Precompiled(precompile({"雖": "虽", "國": "国", "𠀾": "𠀽"}))
    assert normalizer.normalize_str("雖然 in 中國，𠀾。") == "虽然 in 中国，𠀽。"


def test_a_large_table_survives() -> None:
    table = {chr(code): chr(code + 1) for code in range(0x3400, 0x9FFF, 2)}
    normalizer = normalizers.Precompiled(precompile(table))
    assert normalizer.normalize_str("".join(table)) == "".join(table.values())
    assert normalizer.normalize_str("".join(table.values())) == "".join(table.values())


def test_an_empty_table_changes_nothing() -> None:
    assert normalizers.Precompiled(precompile({})).normalize_str("abc 國") == "abc 國"


def test_a_key_of_several_characters_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'ab' is a key"):
        precompile({"ab": "c"})


def test_traditional_characters_have_their_simplified_form() -> None:
    table = traditional_to_simplified()
    assert (
        "".join(table.get(c, c) for c in "雖然下雨，但我很開心。她說這裡有隻貓")
        == "虽然下雨，但我很开心。她说这里有只猫"
    )
    assert len(table) > 4000


def test_simplified_text_is_left_alone() -> None:
    table = traditional_to_simplified()
    assert not set("我爱吃苹果。他说她没来。什么后里干着著了台面只系发么") & set(table)
    assert not set(table.values()) & set(table)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(MissingExtra, match=r"polyhead\[zh\]"):
        traditional_to_simplified()
