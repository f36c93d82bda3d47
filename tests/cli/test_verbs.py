"""The verbs that answer from a loaded model: the words of the function of the same name, in lines and in JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polyhead as library
from polyhead.cli.screen import one_line
from polyhead.tasks.complete import Completer
from tests.cli.conftest import Polyhead, refused
from tests.tasks.clip import clip_in_folder, pictures_in
from tests.tasks.words import decoder_in_folder, in_folder

TEXTS = ["the cat sat on the mat.", "not good", "", "a bad dog ran in the house"]
NAMES = ["sad", "glad", "so so"]
HOW: dict[str, Any] = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "classify": ("BertForSequenceClassification", HOW),
    "embed": ("BertModel", {}),
    "answer": ("BertForQuestionAnswering", {"num_labels": 2}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model for each verb."""
    found = {verb: tmp_path_factory.mktemp(verb) for verb in (*MADE, "complete")}
    for verb, (architecture, how) in MADE.items():
        in_folder(found[verb], architecture, **how)
    decoder_in_folder(found["complete"], "LlamaForCausalLM")
    return found


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return file


def test_labels_come_out_a_line_each_from_words_files_and_pipes(
    polyhead: Polyhead, folders: dict[str, Path], lines: Path, tmp_path: Path
) -> None:
    wanted = library.classify(TEXTS, model=folders["classify"])
    given = polyhead("classify", "-m", folders["classify"], "-i", lines)
    assert (given.code, given.lines) == (0, [each.labels[0] for each in wanted])
    assert polyhead("classify", "-m", folders["classify"], stdin=lines.read_bytes()).out == given.out
    polyhead("classify", "-m", folders["classify"], "-i", lines, "-o", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text("utf-8") == given.out
    told = [json.loads(line) for line in polyhead("classify", "-m", folders["classify"], "-i", lines, "--json").lines]
    assert [each["item"] for each in told] == TEXTS
    assert told[0]["scores"] == pytest.approx(dict(wanted[0].scores), rel=1e-6)
    top = polyhead("classify", "-m", folders["classify"], TEXTS[0], "--top", "2").lines[0].split("\t")
    assert [part.rsplit(" ", 1)[0] for part in top] == list(wanted[0].scores)[:2]
    several = polyhead("classify", "-m", folders["classify"], TEXTS[0], "--several", "--threshold", "0").lines
    assert several == [
        ", ".join(library.classify(TEXTS[0], model=folders["classify"], several=True, threshold=0).labels)
    ]


def test_vectors_come_out_as_lines_of_json_or_as_one_array(
    polyhead: Polyhead, folders: dict[str, Path], lines: Path, tmp_path: Path
) -> None:
    wanted = library.embed(TEXTS, model=folders["embed"])
    told = [json.loads(line) for line in polyhead("embed", "-m", folders["embed"], "-i", lines).lines]
    assert [each["text"] for each in told] == TEXTS
    np.testing.assert_allclose([each["vector"] for each in told], wanted, atol=1e-6)
    assert polyhead("embed", "-m", folders["embed"], "-i", lines, "-o", tmp_path / "v.npy").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), wanted, atol=1e-6)


