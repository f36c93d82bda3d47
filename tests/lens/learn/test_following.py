"""A cell of a run that was seen is worked with the run's own numbers, by the page's own paths."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.lens.page.answers import Answers
from polyhead.lens.page.scene import SLICE
from polyhead.lens.see import Seen, see
from polyhead.tasks.load import load
from tests.lens.learn.test_page import array
from tests.lens.learn.worlds import KINDS, text_of
from tests.lens.page.test_export import kept as handed

Folder = Callable[[str], Path]
LONG = "the cat sat on the mat. " * 12


def seen(folder: Folder, kind: str) -> Seen:
    return see(text_of(kind), model=folder(kind))


def asked(answers: Answers, call: int, *cell: int) -> dict[str, Any] | None:
    """A lesson put together from its slices, as the page does it."""
    body, number = b"", 0
    while (found := answers.get(f"lesson/{call}/{'/'.join(map(str, cell))}/{number}.bin")) is not None:
        assert len(found.body) <= SLICE < 65_536
        body, number = body + found.body, number + 1
        if len(found.body) < SLICE:
            return json.loads(body)
    return None


def worked(lesson: dict[str, Any]) -> Any:
    """The weights [H, T, S] by the formula, from what the lesson holds."""
    plain = lesson["readings"][0]
    query, key = array(plain["query"]), array(plain["key"])
    scores = query @ np.repeat(key, len(query) // len(key), 0).swapaxes(1, 2) * lesson["scale"]
    scores += 0 if plain["bias"] is None else array(plain["bias"])
    powers = np.where(array(plain["visible"]) > 0, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_of_a_text_is_worked_with_the_numbers_of_the_run(folder: Folder, kind: str):
    scene = seen(folder, kind).scene
    answers = Answers([scene])
    for call in scene.calls:
        assert scene.told_of_call(call)["lesson"] == "whole"
        _, H, T, S = call.facts.shape
        lesson = asked(answers, call.id, H - 1, T - 1, S - 1)
        assert lesson and lesson["places"] is None and lesson["followed"]
        assert (lesson["head"], lesson["row"], lesson["column"]) == (H - 1, T - 1, S - 1)
        assert (lesson["part"], lesson["layer"]) == (call.facts.part, call.layer)
        np.testing.assert_allclose(worked(lesson), scene.call(call.id).weights()[0], atol=2e-5)
        rows = scene.parts["encoder" if call.facts.part == "encoder" else "decoder"]
        assert lesson["readings"][0]["rows"][1].strip() in rows.labels[1] or "▁" in rows.labels[1]  # type: ignore[union-attr]


def test_a_long_text_is_worked_in_a_window_round_both_words(folder: Folder):
    scene = see(LONG, model=folder("bloom")).scene
    answers, [call, *_] = Answers([scene]), scene.calls
    T = call.facts.shape[2]
    assert T > 64 and scene.told_of_call(call)["lesson"] == "window"
    lesson = asked(answers, call.id, 1, 50, 40)
    assert lesson and lesson["whole"] == T and len(lesson["places"]) == 64 == lesson["read"]
    assert lesson["places"][lesson["row"]] == 50 and lesson["places"][lesson["column"]] == 40
    assert asked(answers, call.id, 1, T - 1, 0) is None  # too far apart


@pytest.mark.parametrize("kind", ["bloom", "t5"])
def test_the_page_knows_which_cells_are_in_one_window(folder: Folder, kind: str):
    scene = see(LONG, model=folder(kind)).scene
    answers, call = Answers([scene]), scene.calls[0]
    T = call.facts.shape[2]
    room, first, last = scene.told_of_call(call)["reach"]
    assert T > room + 2 and (room, first, last) == ((64, 0, T) if kind == "bloom" else (63, 0, T - 1))
    middle = (T - room) // 2
    for query, key, there in (
        (middle + room - 1, middle, True), (middle + room, middle, False), (middle, middle + room - 1, True),
        (last - 1, 0, first > 0), (first, T - 1, last < T), (last - 1, last - room, True), (first, first + room, False),
    ):  # fmt: skip
        assert (asked(answers, call.id, 0, query, key) is not None) == there, (query, key)


def test_what_has_no_lesson_says_why(folder: Folder, tmp_path: Path):
    run = seen(folder, "translator")
    run.recording.save(tmp_path / "run.safetensors")
    scene = see(recording=tmp_path / "run.safetensors").scene
    assert "holds no model" in scene.told()["no_lesson"]["en"]
    assert all(call["lesson"] is None for call in scene.told()["calls"])
    assert Answers([scene]).get("lesson/0/0/0/0/0.bin") is None


def test_a_model_that_is_no_more_what_it_was_works_no_lesson(folder: Folder):
    loaded = load(folder("bert"))
    answers = Answers([see(text_of("bert"), model=loaded).scene])
    with torch.no_grad():
        loaded.model.get_parameter("encoder.blocks.1.attn.query.weight").mul_(-1)
    assert asked(answers, 0, 0, 1, 1) is not None and asked(answers, 1, 0, 1, 1) is None


@pytest.mark.parametrize("path", ["lesson/99/0/0/0/0.bin", "lesson/0/99/0/0/0.bin", "lesson/0/0/99/0/0.bin",
                                  "lesson/0/0/0/0/99.bin", "lesson/0/0/0/0.bin", "lesson/0/0/0/-1/0.bin"])  # fmt: skip
def test_other_paths_answer_nothing(folder: Folder, path: str):
    assert Answers([seen(folder, "bert").scene]).get(path) is None


def test_a_file_keeps_the_lesson_of_the_call_that_it_opens_with(folder: Folder, tmp_path: Path):
    scene = seen(folder, "translator").scene
    answers = Answers([scene])
    kept, missing = handed(answers, tmp_path / "page.html")
    assert {path.split("/")[1] for path in kept if path.startswith("lesson/")} == {str(scene.opens)}
    assert {"stations.js", "stations.css"} < kept.keys() and "the nine stations of other layers" in missing
    told = json.loads(kept["scene.json"])
    assert [call["id"] for call in told["calls"] if call["lesson"] == "kept"] == [scene.opens]
    assert scene.told_of_call(scene.calls[0])["lesson"] == "whole"  # the scene itself is as it was
    lesson = json.loads(kept[f"lesson/{scene.opens}/0/0/0/0.bin"] + kept.get(f"lesson/{scene.opens}/0/0/0/1.bin", b""))
    np.testing.assert_allclose(worked(lesson), scene.call(scene.opens).weights()[0], atol=2e-5)
    assert base64.b64decode(lesson["readings"][0]["x"]["data"])
