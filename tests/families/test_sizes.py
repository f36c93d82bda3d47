"""Published sizes have the parameters that their sources say and that `transformers` has; nothing is allocated."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
import transformers

from polyhead.errors import ArgumentError
from polyhead.families import ARCHITECTURES
from polyhead.families.count import blank, parts
from polyhead.families.sizes import SIZES, size

#  what a source says, where that is not its own model's count rounded: how far off, and why
ODD = {
    "bert.mini": (0.013, "both heads of pretraining counted"),
    "bert.small": (0.013, "both heads of pretraining counted"),
    "bert.medium": (0.013, "both heads of pretraining counted"),
    "transformer.base": (0.03, "how many words exactly is not said"),
    "transformer.big": (0.006, "how many words exactly is not said"),
    "t5.large": (0.043, "the shared readout counted twice"),
    "t5.3b": (0.02, "2.85 cut off, not rounded"),
    "llama.65b": (0.002, "65.29 cut off, not rounded"),
    "llama3.1b": (0.005, "1.236 cut off, not rounded"),
    "llama3.405b": (0.003, "405.9 cut off, not rounded"),
    "qwen2.5.7b": (0.001, "7.616 cut off, not rounded"),
    "qwen2.5.14b": (0.005, "14.77 cut off, not rounded"),
    "qwen2.5.32b": (0.009, "the card's number is not that of its files"),
    "vit.large": (0.009, "patches of 32 pixels counted"),
    "whisper.tiny": (0.033, "more counted than is released"),
    "whisper.base": (0.02, "more counted than is released"),
    "whisper.small": (0.01, "more counted than is released"),
    "whisper.medium": (0.007, "more counted than is released"),
    "whisper.large": (0.005, "more counted than is released"),
}
UNITS = {"M": 10**6, "B": 10**9}


def said(text: str) -> tuple[float, float]:
    """A number such as `13.0B` or `340M`, and half a unit of the last digit that says something."""
    digits, unit = text[:-1].replace(",", ""), UNITS[text[-1]]
    step = 10.0 ** -len(digits.partition(".")[2]) if "." in digits else 10.0 ** len(re.search("0*$", digits)[0])  # pyright: ignore[reportOptionalSubscript]
    return float(digits) * unit, step * unit / 2


@functools.cache
def counted(name: str) -> int:
    return sum(parts(blank(SIZES[name])[1]).values())


def test_numbers_are_read_with_what_their_last_digit_allows() -> None:
    assert said("13.0B") == (13.0e9, 0.05e9)
    assert said("174,600M") == (174.6e9, 0.05e9)
    assert said("300M") == (300e6, 50e6)


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_the_parameters_that_its_source_says(name: str) -> None:
    number, half = said(SIZES[name].said)
    off = abs(counted(name) - number)
    if name in ODD:
        assert half < off <= ODD[name][0] * number, (counted(name), ODD[name][1])
    else:
        assert off <= half, counted(name)


def test_the_odd_ones_are_sizes() -> None:
    assert ODD.keys() <= SIZES.keys()


@pytest.mark.parity
@pytest.mark.parametrize("name", SIZES)
def test_transformers_counts_the_same(name: str) -> None:
    kind, ours = blank(SIZES[name])
    theirs: Any = getattr(transformers, kind.architecture)
    settings, more = kind.keys.write(ours.config), 0
    if settings.get("model_type") == "switch_transformers":  # theirs makes every expert: of many, four, and the others
        c = ours.config  # by hand, an up and a down and a row of the router each
        settings["num_experts"] = 4
        more = (c.n_experts - 4) * (c.n_sparse + c.n_decoder_sparse) * (2 * c.d_model * c.d_ff + c.d_model)
    config = theirs.config_class.from_dict(settings)
    with torch.device("meta"):
        model = theirs(config)
    computed = "embed_positions" if kind.architecture == "MarianMTModel" else None  # are parameters there
    there = more + sum(p.numel() for path, p in model.named_parameters() if computed is None or computed not in path)
    if "T5" in kind.architecture and not ours.config.tied:  # there the tensors of a file untie the readout
        there += model.lm_head.weight.numel()
    assert counted(name) == there


def test_nothing_is_allocated() -> None:
    _, model = blank(SIZES["gpt3.175b"])
    assert all(parameter.is_meta for parameter in model.parameters())
    assert all(buffer.is_meta for buffer in model.buffers())


def test_every_size_is_of_a_family_here_and_says_its_source() -> None:
    assert {each.architecture for each in SIZES.values()} <= ARCHITECTURES.keys()
    assert all(each.source and re.fullmatch(r"[\d,.]+[MB]", each.said) for each in SIZES.values())


def test_a_mistyped_size_is_told_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"no published size 'gpt3-175b'. Did you mean 'gpt3.175b'\?"):
        size("gpt3-175b")


def test_listing_loads_no_torch() -> None:
    code = "import sys; from polyhead.families.sizes import SIZES; print(len(SIZES), 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [str(len(SIZES)), "False"]
