"""What the door refuses, and the sentence it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from polyhead.errors import ArgumentError
from polyhead.operator import (
    Alibi,
    Buckets,
    Causal,
    Dense,
    DenseBias,
    Lengths,
    Observe,
    Prefix,
    Segments,
    Window,
    attend,
    attention,
    rows,
)

B, H, G, T, S, K = 2, 4, 2, 3, 5, 8
QUERY, KEY, VALUE = torch.zeros(B, H, T, K), torch.zeros(B, G, S, K), torch.zeros(B, G, S, K)


def whole(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.long)


TENSORS = [
    ((QUERY.numpy(), KEY, VALUE), r"query must be a torch tensor; found ndarray"),
    ((QUERY[0], KEY, VALUE), r"query must have 4 axes \[B, H, T, K\]; found \[4, 3, 8\]"),
    ((QUERY, KEY, VALUE[0]), r"value must have 4 axes \[B, G, S, Kv\]; found \[2, 5, 8\]"),
    ((QUERY[:1], KEY, VALUE), r"must share B, G, S and K; found \[1, 4, 3, 8\], \[2, 2, 5, 8\]"),
    ((QUERY, KEY[..., :4], VALUE), r"must share B, G, S and K; found"),
    ((QUERY, KEY, VALUE[:, :1]), r"must share B, G, S and K; found"),
    ((QUERY, KEY[:, :, :2], VALUE), r"must share B, G, S and K; found"),
    ((QUERY[:, :3], KEY, VALUE), r"heads of query \(3\) must be a multiple of the heads of key and value \(2\)"),
    ((QUERY, KEY[:, :0], VALUE[:, :0]), r"heads of query \(4\) must be a multiple .* \(0\)"),
    ((QUERY[..., :0], KEY[..., :0], VALUE), r"query must have a head width K of at least 1; found \[2, 4, 3, 0\]"),
    (
        (QUERY, KEY.double(), VALUE),
        r"one dtype of float64, float32, float16 and bfloat16; found torch.float32, torch.float64 and torch.float32",
    ),
    ((QUERY.int(), KEY.int(), VALUE.int()), r"one dtype of float64, float32, float16 and bfloat16; found torch.int32"),
    ((QUERY, KEY.to("meta"), VALUE), r"on one device; found cpu, meta and cpu"),
]

KEYWORDS: list[tuple[dict[str, Any], str]] = [
    ({"mask": torch.zeros(T, S)}, r"mask must be boolean \(True = may look\); found torch.float32: .* bias="),
    ({"mask": whole(T, S)}, r"mask must be boolean .*; found torch.int64: write mask != 0"),
    ({"mask": [[True]]}, r"mask must be a boolean tensor, a rule, a BlockMask or None; found list"),
    ({"mask": whole(B, S).bool()}, r"mask must broadcast to .* = \[2, 4, 3, 5\]; found \[1, 1, 2, 5\] .*lengths="),
    ({"mask": whole(1, 1, 1, 1, 1).bool()}, r"mask must have at most 4 axes, .*; found \[1, 1, 1, 1, 1\]"),
    ({"mask": whole(1, 1).bool().to("meta")}, r"mask must be on the device of query, cpu; found meta"),
    ({"bias": whole(T, S).bool()}, r"bias must be a float tensor; found torch.bool: pass a boolean mask as mask="),
    ({"bias": whole(T, S)}, r"bias must be a float tensor; found torch.int64: write bias.float\(\)"),
    ({"bias": 3.0}, r"bias must be a float tensor, Alibi, Buckets, ScoreMod or None; found float"),
    ({"bias": torch.zeros(S, T)}, r"bias must broadcast to \[B, H, T, S\] = \[2, 4, 3, 5\]; found \[1, 1, 5, 3\]"),
    ({"bias": torch.zeros(1, 1, 1, 1, 1)}, r"bias must have at most 4 axes"),
    ({"bias": torch.zeros(T, S).double()}, r"bias must be torch.float32 .*; found torch.float64 on cpu"),
    ({"bias": Alibi(torch.zeros(3))}, r"Alibi slopes must be floats of shape \[H\] = \[4\]; found \[3\]"),
    ({"bias": Alibi(whole(4))}, r"Alibi slopes must be floats .* torch.int64"),
    ({"bias": Buckets(torch.zeros(8, 3), True, 9)}, r"Buckets table must have .* \[at least 4, 4\]; found \[8, 3\]"),
    ({"bias": Buckets(torch.zeros(8, 4), True, 2)}, r"Buckets max_distance must be above 2, .*; found 2"),
    ({"bias": Buckets(torch.zeros(8, 4).double(), True, 9)}, r"Buckets table must be torch.float32"),
    ({"sinks": torch.zeros(3)}, r"sinks must have shape \[H\] = \[4\]; found \[3\]"),
    ({"sinks": [0.0] * 4}, r"sinks must be a torch tensor; found list"),
    ({"sinks": whole(4)}, r"sinks must be torch.float32 as query is, .*; found torch.int64"),
    ({"window": 3}, r"window must be a pair \(left, right\), None for no bound; found 3"),
    ({"window": (1, 2, 3)}, r"window must be a pair"),
    ({"window": (-1, 0)}, r"window left must be a whole number of at least 0; found -1"),
    ({"window": (0, 1.5)}, r"window right must be a whole number of at least 0; found 1.5"),
    ({"mask": Prefix(whole(3))}, r"Prefix n must be whole numbers of shape \[B\] = \[2\] on cpu; found \[3\]"),
    ({"lengths": torch.ones(2)}, r"Lengths keys must be whole numbers .*; found \[2\], torch.float32"),
    ({"lengths": whole(3)}, r"Lengths keys must be whole numbers of shape \[B\] = \[2\] .*; found \[3\]"),
    ({"lengths": (whole(3), whole(2))}, r"Lengths queries must be whole numbers"),
    ({"lengths": [3, 4]}, r"Lengths keys must be a torch tensor; found list"),
    ({"lengths": (whole(2), whole(2)), "mask": Lengths(whole(2), whole(2))}, r"only one rule may count queries"),
    ({"segments": whole(B, T)}, r"Segments keys must be whole numbers of shape \[2, 5\] on cpu; found \[2, 3\]"),
    ({"segments": (whole(B, S), whole(B, S))}, r"Segments queries must be whole numbers of shape \[2, 3\]"),
    ({"segments": (whole(B, T), whole(B, S)), "causal": True}, r"Causal with segments needs as many queries as keys"),
    ({"segments": (whole(B, T), whole(B, S)), "window": (1, 1)}, r"Window with segments .* T = 3 and S = 5"),
    ({"segments": (whole(B, T), whole(B, S)), "bias": Alibi(torch.zeros(4))}, r"Alibi with segments needs"),
    ({"dropout": 1.0}, r"dropout must be at least 0 and below 1; found 1.0"),
    ({"dropout": -0.1}, r"dropout must be at least 0 and below 1; found -0.1"),
    ({"softcap": 0.0}, r"softcap must be a number above 0 that float32 can hold, or None for none; found 0.0"),
    ({"softcap": 1e39}, r"softcap must be a number above 0 that float32 can hold, .* found 1e\+39"),
    ({"scale": float("nan")}, r"scale must be a finite number that float32 can hold, or None .*; found nan"),
    ({"scale": -1e39}, r"scale must be a finite number that float32 can hold, .* found -1e\+39"),
    ({"lengths": torch.ones(2, dtype=torch.uint16)}, r"Lengths keys must be whole numbers .* torch.uint16"),
    ({"segments": torch.ones(B, T, dtype=torch.uint16)}, r"Segments queries must be whole numbers .* torch.uint16"),
    ({"bias": Buckets(torch.zeros(8, 4), True, -1)}, r"Buckets max_distance must be a whole .*; found -1"),
    ({"dropout": "0.1"}, r"dropout must be at least 0 and below 1; found '0.1'"),
    ({"scale": "big"}, r"scale must be a finite number"),
    ({"kernel": "fuse"}, r"kernel must be 'auto' or one of .*; found 'fuse'. Did you mean 'fused'\?"),
]  # fmt: skip


@pytest.mark.parametrize(("tensors", "sentence"), TENSORS)
def test_tensors_that_do_not_fit_are_refused_in_one_sentence(tensors: tuple[Any, Any, Any], sentence: str):
    refused(sentence, lambda: attention(*tensors))


@pytest.mark.parametrize(("how", "sentence"), KEYWORDS)
def test_keywords_that_do_not_fit_are_refused_in_one_sentence(how: dict[str, Any], sentence: str):
    refused(sentence, lambda: attention(QUERY, KEY, VALUE, **how))


ROWS: list[tuple[dict[str, Any], str]] = [
    ({"rows": [3]}, r"rows must lie between 0 and 2; found 3"),
    ({"rows": [-1]}, r"rows must lie between 0 and 2; found -1"),
    ({"columns": [0, 5]}, r"columns must lie between 0 and 4; found 5"),
    ({"columns": torch.zeros(2)}, r"columns must be a list of whole numbers or None"),
    ({"rows": 1}, r"rows must be a list of whole numbers or None"),
    ({"lse": torch.zeros(B, G, T)}, r"lse must have shape \[B, H, T\] = \[2, 4, 3\]; found \[2, 2, 3\]"),
    ({"rule": torch.zeros(T, S)}, r"mask must be boolean"),
]


@pytest.mark.parametrize(("how", "sentence"), ROWS)
def test_rows_outside_the_map_are_refused_in_one_sentence(how: dict[str, Any], sentence: str):
    refused(sentence, lambda: rows(QUERY, KEY, **{"lse": torch.zeros(B, H, T), **how}))


@pytest.mark.parametrize(
    ("sentence", "asked"),
    [
        (r"observe must be an Observe, such as Observe\(links=8\), or None; found 'entropy'", "entropy"),
        (r"links must be at most the number of keys, \d; found 99", Observe(links=99)),
        (r"keys must lie between 0 and \d; found 99", Observe(mass={"far": [99]})),
        (r"mass 'half' must be a range or list of keys, a boolean", Observe(mass={"half": torch.ones(1)})),
        (r"rectangles must be pairs of ranges inside the map of \d x \d; found rows range\(0, 99\)",
         Observe(rectangles=[(range(99), range(1))])),
        (r"rows must lie between 0 and \d; found 99", Observe(rows=[99])),
        (r"rows must be a list of whole numbers or None; found 'a'", Observe(rows="a")),  # pyright: ignore
        (r"mass 'a' must be a range or list of keys, .* found 'xyz'", Observe(mass={"a": "xyz"})),  # pyright: ignore
        (r"mass 'a' must be a range or list of keys, .* found None", Observe(mass={"a": None})),  # pyright: ignore
        (r"rectangles must be pairs of ranges inside the map of .*; found rows range\(3, 0\)",
         Observe(rectangles=[(range(3, 0), range(1))])),
        (r"rows must lie between 0 and \d; found 99", Observe(rows=[99])),
        (r"rectangles must be pairs of ranges \(rows, columns\); found range\(0, 3\)",
         Observe(rectangles=[range(3)])),  # pyright: ignore
    ],
)  # fmt: skip
def test_what_a_map_cannot_give_is_refused(sentence: str, asked: Any):
    refused(sentence, lambda: attend(QUERY, KEY, VALUE, observe=asked))


@pytest.mark.parametrize(
    ("sentence", "how"),
    [
        ("links must be a whole number of at least 0; found -1", {"links": -1}),
        (r"mean_map must be \(rows, columns\), whole numbers above 0; found \(0, 3\)", {"mean_map": (0, 3)}),
        (r"mean_map must be \(rows, columns\), .*; found \(True, True\)", {"mean_map": (True, True)}),
        (r"mass must be parts of the map by name, .* found \[1\]", {"mass": [1]}),
        ("heads must be one of 'each', 'group sum', 'group mean', 'mean'; found 'sum'", {"heads": "sum"}),
    ],
)
def test_a_wish_that_means_nothing_is_refused(sentence: str, how: dict[str, Any]):
    refused(sentence, lambda: Observe(**how))


def refused(sentence: str, call: Any) -> None:
    with pytest.raises(ArgumentError, match=sentence) as found:
        call()
    assert "\n" not in str(found.value)


def test_keywords_are_short_for_rules():
    dice = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(B, G, T, K, generator=dice) for _ in range(3))
    lengths, ids = torch.tensor([2, 3]), torch.tensor([[0, 0, 1], [1, 1, 1]])
    pairs: list[tuple[dict[str, Any], Any]] = [
        ({"causal": True}, Causal()),
        ({"window": (1, None)}, Window(1, None)),
        ({"lengths": lengths}, Lengths(lengths)),
        ({"lengths": (lengths, lengths)}, Lengths(lengths, lengths)),
        ({"segments": ids}, Segments(ids)),
        ({"segments": (ids, ids)}, Segments(ids, ids)),
        ({"causal": True, "window": (1, 0), "segments": ids}, Segments(ids) & Window(1, 0) & Causal()),
        ({"mask": torch.eye(T, dtype=torch.bool)}, Dense(torch.eye(T, dtype=torch.bool))),
    ]
    for how, rule in pairs:
        assert torch.equal(attention(query, key, value, **how), attention(query, key, value, mask=rule))


def test_a_bias_tensor_is_short_for_its_rule():
    dice = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(B, G, T, K, generator=dice) for _ in range(3))
    bias = torch.randn(G, T, T, generator=dice)
    assert torch.equal(attention(query, key, value, bias=bias), attention(query, key, value, bias=DenseBias(bias)))


def test_values_are_frozen():
    assert np.all([type(rule).__dataclass_params__.frozen for rule in (Causal(), Window(1, 1), Prefix(2))])  # pyright: ignore
