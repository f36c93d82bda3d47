"""`polyhead info`: sizes add up, and nothing of a folder acts on a terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from polyhead.cli.info import flops, in_words, long
from polyhead.families.sizes import SIZES
from polyhead.tasks.info import Tensors
from polyhead.tasks.load import load
from tests.cli.conftest import ACTING, Polyhead, refused


def test_the_table_counts_every_parameter_once(polyhead: Polyhead, model: Path):
    facts = json.loads(polyhead("info", model, "--json").out)
    net = load(model).model
    assert facts["parameters"] == sum(parameter.numel() for parameter in net.parameters())
    rows = [Tensors(row["name"], tuple(row["shape"]), row["count"]) for row in facts["tensors"]]
    assert sum(row.numbers for row in rows) == facts["parameters"]
    assert facts["config"]["n_heads"] == 4
    assert facts["files"]["model.safetensors"] == (model / "model.safetensors").stat().st_size


def test_a_person_sees_the_card_the_sizes_and_the_table(polyhead: Polyhead, model: Path):
    answer = polyhead("info", model)
    assert answer.code == 0
    for text in ("A tiny model", "model.safetensors", "d_model", "encoder.blocks.{0..1}", "  attn.query.weight"):
        assert text in answer.out
    assert "license: mit" not in answer.out
    assert "\x1b" not in answer.out


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("size", ["whisper.large", "t5.11b", "llama3.405b", "vit.huge", "switch.base-8"])
def test_every_tensor_has_a_line_of_its_own(
    polyhead: Polyhead, monkeypatch: pytest.MonkeyPatch, size: str, columns: int
):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = polyhead("info", size).out.partition("Tensors")[2].splitlines()
    assert max(map(len, shown)) <= columns
    cells = [[cell.rstrip() for cell in line.split("│")[1:5]] for line in shown if line.startswith("│")]
    rows, names, layers = json.loads(polyhead("info", size, "--json").out)["tensors"], list[str](), ""
    for name, *told in cells[:-1]:
        name = name.removeprefix(" ")
        if any(told):
            names.append(f"{layers}.{name[2:]}" if name.startswith("  ") else name)
        else:  # a line of nothing but the layers
            layers = name
    assert names == [row["name"] for row in rows]


def test_a_model_that_is_not_there_is_refused(polyhead: Polyhead, tmp_path: Path):
    refused(polyhead("info", tmp_path / "none"), "none")
    refused(polyhead("info", tmp_path), "config.json")


def test_sizes_are_in_the_units_people_use():
    assert [in_words(n) for n in (0, 999, 17_400_000, 2e9, 3e12)] == [
        "0 bytes",
        "999 bytes",
        "17.4 MB",
        "2.0 GB",
        "3,000.0 GB",
    ]


def test_operations_and_times_are_in_the_units_people_use():
    assert [flops(n) for n in (7, 349.2e9, 724.9e12, 3.14e23)] == ["7.0", "349.2 G", "724.9 T", "3.14e+23"]
    assert [long(n) for n in (5, 3600, 3.7 * 86400, 1e9)] == ["5.0 seconds", "1.0 hours", "3.7 days", "31.7 years"]


def test_a_size_is_shown_with_its_costs(polyhead: Polyhead, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    answer = polyhead("info", "gpt3.175b", "--tokens", "300e9", "--rate", "1e18")
    assert answer.code == 0
    for text in ("174,604,259,328", "2,793.7 GB", "4.7 MB", "3.19e+23", "3.14e+23", "3.7 days", "upper bound"):
        assert text in answer.out
    facts = json.loads(polyhead("info", "gpt3.175b", "--length", "128", "--json").out)
    assert facts["costs"]["length"] == 128
    assert facts["training"] is None


def test_a_size_with_experts_tells_what_one_of_many_devices_holds(polyhead: Polyhead, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    answer = polyhead("info", "switch.c-2048", "--devices", "2048")
    assert answer.code == 0
    for text in ("1,571,308,972,448", "1,728,326,048", "One of 2,048 devices", "3.5 GB", "27.7 GB", "124.7 kB"):
        assert text in answer.out
    assert json.loads(polyhead("info", "switch.c-2048", "--devices", "2048", "--json").out)["spread"]["experts"] == 1
    refused(polyhead("info", "switch.c-2048", "--devices", "4096"), "from 1 to 2048", "4096")
    refused(polyhead("info", "gpt2.small", "--devices", "2"), "this one has none")


def test_sizes_are_listed_in_columns(polyhead: Polyhead):
    answer = polyhead("info", "--sizes")
    head, *rows = [line for line in answer.out.splitlines() if line]
    assert head.split()[:2] == ["size", "parameters"]
    assert [row.split()[0] for row in rows] == list(SIZES)
    assert {len(row) for row in rows} == {len(head)}
    assert len(head) <= 80


def test_a_mistyped_size_and_odd_numbers_are_refused(polyhead: Polyhead):
    refused(polyhead("info", "gpt3-175b"), "gpt3.175b")
    refused(polyhead("info", "gpt2.small", "--length", "2000"), "1024")
    refused(polyhead("info", "gpt2.small", "--rate", "1e15"), "tokens")


@pytest.fixture
def odd(model: Path, tmp_path: Path) -> Path:
    """A model folder whose name, files and card would act on a terminal or be taken for markup."""
    folder = tmp_path / "a[red]\u202e\x1b[2J"
    shutil.copytree(model, folder)
    (folder / "[bold]\x9b31m\u2066.txt").touch()
    (folder / "folder").mkdir()
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    (folder / "README.md").write_text("# [red]模型[/] \x1b[2J\n\n&#x202e;text &#x9b;31m \u200f\n", encoding="utf-8")
    return folder


def test_nothing_of_a_folder_acts_and_markup_is_shown_as_it_is(polyhead: Polyhead, odd: Path):
    answer = polyhead("info", odd)
    assert answer.code == 0
    assert not any(c in answer.out for c in ACTING)
    for text in ("a[red]‹U+202E›␛[2J", "[bold]\\x9b31m‹U+2066›.txt", "[red]模型[/]"):
        assert text in answer.out.replace("\n", "")
    assert "broken" not in answer.out


def test_json_escapes_what_acts_and_keeps_chinese(polyhead: Polyhead, odd: Path):
    answer = polyhead("info", odd, "--json")
    facts = json.loads(answer.out)
    assert facts["folder"] == str(odd)
    assert "[bold]\x9b31m\u2066.txt" in facts["files"]
    assert "模型" in answer.out
    assert not any(c in answer.out for c in ACTING)


def test_a_card_that_cannot_be_read_is_no_card(polyhead: Polyhead, odd: Path):
    (odd / "README.md").unlink()
    (odd / "README.md").mkdir()
    assert json.loads(polyhead("info", odd, "--json").out)["card"] == ""


def test_numbers_stay_whole_on_a_narrow_terminal(polyhead: Polyhead, model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "44")
    assert "…" not in polyhead("info", model).out
