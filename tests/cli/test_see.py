"""`polyhead see`: what is drawn is what the model did, by words, with nothing hidden and nothing obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyhead.lens.experts import experts
from polyhead.lens.recording import Recording
from polyhead.lens.see import see
from tests.cli.conftest import ACTING, Polyhead, refused
from tests.hostile import HOSTILE

SOURCE, TARGET = "我爱吃苹果。", "I like eating apples."


def test_the_source_and_the_translation_stand_above_their_maps(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET)
    assert answer.code == 0
    assert answer.lines[:2] == [SOURCE, TARGET]
    for text in ("Layer 0: row = the word that looks", "Layer 1:", "head 0", "head 3", "weights of", "softmax."):
        assert text in answer.out
    assert "importan" not in answer.out


def test_without_a_translation_the_models_own_is_shown(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--layer", 0)
    assert answer.lines[1].split() == polyhead("translate", "-m", model, SOURCE).out.split()


def test_one_head_is_drawn_with_its_words_and_values(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--layer", 1, "--head", 2, "--values")
    assert "Layer 1 head 2: row" in answer.out
    assert "apples" in answer.out
    assert "head 3" not in answer.out


@pytest.mark.parametrize("part", ["cross", "encoder", "decoder"])
@pytest.mark.parametrize(
    "how", [[], ["--links"], ["--head", "0"], ["--pieces"]], ids=["maps", "links", "head", "pieces"]
)
def test_every_part_can_be_seen_every_way(polyhead: Polyhead, model: Path, part: str, how: list[str]):
    answer = polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--part", part, *how)
    assert answer.code == 0
    assert answer.err == ""


def test_joined_pieces_are_said_to_be_joined(polyhead: Polyhead, model: Path):
    words = ["see", "-m", model, "雨", "--layer", 0, "--translation"]
    assert "Pieces of one word are joined" in polyhead(*words, "abcI").out.replace("\n", " ")
    assert "Pieces of one word" not in polyhead(*words, "abcI", "--pieces").out


def test_several_sentences_are_shown_one_after_the_other(polyhead: Polyhead, model: Path):
    answer = polyhead("see", "-m", model, SOURCE, "雨", "--links")
    assert SOURCE in answer.lines
    assert "雨" in answer.lines


@pytest.mark.parametrize("token", [t for t in HOSTILE if t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)])
def test_no_character_of_a_text_acts_on_the_terminal(polyhead: Polyhead, model: Path, token: str):
    answer = polyhead("see", "-m", model, f"雨{token}雨", "--translation", f"rain{token}", "--layer", 0)
    assert answer.code == 0
    assert not set(answer.out) & set(ACTING)


def test_what_cannot_be_seen_is_refused_in_one_sentence(polyhead: Polyhead, model: Path):
    refused(polyhead("see", "-m", model, "  "), "empty")
    refused(polyhead("see", "-m", model, "\x07"), "empty")
    refused(polyhead("see", "-m", model, SOURCE, "--translation", ""), "empty")
    refused(polyhead("see", "-m", model, SOURCE, "--layer", 9), "layers are 0 to 1", "9")
    refused(polyhead("see", "-m", model, SOURCE, "--head", 4), "heads 0 to 3, but head is 4")
    refused(polyhead("see", "-m", model, SOURCE, "雨", "--translation", TARGET), "one sentence")
    for n in (80, 2000):
        refused(polyhead("see", "-m", model, "雨" * n, "--translation", TARGET), "at most 64")


def test_options_that_would_be_ignored_are_refused(polyhead: Polyhead, model: Path):
    refused(polyhead("see", "-m", model, SOURCE, "--values"), "choose a head")
    refused(polyhead("see", "-m", model, SOURCE, "--links", "--head", 1), "leave one of them out")
    refused(polyhead("see", "-m", model, SOURCE, "--translation", TARGET, "--beam", 2), "leave one of them out")
    refused(polyhead("see", "-m", model, SOURCE, "--device", "cuda:99"), "There is no device 'cuda:99' here")


# ------------------------------------------------------------------------------------------- other models, and pages

TEXT = "the cat sat on the mat"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every kind in folders, and what they read."""
    from tests.structure.worlds import see

    folder = tmp_path_factory.mktemp("see")
    see(folder)
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["my-encoder", "--text", TEXT], [TEXT, "Layer 1:", "[CLS]", "Rows and columns are the words that were read."]),
        (["my-writer", "--text", TEXT], [TEXT, "Layer 1:", "each sees itself and those before it"]),
        (["my-summarizer", "--text", "the dog ran."], ["summarize: the dog ran.", "the words that were read"]),
        (["my-digits", "--image", "seven.png"], ["seven.png", "[CLS]", "patches that were read"]),
        (["my-hearer", "--audio", "speech.wav"], ["speech.wav", "0.00s", "stretches of time"]),
    ],
    ids=["encoder", "decoder", "answers", "image", "sound"],
)
def test_every_kind_of_model_is_drawn(polyhead: Polyhead, world: Path, words: list[str], told: list[str]):
    kind, file = words[1], words[2]
    given = [str(world / words[0]), kind, file if kind == "--text" else str(world / file)]
    answer = polyhead("see", *given, "--layer", 1)
    assert answer.code == 0, answer.err
    for text in told:
        assert text in " ".join(answer.out.split())
    assert polyhead("see", *given, "--links").code == polyhead("see", *given, "--head", 0, "--layer", 0).code == 0


