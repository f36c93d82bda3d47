"""Treebanks: words with their places in the text, whatever stands between them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from polyhead.errors import DataError
from polyhead.inputs.conllu import read_conllu


def row(id: str, form: str, head: str = "_", relation: str = "_", misc: str = "_") -> str:
    return "\t".join([id, form, *"____", head, relation, "_", misc])


TREE = "\n".join([
    "# sent_id = 1",
    "# text = We don't eat.",
    row("1", "We", "4", "nsubj"),
    row("2-3", "don't"),
    row("2", "do", "4", "aux"),
    row("3", "n't", "4", "advmod"),
    row("3.1", "want"),
    row("4", "eat", "0", "root", "SpaceAfter=No"),
    row("5", ".", "4", "punct"),
    "",
    row("1", "Vas", "0", "root"),
    row("2-3", "du", misc="SpaceAfter=No"),
    row("2", "de", "3", "case"),
    row("3", "le", "1", "obl"),
    row("4", "!", "1", "punct"),
]) + "\n"  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_words_stand_where_the_text_has_them(tmp_path: Path, packed: bool) -> None:
    file = tmp_path / ("tree.conllu.gz" if packed else "tree.conllu")
    file.write_bytes(gzip.compress(TREE.encode()) if packed else TREE.encode())
    first, second = read_conllu(file)
    assert first.text == "We don't eat." and first.line == 1
    assert [first.text[word.start : word.end] for word in first.words] == ["We", "do", "n't", "eat", "."]
    assert [word.head for word in first.words] == [3, 3, 3, -1, 3]
    assert [word.relation for word in first.words] == ["nsubj", "aux", "advmod", "root", "punct"]
    assert all(word.alone for word in first.words)
    assert second.text == "Vas du!"  # put together, for want of a text
    assert [second.text[word.start : word.end] for word in second.words] == ["Vas", "du", "du", "!"]
    assert [word.alone for word in second.words] == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\tWe\n", "line 1 has 2 columns, expected 10"),
        (row("2", "We", "0", "root") + "\n", "word '2' where word 1 was expected"),
        (row("1", "We", "7", "root") + "\n", "line 1: head '7' is no word of the sentence, 0 to 1"),
        (row("1-x", "We") + "\n", "'1-x' spans no words"),
        ("# text = Us\n" + row("1", "We", "0", "root") + "\n", "'We' does not stand in '# text ='"),
        ("# text = Us\n", "a sentence without words"),
        ("\n\n", "holds no sentences"),
    ],
)
def test_what_is_no_treebank_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "tree.conllu"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as refused:
        list(read_conllu(file))
    assert said in str(refused.value) and "tree.conllu" in str(refused.value)
