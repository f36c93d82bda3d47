"""A tiny model folder with random parameters, and a way to type commands."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import torch

from polyhead.cli.main import main
from polyhead.families import family
from polyhead.families.marian import Config
from polyhead.inputs.pair import Pair
from polyhead.inputs.tokenizer import Tokenizer
from polyhead.tasks.load import Loaded, save

ACTING = "\x1b\x00\x07\x08\r\t\x7f\x85\x9b\u061c\u200b\u200e\u200f\u2028\u202a\u202e\u2066\u2069\ufeff\U000e0041"
LINES = ["我爱吃苹果。", "I like eating apples.", "他说她没来。", "He said she did not come.", "雨", "rain", "，"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def write_model(folder: Path) -> Path:
    """A folder that translates, though into nonsense: 2 + 2 layers, 4 heads, at most 64 tokens."""
    torch.manual_seed(0)
    words = Tokenizer.train(LINES, size=90, byte_fallback=False)
    kind = family("MarianMTModel")
    config = Config(
        vocab_size=words.size, d_model=16, n_layers=2, n_decoder_layers=2, n_heads=4, n_decoder_heads=4, d_ff=32,
        decoder_d_ff=32, max_len=64, pad_id=words.pad_id, eos_id=words.eos_id, start_id=words.pad_id,
    )  # fmt: skip
    net = kind.build(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
    save(Loaded(net, Pair(words, words), kind), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A tiny model\x1b[2J\n", encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Polyhead(Protocol):
    def __call__(self, *words: object, stdin: bytes = b"") -> Answer: ...


@pytest.fixture
def polyhead(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Polyhead:
    """Type a command; a traceback fails the test."""

    def run(*words: object, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return run


def refused(answer: Answer, *words: str) -> None:
    """One sentence on the error stream that holds the words, exit code 2, nothing on the output."""
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("polyhead: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err
