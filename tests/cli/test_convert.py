"""`convert` in a shell: what is written loads in the other engine, what is not is one sentence."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import pytest

from tests.cli.conftest import Polyhead, refused
from tests.tasks.words import in_folder


def test_a_model_is_written_for_another_engine(model: Path, polyhead: Polyhead, tmp_path: Path) -> None:
    answer = polyhead("convert", model, tmp_path / "out", "--to", "ct2", "--dtype", "int8")
    assert (answer.code, answer.out, answer.err) == (0, f"Wrote {tmp_path / 'out'}\n", "")
    assert ctranslate2.contains_model(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--to", "ct2"], ["CTranslate2 does not run this BertForMaskedLM", "It runs translation"]),
        (["--to", "ct2", "--dtype", "int4"], ["dtype 'int4' is not one of float32"]),
        (["--dtype", "int8"], ["--dtype is for --to ct2, found int8 with --to safetensors; leave it out."]),
        (["--to", "onnx", "--dtype", "int8"], ["--dtype is for --to ct2, found int8 with --to onnx; leave it out."]),
        (["--to", "ct3"], ["ct3", "safetensors"]),
        ([], ["model is in safetensors already; there is nothing to convert, unless", "--to ct2 or --to onnx"]),
    ],
)
def test_what_cannot_be_is_one_sentence(more: list[str], words: list[str], polyhead: Polyhead, tmp_path: Path) -> None:
    in_folder(tmp_path / "model", "BertForMaskedLM")
    refused(polyhead("convert", tmp_path / "model", tmp_path / "out", *more), *words)
    assert not (tmp_path / "out").exists()


def test_what_ships_or_comes_from_the_hub_has_safe_weights_already(polyhead: Polyhead, tmp_path: Path) -> None:
    for model in ("zh-en", "hf:owner/name"):
        refused(polyhead("convert", model, tmp_path / "out"), f": {model} is in safetensors already", "--to ct2")
    refused(polyhead("convert", "zh-em", tmp_path / "out"), "There is no model 'zh-em'", "Did you mean 'zh-en'?")
