"""`polyhead heads`: a table, JSON and TSV of the same numbers, and one sentence for what cannot be."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

import polyhead as library
from polyhead.errors import ArgumentError
from tests.cli.conftest import Polyhead, refused
from tests.inputs.test_conllu import row
from tests.tasks.words import in_folder

TEXTS = ["the cat sat on the mat, and the dog ran.", "not good", "where is the red house"]
FEW = ("--resamples", 20, "--ablation", "none")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    in_folder(folder, "BertModel")
    (folder / "lines.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    return folder


def test_json_and_tsv_are_the_numbers_of_the_function(polyhead: Polyhead, bert: Path, tmp_path: Path) -> None:
    wanted = library.heads(bert, TEXTS, ablate=None, resamples=20)
    told = json.loads(polyhead("heads", bert, bert / "lines.txt", *FEW, "--json").out)
    assert [metric["key"] for metric in told["metrics"]] == [*wanted.keys]
    values = np.array(told["values"], np.float64)
    np.testing.assert_allclose(values, wanted.values, rtol=1e-4, atol=1e-6)
    answer = polyhead(
        "heads", bert, bert / "lines.txt", *FEW, "--tsv", "--sort", "previous", "-o", tmp_path / "out.tsv"
    )
    assert (answer.code, answer.out) == (0, "")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.tsv").read_text("utf-8")), delimiter="\t"))
    previous = [float(each["value"]) for each in rows if each["metric"] == "previous"]
    assert previous == sorted(previous, reverse=True) and len(previous) == 6
    assert {each["inputs"] for each in rows if each["metric"] == "entropy"} == {"3"}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_figure_has_the_bars_of_one_metric_and_its_twin_the_numbers(
    polyhead: Polyhead, bert: Path, tmp_path: Path, lang: str
) -> None:
    asked = ("heads", bert, bert / "lines.txt", *FEW, "--sort", "distance", "--lang", lang, "--figure")
    for ending in ("png", "svg", "tsv"):
        answer = polyhead(*asked, tmp_path / f"x.{ending}")
        drawn, *lacking = answer.err.splitlines()
        assert (answer.code, answer.out, drawn) == (0, "", f"Drawn into {tmp_path / f'x.{ending}'}: distance.")
        assert all(ending == "png" and lang == "zh" and "No installed font has" in line for line in lacking)
    wanted = library.heads(bert, TEXTS, ablate=None, resamples=20)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "x.tsv").read_text("utf-8")), delimiter="\t"))
    of = {(row["call"], int(row["head"])): float(row["value"]) for row in rows}
    for c, call in enumerate(wanted.calls):
        for head in range(call.heads):
            assert of[call.name, head] == pytest.approx(wanted.of("distance")[c, head], rel=1e-4)
    assert {row["metric"] for row in rows} == {"distance"} and len(rows) == 6
    assert {"en": "mean distance", "zh": "平均距离"}[lang] in (tmp_path / "x.svg").read_text("utf-8")


def test_the_table_has_a_line_for_each_head_within_80_columns(polyhead: Polyhead, bert: Path) -> None:
    answer = polyhead("heads", bert, "--text", TEXTS[0], "-t", TEXTS[1], *FEW, "--sort", "special")
    assert answer.code == 0 and max(map(len, answer.lines)) <= 80
    heads = [line for line in answer.lines if line.startswith("enc ")]
    assert len(heads) == 6
    head = next(line for line in answer.lines if line.startswith("head ")).split()
    column = [float(line[8:].split()[head.index("special") - 1]) for line in heads]
    assert column == sorted(column, reverse=True)
    wide = polyhead("heads", bert, "-t", TEXTS[0], *FEW, "--all")
    assert all(name in wide.out for name in ("entropy", "keys", "local", "import"))
    assert "one input: no intervals" in wide.out
    assert {str(span.style) for span in library.heads(bert, TEXTS[:1], ablate=None).draw().spans} == {"bold"}
    one = polyhead("heads", bert, "-t", TEXTS[0], *FEW, "--metric", "keys")
    assert next(line for line in one.lines if line.startswith("head ")).split()[:2] == ["head", "keys"]


def test_a_bar_is_shown_to_a_person_and_leaves_no_trace(
    polyhead: Polyhead, bert: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    how = "heads", bert, "-t", TEXTS[0], *FEW, "--json"
    quiet = polyhead(*how)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen = polyhead(*how)
    assert quiet.err == "" and seen.out == quiet.out and "looking" in seen.err and "100/100" in seen.err
    page = polyhead("see", bert, "--text", TEXTS[0], "--html", tmp_path / "page.html")
    assert page.code == 0 and "writing" in page.err and "100/100" in page.err and (tmp_path / "page.html").is_file()


def test_a_treebank_adds_grammar(polyhead: Polyhead, bert: Path, tmp_path: Path) -> None:
    tree = [row("1", "the", "2", "det"), row("2", "cat", "3", "nsubj"), row("3", "sat", "0", "root")]
    (tmp_path / "tree.conllu").write_text("\n".join([*tree, "", ""]) * 60, encoding="utf-8")
    answer = polyhead("heads", bert, "-t", TEXTS[0], *FEW, "--conllu", tmp_path / "tree.conllu")
    assert "60 sentences of a treebank" in answer.out and "nsubj" in answer.out
    told = json.loads(polyhead("heads", bert, *FEW, "-t", "a", "--conllu", tmp_path / "tree.conllu", "--json").out)
    assert told["syntax"]["relations"] == {"det": 60, "nsubj": 60}
    assert told["syntax"]["baseline"] == [[100.0, 100.0], [100.0, 100.0]]


def test_the_table_says_the_same_in_chinese(
    polyhead: Polyhead, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = [row("1", "the", "2", "det"), row("2", "cat", "3", "nsubj"), row("3", "sat", "0", "root")]
    (tmp_path / "tree.conllu").write_text("\n".join([*tree, "", ""]) * 60, encoding="utf-8")
    words = ("heads", bert, "-t", TEXTS[0], *FEW, "--metric", "special", "--conllu", tmp_path / "tree.conllu")
    english, chinese = (polyhead(*words, "--lang", lang) for lang in ("en", "zh"))
    assert max(map(cell_len, chinese.lines)) <= 80
    assert {*english.lines} & {*chinese.lines} == {str(bert), ""}  # nothing was forgotten
    numbers = [re.findall(r"-?\d+\.\d\d\b", answer.out) for answer in (english, chinese)]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 7
    assert "特殊符占比" in chinese.out and "树库的 60 个句子" in chinese.out
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert polyhead(*words).out == chinese.out
    found = library.heads(bert, TEXTS, ablate=None, resamples=0)
    assert len(found.notes) == len(found.notes_zh) == len(found.to_json()["notes_zh"])
    with pytest.raises(ArgumentError, match="lang must be one of en, zh; found 'de'"):
        found.draw(lang="de")  # pyright: ignore[reportArgumentType]


def test_what_cannot_be_is_one_sentence(polyhead: Polyhead, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.conllu").write_text("no tree\n", encoding="utf-8")
    for words, said in (
        ((bert, "--sort", "previos"), "Did you mean 'previous'?"),
        ((bert, "-t", TEXTS[0], *FEW, "--sort", "row"), "'row' was not measured here"),
        ((bert, bert / "lines.txt", "-t", "x"), "FILE or --text"),
        ((bert, "--json", "--tsv"), "--json or --tsv"),
        ((bert, "--tsv", "--figure", tmp_path / "x.svg"), "leave out --json, --tsv"),
        ((bert, "--figure", tmp_path / "x.pdf"), "written as .png, .svg or .tsv; found x.pdf"),
        ((bert, "--figure", tmp_path / "none" / "x.svg"), "There is no folder"),
        ((bert, tmp_path / "none.txt"), "none.txt cannot be read"),
        ((bert, "-t", ""), "nothing to read"),
        ((bert, "--conllu", tmp_path / "bad.conllu"), "bad.conllu line 1 has 1 columns"),
        ((bert, "--prefix-offset", "3"), "prefix_offset must be 1 or -1"),
        ((tmp_path / "nowhere",), "There is no model"),
    ):
        refused(polyhead("heads", *words), said)
