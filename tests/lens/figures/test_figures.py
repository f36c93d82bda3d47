"""Figures: every number is the recording's own, text stays text, and whatever a token holds is only data."""

from __future__ import annotations

import struct
import sys
import warnings
import xml.etree.ElementTree as XML
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polyhead
from polyhead.errors import ArgumentError, MissingExtra
from polyhead.lens.figures import fonts, raster
from polyhead.lens.figures.bars import PALE
from polyhead.lens.figures.bitmap import colours, png
from polyhead.lens.figures.boxed import boxed, note, parts
from polyhead.lens.figures.drawing import BLUE, ORANGE, Curve, Label
from polyhead.lens.figures.raster import legible
from polyhead.lens.figures.wording import Language, said
from polyhead.lens.rulers import Frames, Patches, Ruler, Words
from polyhead.lens.rulers import png as thumbnail
from polyhead.operator.answers import Grid

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "</text><script>alert(1)</script>",
    "<img onerror=x>",
    "${x}",
    "]]>",
    "\u2028",
    "\u202eabc",
    "\x1b[2J",
    "\ud800",
    "$x^2$",
)


class Model(torch.nn.Module):
    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.causal = causal

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.attention(query, memory, memory, need_weights=False)[0]


def recorded(T: int, S: int | None = None, **rulers: Ruler | list[str]) -> polyhead.Recording:
    torch.manual_seed(T)
    model = Model()
    x = 3 * torch.randn(1, T, 16)
    with polyhead.watch(model) as recording:
        model(x, x if S is None else 3 * torch.randn(1, S, 16))
    recording.rulers.update(rulers)
    return recording


def words(*labels: str) -> Words:
    return Words(labels)


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in XML.fromstring(svg).iter(f"{SVG}text")]


def table(tsv: str) -> list[dict[str, str]]:
    names, *lines = [line.split("\t") for line in tsv.splitlines()]
    return [dict(zip(names, line, strict=True)) for line in lines]


def test_the_table_of_a_map_has_the_weights_of_the_recording_with_their_words() -> None:
    recording = recorded(3, encoder=words("我", "爱", "苹果"))
    exact = recording["attention"].weights()[0, 2]
    lines = table(polyhead.figure(recording, head=2).tsv)
    labels = [(line["query_label"], line["key_label"]) for line in lines[:4]]
    assert labels == [
        ("我", "我"),
        ("我", "爱"),
        ("我", "苹果"),
        ("爱", "我"),
    ]
    np.testing.assert_allclose([float(line["weight"]) for line in lines], exact.flatten().numpy(), rtol=1e-5)


def test_by_norms_each_row_sums_to_one() -> None:
    recording = recorded(5)
    call = recording["attention"]
    expected = call.weights()[0, 1] * call.norms.values[0, 1]
    found = [float(line["weight"]) for line in table(polyhead.figure(recording, head=1, weighting="norm").tsv)]
    np.testing.assert_allclose(found, (expected / expected.sum(1, keepdim=True)).flatten().numpy(), rtol=1e-5)


@pytest.mark.parametrize(("kind", "weighting"), [("heads", "weight"), ("heads", "norm"), ("links", "norm")])
def test_every_kind_of_map_has_the_numbers_of_the_recording(kind: str, weighting: str) -> None:
    recording = recorded(6)
    call = recording["attention"]
    exact = call.weights()[0]
    if weighting == "norm":
        exact = exact * call.norms.values[0, :, None]
        exact = exact / exact.sum(-1, keepdim=True)
    head = 2 if kind == "links" else None
    made = polyhead.figure(recording, kind, layer=0, head=head, weighting=weighting)  # pyright: ignore
    lines = table(made.tsv)
    for line in lines:
        expected = exact[int(line["head"]), int(line["query"]), int(line["key"])]
        assert float(line["weight"]) == pytest.approx(float(expected), rel=1e-5)
    assert len(lines) == (36 if head is not None else 4 * 36)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_sheet_of_a_recording_has_exact_rows_and_nothing_cut(language: Language) -> None:
    recording = recorded(5, 300)
    recording.entries *= 2  # two calls are a whole recording
    recording.entries[1] = "attention.1", lambda: replace(recording["attention"], name="attention.1")
    made = polyhead.figure(recording, language=language)
    exact = recording["attention"].weights()[0]  # [4, 5, 300]
    ends = [0, *Grid.of((32, 32), 5, 300).column_ends()]
    for line in table(made.tsv):
        j = ends.index(int(line["key"]))
        cell = exact[int(line["head"]), int(line["query"]), ends[j] : ends[j + 1]]
        assert float(line["weight"]) == pytest.approx(float(cell.max()), rel=1e-5)
    assert len(table(made.tsv)) == 2 * 4 * 5 * 32
    assert said("cross", language) in made.drawing.texts and not [x for x in made.drawing.texts if "…" in x]


