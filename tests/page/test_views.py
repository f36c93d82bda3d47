"""Whole words, distances, entropies and what is taken along: each number is the recording's own, computed here."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from polyhead.lens.draw.words import group, merge
from polyhead.lens.page.bundle import page
from polyhead.lens.page.export import export
from polyhead.lens.rulers import Words
from tests.page import scenes
from tests.page.conftest import PHONE, Opened
from tests.page.scenes import OTHER, translated

Look = Callable[..., Opened]
HERE = "call=1&head=1"


def weights(name: str, folder: Path, *, norms: bool = False) -> Any:
    """The weights [T, S] of head 1 of call 1, as the recording has them."""
    scene = scenes.SCENES[name](folder).scenes[0]
    call = scene.call(1)
    p = call.weights()[0, 1].double().numpy()
    if norms:
        p = p * call.norms.values[0, 1].double().numpy()
        p = p / p.sum(-1, keepdims=True)
    return p


def table(seen: Opened) -> Any:
    """What the table of the page says: names above, names beside, numbers."""
    rows = seen.page.locator(".matrix tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows[0][1:], [row[0] for row in rows[1:]], np.array([[number(x) for x in row[1:]] for row in rows[1:]])


def number(text: str) -> float:
    return 0.0 if text == "—" else float(text)


# -------------------------------------------------------------------------------------------------------- whole words


def test_weights_of_words_are_sums_of_who_is_looked_at_and_means_of_who_looks(look: Look, tmp_path: Path):
    ruler = scenes.pieces(tmp_path).scenes[0].parts["decoder"]
    assert isinstance(ruler, Words)
    words = group(ruler.text, ruler.places)
    assert [len(word) for word in words] == [1, 1, 2, 1, 3, 1, 1, 1, 1, 2, 2]
    for norms in (False, True):
        seen = look("pieces", f"{HERE}&view=table&by=words&weighting={int(norms)}")
        columns, rows, shown = table(seen)
        assert columns == rows == [
            "<s>", "The", "playground", "was", "unbelievably", "quiet", ",", "我", "爱", "㐂", "don't"
        ]  # fmt: skip
        np.testing.assert_allclose(shown, merge(weights("pieces", tmp_path, norms=norms), words, words), atol=1.6e-3)
        np.testing.assert_allclose(shown.sum(1), 1, atol=5e-3)
        assert "pieces of a word joined: looked at, they add up; looking, they are averaged" in seen.text("#sentence")


def test_the_switch_keeps_the_place_and_can_be_undone(look: Look):
    seen = look("pieces", f"{HERE}&view=map&query=7&key=3")
    seen.page.get_by_label("whole words").click()
    seen.settle()
    chosen = seen.selection()
    assert (chosen["by"], chosen["query"], chosen["key"]) == ("words", "4", "2")
    assert "unbelievably" in seen.text("#readout") and "playground" in seen.text("#readout")
    seen.press("j")
    chosen = seen.selection()
    assert "by" not in chosen and (chosen["query"], chosen["key"]) == ("5", "2")  # the first piece of each
    seen.press("Control+z")
    assert seen.selection()["by"] == "words"


@pytest.mark.parametrize("view", ["map", "distance", "lines", "text"])
def test_words_stand_in_every_view(view: str, look: Look):
    seen = look("pieces", f"{HERE}&view={view}&by=words&query=4")
    assert "unbelievably" in seen.text("#readout")
    if view == "lines":
        assert seen.page.locator(".word.who").count() == 11
    if view == "text":
        assert seen.page.locator(".piece").all_inner_texts()[2] == "playground"


def test_where_there_is_nothing_to_join_the_switch_says_why(look: Look):
    for scene, why in (("long", "this input is too long"), ("hostile", "Every piece is a whole word")):
        seen = look(scene, "call=1&view=map&by=words")
        switch = seen.page.get_by_label("whole words")
        assert switch.get_attribute("aria-disabled") == "true" and not switch.is_checked()
        switch.click(force=True)  # which says why, where others are dead
        seen.settle()
        assert why in seen.text(".toast") and not switch.is_checked()
        assert "pieces of a word joined" not in seen.text("#sentence")
    assert look("image").page.get_by_label("whole words").count() == 0 or not (
        look("image").page.get_by_label("whole words").is_visible()
    )


# ---------------------------------------------------------------------------------------------------------- distances


def test_a_band_holds_the_weights_by_how_far_back_they_lie(look: Look, tmp_path: Path):
    p = weights("pieces", tmp_path)
    seen = look("pieces", f"{HERE}&view=distance&weighting=0")
    assert "row = how far back" in seen.text("#sentence")
    rows = taken(seen, "TSV")
    assert rows[0][1:] == [*scenes.PIECES[:1], *rows[0][2:]] and [row[0] for row in rows[1:]] == [
        str(far) for far in range(16)
    ]
    for far, row in enumerate(rows[1:]):
        for query, cell in enumerate(row[1:]):
            assert number(cell) == pytest.approx(p[query, query - far] if far <= query else 0, abs=1e-3)


def test_a_band_is_walked_along_a_distance_and_across(look: Look):
    seen = look("pieces", f"{HERE}&view=distance&query=6&key=5")
    seen.press("ArrowRight")
    assert (seen.selection()["query"], seen.selection()["key"]) == ("7", "6")
    seen.press("ArrowDown")
    assert (seen.selection()["query"], seen.selection()["key"]) == ("7", "5")
    box = seen.page.locator(".map").bounding_box()
    assert box
    found: list[tuple[int, int]] = []
    for along in (0.6, 0.8):
        seen.page.mouse.click(box["x"] + box["width"] * along, box["y"] + box["height"] * 0.4)
        seen.settle()
        found.append((int(seen.selection()["query"]), int(seen.selection()["key"])))
    (query, key), (later, its_key) = found
    assert query < later and query - key == later - its_key > 0


def test_only_what_may_not_look_ahead_has_distances(look: Look):
    assert "distance" not in look("image").page.locator(".views").inner_text()
    seen = look("text", "call=6&view=distance")  # cross-attention
    assert seen.page.locator(".views button[aria-pressed=true]").inner_text() != "distance"


def test_a_long_band_is_of_some_exact_rows_and_says_so(look: Look):
    seen = look("long", "call=1&head=0&view=distance&weighting=0")
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url))
    assert seen.text(".sampled") == "256 of 3\u202f000 rows · from 32 on a cell adds up several weights · in 256 steps"
    seen.press("]")
    assert any("/band/1/1/0.bin" in url for url in asked)


def test_what_is_hidden_is_struck_in_a_band_and_not_none(look: Look, tmp_path: Path):
    seen = look("pieces", f"{HERE}&view=distance&weighting=0&sinks=1")
    for far, row in enumerate(taken(seen, "TSV")[1:]):
        assert [n for n, cell in enumerate(row[1:]) if cell == "NaN"] == [far]  # whose key is the first
    assert seen.text(".sampled") == "exact: every cell is one weight"  # none is that far away


def test_distances_of_a_word_that_is_written_are_counted_from_it(look: Look):
    p = translated().recording["decoder.blocks.0.attn"].weights()[0, 1].double().numpy()
    seen = look("text", "call=3&head=1&view=distance&weighting=0")
    assert "from 33 on" in seen.text("#sentence")
    for row in taken(seen, "TSV")[1:]:
        far = int(row[0])
        assert far >= 1
        for written, cell in enumerate(row[1:]):  # the word after the one that was read last
            read = written + 1 - far
            assert number(cell) == pytest.approx(p[written, read] if read >= 0 else 0, abs=1e-3)


# ---------------------------------------------------------------------------------------------------------- entropies


def test_entropies_are_those_of_the_rows(look: Look, tmp_path: Path):
    p = weights("pieces", tmp_path, norms=True)
    due = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(1)
    seen = look("pieces", f"{HERE}&view=text&query=9")
    assert f"{due[9]:.2f} bits" in seen.text(".spark")
    assert f"{2 ** due[9]:.1f} words" in seen.text(".spark")
    seen.page.locator(".spark summary").click()
    seen.settle()
    rows = seen.page.locator(".spark tbody tr").evaluate_all("rows => rows.map(row => row.cells[2].textContent)")
    np.testing.assert_allclose([float(x) for x in rows], due, atol=6e-3)
    box = seen.page.locator(".entropy").bounding_box()
    assert box
    seen.page.mouse.click(box["x"] + 44 + 2.5 * min(40, (box["width"] - 46) / 16), box["y"] + 40)
    seen.settle()
    assert seen.selection()["query"] == "2"


def test_entropies_of_long_input_are_exact_where_they_are_told(look: Look, tmp_path: Path):
    p = weights("long", tmp_path)
    seen = look("long", f"{HERE}&view=text&weighting=0")
    seen.page.locator(".spark summary").click()
    seen.settle()
    rows = seen.page.locator(".spark tbody tr").evaluate_all(
        "rows => rows.map(row => [row.cells[0].textContent, row.cells[2].textContent])"
    )
    assert len(rows) == 256
    for place, told in rows[::17]:
        row = p[int(re.sub(r"\D", "", place))]
        assert float(told) == pytest.approx(-(row[row > 0] * np.log2(row[row > 0])).sum(), abs=2e-3)


# --------------------------------------------------------------------------------------------------------- taken along


def saved(seen: Opened, name: str) -> bytes:
    with seen.page.expect_download(timeout=20_000) as waiting:
        seen.page.locator(".buttons").get_by_role("button", name=name, exact=True).click()
    assert waiting.value.suggested_filename.endswith(f".{name.lower()}")
    return Path(waiting.value.path()).read_bytes()


def taken(seen: Opened, name: str) -> list[list[str]]:
    return [*csv.reader(io.StringIO(saved(seen, name).decode()), delimiter="\t", quoting=csv.QUOTE_NONE)]


@pytest.mark.parametrize("view", ["map", "lines", "text", "table"])
def test_a_tsv_has_the_weights_of_the_recording(view: str, look: Look, tmp_path: Path):
    rows = taken(look("pieces", f"{HERE}&weighting=0&view={view}"), "TSV")
    p = weights("pieces", tmp_path)
    assert [row[0] for row in rows[1:]] == rows[0][1:] and len(rows) == len(p) + 1
    np.testing.assert_allclose([[number(x) for x in row[1:]] for row in rows[1:]], p, atol=1e-3)


@pytest.mark.parametrize("view", ["map", "lines"])
@pytest.mark.parametrize("scene", ["pieces", "hostile", "both"])
def test_an_svg_is_well_formed_and_its_words_are_text(scene: str, view: str, look: Look):
    seen = look(scene, f"call=1&head=1&view={view}")
    root = ElementTree.fromstring(saved(seen, "SVG"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    names = {element.tag.split("}")[1] for element in root.iter()}
    assert names <= {"svg", "g", "rect", "text", "path"}
    said = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert seen.text("#sentence") in said
    word = {"pieces": "ground", "hostile": "</script>", "both": "他说"}[scene]
    assert said.count(word) >= 2
    assert not any(name.lower().startswith("on") or "href" in name for e in root.iter() for name in e.attrib)


@pytest.mark.parametrize(("scene", "view"), [
    ("pieces", "map"), ("pieces", "lines"), ("pieces", "distance"), ("pieces", "text"), ("image", "picture"),
    ("audio", "sound"), ("long", "map"),
])  # fmt: skip
def test_a_png_opens_with_something_on_it(scene: str, view: str, look: Look):
    picture = Image.open(io.BytesIO(saved(look(scene, f"call=1&head=1&view={view}"), "PNG"))).convert("RGB")
    assert min(picture.size) > 100
    assert len(picture.resize((64, 64)).getcolors(4096) or ()) > 8


def test_hostile_words_stay_one_cell_each_in_a_tsv(look: Look):
    rows = taken(look("hostile", "call=1&head=1&view=table"), "TSV")
    assert len(rows) == len(scenes.HOSTILE) + 1 and {len(row) for row in rows} == {len(scenes.HOSTILE) + 1}
    for row in rows[1:]:
        assert all(math.isfinite(float(x)) for x in row[1:])
        assert not re.match(r"[=+@\-]", row[0]), "a table program would run it"


def test_numbers_are_copied_as_they_are_read(look: Look, tmp_path: Path):
    seen = look(
        "pieces", f"{HERE}&weighting=0&view=map&query=6&key=4", permissions=["clipboard-read", "clipboard-write"]
    )
    seen.page.get_by_role("button", name="copy numbers").click()
    seen.settle()
    copied = seen.page.evaluate("navigator.clipboard.readText()")
    p = weights("pieces", tmp_path)[6]
    assert copied.startswith(seen.text("#sentence"))
    told = dict(re.findall(r"^(\d+)\t[^\t]*\t(\S+)$", copied.split("→\n", 1)[1].split("\n\n")[0], re.M))
    assert {int(j) for j in told} == set(np.flatnonzero(p > 1e-7))
    for j, w in told.items():
        assert float(w) == pytest.approx(p[int(j)], abs=1e-3)


# --------------------------------------------------------------------------------------------------------- differences


def signed(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").replace("%", ""))


def test_a_difference_of_texts_stands_in_the_text(look: Look):
    mine, other = translated(), translated(OTHER)
    a, b = (seen.recording["encoder.blocks.1.attn"].weights()[0, 3].double() for seen in (mine, other))
    first, second = (list(seen.recording.rulers["encoder"].labels) for seen in (mine, other))  # type: ignore[union-attr]
    both = {i: second.index(word) for i, word in enumerate(first) if first.count(word) == second.count(word) == 1}
    query = first.index("，")
    seen = look("both", f"call=1&head=3&view=text&side=d&weighting=0&query={query}")
    assert "difference A − B in the places of A, struck where B has none" in seen.text("#sentence")
    pieces = seen.page.locator(".piece")
    told = pieces.evaluate_all("all => all.map(one => [one.title, one.style.background, one.className])")
    checked = 0
    for i, (title, background, classes) in enumerate(told):
        assert ("hidden" in classes) == (first[i] not in second)
        if i not in both or abs(due := float(a[query, i] - b[both[query], both[i]])) < 0.003:
            continue
        assert signed(title) == pytest.approx(100 * due, abs=0.06)
        red, _, blue = map(int, re.findall(r"\d+", background)[:3])
        assert (red > blue) == (due > 0)
        checked += 1
    assert checked >= 4
    numbers = seen.page.locator(".right .links .number").all_inner_texts()
    due = sorted((float(a[query, i] - b[both[query], k]) for i, k in both.items()), key=abs, reverse=True)
    assert [signed(x) for x in numbers[:3]] == pytest.approx([100 * x for x in due[:3]], abs=0.06)
    assert not seen.page.locator(".spark").is_visible()  # a difference has no entropy


def test_a_difference_of_pictures_is_lit_in_the_picture(look: Look, tmp_path: Path):
    a, b = (scene.call(1).weights()[0, 1].double() for scene in scenes.pictures(tmp_path).scenes)
    query = int((a - b).abs().sum(1).argmax())
    seen = look("pictures", f"{HERE}&view=picture&side=d&weighting=0&query={query}&theme=light")
    due = (a - b)[query]
    shown = seen.page.evaluate(
        """() => { const canvas = document.querySelector('.patches'), all = canvas.getContext('2d');
        return Array.from({ length: 16 }, (_, n) => [...all.getImageData((n % 4 + 0.5) * canvas.width / 4,
        (Math.floor(n / 4) + 0.5) * canvas.height / 4, 1, 1).data]); }"""
    )
    assert len(due) == 17 and float(due.abs().max()) > 0.05
    for (red, _, blue, _), w in zip(shown, due[1:].tolist(), strict=True):
        if abs(w) > 0.01:
            assert (red > blue) == (w > 0)
    told = seen.page.locator(".right .links .number").all_inner_texts()
    assert signed(told[0]) == pytest.approx(100 * float(due[due.abs().argmax()]), abs=0.06)
    assert "difference A − B in the places of A" in seen.text("#sentence")
    seen.page.get_by_role("button", name="A", exact=True).click()
    seen.settle()
    assert not any(x.startswith(("+", "−")) for x in seen.page.locator(".right .links .number").all_inner_texts())


# ------------------------------------------------------------------------------------------------------- what is said


def test_numbers_beside_lines_are_rounded(look: Look):
    p = translated().recording["decoder.blocks.1.cross"].weights()[0, 2]
    due = [max(range(len(p)), key=lambda i: float(p[i].max() * 100 % 1 > 0.5) * float(p[i].max()))]
    seen = look("text", f"call=6&head=2&view=lines&weighting=0&query={due[0]}")
    told = seen.page.locator(".word.whom .much").all_inner_texts()
    assert any(float(w) * 100 % 1 > 0.55 for w in p[due[0]] if w > 0.005)
    for text, w in zip(told, p[due[0]].tolist(), strict=True):
        assert abs(float(text.removesuffix(" %") or 0) - 100 * w) <= 0.52


def test_what_is_hidden_is_named_as_it_is(look: Look):
    for call, what, chinese in ((6, "special tokens", "特殊符号"), (1, "first and special tokens", "首词与特殊符号")):
        seen = look("text", f"call={call}&head=2&sinks=1&view=map")
        assert f"; {what} hidden, the rest renormalised" in seen.text("#sentence")
        assert seen.page.get_by_label(f"hide {what}", exact=True).is_checked()
        seen = look("text", f"call={call}&head=2&sinks=1&view=map&lang=zh")
        assert f"；已隐藏{chinese}，" in seen.text("#sentence") and f"隐藏{chinese}" in seen.text(".controls")
        seen.page.evaluate(f"location.hash = 'call={7 - call}&sinks=1&view=map&lang=zh'")
        seen.settle()
        assert f"隐藏{'特殊符号' if call == 1 else '首词与特殊符号'}" in seen.text(".controls").split()


def test_the_heads_are_said_to_be_heads_and_escape_leads_back(look: Look):
    seen = look("both", "call=6&head=2&view=text&query=2")
    seen.page.locator(".left").get_by_role("button", name="table").click()
    seen.settle()
    assert seen.text("#sentence") == "Every head, one a row: its metrics, of plain weights; first recording (A)."
    assert seen.text(".sampled") == ""
    assert seen.page.locator(".views button[aria-pressed=true]").all_inner_texts() == ["heads"]
    seen.press("Escape")
    assert seen.selection()["view"] == "text" and seen.selection()["query"] == "2"
    assert seen.page.locator(".views button[aria-pressed=true]").all_inner_texts() == ["text"]


def test_the_strongest_links_are_of_rows_that_have_a_choice(look: Look, tmp_path: Path):
    p = weights("pieces", tmp_path)
    assert p[0, 0] == 1
    seen = look("pieces", f"{HERE}&weighting=0")
    told = seen.page.locator(".right .links .number").all_inner_texts()
    due = sorted(p[1:].max(1) * 100, reverse=True)[: len(told)]
    assert [signed(x) for x in told] == pytest.approx(due, abs=0.06)
    assert "Of rows that see more than one." in seen.text(".links")
    assert "more than one" not in look("text", "call=1&head=1").text(".links")


def test_a_text_with_none_chosen_says_what_tints_it(look: Look, tmp_path: Path):
    p = weights("pieces", tmp_path)
    seen = look("pieces", f"{HERE}&view=text&weighting=0")
    assert "tint = what each word receives on average, until one is chosen" in seen.text("#sentence")
    titles = seen.page.locator(".piece").evaluate_all("all => all.map(one => one.title)")
    assert [signed(x or "0") for x in titles] == pytest.approx(p.mean(0) * 100, abs=0.21)
    seen.page.locator(".piece").nth(3).click()
    seen.settle()
    assert "tint" not in seen.text("#sentence")


def test_the_legend_shows_how_a_scale_with_signs_bends(look: Look):
    seen = look("aimed", "call=6&head=2&view=map&weighting=4")
    seen.page.evaluate(
        """() => { window.marks = []; const { fillRect } = CanvasRenderingContext2D.prototype;
        CanvasRenderingContext2D.prototype.fillRect = function (x, y, w, h) {
        if (this.canvas.className === 'legend' && w === 1) window.marks.push(x);
        fillRect.call(this, x, y, w, h); }; }"""
    )
    gaps = {}
    for scale in ("linear", "sqrt"):
        seen.page.locator(".scale select").select_option(scale)
        seen.settle()
        marks = np.array(seen.page.evaluate("window.marks.splice(0)"))[-19:]
        gaps[scale] = np.diff(marks)
    np.testing.assert_allclose(gaps["linear"], gaps["linear"][0])
    assert (np.diff(gaps["sqrt"][9:]) < 0).all()  # from the middle outwards, closer and closer
    np.testing.assert_allclose(gaps["sqrt"], gaps["sqrt"][::-1])


# ---------------------------------------------------------------------------------------------------------- bare ones


def test_a_recording_that_names_nothing_has_no_empty_signs_and_asks_for_nothing_in_vain(look: Look):
    for view in ("map", "text", "table", "heads"):
        seen = look("bare", f"call=1&view={view}&query=3&key=1")
        said = seen.page.evaluate("document.querySelector('.top').innerText + document.title")
        assert "‹›" not in said and "polyhead" in said


def test_every_sequence_of_a_batch_can_be_looked_at(look: Look, tmp_path: Path):
    recording = scenes.several(tmp_path).scenes[0].recording
    p = [*recording][1].weights()[:, 1].double().numpy()
    assert np.abs(p[0] - p[2]).max() > 0.1
    seen = look("several", f"{HERE}&view=table&weighting=0")
    np.testing.assert_allclose(table(seen)[2], p[0], atol=1.6e-3)
    seen.page.locator(".top select").select_option(index=2)
    seen.settle()
    assert seen.selection()["row"] == "2"
    assert seen.page.evaluate("document.activeElement.ariaLabel") == "sequence"
    np.testing.assert_allclose(table(seen)[2], p[2], atol=1.6e-3)
    np.testing.assert_allclose(table(look("several", f"{HERE}&view=table&weighting=0&row=1"))[2], p[1], atol=1.6e-3)
    seen.page.get_by_role("button", name="Undo").click()
    seen.settle()
    np.testing.assert_allclose(table(seen)[2], p[0], atol=1.6e-3)
    export(scenes.several(tmp_path), tmp_path / "seen.html", page=page)
    alone = look(tmp_path / "seen.html", f"{HERE}&view=table")
    assert not alone.page.locator(".top select").count()
    alone.page.get_by_text("Where the numbers come from").click()
    alone.settle()
    assert "all sequences but the first" in alone.text(".about")


def test_one_file_has_words_distances_and_entropies_too(look: Look, tmp_path: Path):
    (tmp_path / "world").mkdir()
    export(scenes.pieces(tmp_path / "world"), tmp_path / "seen.html", page=page)
    for fragment in (f"{HERE}&by=words&view=text&query=4", f"{HERE}&view=distance&query=4&key=3"):
        alone, live = look(tmp_path / "seen.html", fragment), look("pieces", fragment)
        for css in ("#sentence", "#readout", ".views"):
            assert alone.text(css) == live.text(css)
        if "text" in fragment:
            assert alone.text(".spark") == live.text(".spark")
    export(scenes.long(tmp_path / "world"), tmp_path / "long.html", page=page)
    alone = look(tmp_path / "long.html", "call=1&head=1&view=distance&weighting=0")
    assert "256 of 3" in alone.text(".sampled") and not alone.page.locator(".empty").is_visible()


def test_distances_and_entropies_fit_a_telephone(look: Look):
    for view in ("distance", "text"):
        seen = look("pieces", f"{HERE}&view={view}&query=4", size=PHONE)
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
