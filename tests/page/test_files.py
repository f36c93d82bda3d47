"""One file of a long run opens on what it keeps, under the weighting that it names, and says what it has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyhead.lens.learn import following
from polyhead.lens.learn.page import Size
from polyhead.lens.page import bundle
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import STATIC, Page, joined, page
from polyhead.lens.page.export import export
from polyhead.lens.page.scene import Scene
from polyhead.lens.rulers import Words
from polyhead.lens.see import see
from polyhead.lens.watch import watch
from tests.page import scenes
from tests.page.conftest import Opened

Look = Callable[..., Opened]


def written(answers: Answers, path: Path, without: tuple[str, ...] = (), **how: Any) -> Path:
    """The file; without: the beginnings of paths of answers that it is written without."""

    def some(given: Mapping[str, bytes]) -> Page:
        return page({name: body for name, body in given.items() if not name.startswith(without)} if without else given)

    export(answers, path, page=some, **how)
    return path


def percents(seen: Opened, css: str) -> list[float]:
    return [float(text.removesuffix("%").strip()) for text in seen.page.locator(css).all_inner_texts()]


# ------------------------------------------------------------------------------------------------- weights of long runs


@pytest.mark.parametrize("heads", [2, 120])  # of which all norms fit one answer, or not
def test_a_file_of_exact_tiles_opens_with_weights_by_norm(look: Look, tmp_path: Path, heads: int):
    recording = scenes.drawn(300, heads=heads, layers=1)
    call = next(iter(recording))
    file = written(Answers([Scene(recording)]), tmp_path / "long.html")
    p = call.weights()[0, 0].double().numpy()
    norms = call.norms.values[0, 0].double().numpy()
    for fragment, factors in (
        ("", norms), ("weighting=0", np.ones(300)), ("sinks=1", np.where(np.arange(300) == 0, 0, norms)),
    ):  # fmt: skip
        seen = look(file, f"{fragment}&query=7&key=12")
        assert not seen.page.locator(".empty").is_visible()
        row = p[7] * factors / (p[7] @ factors)
        [shown] = percents(seen, "#readout .big")
        assert shown == pytest.approx(100 * row[12], abs=0.5)
        named = percents(seen, ".links .number")[:4]
        np.testing.assert_allclose(named, 100 * np.sort(row)[::-1][: len(named)], atol=1)


def test_a_file_of_coarse_tiles_keeps_those_that_it_opens_with(look: Look, tmp_path: Path):
    answers = Answers([Scene(scenes.drawn(3000, heads=1, layers=1))])
    few = len(page({}).html.encode()) + 500_000
    file = written(answers, tmp_path / "long.html", most=few)
    for fragment in ("", "weighting=0"):
        seen = look(file, fragment)
        assert not seen.page.locator(".empty").is_visible()
        assert "the largest of 16 keys" in seen.text(".sampled")
    seen = look(file, "sinks=1")  # which cannot be had from these
    assert "Not kept in this file" in seen.text(".empty")
    seen.page.get_by_text("Where the numbers come from").click()
    seen.settle()
    assert "signs hidden" in seen.text(".about")
    bare = written(answers, tmp_path / "bare.html", ("tile/0/0/1/",), most=few)
    assert look(bare).page.locator(".empty").is_visible()  # rather than plain weights under another name
    bare = written(answers, tmp_path / "barer.html", ("tile/",), most=few)
    assert "small picture" in look(bare, "weighting=0").text(".sampled")


def test_links_by_norm_are_in_a_file_of_a_longer_run(look: Look, tmp_path: Path):
    recording = scenes.drawn(1300, heads=1, layers=1)
    file = written(Answers([Scene(recording)]), tmp_path / "long.html")
    call = next(iter(recording))
    row = (call.weights()[0, 0, 9] * call.norms.values[0, 0]).double().numpy()
    named = percents(look(file, "query=9"), ".links .number")[:4]
    np.testing.assert_allclose(named, 100 * np.sort(row)[::-1][:4] / row.sum(), atol=0.06)


# ----------------------------------------------------------------------------------------------------------- distances


@pytest.mark.parametrize("T", [300, 2050, 4100])
def test_a_band_of_some_rows_is_as_high_as_the_farthest_of_them_looks(browser: Any, T: int):
    """The last of these rows stands a little before the last word, and may be in the line before."""
    answers = Answers([Scene(scenes.drawn(T, heads=1, layers=1, causal=True))])
    sent = answers.get("band/0/0/0.bin")
    assert sent is not None
    lines, columns = np.frombuffer(sent.body[4:12], "<u4").tolist()
    assert (lines, columns) == ({300: 58, 2050: 80, 4100: 88}[T], 256)
    tab = browser.new_page()
    shape = tab.evaluate(
        f"async ([T, lines, columns]) => {{ {joined(STATIC / 'band.js')}"
        "const rows = { signs: new Set(), label: String, load: () => null };"
        "const base = { T, S: T, rows, columns: rows, name: '' };"
        "const found = { shape: [lines, columns], values: new Float32Array(lines * columns).fill(1) };"
        "const { T: high, S: wide, data, cellOf } = await bandOf(base, null, async () => found);"
        "return [high, wide, data.length, ...cellOf(T - 1, 0)]; }",
        [T, lines, columns],
    )
    tab.close()
    assert shape == [lines, columns, lines * columns, lines - 1, columns - 1]


# ----------------------------------------------------------------------------------------------------------- entropies


def test_where_nobody_looks_anywhere_there_is_no_entropy(look: Look, monkeypatch: pytest.MonkeyPatch):
    """Of all rows and of some of many: five that see nothing, then none that sees anything."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = torch.nn.MultiheadAttention(8, 1, batch_first=True)

        def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            return self.attend(x, x, x, attn_mask=hidden)[0]

    def blind(T: int, rows: int) -> Callable[[Path], Answers]:
        torch.manual_seed(0)
        hidden = torch.zeros(T, T, dtype=torch.bool)
        hidden[:rows] = True
        model = Model().eval()
        with torch.no_grad(), watch(model) as recording:
            model(torch.randn(1, T, 8), hidden)
        recording.rulers = {"encoder": Words(tuple(f"w{n}" for n in range(T)))}
        return lambda folder: Answers([Scene(recording)])

    for T in (20, 1100):
        for rows in (5, T):
            name = f"blind {T} {rows}"
            monkeypatch.setitem(scenes.SCENES, name, blind(T, rows))
            seen = look(name, "view=text&weighting=0&query=2")
            if rows == T:
                seen.page.wait_for_selector(".spark", state="hidden", timeout=5000)
            else:
                seen.page.get_by_text("w2 —", exact=True).wait_for(timeout=5000)


