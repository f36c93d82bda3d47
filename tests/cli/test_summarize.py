"""`polyhead summarize`: a line for each document, from files, lines and pipes; `translate` asked in words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import polyhead as library
from polyhead.cli.screen import one_line
from tests.cli.conftest import Polyhead, refused
from tests.tasks.words import STORY, asked_in_folder

pytestmark = pytest.mark.parity
TOLD = {
    "summarization": {"prefix": "to: ", "num_beams": 2, "max_length": 12},
    "translation_en_to_de": {"prefix": "to German: ", "max_length": 9},
    "translation_en_to_fr": {"prefix": "to French: ", "max_length": 9},
}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    asked_in_folder(folder, task_specific_params=TOLD)
    return folder


@pytest.fixture
def article(tmp_path: Path) -> Path:
    (tmp_path / "article.txt").write_text(STORY.replace(". ", ".\n\n"), "utf-8")
    return tmp_path / "article.txt"


def test_a_file_and_a_pipe_are_one_document_each(polyhead: Polyhead, t5: Path, article: Path, tmp_path: Path) -> None:
    wanted = library.summarize(article.read_text("utf-8"), model=t5)
    (tmp_path / "b.gz").write_bytes(gzip.compress("\ufeff一只猫。".encode()))
    both = polyhead("summarize", "-m", t5, article, tmp_path / "b.gz")
    assert (both.code, both.lines) == (0, [wanted.text, library.summarize("一只猫。", model=t5).text])
    piped = polyhead("summarize", "-m", t5, "--json", stdin=article.read_bytes())
    told = json.loads(piped.out)
    assert told == {
        "document": "-", "summary": wanted.text, "finished": wanted.finished, "parts": list(wanted.parts),
        "merged": True, "prefix": "to: ", "candidates": told["candidates"],
    }  # fmt: skip
    assert len(wanted.parts) > 2
    assert polyhead("summarize", "-m", t5).out == "\n"  # of nothing


def test_a_folder_that_knows_several_summaries_is_asked_for_one(polyhead: Polyhead, tmp_path: Path) -> None:
    told = {"summarization_cnn": {"prefix": "to: ", "max_length": 5}, "summarization_xsum": {"max_length": 12}}
    asked_in_folder(tmp_path / "bart", "BartForConditionalGeneration", task_specific_params=told)
    (tmp_path / "a.txt").write_text("The dog ran.", "utf-8")
    how = "summarize", "-m", tmp_path / "bart", tmp_path / "a.txt"
    refused(polyhead(*how), "knows summarization_cnn, summarization_xsum; name one as the task")
    refused(polyhead(*how, "--task", "cmn"), "knows no task 'cmn'", "summarization_cnn, summarization_xsum")
    wanted = library.summarize("The dog ran.", model=tmp_path / "bart", task="summarization_cnn")
    assert wanted.prefix == "to: "
    assert polyhead(*how, "--task", "cnn").lines == [wanted.text]


def test_lines_and_fields_are_documents(polyhead: Polyhead, t5: Path, tmp_path: Path) -> None:
    documents = ["The dog ran.", "", "It was not bad!\nIndeed."]
    (tmp_path / "a.txt").write_text("\n".join(documents).replace("!\n", "! ") + "\n", "utf-8")
    rows = [json.dumps({"id": i, "body": text}) for i, text in enumerate(documents)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n\n", "utf-8")
    wanted = [each.text for each in library.summarize(documents, model=t5)]
    out = tmp_path / "out.txt"
    assert polyhead("summarize", "-m", t5, "-i", tmp_path / "a.txt", "-o", out).code == 0
    assert out.read_text("utf-8").split("\n") == [*wanted, ""]
    told = polyhead("summarize", "-m", t5, "-i", tmp_path / "a.jsonl", "--field", "body", "--json")
    assert [json.loads(line)["summary"] for line in told.lines] == wanted
    assert [json.loads(line)["document"] for line in told.lines] == [1, 2, 3]


def test_options_reach_the_function(polyhead: Polyhead, t5: Path, article: Path) -> None:
    text = article.read_text("utf-8")
    how = {"prefix": "Say {text} :", "window": 60, "min_new": 3, "max_new": 7, "beam": 3}
    words = [word for name, value in how.items() for word in ("--" + name.replace("_", "-"), value)]
    assert polyhead("summarize", "-m", t5, article, *words).lines == [library.summarize(text, model=t5, **how).text]
    whole = polyhead("summarize", "-m", t5, article, "--whole", "--nbest", 2).lines
    wanted = library.summarize(text, model=t5, whole=True, n_best=2)
    assert whole == [f"{article}\t{each.score:.4f}\t{each.text}" for each in wanted.candidates]


def test_a_model_asked_in_words_translates_what_it_is_asked(polyhead: Polyhead, t5: Path) -> None:
    wanted = library.translate("The dog ran.", model=t5, task="en-de")
    told = json.loads(polyhead("translate", "-m", t5, "The dog ran.", "--task", "en-de", "--json").out)
    assert (told["translation"], told["prefix"]) == (wanted.text, "to German: ")
    own = polyhead("translate", "-m", t5, "The dog ran.", "--prefix", "Say {text} :").lines
    assert own == [library.translate("The dog ran.", model=t5, prefix="Say {text} :").text]
    refused(polyhead("translate", "-m", t5, "a"), "knows translation_en_to_de, translation_en_to_fr; name one")
    refused(polyhead("translate", "-m", "zh-en", "雨", "--task", "en-de"), "zh-en translates one pair of languages")
    refused(polyhead("translate", "-m", "zh-en", "雨", "--prefix", "x"), "is not asked in words, so 'x' would be")


def test_evaluating_asks_in_words_too(polyhead: Polyhead, t5: Path, tmp_path: Path) -> None:
    lines = ["The dog ran.", "It was not bad!"]
    (tmp_path / "test.tsv").write_text("".join(f"{line}\t{line}\n" for line in lines), "utf-8")
    score = "evaluate", tmp_path / "test.tsv", "-m", t5, "-o", tmp_path / "out.txt"
    assert polyhead(*score, "--task", "en-de").code == 0
    wanted = library.translate(lines, model=t5, task="en-de")
    assert (tmp_path / "out.txt").read_text("utf-8").splitlines() == [one_line(each.text) for each in wanted]
    refused(polyhead(*score), "name one as the task, or give a prefix")


def test_what_cannot_be_is_one_sentence(polyhead: Polyhead, t5: Path, article: Path, tmp_path: Path) -> None:
    ask = "summarize", "-m", t5
    refused(polyhead("summarize", article), "Give the folder of a model")
    refused(polyhead(*ask, "The dog ran."), "There is no file 'The dog ran.'; a text itself is piped in")
    refused(polyhead(*ask, article, "-i", article), "Give files or --input FILE, not both")
    refused(polyhead(*ask, article, "--field", "x"), "--field chooses from the lines of a .jsonl file")
    refused(polyhead(*ask, tmp_path), str(tmp_path))
    refused(polyhead(*ask, article, "--whole", "--window", 50), "give one of them")
    refused(polyhead(*ask, article, "--prefix", "{text}{text}"), "one place")
    refused(polyhead("summarize", "-m", "zh-en", article), "summarize needs a model that gives text to text")
    for name, content, sentence in [
        ("a.jsonl", b'{"text": 3}', "'text' must hold text, found (3,)"),
        ("b.jsonl", b'{"text": "a"}\n{"body": "b"}', "line 2: lacks ['text'], its keys are ['body']"),
        ("c.jsonl", b"{", "line 1: is not JSON"),
        ("d.txt", "雨\n我爱".encode("gb18030"), "line 1: byte"),
    ]:
        (tmp_path / name).write_bytes(content)
        refused(polyhead(*ask, "-i", tmp_path / name, "-o", tmp_path / "out.txt"), sentence)
    assert not (tmp_path / "out.txt").exists()
