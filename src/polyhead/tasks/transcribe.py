"""Sounds become the words that are said in them, with times where they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.generation import Search
from polyhead.inputs.sound import Sound, Sounds
from polyhead.tasks.device import Device
from polyhead.tasks.hearing.said import USUAL, Doubt
from polyhead.tasks.hearing.transcriber import Times, Transcriber
from polyhead.tasks.load import Loaded, Precision, ready


def taken(sound: Any, sounds: Sounds, rate: int | None, number: int) -> tuple[str, Tensor]:
    """The name of a sound and its samples at the model's rate."""
    if isinstance(sound, str | Path):
        return str(sound), sounds.read(sound)
    if isinstance(sound, Sound):
        sound, rate = sound
    elif not hasattr(sound, "__len__") or isinstance(sound, dict | set | bytes):
        raise ArgumentError(f"Sound {number} is {type(sound).__name__}, expected a file, or an array with its rate.")
    if rate is None:
        raise ArgumentError(f"Sound {number} is an array; say how many samples a second it has, as rate=16000.")
    return str(number), sounds.take(sound, rate=rate, name=f"Sound {number}")


def transcribe(
    sounds: Any,
    *,
    model: str | Path | Loaded,
    language: str | None = None,
    task: Literal["transcribe", "translate"] | None = None,
    times: Times | None = None,
    search: Search | None = None,
    doubt: Doubt | None = USUAL,
    prompt: str | None = None,
    carry: bool = False,
    rate: int | None = None,
    device: Device = "auto",
    precision: Precision | None = None,
) -> Any:
    """Write down what is said in one sound (a `Transcript`), or in many (a list of them).

    sounds: a file (WAV; FLAC, OGG and MP3 with the extra `sound`) or a list of files; or an array [samples] or
    [channels, samples], int16 or floats from -1 to 1, with its `rate` in samples a second, or a list of such. Channels
    are averaged, and the rate is changed to the model's. model: a folder of a model of speech, or what `load` returned.
    device, precision: as `load` takes them. language: "zh" or "Chinese"; unless given, what the folder says, else it is
    heard in the first window. task: "transcribe" writes in the language that is spoken, "translate" in English. times:
    "segments" for when sentences begin and end, "words" for each word too, from cross-attention. search: `Greedy()`,
    `Beam(5)`; unless given, what the folder's generation_config.json asks for. doubt: when a window is read again or
    left out; None: never. prompt: words that stand before, such as names as they are spelled. carry: whether each
    window is told what was said in those before it, which keeps names and style alike and may repeat what is wrong.

    A sound longer than the model hears at once, 30 seconds, is heard window by window, each from where the last segment
    ended, so that no word is cut in two. Raises ArgumentError, DataError, ConfigError and CheckpointError.
    """
    loaded = ready(model, device, precision)
    hear = Transcriber(
        loaded, language=language, task=task, times=times, search=search, doubt=doubt, prompt=prompt, carry=carry
    )
    several = isinstance(sounds, list | tuple) and not isinstance(sounds, Sound)
    found = hear(each_of(cast("Sequence[Any]", sounds) if several else [sounds], hear.sounds, rate))
    return found if several else found[0]


def each_of(
    items: Sequence[Any], sounds: Sounds, rate: int | None = None, first: int = 1
) -> Iterator[tuple[str, Tensor]]:
    """The name and samples of each sound, read when its turn comes; files that are not there are refused at once."""
    for item in items:
        if isinstance(item, str | Path) and not Path(item).is_file():
            sounds.read(item)  # says what is wrong with it
    return (taken(item, sounds, rate, number) for number, item in enumerate(items, first))
