"""`polyhead shortlist`: a file is learned from pairs or from sources alone, and translate and evaluate look for words
on it."""

from __future__ import annotations

from pathlib import Path

import pytest

import polyhead as library
from tests.cli.conftest import LINES, Polyhead, refused

PAIRS = list(zip(LINES[:6:2], LINES[1:6:2], strict=True))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{english}\t{chinese}\tyes\n" for chinese, english in PAIRS), encoding="utf-8")
    return file


def test_a_table_and_two_parallel_files_give_the_list_of_the_function(
    polyhead: Polyhead, model: Path, table: Path, tmp_path: Path
) -> None:
    how = ("-m", model, "--frequent", 4, "--best", 2)
    told = polyhead("shortlist", table, "--columns", "2,1", "--where", "3=yes", *how, "-o", tmp_path / "a")
    assert told.code == 0
    assert told.err.startswith("polyhead: 3 pairs are few: what they do not show is on no list; give some thousands.\n")
    for name, side in (("zh", 0), ("en", 1)):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in PAIRS), encoding="utf-8")
    assert polyhead("shortlist", tmp_path / "zh", tmp_path / "en", *how, "-o", tmp_path / "b").code == 0
    wanted = library.shortlist(PAIRS, model=model, frequent=4, best=2)
    rows = library.load(model).tokenizer.source.encode_batch([chinese for chinese, _ in PAIRS])
    each = sorted(len({*wanted.frequent.tolist(), *words(wanted, row)}) for row in rows)
    assert told.out == f"Wrote {tmp_path / 'a'}: {each[1]} words for a sentence, learned from 3 pairs\n"
    for file in ("a", "b"):
        found = library.Shortlist.load(tmp_path / file)
        assert found.words.equal(wanted.words) and found.starts.equal(wanted.starts)
        assert found.frequent.equal(wanted.frequent) and len(found.frequent) == 4


def words(short: library.Shortlist, row: list[int]) -> list[int]:
    """Those of the tokens of a source, one token after the other."""
    return [word for token in row for word in short.words[short.starts[token] : short.starts[token + 1]].tolist()]


def test_sides_that_are_swapped_are_told_of(polyhead: Polyhead, table: Path, tmp_path: Path) -> None:
    told = polyhead("shortlist", table, "-o", tmp_path / "list")
    assert "did you mean --columns 2,1?" in told.err
    assert "did you mean" not in polyhead("shortlist", table, "--columns", "2,1", "-o", tmp_path / "list").err
    for name, side in (("zh", 0), ("en", 1)):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in PAIRS), encoding="utf-8")
    told = polyhead("shortlist", tmp_path / "en", tmp_path / "zh", "-o", tmp_path / "list")
    assert "did you mean the two files the other way round?" in told.err


def test_a_list_of_next_to_nothing_is_told_of_when_it_is_made_and_used(
    polyhead: Polyhead, table: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.tsv").write_text(table.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")
    how = ("--columns", "2,1", "--frequent", 1, "--best", 0, "-o", tmp_path / "list")
    told = polyhead("shortlist", tmp_path / "one.tsv", *how)
    assert "1 pair is few" in told.err and "for a sentence will hardly do; raise --frequent" in told.err
    assert told.out.endswith("learned from 1 pair\n")
    said = polyhead("translate", "--shortlist", tmp_path / "list", "雨", " ", "雪")
    assert said.lines == ["", "", ""]
    assert said.err.startswith("polyhead: Nothing is said of line 1 and 1 more among the words of ")
    assert polyhead("translate", " ", "--shortlist", tmp_path / "list").err == ""


def test_translate_and_evaluate_look_for_words_on_it(
    polyhead: Polyhead, model: Path, table: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    polyhead("shortlist", table, "--columns", "2,1", "-m", model, "--frequent", 1, "--best", 0, "-o", few)
    sources = [chinese for chinese, _ in PAIRS]
    said = polyhead("translate", "-m", model, "--shortlist", few, *sources)
    assert said.code == 0
    assert said.lines == [each.text for each in library.translate(sources, model=model, shortlist=few)]
    assert said.out != polyhead("translate", "-m", model, *sources).out
    how = ("evaluate", table, "--columns", "2,1", "-m", model, "-o", tmp_path / "said")
    assert polyhead(*how, "--shortlist", few).code == 0
    assert (tmp_path / "said").read_text("utf-8") == said.out
    assert library.evaluate(PAIRS, model=model, shortlist=few)[1] == said.lines


def test_sources_alone_are_translated_first(polyhead: Polyhead, model: Path, tmp_path: Path) -> None:
    sources = [chinese for chinese, _ in PAIRS]
    (tmp_path / "lines.txt").write_text("\n\n".join(sources) + "\n", encoding="utf-8")
    assert polyhead("shortlist", "--texts", tmp_path / "lines.txt", "-m", model, "-o", tmp_path / "a").code == 0
    said = [(each.source, each.text) for each in library.translate(sources, model=model) if each.text]
    wanted, found = library.shortlist(said, model=model), library.Shortlist.load(tmp_path / "a")
    assert said and found.words.equal(wanted.words) and found.frequent.equal(wanted.frequent)


def test_no_more_is_read_than_was_asked_for(polyhead: Polyhead, model: Path, table: Path, tmp_path: Path) -> None:
    wanted = library.shortlist(PAIRS, model=model)
    with table.open("a", encoding="utf-8") as file:
        file.write("a line of one column\n")
    how = ("shortlist", table, "--columns", "2,1", "-m", model, "-o", tmp_path / "list")
    refused(polyhead(*how), "line 4", "expected at least 2")
    told = polyhead(*how, "--most", len(PAIRS))
    assert told.code == 0 and told.out.endswith("learned from 3 pairs\n")
    assert library.Shortlist.load(tmp_path / "list").words.equal(wanted.words)


def test_what_does_not_go_together_is_one_sentence(
    polyhead: Polyhead, model: Path, table: Path, tmp_path: Path
) -> None:
    out = ("-m", model, "-o", tmp_path / "list")
    refused(polyhead("shortlist", table, "-m", model), "--output FILE")
    refused(polyhead("shortlist", *out), "Give pairs, in one file or two parallel ones, or --texts FILE")
    refused(polyhead("shortlist", table, "--texts", table, *out), "one of them")
    refused(polyhead("shortlist", table, table, table, *out), "not 3")
    refused(polyhead("shortlist", table, table, "--columns", "2,1", *out), "leave them out")
    refused(polyhead("shortlist", "--texts", table, "--skip-broken", *out), "--skip-broken")
    refused(polyhead("shortlist", table, "-m", model, "-o", tmp_path / "no" / "list"), "There is no folder")
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    refused(polyhead("shortlist", "--texts", tmp_path / "empty.txt", *out), "empty.txt is empty; expected a source")
    refused(polyhead("shortlist", tmp_path / "none.tsv", *out), "none.tsv")
    refused(polyhead("translate", "-m", model, "--shortlist", table, "雨"), "pairs.tsv is not a short-list")
    refused(
        polyhead("translate", "-m", model, "--shortlist", tmp_path / "gone", "雨"), "gone cannot be read (No such file"
    )
    assert not (tmp_path / "list").exists()


def test_a_list_of_another_model_is_one_sentence(polyhead: Polyhead, model: Path, table: Path, tmp_path: Path) -> None:
    polyhead("shortlist", table, "-m", model, "-o", tmp_path / "list")
    refused(polyhead("translate", "--shortlist", tmp_path / "list", "雨"), "the words of another model than", "zh-en")
