"""`polyhead translate`: one line in, one line out, whatever the lines hold; nothing is ever half-written."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

import pytest

from polyhead.cli.screen import one_line
from polyhead.tasks.translator import Candidate, Translation, Translator
from tests.cli.conftest import ACTING, Polyhead, refused
from tests.hostile import HOSTILE


def test_sentences_given_as_words_are_translated_in_their_order(polyhead: Polyhead, model: Path):
    both = polyhead("translate", "-m", model, "我爱吃苹果。", "雨")
    assert both.code == 0
    assert both.lines == [polyhead("translate", "-m", model, text).out.rstrip("\n") for text in ("我爱吃苹果。", "雨")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_counts_always_match(polyhead: Polyhead, model: Path, end: bytes):
    lines = ["雨", "", "   ", "\u3000", "我爱", "\ufeff", "a\x85b\u2028c"]
    answer = polyhead("translate", "-m", model, stdin=end.join(line.encode() for line in lines))
    assert answer.out.count("\n") == len(lines) == len(answer.lines)
    assert [bool(line) for line in answer.lines] == [True, False, False, False, True, False, True]


def test_hostile_lines_come_back_as_as_many_lines_of_plain_text(polyhead: Polyhead, model: Path):
    tokens = [token for token in HOSTILE if "\n" not in token]
    stdin = "\n".join(tokens).encode("utf-8", "replace")
    answer = polyhead("translate", "-m", model, "--beam", 1, "--max-new", 3, stdin=stdin)
    assert answer.code == 0
    assert answer.out.count("\n") == len(tokens)
    assert not any(c in answer.out for c in "\x1b\x07\x00\r\u2028")


def test_a_file_goes_in_and_a_file_comes_out(polyhead: Polyhead, model: Path, tmp_path: Path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("雨\n\n我爱\n", encoding="utf-8")
    answer = polyhead("translate", "-m", model, "-i", source, "-o", target)
    assert (answer.code, answer.out) == (0, "")
    assert target.read_text("utf-8") == polyhead("translate", "-m", model, "-i", source).out


def test_a_packed_file_and_one_with_a_byte_order_mark_are_read(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "in.gz").write_bytes(gzip.compress("\ufeff雨\n\n我爱".encode()))
    (tmp_path / "in.txt").write_text("雨\n\n我爱\n", encoding="utf-8")
    packed, plain = (polyhead("translate", "-m", model, "-i", tmp_path / name) for name in ("in.gz", "in.txt"))
    assert packed == plain and packed.code == 0


def test_an_empty_file_gives_an_empty_file(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "in.txt").touch()
    answer = polyhead("translate", "-m", model, "-i", tmp_path / "in.txt", "-o", tmp_path / "out.txt")
    assert answer.code == 0
    assert (tmp_path / "out.txt").read_bytes() == b""


def test_nbest_gives_line_number_score_and_text_best_first(polyhead: Polyhead, model: Path):
    rows = [line.split("\t") for line in polyhead("translate", "-m", model, "--nbest", 3, "雨", "我爱").lines]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "2", "2"]
    scores = [float(row[1]) for row in rows]
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert rows[0][2] == polyhead("translate", "-m", model, "雨").lines[0]


def test_json_has_one_object_a_line_with_source_translation_and_candidates(polyhead: Polyhead, model: Path):
    rows = [json.loads(line) for line in polyhead("translate", "-m", model, "--json", "--nbest", 2, "雨", " ").lines]
    assert rows[0]["source"] == "雨"
    assert rows[0]["translation"] == rows[0]["candidates"][0]["text"]
    assert len(rows[0]["candidates"]) == 2
    assert rows[1] == {"source": " ", "translation": "", "candidates": []}


def test_the_same_seed_draws_the_same_translation(polyhead: Polyhead, model: Path):
    draw = "translate", "-m", model, "--temperature", 1.5, "雨", "--seed"
    assert polyhead(*draw, 1).out == polyhead(*draw, 1).out
    assert len({polyhead(*draw, seed).out for seed in range(5)}) > 1


def test_no_number_is_too_far_out(polyhead: Polyhead, model: Path):
    usual = polyhead("translate", "-m", model, "雨")
    assert polyhead("translate", "-m", model, "雨", "--max-new", 10**24).code == usual.code == 0
    coldest = polyhead("translate", "-m", model, "雨", "--temperature", "1e-320")
    assert coldest == polyhead("translate", "-m", model, "雨", "--beam", 1)


@pytest.mark.filterwarnings("default::UserWarning")
def test_what_a_folder_asks_for_in_vain_is_told_in_one_line(polyhead: Polyhead, model: Path, tmp_path: Path):
    folder = tmp_path / "a\u202eb"
    shutil.copytree(model, folder)
    (folder / "generation_config.json").write_text('{"max_time": 9}', "utf-8")
    answer = polyhead("translate", "-m", folder, "雨")
    assert (answer.code, answer.out) == (0, polyhead("translate", "-m", model, "雨").out)
    assert answer.err.count("\n") == 1 and "a‹U+202E›b asks for max_time in its generation settings" in answer.err


def test_what_cannot_be_translated_is_refused_in_one_sentence(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "gb.txt").write_bytes("雨\n我爱".encode("gb18030"))
    (tmp_path / "long.txt").write_text("雨\n" + "我" * 80, encoding="utf-8")
    out = tmp_path / "out.txt"
    refused(polyhead("translate", "-m", model, "-i", tmp_path / "none.txt", "-o", out), "none.txt")
    refused(polyhead("translate", "-m", model, "-i", tmp_path, "-o", out), str(tmp_path))
    refused(polyhead("translate", "-m", model, "-i", tmp_path / "gb.txt", "-o", out), "gb.txt line 1", "UTF-8")
    refused(polyhead("translate", "-m", model, "-i", tmp_path / "long.txt", "-o", out), "long.txt line 2 has", "64")
    refused(polyhead("translate", "-m", model, "-i", tmp_path / "gb.txt", "雨"), "not both")
    refused(polyhead("translate", "-m", tmp_path / "nowhere", "雨"), "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gb.txt", "long.txt"]


def test_a_failed_run_leaves_the_old_file_as_it_was(polyhead: Polyhead, model: Path, tmp_path: Path):
    (tmp_path / "in.txt").write_bytes("雨\n".encode() + b"\xff\n")
    (tmp_path / "out.txt").write_text("old", encoding="utf-8")
    refused(polyhead("translate", "-m", model, "-i", tmp_path / "in.txt", "-o", tmp_path / "out.txt"), "line 2")
    assert (tmp_path / "out.txt").read_text("utf-8") == "old"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--top-k", 3], "--top-k shapes how tokens are drawn; give --temperature as well"),
        (["--min-p", 0.1, "--typical-p", 0.9], "--min-p and --typical-p shape how tokens are drawn"),
        (["--temperature", 1, "--min-p", 2], "--min-p is 2.0, but must be from 0 to 1, a probability"),
        (["--temperature", 1, "--typical-p", 0], "--typical-p is 0.0, but must be above 0 and at most 1"),
        (["--groups", 2, "--force", "a"], "--groups and --force are different ways to choose tokens; give one of them"),
        (["--contrastive", 0.5, "--beam", 2], "--beam and --contrastive are different ways"),
        (["--contrastive", 2], "--contrastive is 2.0, but must be from 0 to 1"),
        (["--contrastive", 0.5, "--nbest", 2], "--contrastive finds one answer; leave out --nbest"),
        (["--diversity", 2], "--diversity says how much groups avoid each other; give --groups as well"),
        (["--beam", 5, "--groups", 2], "--groups is 2, but must divide --beam, 5"),
        (["--force", "a|"], "--force is empty, or has nothing beside its |"),
        (["--force", "ж"], "The model has no tokens for 'ж', so no answer of its can hold it"),
        (["--top-p", 0.9, "--seed", 0], "--top-p and --seed"),
        (["--seed", 1, "--beam", 1], "--seed"),
        (["--temperature", 1, "--beam", 4], "give one of them"),
        (["--temperature", 0], "must be above 0"),
        (["--temperature", "nan"], "must be above 0"),
        (["--nbest", 3, "--beam", 2], "--nbest 3 needs --beam 3 or more, found --beam 2."),
        (["--beam", 99999999], "1000"),
        (["--nbest", 99999999], "1000"),
        (["--device", "gpu"], "--device is 'gpu', but must be auto, cpu, cuda, cuda:N or mps"),
        (["--device", "cuda:99"], "There is no device 'cuda:99' here"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    polyhead: Polyhead, model: Path, options: list[object], sentence: str
):
    refused(polyhead("translate", "-m", model, "雨", *options), sentence)


def test_more_answers_than_the_usual_beam_widen_it(polyhead: Polyhead, model: Path):
    assert len(polyhead("translate", "-m", model, "雨", "--nbest", 6).lines) == 6


def test_a_line_that_is_too_long_is_found_before_anything_is_translated(
    polyhead: Polyhead, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("polyhead.cli.translate.WINDOW", 2)
    monkeypatch.setattr(Translator, "__call__", lambda *_, **how: pytest.fail("it began"))
    file = tmp_path / "long.txt"
    file.write_text("雨\n" * 4 + "雨" * 500 + "\n", "utf-8")
    refused(polyhead("translate", "-m", model, "-i", file, "-o", tmp_path / "out.txt"), "line 5 has ")
    assert not (tmp_path / "out.txt").exists()


HOSTILE_WORDS = "a[red]\u202eb\u2066\u200b\u061c\x1b[2J\x9b31m\U000e0041 👨\u200d👩 苹果"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose every translation would act on a terminal."""
    found = (Candidate(HOSTILE_WORDS, -1.0), Candidate(HOSTILE_WORDS, -2.0))
    monkeypatch.setattr(
        Translator, "__call__", lambda self, lines, **how: [Translation(line, HOSTILE_WORDS, found) for line in lines]
    )


