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
    seen.settle()
    chosen = seen.selection()
    assert "by" not in chosen and (chosen["query"], chosen["key"]) == ("5", "2")  # the first piece of each
    seen.page.keyboard.press("Control+z")
    seen.settle()
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
    assert "256 of 3\u202f000 rows" in seen.text(".sampled")
    seen.press("]")
    seen.page.wait_for_timeout(900)
    assert any("/band/1/1/0.bin" in url for url in asked)


# ---------------------------------------------------------------------------------------------------------- entropies


def test_entropies_are_those_of_the_rows(look: Look, tmp_path: Path):
    p = weights("pieces", tmp_path, norms=True)
    due = -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0).sum(1)
    seen = look("pieces", f"{HERE}&view=text&query=9")
    assert f"{due[9]:.2f} bits" in seen.text(".spark")
    assert f"{2 ** due[9]:.1f} words" in seen.text(".spark")
    seen.page.locator(".spark summary").click()
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
    with seen.page.expect_download(timeout=5000) as waiting:
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
    seen.page.wait_for_timeout(900)
    assert seen.selection()["row"] == "2"
    assert seen.page.evaluate("document.activeElement.ariaLabel") == "sequence"
    np.testing.assert_allclose(table(seen)[2], p[2], atol=1.6e-3)
    np.testing.assert_allclose(table(look("several", f"{HERE}&view=table&weighting=0&row=1"))[2], p[1], atol=1.6e-3)
    seen.page.get_by_role("button", name="Undo").click()
    seen.page.wait_for_timeout(900)
    np.testing.assert_allclose(table(seen)[2], p[0], atol=1.6e-3)
    export(scenes.several(tmp_path), tmp_path / "seen.html", page=page)
    alone = look(tmp_path / "seen.html", f"{HERE}&view=table")
    assert not alone.page.locator(".top select").count()
    alone.page.get_by_text("Where the numbers come from").click()
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