def test_links_without_a_head_are_the_mean_of_all() -> None:
    recording = recorded(4)
    found = [float(line["weight"]) for line in table(polyhead.figure(recording, "links").tsv)]
    np.testing.assert_allclose(found, recording["attention"].weights()[0].mean(0).flatten().numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["heads", "map", "links"])
def test_hostile_tokens_stay_data(kind: str) -> None:
    recording = recorded(len(HOSTILE), encoder=words(*HOSTILE))
    one = polyhead.figure(recording, kind, head=None if kind == "heads" else 0)  # pyright: ignore[reportArgumentType]
    root = XML.fromstring(one.svg.encode("utf-8"))
    kinds = {each.tag.removeprefix(SVG) for each in root.iter()}
    assert kinds <= {"svg", "title", "desc", "rect", "path", "text", "image"}
    assert not any(c in one.svg + one.tsv for c in "\x1b\u202e\u2028\ud800")
    assert {len(line.split("\t")) for line in one.tsv.splitlines()} == {8}
    assert one.png()[:4] == b"\x89PNG"  # where $ is no mathematics


@pytest.mark.parametrize("kind", ["heads", "map", "links", "picture", "sound"])
def test_svg_runs_nothing_and_asks_for_nothing_whatever_the_names(kind: str) -> None:
    hostile = "</title><script>x</script>&evil;<!ENTITY a 'b'>\" onload=\"x"
    picture = thumbnail(np.full((20, 30, 3), 120, np.uint8))[0]
    ruler = {"picture": Patches(1, 2, (hostile,), picture, (30, 20)), "sound": Frames(0.02, 3, 0.05)}.get(kind)
    recording = recorded(3, 3 if kind == "sound" else None, encoder=ruler or words(hostile, "a", "b"))
    recording.rulers["decoder"] = words(hostile, "b", "c")
    name, call = recording.entries[0]
    recording.entries[0] = hostile, lambda: replace(call(), name=hostile)
    assert name == "attention"
    seen = replace(polyhead.see(recording=recording), source=hostile)
    made = polyhead.figure(seen, kind, head=None if kind == "heads" else 0)  # pyright: ignore[reportArgumentType]
    assert "<!" not in made.svg  # neither entities nor comments
    for each in XML.fromstring(made.svg).iter():
        assert each.tag.removeprefix(SVG) in {"svg", "title", "desc", "rect", "path", "text", "image"}
        for key, value in each.attrib.items():
            assert not key.startswith("on") and "url(" not in value and "javascript:" not in value
            assert key != "href" or value.startswith("data:image/png;base64,")
    assert hostile in made.description  # as text, whole


def test_svg_has_a_title_a_description_and_text_and_asks_for_nothing() -> None:
    one = polyhead.figure(recorded(3, encoder=words("雨", "b", "c")), head=0, language="zh")
    root = XML.fromstring(one.svg)
    assert root.findtext(f"{SVG}title") == one.title and root.findtext(f"{SVG}desc") == one.description
    assert "行是看的一方" in one.description and "雨" in texts(one.svg) and root.get("role") == "img"
    assert not [x for x in one.svg.replace("http://www.w3.org/2000/svg", "").split('"') if x.startswith("http")]


def test_a_long_map_is_cells_of_exact_rows_and_says_so() -> None:
    recording = recorded(700)
    one = polyhead.figure(recording, "map", head=3)
    assert "700 × 700" in one.description and len(one.svg) < 400_000
    exact = recording["attention"].weights(rows=[2])[0, 3, 0]  # the row that stands for 0 to 3
    found = [float(line["weight"]) for line in table(one.tsv)[:175]]
    np.testing.assert_allclose(found, exact.unflatten(0, (175, 4)).amax(1).numpy(), rtol=1e-4)