def test_no_lines_are_an_array_of_no_vectors(polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    ask = ("embed", "-m", folders["embed"], "-i", tmp_path / "empty.txt", "-o")
    assert polyhead(*ask, tmp_path / "v.npy").code == polyhead(*ask, tmp_path / "v.jsonl").code == 0
    assert np.load(tmp_path / "v.npy").shape == (0, library.embed("a", model=folders["embed"]).shape[0])
    assert (tmp_path / "v.jsonl").read_bytes() == b""


@pytest.mark.parity
def test_a_word_that_ends_like_an_image_is_a_file(polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path) -> None:
    clip_in_folder(tmp_path / "clip")
    image, missing = pictures_in(tmp_path / "photos", 1)[0], tmp_path / "photos" / "nope.png"
    ask = ("embed", "-m", tmp_path / "clip")
    refused(
        polyhead(*ask, "a cat", missing, "-o", tmp_path / "v.jsonl"), f"There is no image '{missing}'; check the path"
    )
    assert not (tmp_path / "v.jsonl").exists()
    assert [*json.loads(polyhead(*ask, image).out)] == ["image", "vector"]
    (tmp_path / "texts.txt").write_text("nope.png\n", "utf-8")
    assert json.loads(polyhead(*ask, "-i", tmp_path / "texts.txt").out)["text"] == "nope.png"
    assert json.loads(polyhead("embed", "-m", folders["embed"], "nope.png").out)["text"] == "nope.png"


@pytest.mark.parametrize("verb", ["complete", "chat"])
def test_the_folder_says_how_much_is_written_unless_somebody_does(polyhead: Polyhead, tmp_path: Path, verb: str):
    decoder_in_folder(tmp_path, "LlamaForCausalLM", chats=True, max_position_embeddings=200)
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 5, "eos_token_id": []}', encoding="utf-8")
    how = [verb, "-m", tmp_path, *(["--once"] if verb == "chat" else []), "the cat", "--json"]
    texts = [json.loads(polyhead(*how, *more).out)["text"] for more in ([], ["--max-new", 5], ["--max-new", 9])]
    assert texts[0] == texts[1] != texts[2] and texts[2].startswith(texts[0].rstrip("\ufffd"))
    (tmp_path / "generation_config.json").write_text('{"max_length": 3}', encoding="utf-8")
    refused(polyhead(*how), "generation_config.json gives it 3 places (max_length; max_new outweighs it)")
    assert polyhead(*how, "--max-new", 2).code == 0


def test_a_field_of_jsonl_is_read_where_it_is_asked_for(
    polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"id": 1, "text": "no", "body": text}) + "\n" for text in TEXTS), "utf-8")
    wanted = library.embed(TEXTS, model=folders["embed"])
    told = [json.loads(line) for line in polyhead("embed", "-m", folders["embed"], "-i", file, "--field", "body").lines]
    np.testing.assert_allclose([each["vector"] for each in told], wanted, atol=1e-6)
    labels = polyhead("classify", "-m", folders["classify"], "-i", file, "--field", "body").lines
    assert labels == [each.labels[0] for each in library.classify(TEXTS, model=folders["classify"])]
    file.write_text(json.dumps({"text": "the cat\nand"}), "utf-8")
    [line] = polyhead("complete", "-m", folders["complete"], "-i", file, "--max-new", 3, "--json").lines
    assert json.loads(line)["prompt"] == "the cat\nand"
    refused(polyhead("embed", "-m", folders["embed"], "a", "--field", "body"), "--field chooses from the lines of a")


def test_an_answer_is_a_line_or_an_empty_one(polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path) -> None:
    question, passage = "where is the cat?", "The dog ran. The Cat sat in the house."
    wanted = library.answer(question, passage, model=folders["answer"], n_best=2, may_fail=False)
    told = json.loads(polyhead("answer", "-m", folders["answer"], question, passage, "--json", "--must").out)
    assert (told["text"], told["spans"][0]["start"]) == (wanted.text, wanted.spans[0].start)
    (tmp_path / "passage.txt").write_text(passage, encoding="utf-8")
    both = polyhead("answer", "-m", folders["answer"], question, "-i", tmp_path / "passage.txt", "--nbest", 2, "--must")
    assert [line.split("\t")[0] for line in both.lines] == [span.text for span in wanted.spans]
    plain = polyhead("answer", "-m", folders["answer"], question, passage)
    found = library.answer(question, passage, model=folders["answer"])
    assert plain.lines == [found.text] and ("holds no answer" in plain.err) == (not found.found)


def test_a_passage_may_be_piped_in(polyhead: Polyhead, folders: dict[str, Path]) -> None:
    question, passage = "where is the cat?", "The dog ran.\nThe Cat sat in the house."
    piped = polyhead("answer", "-m", folders["answer"], question, "--json", stdin=passage.encode())
    given = polyhead("answer", "-m", folders["answer"], question, passage, "--json")
    assert piped == given and piped.code == 0