def test_a_recording_is_kept_and_seen_again(polyhead: Polyhead, world: Path, tmp_path: Path):
    file = tmp_path / "run.safetensors"
    kept = polyhead("see", world / "my-encoder", "--text", TEXT, "--save", file)
    assert (kept.code, kept.out) == (0, "")
    assert kept.err == f"Recorded in {file}; see it with: polyhead see --recording {file}\n"
    again = polyhead("see", "--recording", file, "--layer", 0)
    drawn = polyhead("see", world / "my-encoder", "--text", TEXT, "--layer", 0)
    assert again.lines[0] == "run.safetensors" and again.lines[1:] == drawn.lines[1:]


def test_a_page_is_written_as_one_file(polyhead: Polyhead, world: Path, tmp_path: Path):
    file = tmp_path / "page.html"
    answer = polyhead("see", world / "my-encoder", "--text", TEXT, "--html", file)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.splitlines() == [
        f"Written to {file}, {file.stat().st_size:,} bytes.",
        "Left out, and told in the file too: the nine stations of other layers; queries, keys and scores of single"
        " pairs.",
    ]
    assert "thumbs/1.bin" in file.read_text("utf-8")
    answer = polyhead("see", world / "my-encoder", "--text", "the cat", "--text", "the dog", "--html", file)
    assert answer.code == 0 and "b/thumbs/1.bin" in file.read_text("utf-8")
    answer = polyhead("see", "-m", world / "my-encoder", "the cat", "--html", file)
    assert answer.code == 0 and "b/thumbs/1.bin" not in file.read_text("utf-8")


def test_gradients_towards_a_target_are_on_the_page_and_in_the_recording(
    polyhead: Polyhead, world: Path, tmp_path: Path
):
    file, run = tmp_path / "page.html", tmp_path / "run.safetensors"
    answer = polyhead("see", world / "my-digits", "--image", world / "seven.png", "--target", "glad", "--html", file)
    assert answer.code == 0 and "whole/1/0/4.bin" in file.read_text("utf-8")
    answer = polyhead("see", world / "my-summarizer", "--text", "the dog ran.", "--target", "answer", "--save", run)
    assert answer.code == 0
    recording = Recording.load(run)
    assert recording.target is not None and "all that was written" in recording.target.en
    assert all(one.gradients for one in recording.facts())
    answer = polyhead("see", world / "my-encoder", "--text", TEXT, "--html", file)
    assert answer.code == 0 and "/4.bin" not in file.read_text("utf-8")


def test_a_figure_is_drawn_into_a_file(polyhead: Polyhead, world: Path, tmp_path: Path):
    file = tmp_path / "map.tsv"
    answer = polyhead("see", world / "my-encoder", "--text", TEXT, "--layer", 1, "--head", 2, "--figure", file)
    assert (answer.code, answer.out, answer.err) == (0, "", f"Drawn into {file}.\n")
    seen = see(TEXT, model=world / "my-encoder")
    weights = seen.weights("encoder", layer=1)[2]
    head, *lines = (line.split("\t") for line in file.read_text("utf-8").splitlines())
    told = [float(line[head.index("weight")]) for line in lines]
    assert told == pytest.approx(weights.ravel().tolist(), rel=1e-4, abs=1e-6)