def test_a_picture_lifts_its_veil_where_a_patch_is_looked_at() -> None:
    patches = Patches(2, 3, ("[CLS]",), thumbnail(np.full((20, 30, 3), 120, np.uint8))[0], (30, 20))
    recording = recorded(7, encoder=patches)
    one = polyhead.figure(recording, "picture", head=1, query=4)
    found = [float(line["weight"]) for line in table(one.tsv)]
    np.testing.assert_allclose(found, recording["attention"].weights(rows=[4])[0, 1, 0].numpy(), rtol=1e-5)
    assert one.svg.count("<image") == 3 and one.png()  # the picture alone, and under its veil


def test_words_look_at_stretches_of_a_sound() -> None:
    recording = recorded(3, 50, decoder=words("a", "b", "c"), encoder=Frames(0.02, 50, 0.6))
    one = polyhead.figure(recording, head=0)
    exact = recording["attention"].weights()[0, 0, :, :30]
    np.testing.assert_allclose([float(x["weight"]) for x in table(one.tsv)], exact.flatten().numpy(), rtol=1e-5)
    assert "after the end of the sound" in one.description


def test_files_are_written_as_their_ending_says(tmp_path: Path) -> None:
    one = polyhead.figure(recorded(3))
    for name in ("x.png", "x.svg", "x.tsv"):
        one.save(tmp_path / name)
    assert (tmp_path / "x.svg").read_text("utf-8") == one.svg and (tmp_path / "x.tsv").read_text("utf-8") == one.tsv
    width, height = struct.unpack(">2I", (tmp_path / "x.png").read_bytes()[16:24])
    assert (width, height) == (2 * one.drawing.width, int(2 * one.drawing.height))
    with pytest.raises(ArgumentError, match=r"\.png, \.svg or \.tsv; found x\.jpg"):
        one.save(tmp_path / "x.jpg")


EVERY = "I", "\U0001f47d", "a\U00012000b", "\ua992\ua9c0", "我", "x"  # an alien, cuneiform, Javanese, Chinese


