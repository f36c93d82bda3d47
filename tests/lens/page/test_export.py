"""One file holds the same answers by the same paths, as many as fit, and says what does not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polyhead.errors import ArgumentError, WriteError
from polyhead.lens.page import bundle
from polyhead.lens.page.answers import Answers
from polyhead.lens.page.bundle import Page
from polyhead.lens.page.export import export
from polyhead.lens.rulers import Patches, Words
from tests.hostile import HOSTILE
from tests.lens.page.scenes import answers_of, recorded, simple
from tests.lens.page.test_answers import long
from tests.lens.test_rulers import picture


def kept(answers: Answers, path: Path, **how: Any) -> tuple[dict[str, bytes], list[str]]:
    """The answers that were handed to the page, and what was left out."""
    held: dict[str, bytes] = {}

    def page(given: Mapping[str, bytes]) -> Page:
        held.clear()
        held.update(given)
        return bundle.page(given)

    return held, export(answers, path, page=page, **how)


def test_a_small_recording_is_kept_whole(tmp_path: Path) -> None:
    held, missing = kept(answers_of(recorded()), tmp_path / "page.html")
    answers = answers_of(recorded())
    heads = {0: 4, 1: 4, 2: 3, 3: 3, 4: 3, 5: 3}
    wanted = {"scene.json", "metrics.bin", *(f"ruler/{n}/0.json" for n in range(3))}
    wanted |= {f"{what}/{call}.bin" for what in ("thumbs", "norms") for call in heads}
    wanted |= {f"whole/{call}/{head}.bin" for call, n in heads.items() for head in range(n)}
    assert set(held) == wanted
    for path, body in held.items():
        found = answers.get(path)
        assert found is not None
        if path != "scene.json":
            assert body == found.body, path
    assert missing == ["all sequences but the first", "queries, keys and scores of single pairs"]
    told = json.loads(held["scene.json"])
    assert [one["what_en"] for one in told["left_out"]] == missing and told["left_out"][0]["what_zh"]


def test_writing_a_file_leaves_the_live_page_as_it_is(tmp_path: Path) -> None:
    answers = answers_of(recorded(), long(20)[0])
    before = [answers.made(path) for path in ("scene.json", "b/scene.json")]
    held, missing = kept(answers, tmp_path / "page.html")
    assert missing and json.loads(held["b/scene.json"])["left_out"]
    assert [answers.made(path) for path in ("scene.json", "b/scene.json")] == before
    assert before[0] is not None and json.loads(before[0].body)["left_out"] == []


def test_a_long_run_keeps_what_the_page_opens_with(tmp_path: Path) -> None:
    held, missing = kept(answers_of(long(1100)[0]), tmp_path / "page.html", most=2_500_000)
    assert {f"tile/{call}/{head}/1/3/0/0.bin" for call in (0, 1) for head in range(4)} <= set(held)
    assert "long maps with first token and signs hidden" in missing


def test_two_that_are_compared_stand_side_by_side(tmp_path: Path) -> None:
    held, _ = kept(answers_of(recorded(), long(20)[0]), tmp_path / "page.html")
    assert {"b/scene.json", "b/thumbs/1.bin", "b/whole/1/3.bin", "whole/5/2.bin"} <= set(held)
    assert json.loads(held["scene.json"])["compare"] is True


def test_a_long_recording_keeps_what_fits_and_says_what_does_not(tmp_path: Path) -> None:
    answers = answers_of(long(700)[0])
    base = len(bundle.page({}).html.encode())
    sizes: list[int] = []
    for room in (60_000, 400_000, 20_000_000):
        path = tmp_path / f"{room}.html"
        held, missing = kept(answers, path, most=base + room)
        size = path.stat().st_size
        sizes.append(len(held))
        assert size <= base + room
        assert "thumbs/1.bin" in held and missing == [
            one["what_en"] for one in json.loads(held["scene.json"])["left_out"]
        ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    assert {f"tile/1/3/0/0/{i}/{j}.bin" for i in range(3) for j in range(3)} <= set(held)
    assert {"row/0/3/0/699.bin", "column/1/0/0/5.bin"} <= set(held)
    assert missing == ["queries, keys and scores of single pairs"]
    _, missing = kept(answers, tmp_path / "small.html", most=base + 60_000)
    assert "exact maps of some heads" in missing and "the strongest links of single places" in missing


@pytest.mark.parametrize("room", [60_000, 400_000, 20_000_000])
def test_how_far_it_is_rises_to_the_end_whatever_stays_out(tmp_path: Path, room: int) -> None:
    told: list[float] = []
    most = len(bundle.page({}).html.encode()) + room
    kept(answers_of(long(700)[0], recorded()), tmp_path / "page.html", most=most, progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and told[0] > 0
    assert len({round(share, 2) for share in told}) > 5


def test_what_cannot_even_hold_labels_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"Labels and thumbnails alone take [\d,]+ bytes of the"):
        kept(answers_of(long(700)[0]), tmp_path / "page.html", most=len(bundle.page({}).html.encode()) + 1000)
    with pytest.raises(ArgumentError, match="must be a whole number of bytes above 0; found 0"):
        kept(answers_of(recorded()), tmp_path / "page.html", most=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="could not be written"):
        kept(answers_of(recorded()), tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_pictures_are_in_it(tmp_path: Path) -> None:
    recording = long(100)[0]
    recording.rulers = {"decoder": Patches(9, 11, ("[CLS]",), picture(), (30, 20))}
    held, _ = kept(answers_of(recording), tmp_path / "page.html")
    assert held["picture/0/0.bin"] == picture()


def test_hostile_words_stay_data_in_the_file(tmp_path: Path) -> None:
    recording, path = recorded(), tmp_path / "page.html"
    for start in (0, 9, 18, 27):
        recording.rulers = {"encoder": Words(tuple((HOSTILE * 2)[start : start + 9]))}
        answers = answers_of(recording)
        answers.scenes[0].title = "</script><img src=x onerror=alert(1)>"
        export(answers, path, page=bundle.page)
        html = path.read_text(encoding="utf-8")
        empty = bundle.page({}).html
        assert html.count("<script") == empty.count("<script") and html.count("</script") == empty.count("</script")
        assert html.count("onerror") == empty.count("onerror")
        data = re.search(r'<script type="application/json" id="answers">(.*?)</script>', html, re.DOTALL)
        assert data and not re.search(r"[<\u2028\u2029\u202e\x00-\x1f]", data[1])
        assert "scene.json" in json.loads(data[1])


def test_the_file_asks_nobody(tmp_path: Path) -> None:
    export(answers_of(recorded()), tmp_path / "page.html", page=bundle.page)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy and policy[1].startswith("default-src 'none'") and "connect-src" not in policy[1]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", html)


def test_a_simple_page_gets_the_same_answers(tmp_path: Path) -> None:
    export(answers_of(recorded()), tmp_path / "page.html", page=simple)
    assert '"thumbs/0.bin": ' in (tmp_path / "page.html").read_text(encoding="utf-8")
