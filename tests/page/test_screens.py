"""What is on the screen: the regions, the sentence, and pictures that stay what they were judged to be."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.page.conftest import PHONE, Opened
from tests.page.scenes import translated

GOLDEN = Path(__file__).parent / "golden"
SIZE = (320, 180)  # of the pictures that are compared: letters are blurred away, shapes and colours are not
NEAR = 0.035  # of the whole range, on average
Look = Callable[..., Opened]

# The milliseconds of a million square roots: what is quick on a slow machine, too.
YARD = """() => Math.min(...Array.from({ length: 5 }, () => {
    const from = performance.now();
    let sum = 0;
    for (let n = 0; n < 1e6; n++) sum += Math.sqrt(n);
    return performance.now() - from + 0 * sum;
}))"""
SCREENS = {
    "text-lines": ("text", "call=6&head=2&query=3"),
    "text-map": ("text", "call=6&head=2&view=map&query=3&key=2"),
    "text-ribbon-dark": ("text", "call=1&head=1&view=text&query=2&theme=dark"),
    "text-map-chinese": ("text", "call=4&head=0&view=map&query=5&key=1&lang=zh&sinks=1"),
    "words": ("pieces", "call=1&head=1&view=map&by=words&query=4&key=2"),
    "distance-dark": ("pieces", "call=1&head=0&view=distance&query=9&key=4&theme=dark"),
    "entropy": ("pieces", "call=1&head=0&view=text&query=9"),
    "difference": ("both", "call=1&head=3&view=map&side=d&theme=dark"),
    "image": ("image", "call=1&head=1&query=6"),
    "audio": ("audio", "call=3&head=0&query=4"),
    "long": ("long", "call=1&head=0&weighting=0"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_it_was_judged(name: str, look: Look):
    scene, fragment = SCREENS[name]
    seen = look(scene, fragment)
    now = Image.open(io.BytesIO(seen.page.screenshot())).convert("RGB").resize(SIZE, Image.Resampling.BOX)
    file = GOLDEN / f"{name}.png"
    if os.environ.get("POLYHEAD_PAGE") == "write":  # look at what was written before you commit it
        now.quantize(64).save(file, optimize=True)
    off = np.abs(np.asarray(now, np.float32) - np.asarray(Image.open(file).convert("RGB"), np.float32)) / 255
    assert off.mean() < NEAR, f"{name} is off by {off.mean():.3f}; POLYHEAD_PAGE=write make page writes it anew"


def test_the_three_regions_and_the_sentence_are_there_in_every_view(look: Look):
    seen = look("text", "call=6&head=2")
    boxes = {}
    for view in ("map", "lines", "text", "table"):
        seen.page.locator(".views").get_by_role("button", name=view, exact=True).click()
        seen.settle()
        assert seen.selection()["view"] == view
        axes = "tint = what each word receives" if view == "text" else "row = the word that looks (query)"
        assert f"Decoder → encoder layer 1 head 2: {axes}" in seen.text("#sentence")
        assert "weight × value norm" in seen.text("#sentence")
        found = [seen.page.locator(css).bounding_box() for css in (".left", ".middle", ".right", ".views")]
        assert boxes.setdefault("first", found) == found, "a region has moved"


def test_the_table_says_the_weights_of_the_recording(look: Look):
    """Weights, weights by value norm, and without signs: each cell as computed here."""
    call = translated().recording["decoder.blocks.1.cross"]
    weights, norms = call.weights()[0, 2].double(), call.norms.values[0, 2].double()
    seen = look("text", "call=6&head=2&view=table&weighting=0")
    signs = [len(translated().recording.rulers["encoder"].labels) - 1]  # type: ignore[union-attr]
    for weighting, sinks in ((0, 0), (1, 0), (0, 1), (1, 1)):
        due = weights * (norms if weighting else 1)
        if sinks:
            due[:, signs] = 0
        due = due / due.sum(1, keepdim=True)
        seen.page.evaluate(f"location.hash = 'call=6&head=2&view=table&weighting={weighting}&sinks={sinks}'")
        seen.settle()
        cells = seen.page.locator(".matrix tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))"
        )
        shown = np.array([[0.0 if cell == "—" else float(cell) for cell in row] for row in cells])
        np.testing.assert_allclose(shown, due.numpy(), atol=1.6e-3)  # sent as float16, shown to 3 places


def test_several_heads_are_shown_as_their_mean_and_strangers_are_left_out(look: Look):
    weights = translated().recording["decoder.blocks.1.cross"].weights()[0].double()
    seen = look("text", "call=6&head=2&heads=6.2,6.5,0.1&view=table&weighting=0")
    assert "mean of 2 heads" in seen.text("#sentence")
    cells = seen.page.locator(".matrix tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => parseFloat(cell.textContent)))"
    )
    np.testing.assert_allclose(np.array(cells), weights[[2, 5]].mean(0).numpy(), atol=1.6e-3)
    seen.page.locator(".head[data-call='6'][data-head='7']").click(modifiers=["Shift"])
    seen.settle()
    assert "mean of 3 heads" in seen.text("#sentence")


def test_the_inspector_names_the_strongest_links_both_ways(look: Look):
    weights = translated().recording["encoder.blocks.1.attn"].weights()[0, 3]
    seen = look("text", "call=1&head=3&query=4&key=2&weighting=0")
    numbers = seen.page.locator(".right .links").evaluate_all(
        "lists => lists.map(list => [...list.querySelectorAll('.number')].map(one => parseFloat(one.textContent)))"
    )
    for shown, due in zip(numbers, (weights[4], weights[:, 2]), strict=True):
        best = due.sort(descending=True).values[: len(shown)] * 100
        np.testing.assert_allclose(shown, best.numpy(), rtol=2e-2, atol=2e-3)
    assert f"{float(weights[4, 2]) * 100:.3}"[:3] in seen.text(".readout .big")


def test_the_numbers_of_a_cell_give_its_weight(look: Look):
    seen = look("text", "call=1&head=3&query=4&key=2")
    said = seen.page.locator(".cell dd").all_inner_texts()
    weight = next(text for text in said if text.startswith("exp("))
    score, lse = (float(x.replace("−", "-")) for x in weight[4 : weight.index(")")].replace("−", "|-|", 1).split("|-|"))
    assert np.exp(score - lse) == pytest.approx(float(weight.split("= ")[1]), rel=2e-2)


def test_hovering_previews_a_click_keeps_and_escape_lets_go(look: Look):
    seen = look("text", "call=6&head=2&view=map")
    box = seen.page.locator(".map").bounding_box()
    assert box
    x, y = box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.5
    seen.page.mouse.move(x, y)
    seen.settle()
    assert "looks at" in seen.text(".readout") and "query" not in seen.selection()
    seen.page.mouse.click(x, y)
    seen.settle()
    chosen = seen.selection()
    assert {"query", "key"} <= chosen.keys()
    seen.page.mouse.move(5, 5)
    seen.press("Escape")
    assert "query" not in seen.selection()


def test_a_long_input_comes_in_tiles_and_pans_without_a_long_script(look: Look):
    seen = look("long", "call=1&head=0&weighting=0")
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url))
    box = seen.page.locator(".map").bounding_box()
    assert box
    x, y = box["x"] + 300, box["y"] + 260
    seen.page.mouse.move(x, y)
    for _ in range(12):
        seen.page.mouse.wheel(0, -120)
    seen.settle()
    assert any("/tile/1/0/0/0/" in url for url in asked), "no exact tile was asked for"
    assert seen.text(".sampled") == "every cell is one weight, in 256 steps"
    yard = seen.page.evaluate(YARD)
    seen.page.evaluate(
        """() => { window.spent = []; const ask = window.requestAnimationFrame.bind(window);
        window.requestAnimationFrame = (run) => ask((time) => { const from = performance.now(); run(time);
        window.spent.push(performance.now() - from); }); }"""
    )
    seen.page.mouse.down()
    for step in range(25):
        seen.page.mouse.move(x - 8 * step, y - 5 * step)
    seen.page.mouse.up()
    spent = sorted(seen.page.evaluate("window.spent"))
    assert len(spent) >= 5
    took = spent[len(spent) // 2] / min(yard, seen.page.evaluate(YARD))
    assert took < 4, f"a frame of panning takes as long as {took:.1f} million square roots"


def test_a_patch_shows_what_it_looks_at_for_every_head(look: Look):
    seen = look("image")
    box = seen.page.locator(".patches").bounding_box()
    assert box
    seen.page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    seen.settle()
    assert seen.selection()["query"] == "4"  # the last patch of the first row, after [CLS]
    assert "row 1 col 4" in seen.text(".readout")
    assert seen.page.locator(".sheet button").count() == 3
    seen.page.locator(".sheet button").nth(2).click()
    seen.settle()
    assert seen.selection()["head"] == "2"


def test_a_sound_plays_with_its_words_in_time(look: Look):
    seen = look("audio", "call=3&head=0")
    assert seen.page.locator(".play").is_enabled()
    begins = seen.page.locator(".strip button").evaluate_all("words => words.map(word => parseFloat(word.style.left))")
    assert begins == sorted(begins) and len(begins) > 3
    widest = seen.page.locator(".strip button").evaluate_all(
        "words => words.indexOf([...words].sort((a, b) => b.offsetWidth - a.offsetWidth)[0])"
    )
    seen.page.locator(".strip button").nth(widest).click()
    seen.settle()
    assert seen.selection()["query"] == str(widest)


def test_every_head_stands_in_a_table_with_what_its_metrics_mean(look: Look):
    seen = look("text", "view=heads")
    seen.page.wait_for_selector(".sortable th:nth-child(5)")
    head = seen.page.locator(".sortable thead th").all_inner_texts()
    column = next(n for n, name in enumerate(head) if name.startswith("confidence"))
    seen.page.locator(".sort").nth(column).click()
    seen.settle()
    rows = seen.page.locator(".sortable tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert len(rows) == 9 * 8  # attentions of the translator, heads
    told = [float(row[column]) for row in rows]
    assert told == sorted(told, reverse=True) and 0 < told[-1] and told[0] <= 1
    assert seen.page.locator(".meanings dt").count() == len(head) - 3
    seen.page.locator(".go").first.click()
    seen.settle()
    assert seen.selection()["head"] == rows[0][2]


def test_two_recordings_are_laid_side_by_side(look: Look):
    seen = look("both", "call=1&head=3&view=map")
    seen.page.get_by_role("button", name="A − B").click()
    seen.settle()
    assert "difference A − B" in seen.text("#sentence")
    first, second = (
        translated(text).recording["encoder.blocks.1.attn"].weights()[0, 3]
        for text in ("他说她没来，因为雨下得很大。", "他说她来了，因为雨下得不大。")
    )
    assert first.shape != second.shape or not first.equal(second)
    assert "differ" in seen.text(".links h2")


def test_a_telephone_shows_one_region_at_a_time(look: Look):
    seen = look("text", "call=6&head=2&query=3&key=1", size=PHONE)
    for name, css in (("Where", ".left"), ("Numbers", ".right"), ("Picture", ".middle")):
        seen.page.get_by_role("button", name=name, exact=True).click()
        assert seen.page.locator(css).is_visible()
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_browsers_language_is_spoken_and_can_be_changed(look: Look):
    seen = look("text", language="zh-CN")
    assert "行 = 在看的词" in seen.text("#sentence") and seen.page.evaluate("document.documentElement.lang") == "zh-CN"
    seen.page.get_by_role("button", name="English").click()
    seen.settle()
    assert "row = the word that looks" in seen.text("#sentence")
