"""Weight times gradient on the page: the numbers of the recording, with their signs, in every answer that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyhead.lens.backward import Target
from polyhead.lens.page import maps as maps_of
from polyhead.lens.page import wire
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import page
from polyhead.lens.page.export import export
from polyhead.lens.page.scene import Scene
from polyhead.lens.recording import Recording
from polyhead.lens.watch import watch
from tests.lens.page.scenes import CHOSEN, READ, SOURCE, answers_of, numbers, recorded, told
from tests.lens.tiny import LENGTHS, TARGET, marian
from tests.lens.tiny import SOURCE as IDS

CROSS = 3  # decoder.blocks.0.cross


@pytest.fixture(scope="module")
def recording() -> Recording:
    model = marian()
    with watch(model, gradients=True) as recording:
        model(IDS, TARGET[:, :7], LENGTHS).square().sum().sqrt().backward()
    recording.rulers = {"encoder": SOURCE, "decoder": READ, "chosen": CHOSEN}
    return recording


def wanted(recording: Recording, call: int, head: int, row: int = 0) -> np.ndarray:
    return recording.entries[call][1]().weights_times_gradients()[row, head].double().numpy()


def close(found: np.ndarray, wanted: np.ndarray, parts: float) -> None:
    """Within so large a part of the largest."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= parts * np.abs(wanted).max()


@pytest.mark.parametrize("row", [0, 1])
def test_maps_and_tiles_are_those_of_the_recording(recording: Recording, row: int) -> None:
    answers, signs = answers_of(recording, row=row), set[float]()
    for call in range(6):
        for head in range(answers.scenes[0].calls[call].facts.shape[1]):
            exact = wanted(recording, call, head, row)
            signs |= set(np.sign(exact).flatten().tolist())
            close(numbers(answers, f"whole/{call}/{head}/4.bin"), exact, 1e-3)
            most = np.abs(exact).max()
            found, wished = (
                np.sign(x) * np.sqrt(np.abs(x) / most)
                for x in (numbers(answers, f"tile/{call}/{head}/4/0/0/0.bin"), exact)
            )
            assert np.abs(found - wished).max() < 0.6 / 127
    assert signs == {-1.0, 0.0, 1.0}


def test_a_row_and_a_column_name_what_is_farthest_from_nothing(recording: Recording) -> None:
    answers, exact = answers_of(recording), wanted(recording, CROSS, 1)
    found, line = numbers(answers, f"row/{CROSS}/1/4/2.bin"), exact[2]
    order = np.argsort(-np.abs(line), kind="stable")
    order = order[line[order] != 0]
    assert found[1 : 1 + len(order), 0].tolist() == order.tolist()
    np.testing.assert_allclose(found[1 : 1 + len(order), 1], line[order], rtol=1e-4)
    assert (found[1 + len(order) :, 0] == -1).all()
    sizes = np.cumsum(np.sort(np.abs(line))[::-1])
    assert found[0, 1] == (sizes < 0.8 * sizes[-1]).sum() + 1
    column = numbers(answers, f"column/{CROSS}/1/4/1.bin")
    np.testing.assert_allclose(column[0], [exact[:, 1].sum(), len(exact)], rtol=1e-3)


def test_hidden_sinks_are_zero_and_nothing_is_renormalised(recording: Recording) -> None:
    answers = answers_of(recording)
    exact = wanted(recording, CROSS, 1)
    sinks = [*answers.scenes[0].sinks(CROSS)]
    assert sinks
    exact[:, sinks] = 0
    found = numbers(answers, f"row/{CROSS}/1/6/2.bin")
    shown = found[1:][found[1:, 0] >= 0]
    line = np.zeros(exact.shape[1])
    line[shown[:, 0].astype(int)] = shown[:, 1]
    np.testing.assert_allclose(line, exact[2], rtol=1e-4, atol=1e-9)
    close(numbers(answers, f"whole/{CROSS}/1/6.bin"), exact, 1e-3)
    close(numbers(answers, f"tile/{CROSS}/1/6/0/0/0.bin"), exact, 0.01)


def test_a_cell_of_a_coarse_tile_is_what_is_farthest_from_nothing(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps_of, "SIDE", 2)
    answers = answers_of(recording)
    exact = wanted(recording, CROSS, 0)  # [7, 9]
    found = numbers(answers, f"tile/{CROSS}/0/4/1/0/0.bin")
    for i in range(2):
        for j in range(2):
            cell = exact[min(2 * i + 1, 6), 2 * j : 2 * j + 2]
            assert abs(found[i, j] - cell[np.abs(cell).argmax()]) < 0.02 * np.abs(exact).max()


def test_a_cell_tells_the_gradient_of_its_weight(recording: Recording) -> None:
    told_of_cell = numbers(answers_of(recording), f"cell/{CROSS}/0/2/3.bin")[2]
    slope = recording.entries[CROSS][1]().gradients(rows=[2], columns=[3])[0, 0, 0, 0]
    assert abs(told_of_cell[6] - float(slope)) < 1e-4 * abs(float(slope))
    assert abs(told_of_cell[4] * told_of_cell[6] - wanted(recording, CROSS, 0)[2, 3]) < 1e-6


def test_a_scene_says_what_gradients_are_of_or_why_there_are_none(recording: Recording) -> None:
    assert told(answers_of(recording), "scene.json")["target"] == {
        "en": "what backward() was called on", "zh": "调用 backward() 的那个数", "there": True,
    }  # fmt: skip
    named = Recording(**{**vars(recording), "target": Target("my loss", "我的损失")})
    assert told(answers_of(named), "scene.json")["target"]["en"] == "my loss"
    none = told(answers_of(recorded()), "scene.json")
    assert not none["target"]["there"] and "--target" in none["target"]["en"] and "--target" in none["target"]["zh"]
    assert not any(call["gradients"] for call in none["calls"])


def test_without_gradients_there_is_no_such_answer() -> None:
    answers = answers_of(recorded())
    for path in ("whole/3/0/4", "tile/3/0/4/0/0/0", "row/3/0/4/2", "column/3/0/6/2"):
        assert answers.get(f"{path}.bin") is None
    assert answers.get("whole/3/0.bin") is not None


def test_a_file_keeps_gradients(recording: Recording, tmp_path: Path) -> None:
    answers = Answers([Scene(recording)])
    export(answers, tmp_path / "page.html", page=lambda kept: held.update(kept) or page(kept))
    assert all(
        f"whole/{call.id}/{head}/4.bin" in held
        for call in answers.scenes[0].calls
        for head in range(call.facts.shape[1])
    )


held: dict[str, bytes] = {}


def test_numbers_with_signs_travel_as_parts_of_the_largest() -> None:
    x = torch.tensor([[1e-9, -3e-9], [0.0, torch.nan]])
    for coarse in (False, True):
        body = wire.signed(x, coarse=coarse)
        found, transfer = wire.unpacked(body)
        assert transfer == wire.SIGNED and len(body) == wire.HEAD.size + 4 * (1 if coarse else 2)
        np.testing.assert_allclose(found, [[1e-9, -3e-9], [0, 0]], rtol=2e-2 if coarse else 1e-3)
    assert not wire.unpacked(wire.signed(torch.zeros(3)))[0].any()