def test_questions_of_a_file_are_answered_a_line_each(
    polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path
) -> None:
    pairs = [("where is the cat?", "The dog ran.\n  The Cat sat."), ("who ran?", "a bad dog ran"), ("who?", "a mat")]
    rows = [json.dumps({"id": 7, "question": question, "passage": passage}) for question, passage in pairs]
    jsonl, tsv = tmp_path / "q.jsonl", tmp_path / "q.tsv"
    jsonl.write_text(rows[0] + "\n\n" + rows[1] + "\n" + rows[2] + "\n", "utf-8")
    tsv.write_text("question\tpassage\n" + "".join(f"{q}\t{' '.join(p.split())}\n" for q, p in pairs), "utf-8")
    ask = "answer", "-m", folders["answer"], "--pairs"
    wanted = [library.answer(*pair, model=folders["answer"], n_best=2, longest=4) for pair in pairs]
    told = [json.loads(line) for line in polyhead(*ask, jsonl, "--json", "--nbest", 2, "--longest", 4).lines]
    assert [each["line"] for each in told] == [1, 3, 4]
    assert [each["text"] for each in told] == [each.text for each in wanted]
    places = [[(span.start, span.end) for span in each.spans] for each in wanted]
    assert [[(span["start"], span["end"]) for span in each["spans"]] for each in told] == places
    plain = polyhead(*ask, tsv, "-o", tmp_path / "out.txt", "--must")
    assert (plain.code, plain.out, plain.err) == (0, "", "")
    sure = [library.answer(q, " ".join(p.split()), model=folders["answer"], may_fail=False).text for q, p in pairs]
    assert (tmp_path / "out.txt").read_text("utf-8").splitlines() == sure
    best = polyhead(*ask, tsv, "--must", "--nbest", 2).lines
    assert [row.split("\t")[:2] for row in best[::2]] == [[str(i), text] for i, text in enumerate(sure, 2)]
    refused(polyhead(*ask, jsonl, "who?"), "--pairs brings its own questions and passages; give it alone")
    for text, sentence in [
        ("who?\ta\tb\n", "line 1: has 3 columns between tabs, expected question, passage"),
        ("who?\ta\nwho?\t \n", "line 2 has an empty passage"),
    ]:
        tsv.write_text(text, "utf-8")
        refused(polyhead(*ask, tsv, "-o", tmp_path / "no.txt"), sentence)
    assert not (tmp_path / "no.txt").exists()


def test_a_continuation_is_written_behind_its_prompt(polyhead: Polyhead, folders: dict[str, Path], lines: Path) -> None:
    wanted = library.complete("the cat", model=folders["complete"], max_new=10)
    shown = polyhead("complete", "-m", folders["complete"], "the cat", "--max-new", 10)
    assert (shown.code, shown.out) == (0, "the cat" + wanted.text + "\n")
    told = json.loads(polyhead("complete", "-m", folders["complete"], "the cat", "--max-new", 10, "--json").out)
    assert told == {"prompt": "the cat", "text": wanted.text, "finished": wanted.finished, "stop": None}
    many = polyhead("complete", "-m", folders["complete"], "-i", lines, "--max-new", 4, "--temperature", 1, "--json")
    assert [json.loads(line)["prompt"] for line in many.lines] == TEXTS
    stop = wanted.text[3:5].replace("\n", "\\n")
    cut = polyhead("complete", "-m", folders["complete"], "the cat", "--max-new", 10, "--stop", stop)
    assert cut.out == "the cat" + wanted.text[: wanted.text.index(wanted.text[3:5])] + "\n"


