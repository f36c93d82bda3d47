"""`polyhead search`: lines, JSON and sheets of what is found; an index; images that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import polyhead as library
from tests.cli.conftest import Polyhead, refused
from tests.tasks.clip import LINES, clip_in_folder, pictures_in
from tests.tasks.words import in_folder

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    clip_in_folder(folder / "model")
    pictures_in(folder / "photos", 5)
    (folder / "captions.txt").write_text("\n".join(LINES) + "\n", "utf-8")
    return folder


def test_it_says_what_the_function_finds(polyhead: Polyhead, world: Path) -> None:
    photos, model = world / "photos", world / "model"
    found = library.search("a cat", photos, model=model, top=3, shares=True)
    told = polyhead("search", "a cat", photos, "-m", model, "--top", "3", "--shares")
    assert told.code == 0 and told.err == ""
    assert told.lines == [f"{hit.score:.4f}\t{100 * (hit.share or 0):.2f}%\t{hit.item}" for hit in found.hits]
    told = polyhead("search", "--image", photos / "1.png", world / "captions.txt", "-m", model, "--json")
    found = library.search(image=photos / "1.png", among=world / "captions.txt", model=model)
    hits = [{"item": hit.item, "score": round(hit.score, 6)} for hit in found.hits]
    assert json.loads(told.out) == {"query": str(photos / "1.png"), "hits": hits}


def test_an_encoder_of_texts_finds_texts_by_a_text(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    in_folder(tmp_path / "bert", "BertModel")
    asked = ("search", "the cat", world / "captions.txt", "-m", tmp_path / "bert", "--top", "2")
    found = library.search("the cat", world / "captions.txt", model=tmp_path / "bert", top=2)
    assert polyhead(*asked).lines == [f"{hit.score:.4f}\t{hit.item}" for hit in found.hits]
    hits = [{"item": hit.item, "score": round(hit.score, 6)} for hit in found.hits]
    assert json.loads(polyhead(*asked, "--json").out) == {"query": "the cat", "hits": hits}
    for words, told in (
        (("a cat", world / "photos"), "which reads texts and no images"),
        (("--image", world / "photos" / "0.png", world / "captions.txt"), "which reads texts and no images"),
        (("a cat", "--index", tmp_path / "none"), "which reads texts and no images"),
        (("a cat", world / "captions.txt", "--shares"), "which gives cosines and no shares; leave shares out"),
        (("a cat", world / "captions.txt", "--index", tmp_path / "i"), "--index and --sheet are for images"),
    ):
        refused(polyhead("search", *words, "-m", tmp_path / "bert"), told)


def test_of_several_that_are_asked_each_line_names_its_own(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    told = polyhead(
        "search", "-i", world / "captions.txt", world / "photos", "-m", world / "model", "--top", "2",
        "-o", tmp_path / "found.tsv",
    )  # fmt: skip
    assert told.code == 0 and told.out == ""
    rows = [line.split("\t") for line in (tmp_path / "found.tsv").read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == [line for line in LINES for _ in range(2)]
    assert all(len(row) == 3 and -1 <= float(row[1]) <= 1 and Path(row[2]).is_file() for row in rows)


def test_images_that_cannot_be_read_are_told_at_the_end(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    pictures_in(tmp_path / "p", 2)
    for i in range(7):
        (tmp_path / "p" / f"bad{i}.jpg").write_bytes(b"no image")
    told = polyhead("search", "a cat", tmp_path / "p", "-m", world / "model", "--index", tmp_path / "kept")
    assert told.code == 0 and len(told.lines) == 2 and (tmp_path / "kept").is_file()
    assert [line.partition("bad")[2][:1] for line in told.err.splitlines()] == [*"01234", ""]
    assert told.err.endswith("7 images are left out; the first 5 are named above.\n")
    again = polyhead("search", "a cat", "-m", world / "model", "--index", tmp_path / "kept")
    assert again.code == 0 and [line.split("\t")[0] for line in again.lines] == [
        line.split("\t")[0] for line in told.lines
    ]


def test_images_that_are_away_are_told_and_pruned_when_asked(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    files, index = pictures_in(tmp_path / "p", 3), tmp_path / "kept"
    asked = ("search", "a cat", "-m", world / "model", "--index", index)
    assert polyhead(*asked, tmp_path / "p").code == 0
    files[1].unlink()
    for prune, told in ((), "1.png) and is not searched; it keeps"), (("--prune",), "and is dropped from it"), ((), ""):
        answer = polyhead(*asked, *prune)
        assert answer.code == 0 and len(answer.lines) == 2 and told in answer.err
        assert answer.err.count("\n") == bool(told)


@pytest.mark.parametrize("ending", ["png", "html"])
def test_a_sheet_shows_what_was_found(polyhead: Polyhead, world: Path, tmp_path: Path, ending: str) -> None:
    sheet = tmp_path / f"found.{ending}"
    asked = ("search", "-i", world / "captions.txt", world / "photos", "-m", world / "model")
    told = polyhead(*asked, "--sheet", sheet, "--top", "4")
    assert told.code == 0 and f"Drawn into {sheet}." in told.err
    if ending == "png":
        with Image.open(sheet) as opened:
            assert opened.format == "PNG" and len(opened.convert("RGB").getcolors(1 << 20) or []) > 100
    else:
        page = sheet.read_text("utf-8")
        assert page.count("<img") == 4 * len(LINES) and page.count("<h1>") == len(LINES)
        assert "http" not in page and LINES[-1] in page


def test_words_on_a_sheet_are_words_and_no_markup(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    (tmp_path / "a&b<i>.png").write_bytes((world / "photos" / "0.png").read_bytes())
    told = polyhead("search", evil, tmp_path, "-m", world / "model", "--sheet", tmp_path / "found.html")
    assert told.code == 0
    page = (tmp_path / "found.html").read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "a&amp;b&lt;i&gt;.png" in page


def test_what_cannot_be_is_one_sentence_and_no_file(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    model, photos, captions = world / "model", world / "photos", world / "captions.txt"
    many = world / "many.txt"
    many.write_text("a cat\n" * 2001, "utf-8")
    for words, told in (
        (("a cat", photos), "Give the folder of a model"),
        (("-m", model), "Give a text to search for"),
        (("a cat", "-m", model), "Say what to search"),
        (("a cat", photos, captions, "-m", model), "Search among images or among texts"),
        (("a cat", captions, "-m", model, "--sheet", tmp_path / "s.png"), "--index and --sheet are for images"),
        (
            ("a cat", world / "none", "-m", "zh-en"),
            "spans or similarity; zh-en is a MarianMTModel",
        ),
        (("a cat", world / "none", "-m", model), "none; give a folder of images"),
        (("a cat", photos, "-m", model, "--sheet", tmp_path / "s.pdf"), "A sheet is a file that ends in"),
        (("a cat", photos, "-m", model, "--sheet", tmp_path / "no" / "s.png"), "There is no folder"),
        (("-i", many, photos, "-m", model, "--sheet", tmp_path / "s.png"), "A sheet holds at most 2,000 images"),
        (("--image", photos / "0.png", "-i", captions, photos, "-m", model), "Give --image or --input, not both"),
        (("--image", captions, photos, "-m", model), "captions.txt is not an image"),
        (("a cat", tmp_path, "-m", model), "holds no images"),
        (("a cat", "-m", model, "--index", tmp_path / "none"), "There is no index"),
        (("a cat", photos, "-m", model, "--prune"), "--prune is of an index"),
        ((photos, "-m", model, "--index", tmp_path / "i"), "is here, and is where to search; say before it what for"),
    ):
        answer = polyhead("search", *words)
        assert answer.code == 2 and answer.out == "" and answer.err.count("\n") == 1 and told in answer.err, answer.err
    assert [*tmp_path.iterdir()] == []


def test_embed_tells_texts_from_images(polyhead: Polyhead, world: Path, tmp_path: Path) -> None:
    file = world / "photos" / "0.png"
    told = polyhead("embed", "-m", world / "model", "a cat", file)
    rows = [json.loads(line) for line in told.lines]
    assert [{"text", "image"} & row.keys() for row in rows] == [{"text"}, {"image"}]
    found = library.embed(["a cat", file], model=world / "model")
    for row, vector in zip(rows, found, strict=True):
        assert row["vector"] == pytest.approx(vector, abs=1e-6)
    assert polyhead("embed", "-m", world / "model", "a cat", file, "-o", tmp_path / "v.npy").code == 0
    assert np.load(tmp_path / "v.npy") == pytest.approx(found, abs=1e-6)
