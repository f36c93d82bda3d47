"""Every answer of the page is what the recording itself says, and no path gives anything else."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.core import Run
from polyhead.core.position import Position
from polyhead.errors import ArgumentError, DataError
from polyhead.lens.page import wire
from polyhead.lens.page.answers import Answer, Answers
from polyhead.lens.page.maps import spread
from polyhead.lens.page.scene import Scene
from polyhead.lens.recording import Recording
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.measure import measure
from polyhead.lens.rulers import Frames, Patches, Places, Words
from polyhead.lens.watch import watch
from polyhead.operator import Causal, Observe
from polyhead.operator.kernels.blockwise import logsumexp
from polyhead.operator.request import Request
from tests.lens.page.scenes import CHOSEN, READ, SOURCE, answers_of, near, numbers, recorded, told
from tests.lens.test_rulers import picture
from tests.lens.tiny import NAMES, stack_of

CALLS = range(len(NAMES))


def weighted(recording: Recording, call: int, weighting: int, sinks: list[int], row: int = 0) -> Any:
    """The weights of a call [H, T, S] under a weighting, from the recording alone."""
    found = [*recording][call]
    p = found.weights()[row].double().numpy()
    if not weighting:
        return p
    factors = found.norms.values[row].double().numpy()[:, None] if weighting & 1 else np.ones((1, 1, p.shape[2]))
    factors = np.broadcast_to(factors, (p.shape[0], 1, p.shape[2])).copy()
    if weighting & 2:
        factors[..., sinks] = 0
    total = (p * factors).sum(-1, keepdims=True)
    return p * factors / np.where(total == 0, 1, total)


def sinks_of(call: int) -> list[int]:
    """Signs of the keys' ruler, and the first key of a self-attention."""
    return {"attn": [0, 8] if NAMES[call].startswith("encoder") else [0], "cross": [8]}[NAMES[call].split(".")[-1]]


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("call", CALLS)
def test_maps_are_the_recordings_own(call: int, row: int) -> None:
    recording = recorded()
    answers = answers_of(recording, row=row)
    wanted = weighted(recording, call, 0, [], row)
    near(numbers(answers, f"thumbs/{call}.bin"), wanted)
    for head in range(len(wanted)):
        np.testing.assert_allclose(numbers(answers, f"whole/{call}/{head}.bin"), wanted[head], atol=1e-3)
        near(numbers(answers, f"tile/{call}/{head}/0/0/0/0.bin"), wanted[head])
        norms = [*recording][call].norms.values[row, head]
        np.testing.assert_allclose(numbers(answers, f"norms/{call}.bin")[head], norms, rtol=1e-3)
        np.testing.assert_allclose(numbers(answers, f"norms/{call}/{head}.bin"), norms, rtol=1e-3)


@pytest.mark.parametrize("weighting", range(4))
@pytest.mark.parametrize("call", CALLS)
def test_every_weighting_is_renormalised_as_it_says(call: int, weighting: int) -> None:
    recording = recorded()
    answers = answers_of(recording)
    wanted = weighted(recording, call, weighting, sinks_of(call))
    for head in range(len(wanted)):
        near(numbers(answers, f"tile/{call}/{head}/{weighting}/0/0/0.bin"), wanted[head])
        for query, row in enumerate(wanted[head]):
            check_list(numbers(answers, f"row/{call}/{head}/{weighting}/{query}.bin"), row)
        for key, column in enumerate(wanted[head].T):
            found = numbers(answers, f"column/{call}/{head}/{weighting}/{key}.bin")
            assert found[0].tolist() == pytest.approx([column.sum(), len(column)], abs=1e-5)
            check_best(found[1:], column)


def check_list(found: Any, row: Any) -> None:
    best = np.sort(row)[::-1]
    assert found[0, 0] == pytest.approx(best[:64].sum(), abs=1e-5)
    holders = int((np.cumsum(best) < 0.8 * best.sum() - 1e-9).sum()) + 1 if best.sum() > 0 else 0
    assert abs(found[0, 1] - holders) <= (abs(np.cumsum(best) - 0.8 * best.sum()) < 1e-5).any()
    check_best(found[1:], row)


