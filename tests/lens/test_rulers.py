"""Rulers say what places stand for, come back from a file as they were, and never as something else."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyhead.errors import ArgumentError, DataError
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Frames, Patches, Places, Ruler, Words, heard, png, rulers_of, seen_mel
from polyhead.operator.record_file import sealed
from tests.hostile import HOSTILE
from tests.lens.tiny import marian, ran


def picture() -> bytes:
    return png(np.random.RandomState(0).randint(0, 256, (20, 30, 3)))[0]


def rulers() -> dict[str, Ruler]:
    noise = torch.from_numpy(np.random.RandomState(1).randn(4000).astype("f4")) / 4
    return {
        "encoder": Frames(0.02, 100, 0.25, heard(noise, 16_000), seen_mel(noise.reshape(20, 200))),
        "decoder": Words(tuple(HOSTILE), "", (), (0, 3)),
        "chosen": Words.of("a中b", [Piece(5, "a", 0, 1), Piece(6, "<0xE4>", 1, 2), Piece(7, "b", 2, 3)]),
        "image": Patches(2, 3, ("[CLS]",), picture(), (30, 20)),
        "more": Places(7),
    }


def test_every_ruler_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    recording = ran(marian())[1]
    recording.rulers = {**rulers()}
    recording.save(tmp_path / "run")
    again = Recording.load(tmp_path / "run")
    assert again.rulers == rulers() and again.model is None
    assert [ruler.count for ruler in rulers_of(again.rulers).values()] == [100, len(HOSTILE), 3, 7, 7]


def test_whole_words_are_known_by_their_places() -> None:
    pieces = [Piece(0, "▁app", 0, 3), Piece(1, "les", 3, 6), Piece(2, "我", 6, 7), Piece(3, "</s>", 7, 7)]
    words = Words.of("apples我", pieces)
    assert words.labels == ("app", "les", "我", "</s>")
    assert words.words == [0, 0, 1, 2] and words.signs == (3,)


def test_fragments_of_a_character_show_the_character() -> None:
    words = Words.of("雨", [Piece(0, "<0xE9>", 0, 1), Piece(1, "<0x9B>", 0, 1), Piece(2, "<0xA8>", 0, 1)])
    assert words.labels == ("雨",) * 3 and words.words == [0, 0, 0]


def test_a_sound_can_be_listened_to() -> None:
    with wave.open(io.BytesIO(heard(torch.tensor([0.0, 0.5, -1.0, 2.0]), 8000))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [0, 16384, -32767, 32767]
    with wave.open(io.BytesIO(heard(torch.zeros(100_000), 1000))) as file:
        assert file.getnframes() == 60_000  # a minute


def test_pictures_are_small_and_upright() -> None:
    tall = np.zeros((2000, 1000, 3))
    tall[:1000] = 255
    body, size = png(tall)
    image = Image.open(io.BytesIO(body))
    assert image.size == size == (256, 512)
    assert (image.getpixel((9, 9)), image.getpixel((9, 500))) == ((255,) * 3, (0,) * 3)
    mel = torch.zeros(80, 3000)
    mel[0] = 1.0  # the lowest band
    drawn = np.asarray(Image.open(io.BytesIO(seen_mel(mel))))
    assert drawn.shape == (80, 750) and (drawn[-1] == 255).all() and not drawn[:-1].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Words(("a", "b"), "ab", ((0, 1),)),
        lambda: Words(("a",), "a", ((0, 2),)),
        lambda: Words(("a",), "a", ((1, 0),)),
        lambda: Words(("a",), signs=(1,)),
        lambda: Words((1,)),  # pyright: ignore[reportArgumentType]
        lambda: Patches(0, 3),
        lambda: Patches(2, 3, picture=b"GIF89a"),
        lambda: Frames(0.0, 5),
        lambda: Frames(float("nan"), 5),
        lambda: Frames(0.1, 5, sound=b"OggS"),
        lambda: Places(-1),
        lambda: Places(True),
    ],
)
def test_rulers_that_are_none_are_refused(make: Any) -> None:
    with pytest.raises(ArgumentError, match=r"must have .*; this ruler has not"):
        make()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "worms"},
        {"labels": "ab"},
        {"labels": [1, 2]},
        {"places": [[0, 99], [0, 0]]},
        {"signs": [7]},
        {"signs": None},
        {"media": ["picture"]},
        {"name": None, "places": 3},
    ],
)
def test_a_file_whose_rulers_are_none_ends_in_one_sentence(wrong: dict[str, Any], tmp_path: Path) -> None:
    """The head is sealed again, as by somebody who means it."""
    recording = ran(marian())[1]
    recording.rulers = {"encoder": Words(("a", "b"), "ab", ((0, 1), (1, 2)))}
    recording.save(tmp_path / "run")
    content = (tmp_path / "run").read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + size])
    run = json.loads(head["__metadata__"]["run"])
    run["rulers"][0] |= wrong
    head["__metadata__"] |= sealed("run", run)
    told = json.dumps(head).encode()
    told += b" " * (-len(told) % 8)
    (tmp_path / "run").write_bytes(struct.pack("<Q", len(told)) + told + content[8 + size :])
    with pytest.raises(DataError, match=r"run is damaged or no recording \(.*\); save the recording again") as refused:
        Recording.load(tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_a_picture_with_a_wrong_bit_is_refused(tmp_path: Path) -> None:
    recording = ran(marian())[1]
    recording.rulers = {"encoder": Patches(1, 1, picture=picture(), size=(30, 20))}
    recording.save(tmp_path / "run")
    content = bytearray((tmp_path / "run").read_bytes())
    content[-5] ^= 1
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(DataError, match="picture is not what was written"):
        Recording.load(tmp_path / "run")


def test_what_is_known_of_calls_is_told_without_reading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = ran(marian())[1]
    recording.save(tmp_path / "run")
    again = Recording.load(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("polyhead.lens.recording_file.unfolded", lambda *_: 1 / 0)
        facts = again.facts()
    assert facts == recording.facts() == [call.facts for call in again]
    assert [one.part for one in facts] == [call.part for call in again]
    assert [one.part for one in facts] == ["encoder"] * 2 + ["decoder", "cross"] * 2
    assert [one.causal for one in facts] == [False] * 2 + [True, False] * 2