@pytest.mark.parametrize("options", [[], ["--nbest", 2], ["--json"]], ids=["text", "nbest", "json"])
def test_no_character_of_a_translation_acts_on_a_terminal(
    polyhead: Polyhead, model: Path, hostile: None, options: list[object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    answer = polyhead("translate", "-m", model, "雨\u202e", *options)
    assert answer.code == 0
    assert not set(answer.out) & (set(ACTING) - ({"\t"} if "--nbest" in options else set()))
    assert "a[red]" in answer.out and "👨\u200d👩 苹果" in answer.out
    assert "--json" in options or "a[red]‹U+202E›b‹U+2066›‹U+200B›‹U+061C› [2J 31m‹U+E0041›" in answer.out


def test_files_and_pipes_get_the_text_as_it_is(polyhead: Polyhead, model: Path, hostile: None, tmp_path: Path):
    faithful = "a[red]\u202eb\u2066\u200b\u061c [2J 31m\U000e0041 👨\u200d👩 苹果\n"
    assert polyhead("translate", "-m", model, "雨").out == faithful
    assert polyhead("translate", "-m", model, "雨", "-o", tmp_path / "out.txt").code == 0
    assert (tmp_path / "out.txt").read_text("utf-8") == faithful


def test_json_says_every_character_and_shows_none_that_acts(polyhead: Polyhead, model: Path, hostile: None):
    answer = polyhead("translate", "-m", model, "雨\u202e", "--json")
    row = json.loads(answer.out)
    assert (row["source"], row["translation"]) == ("雨\u202e", HOSTILE_WORDS)
    assert not set(answer.out) & set(ACTING)
    assert "苹果" in answer.out


def test_a_translation_never_holds_a_line_end():
    assert one_line("a\nb\r\nc\u2028d\x85e\x1b[2Jf") == "a b c d e [2Jf"
    assert one_line("e\u0301 \u3000👨\u200d👩") == "e\u0301 \u3000👨\u200d👩"


def test_each_way_to_search_gives_what_its_function_gives(polyhead: Polyhead, model: Path):
    import polyhead as ours

    def typed(*options: object) -> list[str]:
        return [line.split("\t")[-1] for line in polyhead("translate", "-m", model, *options, "我爱吃苹果。").lines]

    def given(search: object) -> list[str]:
        found = ours.translate("我爱吃苹果。", model=model, search=search)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return [one_line(each.text) for each in found.candidates]

    groups = ours.DiverseBeam(4, n_best=4, groups=4, penalty=2.0)
    assert typed("--groups", 4, "--diversity", 2, "--nbest", 4) == given(groups)
    assert typed("--groups", 3, "--nbest", 2) == given(ours.DiverseBeam(6, n_best=2, groups=3))
    forced = ours.ConstrainedBeam(10, words=[("rain", "雨"), "apples"])
    assert typed("--force", "rain|雨", "--force", "apples") == given(forced)
    assert "apples" in typed("--force", "apples")[0] and "apples" not in typed()[0]
    assert typed("--contrastive", 0.7, "--top-k", 3) == given(ours.Contrastive(0.7, 3))
    drawn = ours.Sample(2.0, 30, 0.99, 3, min_p=0.001, typical_p=0.95)
    how = "--temperature", 2, "--top-k", 30, "--top-p", 0.99, "--seed", 3, "--min-p", 0.001, "--typical-p", 0.95
    assert typed(*how) == given(drawn)