def check_best(found: Any, weights: Any) -> None:
    """The largest first, each with its place; -1 where there are no more."""
    n = min(64, int((weights > 0).sum()))
    assert (found[n:, 0] == -1).all() and (found[:n, 0] >= 0).all()
    np.testing.assert_allclose(found[:n, 1], np.sort(weights)[::-1][:n], atol=1e-5)
    np.testing.assert_allclose(weights[found[:n, 0].astype(int)], found[:n, 1], atol=1e-5)


@pytest.mark.parametrize("call", CALLS)
def test_a_cell_tells_how_its_weight_came_about(call: int) -> None:
    recording = recorded()
    answers, one = answers_of(recording), [*recording][call]
    request, p = one.record.request, one.weights()
    for head, i, j in ((0, 0, 0), (p.shape[1] - 1, p.shape[2] - 1, 1)):
        found = numbers(answers, f"cell/{call}/{head}/{i}/{j}.bin")
        K = request.query.shape[3]
        np.testing.assert_allclose(found[0, :K], request.query[0, head, i], rtol=1e-6)
        np.testing.assert_allclose(found[1, :K], request.key[0, head, j], rtol=1e-6)
        scale, bias, score, lse, weight, norm = found[2, :6].tolist()
        assert (scale, bias) == (pytest.approx(K**-0.5), 0.0)
        if weight:
            assert score == pytest.approx(float(found[0] @ found[1]) * scale, abs=1e-4)
            assert np.exp(score - lse) == pytest.approx(weight, abs=1e-5)
        assert weight == pytest.approx(float(p[0, head, i, j]), abs=1e-6)
        assert norm == pytest.approx(float(one.norms.values[0, head, j]))
        assert not found[2, 6:].any()


def long(T: int, **how: Any) -> tuple[Recording, Any]:
    """A recording of one causal layer of a long text, and the weights of its last call."""
    torch.manual_seed(3)
    model = stack_of(Position())
    with watch(model, **how) as recording, torch.no_grad():
        model(torch.randn(1, T, 24), Run(mask=Causal()))
    return recording, recording["blocks.0.attn"].weights()[0].numpy() if recording.level == "rows" else None