def test_a_width_and_groups_keep_what_the_folder_says_of_its_beam(
    polyhead: Polyhead, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "writer"
    shutil.copytree(folders["complete"], folder)
    said = {"num_beams": 3, "length_penalty": -2.0, "early_stopping": True, "eos_token_id": list(range(100, 140))}
    (folder / "generation_config.json").write_text(json.dumps(said), "utf-8")
    ask, model = ("complete", "-m", folder, "the cat", "--max-new", 9), library.load(folder)

    def given(search: library.Beam) -> list[str]:
        completer = Completer(model, search=search, max_new=9)
        found = completer.batch([completer.read("the cat")], ["the cat"], numbers=[0])[0]
        return [f"1\t{each.score:.4f}\t{one_line('the cat' + each.text)}" for each in found.candidates]

    how: dict[str, Any] = {"length_penalty": -2.0, "early_stopping": True}
    three = library.Beam(3, n_best=3, **how)
    assert polyhead(*ask, "--nbest", 3).lines == given(three) != given(library.Beam(3, n_best=3))
    assert polyhead(*ask, "--beam", 5, "--nbest", 2).lines == given(library.Beam(5, n_best=2, **how))
    groups = library.DiverseBeam(4, n_best=4, groups=2, **how)
    assert polyhead(*ask, "--groups", 2, "--nbest", 4).lines == given(groups)
    wide, *_ = polyhead(*ask, "--beam", 5, "--json").lines
    assert (
        json.loads(wide)["text"]
        == library.complete("the cat", model=model, max_new=9, search=library.Beam(5, **how)).text
    )
    both = json.loads(polyhead(*ask, "--nbest", 3, "--json").out)
    assert [f"1\t{each['score']:.4f}\t{one_line('the cat' + each['text'])}" for each in both["candidates"]] == given(
        three
    )
    refused(polyhead(*ask, "--contrastive", 0.5, "--nbest", 2), "--contrastive finds one answer; leave out --nbest")


def test_one_reply_is_not_searched_in_groups(polyhead: Polyhead, folders: dict[str, Path]) -> None:
    refused(polyhead("chat", "-m", folders["complete"], "--once", "a", "--groups", 2), "--groups")


def test_a_prompt_that_is_refused_is_not_shown(polyhead: Polyhead, folders: dict[str, Path]) -> None:
    refused(polyhead("complete", "-m", folders["complete"], "the cat " * 60), "the model has 64 places")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("classify", "a"), "Give the folder of a model: --model FOLDER; none for this verb comes with polyhead."),
        (("embed", "-m", "zh-en", "a"), "embed needs a model that gives vectors"),
        (("complete", "-m", "zh-en", "a"), "complete needs a model that gives next word"),
        (("answer", "-m", "zh-en", "a"), "answer needs a model that gives spans"),
        (("answer", "-m", "zh-en"), "Give a question and a passage, or --pairs FILE."),
        (("answer", "-m", "zh-en", "a", "b", "-i", "c"), "Give a passage or --input FILE, not both."),
        (("complete", "-m", "zh-en", "a", "--beam", "2", "--temperature", "1"), "give one of them"),
        (("complete", "-m", "zh-en", "a", "--top-k", "2"), "give --temperature as well"),
        (("complete", "-m", "zh-en", "a", "--temperature", "0"), "--temperature is 0.0, but must be above 0"),
        (("complete", "-m", "zh-en", "a", "--temperature", "1", "--top-p", "3"), "--top-p is 3.0, but must be"),
        (("complete", "-m", "zh-en", "a", "--stop", ""), "--stop is empty"),
        (("complete", "-m", "zh-en", "a", "--contrastive", "2"), "--contrastive is 2.0, but must be from 0 to 1"),
        (("translate", "a", "--groups", "3", "--beam", "4"), "--groups is 3, but must divide --beam, 4"),
        (("translate", "a", "--groups", "2", "--diversity", "-1"), "--diversity is -1.0, but must be at least 0"),
        (("classify", "-m", "nowhere", "a"), "There is no model 'nowhere'"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_exit_code_2(
    polyhead: Polyhead, words: tuple[str, ...], sentence: str
) -> None:
    refused(polyhead(*words), sentence)