@pytest.mark.parametrize(("kind", "language"), [("map", "en"), ("map", "zh"), ("links", "en"), ("heads", "zh")])
def test_a_character_that_no_font_has_is_a_box_with_its_number(
    kind: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recorded(len(EVERY), encoder=words(*EVERY))
    head = None if kind == "heads" else 0
    one = polyhead.figure(recording, kind, head=head, layer=0, language=language)  # pyright: ignore
    monkeypatch.setattr(fonts, "installed", list)  # but DejaVu Sans, which matplotlib brings
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's word that a glyph is missing is one
        assert one.png()[:4] == b"\x89PNG"
    drawing, (_, missing) = legible(one.drawing)
    assert {"\U0001f47d", "\U00012000", "我"} <= missing
    drawn = boxed(drawing, missing, lambda label: 6.0 * len(label.text))
    assert not {c for text in drawn.texts for c in text} & missing and {"1F4", "7D", "120", "00", "62", "11"} <= {
        *drawn.texts
    }
    assert drawn.height > one.drawing.height and "fonts-noto-cjk" in " ".join(drawn.texts)  # though Chinese was asked
    assert "U+" in one.lacking and "apt install fonts-noto-cjk" in one.lacking
    assert "我" in one.svg and "\U0001f47d" in one.svg


def test_boxes_stand_where_the_characters_would_along_a_slanted_label() -> None:
    label = Label(100, 50, "ab\U0001f47dcd", 20, "end", angle=-90)  # read upwards, ending at (100, 50)
    made = list(parts(label, {"\U0001f47d"}, lambda piece: 10.0 * len(piece.text)))
    before, after = (next(x for x in made if isinstance(x, Label) and x.text == text) for text in ("ab", "cd"))
    assert (before.x, before.y) == (pytest.approx(100), pytest.approx(50 + 20 + 20 + 20))  # its start: 60 before
    assert (after.x, after.y) == (pytest.approx(100), pytest.approx(50 + 20)) and after.anchor == "start"
    corners = [point for x in made if isinstance(x, Curve) for point in x.points]
    assert {round(y) for _, y in corners} == {71, 89} and {round(x) for x, _ in corners} == {90, 110}


def test_a_note_of_a_rare_script_is_in_the_language_of_the_figure_and_names_some() -> None:
    assert note("\U0001f47d", "zh") == (
        "已安装的字体都没有 \U0001f47d U+1F47D EXTRATERRESTRIAL ALIEN：缺少的字符画成写有编号的方框。SVG 中仍是文本。"
    )
    assert "and 2 more" in note("\ua992\ua993\ua994\ua995\ua996\ua997", "en")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_lacking_is_said_in_the_language_of_the_figure(language: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the note under it."""
    one = polyhead.figure(recorded(2, encoder=words("x", "\U0001f47d")), head=0, language=language)
    missing = frozenset("\U0001f47d")
    monkeypatch.setattr(raster, "families", lambda _: (["some font of Chinese"], missing))
    assert one.lacking == note(missing, language) != note(missing, "en" if language == "zh" else "zh")
    drawn = boxed(one.drawing, missing, lambda label: 6.0 * len(label.text))
    said = one.lacking.partition("\U0001f47d")[0].strip()
    assert any(text.strip() == said for text in drawn.texts)


def test_what_only_chooses_the_form_of_a_neighbour_is_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    one = polyhead.figure(recorded(2, encoder=words("☺\ufe0f", "b\U000e0100")), head=0)
    monkeypatch.setattr(fonts, "installed", list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one.png() and not one.lacking


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    one = polyhead.figure(recorded(2))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"polyhead\[plot\]"):
        one.png()
    assert "image/svg+xml" in one._repr_mimebundle_()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"head": 9}, "heads 0 to 3, but head is 9"),
        ({"kind": "mapp"}, "Did you mean 'map'"),
        ({"kind": "map"}, "choose a head"),
        ({"kind": "picture"}, "without a picture"),
        ({"kind": "sound"}, "frames of a sound"),
        ({"kind": "roles"}, "what `heads` measured"),
        ({"head": 0, "query": 1}, "has none"),
        ({"call": "atention"}, "was not recorded"),
        ({"call": 5}, "calls 0 to 0"),
        ({"weighting": "norm"}, "choose a layer"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        polyhead.figure(recorded(3), **asked)  # pyright: ignore[reportArgumentType]


def test_bars_of_roles_have_every_number_that_was_measured() -> None:
    found = polyhead.heads([recorded(7), recorded(9)], ablate=None)
    made = polyhead.figure(found, metric="distance")
    measured = [row for row in found.rows(sort="distance") if row.metric == "distance"]
    lines = made.tsv.splitlines()
    assert len(lines) == 1 + len(measured) == 5
    places = lines[0].split("\t")
    for line, row in zip(lines[1:], measured, strict=True):
        told = dict(zip(places, line.split("\t"), strict=True))
        assert float(told["value"]) == pytest.approx(row.value, rel=1e-5) and int(told["head"]) == row.head
    assert [f"{row.value:.3g}" for row in measured] == [
        text for text in texts(made.svg) if text.replace(".", "").isdigit()
    ]
    assert ".." not in made.svg
    assert "means over 2 inputs. Thin lines: the interval of 95 %. Orange marks" in made.description
    alone = polyhead.figure(polyhead.heads(recorded(7), ablate=None), metric="offset", language="zh")
    assert alone.title == "Model：该头的偏移"
    assert alone.description.endswith("条形是一个输入的数值。")  # no interval, and nothing that chance would get
    assert "编码器 0.0" in alone.drawing.texts


def test_in_grey_a_mark_of_chance_stands_out_from_its_bar() -> None:
    made = polyhead.figure(polyhead.heads(recorded(7), ablate=None), metric="distance")
    marks = [shape for shape in made.drawing.shapes if isinstance(shape, Curve) and shape.stroke in (ORANGE, PALE)]
    assert [mark.stroke for mark in marks[-2:]] == [PALE, ORANGE] and marks[-2].thick > marks[-1].thick
    grey = {
        colour: np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], [0.2126, 0.7152, 0.0722])
        for colour in (PALE, BLUE)
    }
    assert grey[PALE] - grey[BLUE] > 100


def test_colours_rise_in_lightness_and_a_png_says_its_pixels() -> None:
    ramp = colours(np.linspace(0, 1, 50)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(ramp) > 0).all()
    pixels = np.random.default_rng(0).integers(0, 255, (900, 2, 4)).astype(np.uint8)
    body = png(pixels)
    data = body[body.index(b"IDAT") + 4 :]
    assert (
        np.frombuffer(zlib.decompressobj().decompress(data), np.uint8).reshape(900, 9)[:, 1:].tobytes()
        == pixels.tobytes()
    )