def test_tiles_of_a_long_map_are_exact_rows_and_the_largest_of_their_keys() -> None:
    T = 700
    recording, wanted = long(T)
    answers = answers_of(recording)
    for i in range(3):
        for j in range(3):
            found = numbers(answers, f"tile/0/1/0/0/{i}/{j}.bin")
            near(found, wanted[1][i * 256 : (i + 1) * 256, j * 256 : (j + 1) * 256])
    for level, side in ((1, 2), (2, 4)):
        rows = np.minimum(np.arange(-(-T // side)) * side + side // 2, T - 1)
        cells = np.stack([wanted[1][rows, start : start + side].max(1) for start in range(0, T, side)], 1)
        for i in range(-(-len(rows) // 256)):
            for j in range(-(-cells.shape[1] // 256)):
                near(
                    numbers(answers, f"tile/0/1/0/{level}/{i}/{j}.bin"),
                    cells[i * 256 : (i + 1) * 256, j * 256 : (j + 1) * 256],
                )
    assert answers.get("tile/0/1/0/2/0/0.bin") and not answers.get("tile/0/1/0/2/0/1.bin")
    assert not answers.get("tile/0/1/0/3/0/0.bin") and not answers.get("tile/0/1/0/0/3/0.bin")
    assert not answers.get("whole/0/1.bin")
    weighted_tile = weighted(recording, 0, 3, [0])[1]
    near(numbers(answers, "tile/0/1/3/0/1/1.bin"), weighted_tile[256:512, 256:512])
    near(numbers(answers, "tile/0/1/3/2/0/0.bin")[:5, :1], weighted_tile[[2, 6, 10, 14, 18], :4].max(1)[:, None])


@pytest.mark.parametrize("T", [20, 700])
@pytest.mark.parametrize("weighting", range(4))
def test_bands_and_entropies_are_of_exact_rows(T: int, weighting: int) -> None:
    recording, _ = long(T)
    answers = answers_of(recording)
    p = weighted(recording, 0, weighting, [0])[1]
    queries = [int((n + 0.5) * T / 256) for n in range(256)] if T > 256 else [*range(T)]
    first = [*range(32), *(step << octave for octave in range(2, 8) for step in range(8, 16))]  # of each line
    lines = sum(far < T for far in first)
    wanted = np.zeros((lines, len(queries)))
    for n, query in enumerate(queries):
        for key in range(query + 1):
            wanted[np.searchsorted(first, query - key, "right") - 1, n] += p[query, key]
    near(numbers(answers, f"band/0/1/{weighting}.bin"), wanted)
    rows = p[queries]
    due = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(1)
    due[rows.sum(1) == 0] = np.nan  # of the first word, whose only key is hidden, nothing can be said
    np.testing.assert_allclose(numbers(answers, f"entropy/0/1/{weighting}.bin"), due, atol=1e-4)


@pytest.mark.parametrize("n", [257, 3000, 100_003, 131_072, 1_000_003, 10_000_019])
def test_some_of_many_places_stand_in_the_middle_of_equal_parts(n: int) -> None:
    for most in (1, 8, 32, 100, 256):
        assert spread(5, 5 + n, most).tolist() == [5 + floor(Fraction(2 * c + 1, 2 * most) * n) for c in range(most)]


def test_thumbnails_of_a_long_map_are_of_exact_rows_and_finer_when_asked() -> None:
    T = 700
    recording, wanted = long(T)
    answers = answers_of(recording)
    assert told(answers, "scene.json")["calls"][0]["sampled"] is True
    ends = [-(-(r + 1) * T // 32) for r in range(32)]
    starts = [0, *ends[:-1]]
    every = np.stack(
        [np.stack([wanted[:, a:b, c:d].max((1, 2)) for c, d in zip(starts, ends, strict=True)], 1)
         for a, b in zip(starts, ends, strict=True)], 1)  # fmt: skip
    middle = np.stack(
        [np.stack([wanted[:, a + (b - a) // 2, c:d].max(1) for c, d in zip(starts, ends, strict=True)], 1)
         for a, b in zip(starts, ends, strict=True)], 1)  # fmt: skip
    quick, fine = numbers(answers, "thumbs/0.bin"), numbers(answers, "thumbs/0/fine.bin")
    near(quick, middle)
    step = 0.51 / 255
    assert (np.sqrt(fine) <= np.sqrt(every) + step).all()  # weights that there are
    assert np.abs(fine - every).mean() < np.abs(quick - every).mean()


def test_metrics_are_those_of_the_heads_verb() -> None:
    recording = recorded()
    answers = answers_of(recording)
    keys = [metric["key"] for metric in told(answers, "scene.json")["metrics"]]
    table = numbers(answers, "metrics.bin")
    assert table.shape == (6, 4, len(keys)) and {"previous", "sink", "special", "keys", "alignment"} <= set(keys)
    axes = {"encoder": Axis.of(SOURCE), "decoder": Axis.of(READ)}
    for call, one in enumerate(recording):
        rows, columns = (
            axes["encoder" if one.part == "encoder" else "decoder"],
            axes["decoder" if one.part == "decoder" else "encoder"],
        )
        wanted = measure(one, [rows], [columns])[0].numbers
        H = one.lse.shape[1]
        for n, key in enumerate(keys):
            expected = wanted[key][0].numpy() if key in wanted else np.full(H, np.nan)
            np.testing.assert_allclose(table[call, :H, n], expected, rtol=1e-5, atol=1e-6)
        assert np.isnan(table[call, H:]).all()
        p = one.weights()[0].numpy()
        if one.part == "encoder":  # by hand: the query that is a sign does not count
            np.testing.assert_allclose(table[call, :H, keys.index("sink")], p[:, :8, 0].mean(-1), atol=1e-5)
            np.testing.assert_allclose(table[call, :H, keys.index("special")], p[:, :8, 8].mean(-1), atol=1e-5)


def test_every_sequence_has_answers_of_its_own() -> None:
    recording = recorded()
    both, second = answers_of(recording), answers_of(recording, row=1)
    assert told(both, "scene.json")["batch"] == 2
    for path in ("thumbs/0.bin", "whole/3/1.bin", "row/2/0/1/3.bin", "cell/0/1/2/2.bin", "metrics.bin", "scene.json"):
        assert both.made(f"s/1/{path}") == second.made(path)
    for path in ("s/0/scene.json", "s/2/scene.json", "s/-1/scene.json", "s/1/b/scene.json", "s/1/s/1/scene.json"):
        assert both.get(path) is None, path


def test_metrics_of_a_call_are_those_of_the_table() -> None:
    answers = answers_of(recorded())
    table = numbers(answers, "metrics.bin")
    for call in CALLS:
        np.testing.assert_array_equal(numbers(answers, f"metrics/{call}.bin")[0], table[call])
    assert answers.get(f"metrics/{len(CALLS)}.bin") is None


def test_metrics_of_some_rows_say_what_those_of_every_row_say(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = recorded()
    every = numbers(answers_of(recording), "metrics.bin")
    monkeypatch.setattr("polyhead.lens.page.metrics.LOOKED_AT", 0)
    answers = answers_of(recording)
    some, metrics = numbers(answers, "metrics.bin"), told(answers, "scene.json")["metrics"]
    sampled = {"keys", "confidence", "sink", "special", "itself", "previous", "next", "distance"}
    for n, metric in enumerate(metrics):
        if metric["key"] in sampled:
            np.testing.assert_allclose(some[..., n], every[..., n], rtol=1e-4, atol=1e-6, err_msg=metric["key"])
        else:
            assert np.isnan(some[..., n]).all()


@pytest.mark.parametrize("row", [0, 1])
def test_rows_that_look_at_one_key_alone_count_though_no_other_weight_is_left(
    row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sharp heads, whose other weights are zero in float32, and keys that padding hides."""
    recording = recorded()
    for one in recording:
        assert isinstance(one.kept, Request)
        one.kept.query.mul_(500.0)
        one.lse.copy_(logsumexp(one.kept))
    assert any(bool(((one.weights() > 0).sum(-1) == 1).any()) for one in recording if one.part != "decoder")
    every = numbers(answers_of(recording, row=row), "metrics.bin")
    monkeypatch.setattr("polyhead.lens.page.metrics.LOOKED_AT", 0)
    some = numbers(answers_of(recording, row=row), "metrics.bin")
    there = ~np.isnan(some)
    assert there.any(-1).any(-1).all()
    np.testing.assert_allclose(some[there], every[there], rtol=1e-3, atol=1e-6)  # scores of 1,000 are rounded so far


def test_the_scene_says_which_call_is_what_and_what_its_axes_mean() -> None:
    scene = told(answers_of(recorded()), "scene.json")
    assert [*scene["parts"]] == ["encoder", "decoder", "chosen"]
    assert scene["parts"]["encoder"]["text"] == SOURCE.text and scene["parts"]["chosen"]["count"] == 7
    assert [(c["part"], c["layer"], c["step"]) for c in scene["calls"]] == [
        ("encoder", 0, 0), ("encoder", 1, 0), ("decoder", 0, 0), ("cross", 0, 0), ("decoder", 1, 0), ("cross", 1, 0),
    ]  # fmt: skip
    axes = {c["part"]: (c["rows"], c["columns"], c["causal"]) for c in scene["calls"]}
    assert axes == {
        "encoder": ("encoder", "encoder", False), "decoder": ("chosen", "decoder", True),
        "cross": ("chosen", "encoder", False),
    }  # fmt: skip
    first = scene["calls"][0]
    assert (first["heads"], first["queries"], first["keys"]) == (4, 9, 9)
    assert first["exactness"] == "weights exact to the rounding of float32 products"
    assert first["exactness_zh"] == "权重精确到 float32 乘积的舍入误差"
    assert scene["batch"] == 2 and "compare" not in scene


def test_rulers_come_in_chunks_with_their_text() -> None:
    recording, n = long(5000)[0], 5000
    text = "word " * n
    recording.rulers = {"decoder": Words(("word",) * n, text, tuple((5 * i, 5 * i + 4) for i in range(n)), (0, 4999))}
    answers = answers_of(recording)
    part = told(answers, "scene.json")["parts"]["decoder"]
    assert part["count"] == n and part["text_chunks"] and "text" not in part
    chunks = [told(answers, f"ruler/0/{k}.json") for k in range(3)]
    assert [len(chunk["labels"]) for chunk in chunks] == [2048, 2048, 904]
    assert [chunk["signs"] for chunk in chunks] == [[0], [], [4999]]
    assert chunks[1]["words"][0] == 2048 and chunks[1]["text_start"] == 5 * 2048
    start, end = chunks[1]["places"][0]
    assert chunks[1]["text"][start - chunks[1]["text_start"] : end - chunks[1]["text_start"]] == "word"
    assert answers.get("ruler/0/3.json") is None and answers.get("ruler/1/0.json") is None


def test_a_ruler_that_does_not_fit_is_not_shown() -> None:
    recording = recorded()
    recording.rulers = {"encoder": ["a", "b"], "decoder": READ}
    scene = told(answers_of(recording), "scene.json")
    assert scene["parts"]["encoder"] == {
        "kind": "places", "count": 9, "title": {"en": "what is read", "zh": "读入的内容"},
    }  # fmt: skip
    assert [*scene["parts"]] == ["encoder", "decoder"] and scene["calls"][3]["rows"] == "decoder"


def test_the_rulers_of_the_first_sequence_are_not_those_of_the_second() -> None:
    parts = told(answers_of(recorded(), row=1), "scene.json")["parts"]
    assert {part["kind"] for part in parts.values()} == {"places"}


def test_pictures_and_sounds_come_in_slices() -> None:
    recording, sound = long(100)[0], b"RIFF" + bytes(range(250)) * 600
    for ruler, what, body in (
        (Patches(9, 11, ("[CLS]",), picture(), (30, 20)), "picture", picture()),
        (Frames(0.1, 100, 8.0, sound), "sound", sound),
    ):
        recording.rulers = {"decoder": ruler}
        answers = answers_of(recording)
        media = told(answers, "scene.json")["parts"]["decoder"]["media"][what]
        assert media["bytes"] == len(body) and media["chunks"] == -(-len(body) // 60_000)
        slices = [answers.get(f"{what}/0/{n}.bin") for n in range(media["chunks"] + 1)]
        assert slices.pop() is None
        assert b"".join(each.body for each in slices if each) == body
        assert all(len(each.body) <= wire.LARGEST for each in slices if each)


def test_steps_of_a_generation_stand_where_their_words_stand() -> None:
    from polyhead.operator import Cache

    model, x = stack_of(Position(), causal=True), torch.randn(1, 6, 24)
    with watch(model) as recording, torch.no_grad():
        cache = Cache()
        for a, b in ((0, 3), (3, 4), (4, 6)):
            model(x[:, a:b], Run(cache=cache))
    calls = told(answers_of(recording), "scene.json")["calls"]
    assert [(c["layer"], c["step"], c["offset"], c["queries"], c["keys"]) for c in calls] == [
        (0, 0, 0, 3, 3), (1, 0, 0, 3, 3), (0, 1, 3, 1, 4), (1, 1, 3, 1, 4), (0, 2, 4, 2, 6), (1, 2, 4, 2, 6),
    ]  # fmt: skip


def test_a_recording_without_rows_shows_what_was_told_in_the_run() -> None:
    recording, _ = long(100, level="summary")
    answers = answers_of(recording)
    assert told(answers, "scene.json")["calls"][0]["level"] == "summary"
    assert numbers(answers, "thumbs/0.bin").shape == (4, 32, 32)
    assert numbers(answers, "norms/0.bin").shape == (4, 100)
    assert np.isnan(numbers(answers, "metrics.bin")).all()
    for path in ("row/0/0/0/0.bin", "tile/0/0/0/0/0/0.bin", "cell/0/0/0/0.bin", "whole/0/0.bin"):
        assert answers.get(path) is None
    largest, _ = long(100, level="summary", observe=Observe(max_map=(32, 32)))
    wanted = largest["blocks.0.attn"].statistics.max_map
    assert wanted is not None
    near(numbers(answers_of(largest), "thumbs/0.bin"), wanted[0].numpy())


def test_a_second_recording_answers_beside_the_first() -> None:
    first, second = recorded(), long(40)[0]
    answers = answers_of(first, second)
    assert told(answers, "scene.json")["compare"] is True and "compare" not in told(answers, "b/scene.json")
    assert numbers(answers, "b/thumbs/1.bin").shape == (4, 32, 32)
    assert answers.get("b/b/scene.json") is None and answers_of(first).get("b/scene.json") is None
    with pytest.raises(ArgumentError, match="shows one recording, or compares two; found 3"):
        answers_of(first, first, first)


WRONG = [
    "", "/", "scene", "scene.json/", "/scene.json", "scene.json\n", "../scene.json", "..", "thumbs/-1.bin",
    "thumbs/99.bin", "thumbs/0.bin/..", "thumbs/٣.bin", "thumbs/0x1.bin", "row/0/0/0/9.bin", "row/0/4/0/0.bin",
    "row/0/0/4/0.bin", "column/0/0/0/9.bin", "cell/0/0/0/99.bin", "cell/99/0/0/0.bin", "tile/0/0/0/99/0/0.bin",
    "tile/0/0/0/0/0/999999999.bin", "whole/0/9999999999.bin", "ruler/9/0.json", "ruler/0/9.json", "picture/0/0.bin",
    "sound/0/0.bin", "static/index.html", "../../etc/passwd", "/etc/passwd", "C:\\boot.ini", "thumbs/0%2e.bin",
]  # fmt: skip


@pytest.mark.parametrize("path", WRONG)
def test_other_paths_have_no_answer(path: str) -> None:
    assert answers_of(recorded()).get(path) is None


def test_a_call_that_is_damaged_has_no_answer_and_the_others_have(tmp_path: Path) -> None:
    recorded().save(tmp_path / "run")
    content = bytearray((tmp_path / "run").read_bytes())
    content[-100] ^= 1  # of the last call
    (tmp_path / "run").write_bytes(content)
    answers = answers_of(Recording.load(tmp_path / "run"))
    assert answers.get("thumbs/5.bin") is None and answers.get("thumbs/0.bin") is not None
    assert answers.get("metrics.bin") is not None


def test_there_is_nothing_to_see_in_no_calls() -> None:
    with pytest.raises(DataError, match="nothing to see in a recording of no calls"):
        Answers([Scene(Recording())])


def test_answers_that_are_remembered_stay_within_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyhead.lens.page.answers.HELD", 3000)
    answers = answers_of(recorded())
    for head in range(4):
        for query in range(9):
            assert answers.get(f"row/0/{head}/0/{query}.bin")
    assert answers.bytes == sum(len(each.body) for each in answers.remembered.values()) <= 3000
    assert len(answers.remembered) == 5


def test_a_part_of_mere_places_has_a_name() -> None:
    recording = long(50)[0]
    recording.rulers = {"decoder": Places(50)}
    assert told(answers_of(recording), "scene.json")["parts"]["decoder"]["title"] == {"en": "places", "zh": "位置"}
    assert CHOSEN.count == 7


def test_whoever_asks_for_what_is_being_made_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, made, begun = answers_of(recorded()), list[str](), Barrier(2)
    real = Answers.made

    def slow(self: Answers, path: str) -> Answer | None:
        begun.wait(5)
        sleep(0.05)
        made.append(path)
        return real(self, path)

    monkeypatch.setattr(Answers, "made", slow)
    answers.ahead()
    begun.wait(5)
    opening = f"thumbs/{answers.scenes[0].opens}.bin"
    found = answers.get(opening)
    assert made == [opening] and found is answers.remembered[opening] and not answers.making
