"""What the places along an axis stand for: tokens of a text, patches of an image, frames of a sound, or numbers."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from polyhead.errors import ArgumentError, extra
from polyhead.inputs.tokenizer import Piece
from polyhead.lens.draw.words import group

LONGEST_SIDE = 512  # pixels of a thumbnail
LONGEST_SOUND = 60.0  # seconds that are kept for listening
MEL = (750, 80)  # columns and rows of a picture of a sound, at most
PNG, WAVE = b"\x89PNG\r\n\x1a\n", b"RIFF"


@dataclass(frozen=True)
class Words:
    """Tokens.

    labels  each token as it is read: the characters it stands for, or its own name where it stands for none.
    text    what they were cut from.
    places  the characters [start, end) of the text that each stands for; none at all where there is no text.
    signs   the places that hold a special token and no word.
    """

    labels: tuple[str, ...]
    text: str = ""
    places: tuple[tuple[int, int], ...] = ()
    signs: tuple[int, ...] = ()

    kind = "words"

    def __post_init__(self) -> None:
        check(all(isinstance(x, str) for x in (*self.labels, self.text)), "Words", "labels and a text")
        check(len(self.places) in (0, len(self.labels)), "Words", f"{len(self.labels)} places, or none")
        check(
            all(is_place(place) and 0 <= place[0] <= place[1] <= len(self.text) for place in self.places),
            "Words", f"places [start, end) in a text of {len(self.text)} characters",
        )  # fmt: skip
        check(all(is_whole(n) and n < len(self.labels) for n in self.signs), "Words", "signs that are places")

    @property
    def count(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, text: str, pieces: Sequence[Piece]) -> Words:
        """The tokens of a text with their places in it; those that stand for nothing are signs."""
        labels = [
            text[piece.start : piece.end].strip() or text[piece.start : piece.end] or piece.text for piece in pieces
        ]
        signs = [i for i, piece in enumerate(pieces) if piece.start == piece.end]
        return cls(tuple(labels), text, tuple((piece.start, piece.end) for piece in pieces), tuple(signs))

    @cached_property
    def words(self) -> list[int]:
        """The number of the whole word that each token belongs to."""
        found = list(range(self.count))
        for number, pieces in enumerate(group(self.text, self.places)):
            for place in pieces:
                found[place] = number
        return found

    def facts(self) -> dict[str, Any]:
        return {"labels": self.labels, "text": self.text, "places": self.places, "signs": self.signs}

    def media(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def unfolded(cls, facts: Mapping[str, Any], media: Mapping[str, bytes]) -> Words:
        check(isinstance(facts["labels"], list), "Words", "a list of labels")
        places = tuple((start, end) for start, end in facts["places"])
        return cls(tuple(facts["labels"]), facts["text"], places, tuple(facts["signs"]))


@dataclass(frozen=True)
class Patches:
    """Patches of an image, row by row.

    rows, columns  of the grid.
    before         the names of the places ahead of it, such as ("[CLS]",).
    picture        a PNG of what the grid lies on; empty where there is none.
    size           its width and height in pixels.
    """

    rows: int
    columns: int
    before: tuple[str, ...] = ()
    picture: bytes = b""
    size: tuple[int, int] = (0, 0)

    kind = "patches"

    def __post_init__(self) -> None:
        check(all(is_whole(n) and n > 0 for n in (self.rows, self.columns)), "Patches", "rows and columns above 0")
        check(all(isinstance(name, str) for name in self.before), "Patches", "names of the places before the grid")
        check(isinstance(self.picture, bytes) and self.picture[:8] in (b"", PNG), "Patches", "a PNG")
        check(is_place(self.size), "Patches", "a width and a height")

    @property
    def count(self) -> int:
        return len(self.before) + self.rows * self.columns

    def facts(self) -> dict[str, Any]:
        return {"rows": self.rows, "columns": self.columns, "before": self.before, "size": self.size}

    def media(self) -> dict[str, bytes]:
        return {"picture": self.picture} if self.picture else {}

    @classmethod
    def unfolded(cls, facts: Mapping[str, Any], media: Mapping[str, bytes]) -> Patches:
        width, height = facts["size"]
        picture = media.get("picture", b"")
        return cls(facts["rows"], facts["columns"], tuple(facts["before"]), picture, (width, height))


@dataclass(frozen=True)
class Frames:
    """Stretches of time.

    seconds   of one frame.
    count     how many there are.
    duration  seconds of the sound itself; what the frames have beyond it is silence.
    sound     a WAV file to listen to, one channel of 16 bits; empty where there is none.
    mel       a PNG of how loud each band is, low bands below; empty where there is none.
    """

    seconds: float
    count: int
    duration: float = 0.0
    sound: bytes = b""
    mel: bytes = b""

    kind = "frames"

    def __post_init__(self) -> None:
        check(is_whole(self.count) and self.count > 0, "Frames", "a number of frames above 0")
        check(is_number(self.seconds) and self.seconds > 0, "Frames", "seconds above 0")
        check(is_number(self.duration) and self.duration >= 0, "Frames", "a duration of at least 0")
        check(isinstance(self.sound, bytes) and self.sound[:4] in (b"", WAVE), "Frames", "a sound as a WAV file")
        check(isinstance(self.mel, bytes) and self.mel[:8] in (b"", PNG), "Frames", "a PNG")

    def facts(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "count": self.count, "duration": self.duration}

    def media(self) -> dict[str, bytes]:
        return {name: x for name, x in (("sound", self.sound), ("mel", self.mel)) if x}

    @classmethod
    def unfolded(cls, facts: Mapping[str, Any], media: Mapping[str, bytes]) -> Frames:
        return cls(facts["seconds"], facts["count"], facts["duration"], media.get("sound", b""), media.get("mel", b""))


@dataclass(frozen=True)
class Places:
    """Places that have only their numbers."""

    count: int

    kind = "places"

    def __post_init__(self) -> None:
        check(is_whole(self.count), "Places", "a number of places")

    def facts(self) -> dict[str, Any]:
        return {"count": self.count}

    def media(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def unfolded(cls, facts: Mapping[str, Any], media: Mapping[str, bytes]) -> Places:
        return cls(facts["count"])


Ruler = Words | Patches | Frames | Places
KINDS: dict[str, type[Ruler]] = {kind.kind: kind for kind in (Words, Patches, Frames, Places)}
Kind = Literal["words", "patches", "frames", "places"]


def rulers_of(found: object) -> dict[str, Ruler]:
    """What a person set as rulers: by name, each a ruler or a list of words. Raises ArgumentError."""
    if isinstance(found, Mapping) and all(isinstance(name, str) for name in cast(Mapping[object, object], found)):
        made = {name: ruler_of(x) for name, x in cast(Mapping[str, object], found).items()}
        if all(x is not None for x in made.values()):
            return cast(dict[str, Ruler], made)
    raise ArgumentError(
        'rulers must be rulers or lists of words by name, such as {"encoder": ["a", "b"]}; found ' + f"{found!r:.200}"
    )


def ruler_of(found: object) -> Ruler | None:
    if isinstance(found, Words | Patches | Frames | Places):
        return found
    if isinstance(found, list | tuple) and all(isinstance(x, str) for x in cast(Sequence[object], found)):
        return Words(tuple(cast(Sequence[str], found)))
    return None


def folded(rulers: Mapping[str, Ruler], tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Rulers as words and numbers; their pictures and sounds go to `tensors`, as bytes."""
    told: list[dict[str, Any]] = []
    for n, (name, ruler) in enumerate(rulers.items()):
        media = ruler.media()
        tensors |= {f"{n}.{what}": torch.from_numpy(np.frombuffer(x, np.uint8).copy()) for what, x in media.items()}
        told.append({"name": name, "kind": ruler.kind, "media": [*media], **ruler.facts()})
    return told