def test_a_figure_speaks_the_language_that_is_asked_for_and_says_what_no_font_has(
    polyhead: Polyhead, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    told, asked = ("see", world / "my-encoder", "--text", "the \ua992\ua993 ran", "--figure"), tmp_path / "x.svg"
    assert polyhead(*told, asked).code == 0 and "行是看的一方" in asked.read_text("utf-8")
    assert polyhead(*told, asked, "--lang", "en").code == 0 and "Row = who looks" in asked.read_text("utf-8")
    monkeypatch.setattr("polyhead.lens.figures.fonts.installed", list)
    answer = polyhead(*told, tmp_path / "x.png", "--lang", "en")
    assert answer.code == 0 and (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert answer.err.splitlines()[1].startswith("No installed font has \ua992 U+A992 JAVANESE LETTER GA, ")


def test_a_page_is_served_and_the_browser_told(polyhead: Polyhead, world: Path, monkeypatch: pytest.MonkeyPatch):
    """Up to where it would answer; tests/lens/page/test_server.py goes on from there."""
    from polyhead.lens.page import server

    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(server.Server, "run", lambda self: self.tell(f"http://127.0.0.1:1/{self.token}/"))
    answer = polyhead("see", world / "my-encoder", "--text", TEXT)
    assert answer.code == 0 and answer.lines == opened and opened[0].startswith("http://127.0.0.1:1/")
    assert answer.err == "The page answers there, to this machine alone; Ctrl-C ends it.\n"
    assert polyhead("see", world / "my-encoder", "--text", TEXT, "--no-browser").out.startswith("http://127.0.0.1:1/")
    assert len(opened) == 1


@pytest.mark.parametrize("token", [t for t in HOSTILE if t.strip() and not any("\ud800" <= c <= "\udfff" for c in t)])
def test_no_character_acts_on_the_terminal_whatever_the_model(polyhead: Polyhead, world: Path, token: str):
    answer = polyhead("see", world / "my-writer", "--text", f"cat{token}cat", "--layer", 0)
    assert answer.code == 0, answer.err
    assert not set(answer.out) & set(ACTING)


def test_no_word_of_a_recording_acts_on_the_terminal(polyhead: Polyhead, tmp_path: Path):
    """Lone surrogates too, which no text that is typed can hold."""
    from polyhead.lens.rulers import Words
    from tests.lens.tiny import marian, ran

    recording = ran(marian())[1]
    for start in range(0, len(HOSTILE) - 9, 9):
        recording.rulers = {"encoder": Words(tuple(HOSTILE[start : start + 9]))}
        recording.save(tmp_path / "run")
        for how in (["--links"], ["--head", 0], ["--layer", 0]):
            answer = polyhead("see", "--recording", tmp_path / "run", "--part", "encoder", *how)
            assert answer.code == 0, answer.err
            assert not set(answer.out) & set(ACTING)
            answer.out.encode()


def test_a_text_that_is_also_the_name_of_a_folder_is_read_and_the_folder_is_told_of(
    polyhead: Polyhead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "苹果").mkdir()
    monkeypatch.chdir(tmp_path)
    answer = polyhead("see", "苹果", "--layer", 0, "--head", 0)
    assert answer.code == 0 and "苹果 is read as a text; the folder of that name holds no model." in answer.err
    assert "folder" not in polyhead("see", "香蕉", "--layer", 0, "--head", 0).err


def test_what_cannot_be_meant_is_refused_in_one_sentence(polyhead: Polyhead, world: Path, tmp_path: Path):
    encoder, digits, mixtral = (world / name for name in ("my-encoder", "my-digits", "my-mixtral"))
    for words, told in (
        ([], "Give a TEXT"),
        ([encoder], "is a model; give it something to read, with --text"),
        (["zh-en"], "zh-en is a model; give it something to read, with --text"),
        ([encoder, "--text", "a", "--image", "b"], "Give one kind of thing to see; found --text and --image"),
        ([encoder, "more", "--text", "a"], "before it stands one model; found"),
        ([encoder, "--recording", "a"], "before it stands nothing; found"),
        ([encoder, "--image", "b"], "which is given a text; found image"),
        ([digits, "--text", "b"], "which is given an image; found text"),
        ([digits, "--image", world / "none.png"], "none.png cannot be read"),
        ([digits, "--image", world / "speech.wav"], "is not an image that can be read"),
        (["--recording", tmp_path / "none"], "There is no recording"),
        (["--recording", world / "seven.png"], "is damaged or no recording"),
        ([encoder, "--text", "a", "--part", "cross"], "no part 'cross', only encoder"),
        ([encoder, "--text", "a", "--layer", 9], "layers are 0 to 1, but layer is 9"),
        ([encoder, "--text", "a", "--layer", 0, "--html", tmp_path / "x.html"], "draw here; leave them out for a page"),
        ([encoder, "--text", "a", "--html", tmp_path / "x.html", "--port", 8000], "leave these out"),
        ([encoder, "--text", "a", "--figure", tmp_path / "x.png", "--links"], "leave out --links"),
        ([encoder, "--text", "a", "--lang", "zh", "--no-browser"], "give --figure FILE too"),
        ([encoder, "--text", "a", "--figure", tmp_path / "x.gif"], "is written as .png, .svg or .tsv"),
        ([encoder, "--text", "a", "--html-size", 3], "is of the file that --html names"),
        ([encoder, "--text", "a", "--html", tmp_path / "none" / "x.html"], "There is no folder"),
        ([encoder, "--text", "a", "--save", tmp_path / "none" / "x"], "There is no folder"),
        (
            [encoder, *(["--text", "a"] * 3), "--no-browser"],
            "A page shows one thing, or compares two; found 3 of --text",
        ),
        ([encoder, *(["--text", "a"] * 2), "--save", tmp_path / "x"], "--save keeps one recording; found 2 of --text"),
        ([encoder, "--text", "a", "--beam", 2], "writes no answer, so beam says nothing"),
        (["--recording", "x", "--beam", 2], "was made already, so --beam says nothing"),
        ([encoder, "--text", "a", "--target", "glad", "--layer", 0], "--target is for the page and for --save"),
        ([encoder, "--text", "a", "--target", "glad", "--no-browser"], "gives vectors, and no label or word"),
        (
            [digits, "--image", world / "seven.png", "--target", "gald", "--no-browser"],
            "labels sad, glad; found 'gald'",
        ),
        (["--recording", "x", "--target", "glad"], "was made already, so --target says nothing"),
        ([encoder, "--text", "a", "--experts"], "BertModel without experts"),
        ([encoder, "--text", "a", "--experts", "--head", 0], "leave out --head."),
        ([digits, "--image", world / "seven.png", "--experts"], "leave out --image."),
        ([mixtral, "--text", "a", "--experts", "--part", "cross"], "leave out --part cross."),
        (
            [mixtral, "--text", "a", "--experts", "--part", "encoder"],
            "no experts in its encoder layers; it has some in",
        ),
        (
            [mixtral, "--text", "a", "--experts", "--layer", 2],
            "no experts in its layer 2; it has some in decoder layer 0",
        ),
        ([tmp_path / "gone", "--text", "a"], "There is no model"),
        ([encoder, "--text", "a", "--port", 99999, "--no-browser"], "65535"),
    ):
        refused(polyhead("see", *words), told)
    assert not [*tmp_path.iterdir()]


def test_experts_tell_where_the_tokens_of_texts_went(polyhead: Polyhead, world: Path):
    texts = ["the cat sat", "a\x1b[2J dog"]
    asked = ["see", world / "my-mixtral", *(word for text in texts for word in ("--text", text)), "--experts"]
    every, one = polyhead(*asked), polyhead(*asked, "--layer", 1)
    assert (every.code, every.err, one.code) == (0, "", 0)
    found = experts(texts, model=world / "my-mixtral")
    rows = [line.split() for line in every.lines if line.startswith("decoder layer")]
    assert [row[3:7] for row in rows] == [[str(n) for n in layer.counts.tolist()] for layer in found.layers]
    assert every.lines[:2] == ["the cat sat", "a␛[2J dog"] and "\x1b" not in every.out + one.out
    assert "decoder layer 1: 4 of 4 experts took some of" in one.out


def test_a_sound_that_is_too_long_says_so(polyhead: Polyhead, world: Path, tmp_path: Path):
    answer = polyhead("see", world / "my-hearer", "--audio", world / "talk.wav", "--layer", 0, "--language", "en")
    assert answer.code == 0 and answer.err == "The sound lasts 3.0 seconds; the first 2 are shown.\n"
