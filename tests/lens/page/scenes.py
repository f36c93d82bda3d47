"""Recordings to be shown: a tiny translator with all that rules can be, and short ways to ask."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyhead.lens.page import wire
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import Page
from polyhead.lens.page.scene import Scene
from polyhead.lens.recording import Recording
from polyhead.lens.rulers import Words
from tests.lens.tiny import marian, ran

SOURCE = Words((*"abcdefgh", "</s>"), "abcdefgh", tuple((i, min(i + 1, 8)) for i in range(9)), (8,))
CHOSEN = Words((*"ABCDEF", "</s>"), "ABCDEF", tuple((i, min(i + 1, 6)) for i in range(7)), (6,))
READ = Words(("<start>", *"ABCDEF"), "ABCDEF", ((0, 0), *((i, i + 1) for i in range(6))), (0,))


def recorded(**how: Any) -> Recording:
    """A recording of two sequences, with rulers for the first."""
    recording = ran(marian(), **how)[1]
    recording.rulers = {"encoder": SOURCE, "decoder": READ, "chosen": CHOSEN}
    return recording


def answers_of(*recordings: Recording, row: int = 0) -> Answers:
    return Answers([Scene(recording, "a title", "a model", row=row) for recording in recordings])


def told(answers: Answers, path: str) -> Any:
    found = answers.get(path)
    assert found is not None, path
    return json.loads(found.body)


def numbers(answers: Answers, path: str) -> NDArray[Any]:
    """The numbers of an answer, a picture's square roots as weights again."""
    found = answers.get(path)
    assert found is not None, path
    assert len(found.body) <= wire.LARGEST
    x, transfer = wire.unpacked(found.body)
    return (x / 255.0) ** 2 if transfer == wire.ROOT else x


def simple(answers: Any = None) -> Page:
    """A page without a script."""
    held = "" if answers is None else json.dumps({path: len(body) for path, body in answers.items()})
    return Page(f"<!doctype html><title>x</title>{held}", "default-src 'none'")


def near(picture: NDArray[Any], weights: NDArray[Any]) -> None:
    """A picture in 8 bits is off by at most half a step of the root."""
    assert picture.shape == weights.shape
    np.testing.assert_allclose(np.sqrt(picture), np.sqrt(weights), atol=0.51 / 255)