def unfolded(told: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> dict[str, Ruler]:
    """The rulers behind these words and bytes; raises ValueError, KeyError and the like where they are none."""
    found: dict[str, Ruler] = {}
    for n, facts in enumerate(told):
        media = {what: tensors[f"{n}.{what}"].numpy().tobytes() for what in facts["media"]}
        found[str(facts["name"])] = KINDS[facts["kind"]].unfolded(facts, media)
    return found


# ------------------------------------------------------------------------------------------------ pictures and sounds


def png(pixels: Any) -> tuple[bytes, tuple[int, int]]:
    """A PIL image, or numbers [height, width] or [height, width, 3], as a small PNG, and its width and height."""
    pil: Any = extra("PIL.Image", "image")
    image = pixels if hasattr(pixels, "thumbnail") else pil.fromarray(np.ascontiguousarray(pixels, np.uint8))
    image = image.copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    held = io.BytesIO()
    image.save(held, format="PNG", optimize=True)
    return held.getvalue(), image.size


def heard(samples: Tensor, rate: int) -> bytes:
    """A sound [samples], -1 to 1, as a WAV file with 16 bits, as long as one listens to at most."""
    loud = samples[: int(LONGEST_SOUND * rate)].clamp(-1, 1).mul(32767).round().to(torch.int16).cpu().numpy()
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(loud.astype("<i2").tobytes())
    return held.getvalue()


def seen_mel(picture: Tensor) -> bytes:
    """A log-mel picture [bands, frames] as a PNG, low bands below: grey, the loudest of every few frames."""
    pil: Any = extra("PIL.Image", "image")
    frames = picture.shape[1]
    step = -(-frames // MEL[0])
    grown = torch.nn.functional.pad(picture.float(), (0, -frames % step), value=float(picture.min()))
    small = grown.unflatten(1, (-1, step)).amax(2)  # [bands, columns]
    low, high = float(small.min()), float(small.max())
    grey = ((small - low) / max(high - low, 1e-9) * 255).round().to(torch.uint8).flip(0)
    held = io.BytesIO()
    pil.fromarray(grey.cpu().numpy()).save(held, format="PNG", optimize=True)
    return held.getvalue()


# ------------------------------------------------------------------------------------------------------------ checks


def check(right: bool, kind: str, expected: str) -> None:
    if not right:
        raise ArgumentError(f"{kind} must have {expected}; this ruler has not")


def is_whole(n: object) -> bool:
    return type(n) is int and n >= 0


def is_number(x: object) -> bool:
    return type(x) in (int, float) and abs(cast(float, x)) < 1e12


def is_place(place: object) -> bool:
    pair = cast(tuple[object, ...], place)
    return isinstance(place, tuple) and len(pair) == 2 and all(map(is_whole, pair))