# ------------------------------------------------------------------------------------------------------------- lessons

ONE = Size("f16", 8, 0, heads=False)
CELL = "query=3&key=1&view=map&weighting=0"


def table_of(seen: Opened) -> list[list[float]]:
    seen.page.wait_for_selector(".learn .station h2")
    seen.page.evaluate("location.hash = location.hash.replace(/station=\\d/, 'station=6')")
    seen.press("2")
    return seen.page.locator(".follow table.numbers tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => Number(cell.textContent)))"
    )


def test_a_lesson_that_holds_one_head_is_not_taken_for_another(look: Look, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "SIZES", (ONE,))
    run = see(scenes.TEXT)
    monkeypatch.setitem(scenes.SCENES, "one head", lambda folder: Answers([scenes.scene_of(run)]))
    weights = run.scene.call(1).weights()[0].numpy()
    seen = look("one head", f"call=1&head=2&{CELL}&station=1")
    np.testing.assert_allclose(table_of(seen), weights[2], atol=2e-3)
    seen.page.evaluate("location.hash = location.hash.replace(/head=\\d/, 'head=1')")
    seen.settle()
    np.testing.assert_allclose(table_of(seen), weights[1], atol=2e-3)
    seen.press("Escape")  # and by way of the page
    seen.press("]", "]")
    seen.press("l")
    np.testing.assert_allclose(table_of(seen), weights[3], atol=2e-3)
    assert np.abs(weights[3] - weights[1]).max() > 0.1 < np.abs(weights[2] - weights[1]).max()


def test_a_file_says_of_which_heads_it_keeps_the_lesson(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "SIZES", (ONE,))
    run = see(scenes.TEXT)
    call = run.scene.opens
    assert "the nine stations of other heads" in run.html(tmp_path / "page.html")
    seen = look(tmp_path / "page.html", f"call={call}&head=0&{CELL}&station=1", offline=True)
    np.testing.assert_allclose(table_of(seen), run.scene.call(call).weights()[0, 0].numpy(), atol=2e-3)
    for after in (f"call={call}&head=2", f"call={call - 1}&head=0"):
        seen.page.evaluate(f"location.hash = '{after}&{CELL}&station=3'")
        seen.settle()
        assert seen.page.locator(".follow").is_hidden()
        assert f"only that of {run.scene.facts[call].name}, head 0." in seen.text(".on")
    seen = look(tmp_path / "page.html", f"call={call}&head=2&{CELL}&station=3", offline=True)
    assert seen.page.locator(".follow").is_hidden()


def test_stations_refuse_a_head_whose_numbers_were_left_out(browser: Any, monkeypatch: pytest.MonkeyPatch):
    run = see(scenes.TEXT)
    monkeypatch.setattr(following, "SIZES", (ONE,))
    assert run.scene.lessons is not None
    told = run.scene.lessons.told(run.scene.calls[1], run.scene.call(1), (2, 3, 1))
    assert told is not None
    assert [head for head, has in enumerate(json.loads(told)["hasHead"]) if has] == [2]
    tab = browser.new_page()
    script = joined(bundle.LEARN / "stations.js")
    said = tab.evaluate(
        f"async ([told]) => {{ {script}; const lesson = opened(JSON.parse(told)), root = document.body;"
        "const tried = (act) => { try { act(); return 'done'; } catch (error) { return error.message; } };"
        "const ribbon = mount(root, lesson);"
        "return [tried(() => ribbon.set({ head: 1 })), tried(() => ribbon.set({ head: 2 })),"
        "tried(() => mount(root, lesson, { at: { head: 0 } }))]; }",
        [told.decode()],
    )
    tab.close()
    assert said == ["this lesson has no head 1", "done", "this lesson has no head 0"]
