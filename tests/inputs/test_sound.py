"""Sounds: pictures equal to those of `transformers`, files read as soundfile reads them, tones kept at any rate,
nothing lost, and whatever is no sound refused in one sentence.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperFeatureExtractor, WhisperProcessor

from polyhead.errors import ArgumentError, CheckpointError, ConfigError, DataError, MissingExtra
from polyhead.inputs.sound import LONGEST, Sounds, log_mel, mel_filters, mono, read, resample

Floats = NDArray[np.float32]
RATE = 16_000


def tone(hertz: float, seconds: float, rate: int = RATE, loudness: float = 0.5) -> Floats:
    places = np.arange(round(seconds * rate)) / rate
    return (loudness * np.sin(2 * np.pi * hertz * places + 0.3)).astype(np.float32)


def noise(seconds: float, loudness: float = 0.1) -> Floats:
    random = np.random.default_rng(round(seconds * 100))
    return (loudness * random.standard_normal(round(seconds * RATE))).astype(np.float32)


def chirp(seconds: float) -> Floats:
    places = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (50 + 3900 * places / seconds) * places)).astype(np.float32)


def speechlike(seconds: float) -> Floats:
    """Syllables of a low voice with pauses between them, in some noise."""
    places = np.arange(round(seconds * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * places) / k for k in range(1, 30))
    return (0.1 * voice * np.maximum(np.sin(2 * np.pi * 2 * places), 0) + noise(seconds, 1e-3)).astype(np.float32)


SOUNDS = {
    "tone": tone(440, 2),
    "noise": noise(1.7),
    "chirp": chirp(2),
    "speech": speechlike(1.5),
    "quiet": noise(1, 1e-6),
    "silence": np.zeros(RATE, np.float32),
    "click": np.eye(1, 3, dtype=np.float32)[0],
    "loud": tone(100, 2, loudness=30),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


# --- pictures ---------------------------------------------------------------------------------------------------------

OTHERS = {
    "80 bands": {},
    "128 bands": {"feature_size": 128},
    "another window": {"n_fft": 512, "hop_length": 200, "feature_size": 64},
    "another rate": {"sampling_rate": 22_050, "n_fft": 1024, "hop_length": 256, "feature_size": 40},
    "a hop that leaves a rest": {"hop_length": 170},
    "no silence after it": {"padding_value": 0.125},
}


def both(folder: Path, **settings: Any) -> tuple[Sounds, WhisperFeatureExtractor]:
    """Ours and theirs, through one file."""
    theirs = WhisperFeatureExtractor(**{"chunk_length": 2, **settings})
    theirs.save_pretrained(folder)
    return Sounds.load(folder), WhisperFeatureExtractor.from_pretrained(folder)


def drawn(theirs: WhisperFeatureExtractor, sounds: list[Floats]) -> Tensor:
    return theirs(sounds, sampling_rate=theirs.sampling_rate, return_tensors="pt")["input_features"]


@pytest.mark.parity
@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_pictures_are_those_of_transformers_bit_for_bit(folder: Path, settings: dict[str, Any]) -> None:
    ours, theirs = both(folder, **settings)
    mine = ours.pictures([torch.from_numpy(sound) for sound in SOUNDS.values()])
    assert mine.dtype == torch.float32
    assert mine.shape == (len(SOUNDS), ours.feature_size, ours.nb_max_frames)
    assert torch.equal(mine, drawn(theirs, list(SOUNDS.values())))


@pytest.mark.parity
def test_a_whole_picture_of_30_seconds_is_that_of_transformers_bit_for_bit(folder: Path) -> None:
    ours, theirs = both(folder, feature_size=128, chunk_length=30)
    mine = ours.pictures([torch.from_numpy(speechlike(31)[: 30 * RATE])])
    assert mine.shape == (1, 128, 3000)
    assert torch.equal(mine, drawn(theirs, [speechlike(31)]))  # theirs cuts what is longer


@pytest.mark.parity
@pytest.mark.parametrize("name", SOUNDS)
def test_without_torch_transformers_draws_the_same_to_its_own_rounding(folder: Path, name: str) -> None:
    """Its two ways differ by as much: float32 hears little beside a loud pure tone. In float64 ours is within 1e-6."""
    ours, theirs = both(folder)
    [piece] = ours.pieces(torch.from_numpy(SOUNDS[name]))
    numpy_way = torch.from_numpy(theirs._np_extract_fbank_features(piece.samples[None].numpy(), "cpu"))
    difference = (ours.pictures([piece.samples]) - numpy_way).abs()
    assert difference.max() < 1e-4
    assert difference.mean() < 3e-6
    exact = log_mel(piece.samples[None].double(), mel_filters(80, n_fft=400, rate=RATE), hop_length=160)
    assert (exact - numpy_way).abs().max() < 1e-6


@pytest.mark.parity
@pytest.mark.parametrize(("bands", "n_fft", "rate"), [(80, 400, 16_000), (128, 400, 16_000), (40, 1024, 22_050)])
def test_filters_are_those_of_transformers(bands: int, n_fft: int, rate: int) -> None:
    theirs = WhisperFeatureExtractor(feature_size=bands, n_fft=n_fft, sampling_rate=rate).mel_filters
    ours = mel_filters(bands, n_fft=n_fft, rate=rate)
    assert np.abs(ours.numpy() - theirs).max() < 1e-15
    assert torch.equal(ours.float(), torch.from_numpy(theirs).float())


def test_a_frame_is_what_the_definition_says() -> None:
    """The sums written out: mirror, window, Fourier, filters, logarithm, floor."""
    sound = (chirp(1) + noise(1)).astype(np.float64)
    filters = mel_filters(80, n_fft=400, rate=RATE)
    picture = log_mel(torch.from_numpy(sound)[None], filters, hop_length=160)[0].numpy()  # [80, 100]
    mirrored = np.concatenate((sound[200:0:-1], sound, sound[-2:-202:-1]))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    frames = [turns @ (window * mirrored[160 * i : 160 * i + 400]) for i in range(100)]
    energy = filters.numpy().T @ (np.abs(np.array(frames)) ** 2).T
    loudness = np.log10(np.maximum(energy, 1e-10))
    assert np.allclose(picture, (np.maximum(loudness, loudness.max() - 8) + 4) / 4, rtol=0, atol=1e-9)


def test_each_band_has_area_one_and_sees_its_own_tone() -> None:
    filters = mel_filters(40, n_fft=8000, rate=RATE)  # a frequency every 2 Hz
    assert torch.allclose(filters.sum(0) * 2, torch.ones(40, dtype=torch.float64), atol=0.01)
    sounds = Sounds(feature_size=40, chunk_length=1)
    loudest = [
        int(sounds.pictures([torch.from_numpy(tone(hertz, 1))])[0, :, 50].argmax()) for hertz in (200, 1000, 5000)
    ]
    assert loudest == [int(mel_filters(40, n_fft=400, rate=RATE)[hertz // 40].argmax()) for hertz in (200, 1000, 5000)]


def test_a_picture_does_not_depend_on_its_batch_nor_on_autocast_or_the_default_dtype() -> None:
    sounds = Sounds(chunk_length=2)
    tensors = [torch.from_numpy(sound) for sound in SOUNDS.values()]
    batch = sounds.pictures(tensors)
    for picture, tensor in zip(batch, tensors, strict=True):
        assert torch.allclose(picture, sounds.pictures([tensor])[0], rtol=0, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sounds.pictures(tensors), batch)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(sounds.pictures(tensors), batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(sounds.pictures(torch.stack(tensors[:1])), sounds.pictures(tensors[:1]))


# --- settings ---------------------------------------------------------------------------------------------------------


def said(folder: Path, **changes: Any) -> Path:
    """A settings file as the published models have it, filters and all, with some of it changed; None leaves out."""
    settings = {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 80,
        "hop_length": 160,
        "mel_filters": [[0.25, 0.5]],
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16000,
    }
    kept = {name: value for name, value in {**settings, **changes}.items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(kept))
    return folder


def test_the_published_settings_are_read_and_written_back_whole(folder: Path) -> None:
    sounds = Sounds.load(said(folder, return_attention_mask=True))
    assert sounds == Sounds()
    assert (sounds.n_samples, sounds.nb_max_frames) == (480_000, 3000)
    sounds.save(folder / "copy")
    copy = json.loads((folder / "copy" / "preprocessor_config.json").read_text())
    original = json.loads((folder / "preprocessor_config.json").read_text())
    assert list(copy.items()) == list(original.items())


@pytest.mark.parity
def test_what_transformers_wrote_is_written_back_byte_for_byte(folder: Path) -> None:
    both(folder, feature_size=128)[0].save(folder / "copy")
    name = "preprocessor_config.json"
    assert (folder / "copy" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parity
def test_what_is_replaced_or_made_is_written_so_that_transformers_draws_it(folder: Path) -> None:
    loaded = replace(Sounds.load(said(folder)), feature_size=128, chunk_length=2)
    for sounds in (loaded, Sounds(feature_size=128, chunk_length=2)):
        sounds.save(folder / "new")
        assert "mel_filters" not in (folder / "new" / "preprocessor_config.json").read_text()
        assert Sounds.load(folder / "new") == sounds
        theirs = WhisperFeatureExtractor.from_pretrained(folder / "new")
        assert torch.equal(sounds.pictures([torch.from_numpy(chirp(2))]), drawn(theirs, [chirp(2)]))


@pytest.mark.parity
def test_settings_within_a_processors_file_go_first_as_in_transformers(folder: Path) -> None:
    theirs = WhisperFeatureExtractor(feature_size=128)
    processor = json.dumps({"feature_extractor": theirs.to_dict(), "processor_class": WhisperProcessor.__name__})
    (said(folder) / "processor_config.json").write_text(processor)
    assert Sounds.load(folder).feature_size == WhisperFeatureExtractor.from_pretrained(folder).feature_size == 128
    (folder / "processor_config.json").write_text('{"processor_class": "WhisperProcessor"}')
    assert Sounds.load(folder).feature_size == WhisperFeatureExtractor.from_pretrained(folder).feature_size == 80


@pytest.mark.parity
def test_what_is_ignored_changes_nothing_in_transformers_either(folder: Path) -> None:
    said(folder, do_normalize=True, return_attention_mask=True, chunk_length=2, n_samples=32000, nb_max_frames=200)
    theirs = WhisperFeatureExtractor.from_pretrained(folder)
    mine = Sounds.load(folder).pictures([torch.from_numpy(chirp(1))])
    assert torch.equal(mine, drawn(theirs, [chirp(1)]))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"dither": 1e-4}, "dither is 0.0001, expected 0"),
        ({"padding_side": "left"}, "padding_side is 'left', expected 'right'"),
        ({"win_length": 320}, "'win_length' is unknown"),
        ({"hop_lenght": 160}, "'hop_lenght' is unknown (did you mean 'hop_length'?)"),
        ({"preemphasis": 0.97}, "'preemphasis' is unknown"),
        ({"n_fft": None}, "n_fft is missing"),
        ({"feature_size": "80"}, "feature_size is '80', expected a whole number from 1 to 1,024"),
        ({"feature_size": True}, "feature_size is True"),
        ({"feature_size": 400}, "feature_size is 400, but"),
        ({"sampling_rate": 8000}, "of n_fft 400 at sampling_rate 8,000"),
        ({"sampling_rate": 0}, "sampling_rate is 0"),
        ({"n_fft": 401}, "n_fft is 401, expected an even number"),
        ({"hop_length": 500_000}, "too much for 480,000 samples"),
        ({"chunk_length": 30.0}, "chunk_length is 30.0"),
        ({"padding_value": math.nan}, "padding_value is nan"),
        ({"padding_value": "0"}, "padding_value is '0'"),
        ({"nb_max_frames": 1500}, "nb_max_frames is 1500, expected 3000"),
        ({"n_samples": 160_000}, "n_samples is 160000, expected 480000"),
    ],
)
def test_settings_that_would_change_a_picture_are_refused_by_name(
    folder: Path, changes: dict[str, Any], found: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Sounds.load(said(folder, **changes))
    assert found in str(refused.value)
    assert str(folder / "preprocessor_config.json") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_everything_wrong_with_settings_is_said_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"n_fft is missing; hop_length is -1.*; dither is 1.*; 'stride' is unknown"):
        Sounds.load(said(folder, n_fft=None, hop_length=-1, dither=1, stride=2))
    with pytest.raises(ConfigError, match=r"hop_length is 0.*; chunk_length is 0"):
        Sounds(hop_length=0, chunk_length=0)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000, "\udcff"])
def test_a_damaged_settings_file_is_refused(folder: Path, text: str) -> None:
    (folder / "preprocessor_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json .*fetch it anew"):
        Sounds.load(folder)


def test_a_folder_without_settings_is_refused(folder: Path) -> None:
    for place in (folder, folder / "none"):
        with pytest.raises(CheckpointError, match=r"holds no preprocessor_config\.json; give the folder of a model"):
            Sounds.load(place)


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "pieces"), [(1, 1), (31_999, 1), (32_000, 1), (32_001, 2), (100_000, 4)])
def test_pieces_hold_every_sample_at_its_time_and_silence_after_the_last(samples: int, pieces: int) -> None:
    sounds = Sounds(chunk_length=2)
    sound = torch.rand(samples) + 0.1
    cut = sounds.pieces(sound)
    assert len(cut) == pieces
    together = torch.cat([piece.samples for piece in cut])
    assert torch.equal(together[:samples], sound)
    assert not together[samples:].any()
    assert all(len(piece.samples) == sounds.n_samples for piece in cut)
    assert [piece.start for piece in cut] == [2 * i for i in range(pieces)]
    assert [piece.end for piece in cut] == [2 * i for i in range(1, pieces)] + [samples / RATE]
    assert sounds.pictures([piece.samples for piece in cut]).shape == (pieces, 80, 200)


def test_a_sound_and_its_padded_piece_make_one_picture() -> None:
    sounds = Sounds(chunk_length=2, padding_value=0.01)
    sound = torch.from_numpy(chirp(1.3))
    [piece] = sounds.pieces(sound)
    assert torch.equal(sounds.pictures([sound]), sounds.pictures([piece.samples]))


def test_nothing_is_cut_in_silence() -> None:
    with pytest.raises(ArgumentError, match=r"Sound 2 of 2 lasts 2\.0001 seconds, expected at most 2; `pieces` cuts"):
        Sounds(chunk_length=2).pictures([torch.zeros(5), torch.zeros(32_001)])


@pytest.mark.parametrize(
    ("sounds", "kind", "found"),
    [
        ([], ArgumentError, "There is no sound to draw"),
        ([torch.zeros(2, 5)], ArgumentError, r"Sound 1 of 1 is float32 of shape \[2, 5\], expected floats \[samples\]"),
        (torch.zeros(5), ArgumentError, r"Sound 1 of 5 is float32 of shape \[\]"),
        ([torch.zeros(5, dtype=torch.int16)], ArgumentError, "is int16 of shape"),
        ([torch.zeros(0)], DataError, "Sound 1 of 1 holds no samples"),
        ([torch.zeros(9), torch.tensor([0.0, math.nan])], DataError, "Sound 2 of 2 holds 1 values that are no numbers"),
        ([torch.full((9,), 3e38)], DataError, "expected numbers from -1 to 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(sounds: Any, kind: type[Exception], found: str) -> None:
    with pytest.raises(kind, match=found):
        Sounds(chunk_length=2).pictures(sounds)


# --- another rate -----------------------------------------------------------------------------------------------------

RATES = [8_000, 11_025, 12_000, 16_000, 16_001, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000]


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_stays_as_it_is_at_any_rate(rate: int) -> None:
    """Up to nine tenths of half the lower rate, in height and in time, away from the ends."""
    for hertz in (0.01, 0.1, 0.5, 0.9):
        hertz = hertz * min(rate, RATE) / 2
        heard = resample(torch.from_numpy(tone(hertz, 0.2, rate)), rate, RATE).numpy()
        assert heard.shape == (math.ceil(round(0.2 * rate) * RATE / rate),)
        away = slice(300, -300)
        assert np.abs(heard - tone(hertz, 1)[: len(heard)])[away].max() < 1e-4


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_what_the_lower_rate_cannot_hold_is_silenced_and_not_folded(rate: int) -> None:
    for hertz in (8_050, 9_000, 0.49 * rate):
        heard = resample(torch.from_numpy(tone(hertz, 0.2, rate, 1.0)), rate, RATE)
        assert heard[300:-300].abs().max() < 2e-4


def test_a_constant_stays_exactly_and_the_same_rate_changes_nothing() -> None:
    for rate in RATES:
        heard = resample(torch.full((rate // 5,), 0.75), rate, RATE)
        assert (heard[300:-300] - 0.75).abs().max() < 1e-6
    sound = torch.rand(100)
    assert torch.equal(resample(sound, RATE, RATE), sound)


def test_there_and_back_is_the_same_sound() -> None:
    sound = torch.from_numpy(speechlike(0.5))
    smooth = resample(resample(sound, RATE, 8_000), 8_000, RATE)  # without what 8 kHz cannot hold
    back = resample(resample(smooth, RATE, 44_100), 44_100, RATE)
    assert (back - smooth)[300:-300].abs().max() < 1e-3


@pytest.mark.parametrize("samples", [1, 2, 3, 7, 160, 161])
def test_the_shortest_sounds_change_their_rate_too(samples: int) -> None:
    for rate in (1_000, 8_000, 44_100, 767_999):
        heard = resample(torch.ones(samples), rate, RATE)
        assert len(heard) == -(-samples * RATE // rate)
        assert heard.isfinite().all()


def test_blocks_of_a_long_sound_meet_without_a_seam() -> None:
    sound = torch.from_numpy(noise(2))
    whole = resample(sound, 48_000, RATE)
    part = resample(sound[6_000:], 48_000, RATE)
    assert (whole[2_000:] - part)[200:].abs().max() < 1e-6


# --- files ------------------------------------------------------------------------------------------------------------

STEREO = np.stack((tone(300, 0.5), noise(0.5)), axis=1)  # [samples, channels]


def riff(body: bytes, *, code: int, channels: int, rate: int, bits: int, length: int | None = None) -> bytes:
    """A WAV file, with a chunk of odd length before its sound, as some programs write."""
    step = channels * bits // 8
    about = struct.pack("<HHIIHH", code & 0xFFFF, channels, rate, rate * step, step, bits)
    if code > 0xFFFF:  # extensible: the code moves into the name of a sub-format
        about = struct.pack("<H", 0xFFFE) + about[2:] + struct.pack("<HHIH14x", 22, bits, 0, code & 0xFFFF)
    chunks = b"fmt " + struct.pack("<I", len(about)) + about + b"LIST\x03\0\0\0abc\0"
    chunks += b"data" + struct.pack("<I", len(body) if length is None else length) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("extensible", [False, True], ids=["plain", "extensible"])
@pytest.mark.parametrize("without", [False, True], ids=["with soundfile", "without"])
@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_plain_wav_is_read_as_soundfile_reads_it_with_soundfile_or_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, without: bool, extensible: bool
) -> None:
    path = folder / "a.wav"
    soundfile.write(path, STEREO, 22_050, subtype=kind, format="WAVEX" if extensible else "WAV")
    expected, rate = soundfile.read(path, dtype="float32")
    if without:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    sound = read(path)
    assert sound.rate == rate == 22_050
    assert sound.samples.dtype == torch.float32
    assert np.array_equal(sound.samples.numpy(), expected.mean(1))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_the_standard_library_gives_the_numbers_that_were_written(folder: Path, width: int) -> None:
    full = 1 << (8 * width - 1)
    numbers = [0, 1, -1, full - 1, -full, full // 3]
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, width, 8_000, 0, "NONE", ""))
        file.writeframes(
            b"".join((n + (width == 1) * 128).to_bytes(width, "little", signed=width > 1) for n in numbers)
        )
    assert read(folder / "a.wav").samples.tolist() == [float(np.float32(n) / np.float32(full)) for n in numbers]


@pytest.mark.parametrize("code", [1, 0x10001], ids=["plain", "extensible"])
def test_chunks_before_the_sound_are_passed_over(folder: Path, code: int) -> None:
    body = np.array([0, 16384, -16384], "<i2").tobytes()
    (folder / "a.wav").write_bytes(riff(body, code=code, channels=1, rate=8_000, bits=16))
    assert read(folder / "a.wav").samples.tolist() == [0, 0.5, -0.5]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_into_a_pipe_is_read_to_its_end(folder: Path, length: int) -> None:
    body = np.array([0, 16384, -16384], "<i2").tobytes()
    (folder / "a.wav").write_bytes(riff(body, code=1, channels=1, rate=8_000, bits=16, length=length))
    assert read(folder / "a.wav").samples.tolist() == [0, 0.5, -0.5]


@pytest.mark.parametrize(
    ("name", "kind", "near"),
    [
        ("a.flac", "PCM_16", 1e-4),
        ("a.flac", "PCM_24", 1e-6),
        ("a.ogg", "VORBIS", 0.1),
        ("a.ogg", "OPUS", 0.3),
        ("a.mp3", None, 0.1),
        ("a.wav", "ULAW", 0.02),
        ("a.wav", "IMA_ADPCM", 0.2),
        ("a.raw", "a FLAC of the wrong name", 1e-4),
    ],
)
def test_packed_sounds_are_read_through_soundfile(folder: Path, name: str, kind: str | None, near: float) -> None:
    path = folder / name
    sound = np.stack((tone(440, 1, 48_000, 0.2), tone(880, 1, 48_000, 0.2)), axis=1)
    if name == "a.raw":
        soundfile.write(path, sound, 48_000, subtype="PCM_16", format="FLAC")
    else:
        soundfile.write(path, sound, 48_000, subtype=kind)
    heard = read(path)
    assert heard.rate == 48_000
    assert len(heard.samples) >= 48_000
    assert np.abs(heard.samples[:48_000].numpy() - sound.mean(1))[5000:-5000].max() < near


def test_packed_sounds_without_soundfile_name_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.flac", "a.ogg", "a.mp3"):
        soundfile.write(folder / name, STEREO, 48_000)
    soundfile.write(folder / "a.wav", STEREO, 48_000, subtype="ULAW")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for name in ("a.flac", "a.ogg", "a.mp3", "a.wav"):
        with pytest.raises(MissingExtra, match=r"pip install 'polyhead\[sound\]'"):
            read(folder / name)


def test_a_sound_longer_than_one_read_is_whole(folder: Path) -> None:
    numbers = np.random.default_rng(0).integers(-30_000, 30_000, (1_200_000, 3)).astype(np.int16)
    expected = (numbers.astype(np.float32) / 32768).mean(1)
    for name in ("a.wav", "a.flac"):
        soundfile.write(folder / name, numbers, 48_000)
        assert np.array_equal(read(folder / name).samples.numpy(), expected)


def test_files_arrive_at_the_rate_of_the_model_and_give_its_picture(folder: Path) -> None:
    sounds = Sounds(chunk_length=2)
    soundfile.write(folder / "a.wav", np.stack([tone(1000, 1, 44_100)] * 2, axis=1), 44_100, subtype="FLOAT")
    heard = sounds.read(folder / "a.wav")
    assert len(heard) == RATE
    assert (heard - torch.from_numpy(tone(1000, 1)))[300:-300].abs().max() < 1e-5
    taken = sounds.take(np.stack([tone(1000, 1, 44_100)] * 2), rate=44_100)
    assert torch.equal(taken, heard)


def test_an_mp3_that_does_not_say_how_long_it_is_is_whole_or_refused(folder: Path) -> None:
    for mode, whole in (("CONSTANT", True), ("VARIABLE", False)):
        soundfile.write(folder / "a.mp3", tone(300, 5, 44_100), 44_100, bitrate_mode=mode, compression_level=0.5)
        content = (folder / "a.mp3").read_bytes()
        bare = content[content.index(b"\xff\xfb", 10) :]  # its first frame says how long it is
        for tag in (b"", b"ID3\x04\0\0\0\0\x02\0" + bytes(256)):
            (folder / "b.mp3").write_bytes(tag + bare)
            if whole:
                assert len(read(folder / "b.mp3").samples) >= 5 * 44_100
            else:  # its length is guessed from its size, and wrongly
                with pytest.raises(DataError, match="does not say how long it is"):
                    read(folder / "b.mp3")


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, ">f4", np.int16, ">i2"])
def test_arrays_of_any_spelling_and_channels_become_one_channel(kind: Any) -> None:
    floats = np.array([[0.5, -0.25, 1, 0], [0, 0.75, -1, 0.5]])
    full = 16_384 if np.dtype(kind).kind == "i" else 1
    array = (floats * full).astype(kind)
    expected = floats / (2 if full > 1 else 1)
    assert mono(array[0], rate=RATE).samples.tolist() == expected[0].tolist()
    assert mono(array, rate=RATE).samples.tolist() == expected.mean(0).tolist()
    assert mono(array[:, ::-1], rate=RATE).samples.tolist() == expected.mean(0)[::-1].tolist()


def test_tensors_and_lists_become_one_channel_and_nothing_is_shared() -> None:
    floats = torch.tensor([[0.5, -0.25], [0, 0.75]])
    for kind in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        assert mono(floats.to(kind).requires_grad_(), rate=RATE).samples.tolist() == [0.25, 0.25]
    assert mono((floats * 32768).clamp(max=32767).to(torch.int16), rate=RATE).samples.tolist() == [0.25, 0.25]
    assert mono([0.5, -0.25], rate=RATE).samples.tolist() == [0.5, -0.25]
    sound = floats[0].clone()
    mono(sound, rate=RATE).samples.zero_()
    assert sound.any()


@pytest.mark.parametrize(
    ("array", "rate", "found"),
    [
        (
            np.zeros((48_000, 2)),
            RATE,
            r"Speech has the shape \[48000, 2\], expected \[samples\] or \[channels, samples\]",
        ),
        (np.zeros((1, 2, 3)), RATE, r"the shape \[1, 2, 3\]"),
        (np.float32(1), RATE, r"the shape \[\]"),
        (np.zeros((100, 1000)), RATE, "has 100 channels, expected 1 to 64"),
        (np.zeros(0), RATE, "holds no samples"),
        (np.zeros((2, 0)), RATE, "shape"),
        (np.zeros((0, 5)), RATE, "shape"),
        ([[0.1, 0.2], [0.3]], RATE, "rows of different lengths"),
        (np.zeros(5, np.int64), RATE, "holds int64, expected int16 or floats"),
        (np.zeros(5, np.uint8), RATE, "holds uint8"),
        (np.zeros(5, complex), RATE, "holds complex128"),
        (np.array(["a"]), RATE, "holds <U1"),
        (np.array([None]), RATE, "holds object"),
        (np.array([0, 0.5, np.nan]), RATE, r"holds 1 values that are no numbers .* the first at 0\.000 seconds"),
        (np.array([[0, np.inf], [0, -np.inf]]), RATE, "holds 1 values that are no numbers"),
        (np.array([1e300]), RATE, "no numbers"),
        (np.array([20_000.0]), RATE, "reaches 20,000, expected numbers from -1 to 1; divide"),
        (np.zeros(5), 0, "has a sampling rate of 0, expected a whole number from 1,000 to 768,000 Hz"),
        (np.zeros(5), -RATE, "sampling rate of -16000"),
        (np.zeros(5), 16, "sampling rate of 16"),
        (np.zeros(5), 10**9, "sampling rate of 1000000000"),
        (np.zeros(5), 16_000.5, "sampling rate of 16000.5"),
        (np.zeros(5), True, "sampling rate of True"),
        (np.zeros(5), None, "sampling rate of None"),
        (np.broadcast_to(np.float32(0), (1_000 * LONGEST + 1,)), 1_000, "lasts 6.0 hours in 21,600,001 samples"),
    ],
)
def test_bad_arrays_are_refused_by_name(array: Any, rate: Any, found: str) -> None:
    with pytest.raises(DataError, match=found) as refused:
        Sounds().take(array, rate=rate, name="Speech")
    assert str(refused.value).startswith("Speech ") and "\n" not in str(refused.value)


# --- bad files --------------------------------------------------------------------------------------------------------


def refused(path: Path, found: str) -> None:
    """One sentence that names the file."""
    with pytest.raises(DataError, match=found) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path)) and "\n" not in message


def test_what_is_no_file_is_refused(folder: Path) -> None:
    refused(folder / "none.wav", r"cannot be read \(No such file or directory\)")
    refused(folder, "is a folder, expected a sound file")
    os.mkfifo(folder / "pipe")
    refused(folder / "pipe", "is no regular file")
    with pytest.raises(DataError, match="cannot be read"):
        read("a\0b")


@pytest.mark.parametrize("without", [False, True], ids=["with soundfile", "without"])
@pytest.mark.parametrize(
    "content", [b"x", b"\xff", b"A letter, not a sound.\n" * 99, bytes(5000), b"\x89PNG\r\n\x1a\n" * 9]
)
def test_what_is_no_sound_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, without: bool
) -> None:
    if without:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    (folder / "a.wav").write_bytes(content)
    refused(folder / "a.wav", "is not a sound that is known here, expected WAV, FLAC, OGG or MP3")


@pytest.mark.parametrize(
    "start", [b"fLaC", b"OggS", b"ID3", b"\xff\xfb\x90\0", b"RIFF\x10\0\0\0WAVE", b"RIFF\x10\0\0\0WAVEfmt "]
)
@pytest.mark.parametrize("rest", [b"", b"\0" * 300, bytes(range(256)) * 9])
def test_what_only_begins_like_a_sound_is_refused(folder: Path, start: bytes, rest: bytes) -> None:
    (folder / "a").write_bytes(start + rest)
    refused(folder / "a", "is cut off or damaged|is not a sound")


def test_an_empty_file_and_a_sound_of_no_samples_are_refused(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"")
    refused(folder / "a.wav", r"is empty \(0 bytes\)")
    soundfile.write(folder / "b.wav", np.zeros((0, 1)), RATE)
    refused(folder / "b.wav", "holds no samples")


CUT = [("a.wav", "PCM_16"), ("a.wav", "FLOAT"), ("a.wav", "ULAW"), ("a.flac", None), ("a.ogg", None), ("a.ogg", "OPUS")]


@pytest.mark.parametrize(
    ("name", "kind", "share"),
    [
        *((name, kind, share) for name, kind in CUT for share in (0.999, 0.9, 0.5, 0.1)),
        *(("a.mp3", None, share) for share in (0.95, 0.5, 0.1)),  # less may be padding after the end of the sound
    ],
)
def test_a_sound_that_is_cut_off_is_refused(folder: Path, name: str, kind: str | None, share: float) -> None:
    path = folder / name
    soundfile.write(path, 0.3 * noise(20), RATE, subtype=kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "is cut off or damaged")


def test_a_file_that_changed_under_its_header_is_refused(folder: Path) -> None:
    body = np.zeros(100, "<i2").tobytes()
    for changes, found in (
        ({"rate": 0}, "sampling rate of 0, expected"),
        ({"rate": 999_999_999}, "sampling rate of 999999999"),
        ({"channels": 100}, "has 100 channels"),
        ({"length": 10_000}, "its head promises 10,000 bytes of sound, 200 are there"),
        ({"length": 0}, "holds no samples"),
    ):
        (folder / "a.wav").write_bytes(riff(body, **{"code": 1, "channels": 1, "rate": 8_000, "bits": 16, **changes}))
        refused(folder / "a.wav", found)
    (folder / "a.wav").write_bytes(b"RIFF....WAVE" + b"junk\0\0\0\0" * 2000)
    refused(folder / "a.wav", "a thousand chunks and no sound")
    content = bytearray(riff(body, code=1, channels=2, rate=8_000, bits=16))
    content[34:36] = struct.pack("<H", 24)
    (folder / "a.wav").write_bytes(content)
    refused(folder / "a.wav", "2 channels of 24 bits do not make 4 bytes")


def test_a_sound_that_holds_what_is_no_number_is_refused(folder: Path) -> None:
    for wrong in (np.nan, np.inf, -np.inf):
        for kind in ("FLOAT", "DOUBLE"):
            sound = tone(100, 1)
            sound[8_000] = wrong
            soundfile.write(folder / "a.wav", sound, RATE, subtype=kind)
            refused(folder / "a.wav", r"holds 1 values that are no numbers \(NaN or infinite\), the first at 0\.500 s")
    soundfile.write(folder / "a.wav", noise(1).clip(-1, 1) / noise(1).max() * 32_768, RATE, subtype="FLOAT")
    refused(folder / "a.wav", "reaches 32,768, expected numbers from -1 to 1")


def test_an_enormous_sound_is_refused_from_its_header(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files hold nothing but a hole: to read them would take minutes and all memory."""
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was asked for"))
    length = 0xFFFFFF00
    (folder / "a.wav").write_bytes(riff(b"", code=1, channels=1, rate=8_000, bits=8, length=length))
    os.truncate(folder / "a.wav", length + 1000)
    refused(
        folder / "a.wav", r"lasts 149\.1 hours in 4,294,967,040 samples, expected at most 6 hours and 1,073,741,824"
    )
    soundfile.write(folder / "a.flac", tone(100, 1), RATE)
    content = bytearray((folder / "a.flac").read_bytes())
    content[22:26] = b"\xff\xff\xff\xff"  # how many samples there are
    (folder / "a.flac").write_bytes(content)
    refused(folder / "a.flac", r"lasts 74\.6 hours in 4,294,967,295 samples")
    content[22:26] = bytes(4)
    (folder / "a.flac").write_bytes(content)
    refused(folder / "a.flac", "does not say how long it is, as after a pipe")


def test_a_wav_cut_or_changed_anywhere_is_read_or_refused_but_never_breaks(folder: Path) -> None:
    whole = riff(np.arange(60, dtype="<i2").tobytes(), code=1, channels=2, rate=8_000, bits=16)
    random = np.random.default_rng(0)
    for i in range(len(whole)):
        changed = bytearray(whole)
        changed[i] = random.integers(256)
        for content in (whole[:i], bytes(changed)):
            (folder / "a.wav").write_bytes(content)
            try:
                sound = read(folder / "a.wav")
            except DataError as error:
                assert str(error).startswith(str(folder / "a.wav"))
            else:
                assert content != whole[:i] and sound.samples.isfinite().all()
