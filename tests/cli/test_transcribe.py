"""`polyhead transcribe`: the words of the function of the same name, as lines, JSON and subtitles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import polyhead as library
from polyhead.cli.screen import one_line
from tests.cli.conftest import Polyhead, refused
from tests.tasks.speech import sound, speech_in_folder, write_wave

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    speech_in_folder(folder / "model", seed=1)
    write_wave(folder / "one.wav", sound(1.5))
    write_wave(folder / "two.wav", torch.stack((sound(5.0, 4), sound(5.0, 4))))
    return folder


def test_a_line_for_each_file_from_words_lists_and_pipes(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    files = [world / "one.wav", world / "two.wav"]
    wanted = library.transcribe(files, model=world / "model")
    given = polyhead("transcribe", "-m", world / "model", *files)
    assert (given.code, given.lines) == (0, [one_line(each.text) for each in wanted])
    heard = [f"{each.item}: heard as {each.language} ({100 * (each.probability or 0):.0f}%)" for each in wanted]
    assert [line for line in given.err.splitlines() if "heard as" in line] == heard
    names = "".join(f"{file}\n" for file in files)
    (tmp_path / "files.txt").write_text(names, "utf-8")
    assert polyhead("transcribe", "-m", world / "model", "-i", tmp_path / "files.txt").out == given.out
    assert polyhead("transcribe", "-m", world / "model", stdin=names.encode()).out == given.out
    polyhead("transcribe", "-m", world / "model", *files, "-o", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text("utf-8") == given.out


@pytest.mark.parametrize("times", ["segments", "words"])
def test_times_stand_before_what_was_said(polyhead: Polyhead, world: Path, times: Any) -> None:
    how: dict[str, Any] = {"model": world / "model", "language": "en", "task": "translate", "doubt": None}
    wanted = library.transcribe(world / "two.wav", times=times, **how)
    parts = [p for s in wanted.segments for p in (s.words if times == "words" else (s,))]
    lines = [f"{p.start:.2f}\t{p.end:.2f}\t{one_line(p.text)}" for p in parts]
    words = ("transcribe", "-m", world / "model", "--language", "English", "--task", "translate", "--plain")
    assert polyhead(*words, "--times", times, world / "two.wav").lines == lines
    both = polyhead(*words, "--times", times, world / "two.wav", world / "two.wav").lines
    assert both == [f"{world / 'two.wav'}\t{line}" for line in lines] * 2
    told = json.loads(polyhead(*words, "--times", times, "--json", world / "two.wav").out)
    assert [s["text"] for s in told["segments"]] == [s.text for s in wanted.segments]
    assert len(told["segments"][0]["words"]) == len(wanted.segments[0].words)
    assert (told["language"], told["task"], told["seconds"]) == ("en", "translate", 5.0)


def test_subtitles_are_a_file_of_their_own(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    words = ("transcribe", "-m", world / "model", "--language", "zh", "--plain", world / "two.wav")
    wanted = library.transcribe(world / "two.wav", model=world / "model", language="zh", times="segments", doubt=None)
    assert polyhead(*words, "--format", "srt", "-o", tmp_path / "two.srt").code == 0
    assert (tmp_path / "two.srt").read_text("utf-8") == wanted.srt()
    assert polyhead(*words, "--format", "vtt").out == wanted.vtt()


def test_a_beam_is_a_beam_and_what_is_left_out_is_said(polyhead: Polyhead, world: Path) -> None:
    wanted = library.transcribe(
        world / "one.wav", model=world / "model", language="zh", doubt=None, search=library.Beam(3)
    )
    words = ("transcribe", "-m", world / "model", "--language", "zh", world / "one.wav", "--plain")
    assert polyhead(*words, "--beam", 3).lines == [one_line(wanted.text)]
    told = library.transcribe(
        world / "two.wav", model=world / "model", language="zh", doubt=None, prompt="the cat", carry=True
    )
    more = (*words[:-2], world / "two.wav", "--plain", "--prompt", "the cat", "--carry")
    assert polyhead(*more).lines == [one_line(told.text)]
    limit = polyhead(*words, "--beam", 3).err
    assert ("the text of 0.00-1.50 s reached the model's limit" in limit) == bool(wanted.cut)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("one.wav",), "Give the folder of a model: --model FOLDER"),
        (("-m", "model", "one.wav", "--format", "sub"), "--format is text, srt or vtt; found 'sub'"),
        (("-m", "model", "one.wav", "two.wav", "--format", "srt"), "makes the subtitles of one sound"),
        (("-m", "model", "one.wav", "--format", "vtt", "--json"), "makes the subtitles of one sound"),
        (("-m", "model", "one.wav", "-i", "list.txt"), "Give sound files or --input FILE, not both."),
        (("-m", "model", "one.wav", "--language", "klingon"), "The model knows no language 'klingon'"),
        (("-m", "model", "one.wav", "--task", "sing"), "task must be transcribe or translate; found 'sing'"),
        (("-m", "model", "one.wav", "--times", "word"), "times must be 'segments', 'words' or None; found 'word'"),
        (("-m", "model", "gone.wav"), "gone.wav cannot be read"),
        (("-m", "model", "model/config.json"), "is not a sound that is known here"),
        (("-m", "zh-en", "one.wav"), "transcribe needs a model that gives speech to text"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    polyhead: Polyhead, world: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(world)
    refused(polyhead("transcribe", *words), sentence)


def test_a_file_that_is_no_sound_leaves_no_output(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"RIFF, but not really")
    refused(
        polyhead("transcribe", "-m", world / "model", world / "one.wav", tmp_path / "no.wav", "-o", tmp_path / "o"),
        "no.wav",
    )
    assert not (tmp_path / "o").exists()
