"""Blockwise holds no square of queries by keys: twice the tokens, twice the memory, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from polyhead.operator import Alibi, Buckets, Prefix
from polyhead.operator.kernels import blockwise
from polyhead.operator.request import ask

TILE = 16, 16


class Largest(TorchDispatchMode):
    """The largest storage that any operation has made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else (out,):
            if isinstance(x, Tensor):
                self.size = max(self.size, x.untyped_storage().nbytes())
        return out


class Saved:
    """How many numbers the graph keeps for backward."""

    numbers = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.numbers += x.numel()
        return x


HOW: dict[str, Any] = {
    "nothing": lambda n: {},
    "causal": lambda n: {"causal": True},
    "window": lambda n: {"window": (4, 4)},
    "prefix": lambda n: {"mask": Prefix(5)},
    "lengths": lambda n: {"lengths": (torch.tensor([n - 3]), torch.tensor([n - 1])), "causal": True},
    "segments": lambda n: {"segments": (torch.arange(n) // 9)[None]},
    "alibi": lambda n: {"bias": Alibi(torch.randn(2, requires_grad=True))},
    "buckets": lambda n: {"bias": Buckets(torch.randn(8, 2, requires_grad=True), True, 9)},
    "the rest": lambda n: {"softcap": 2.0, "sinks": torch.randn(2, requires_grad=True), "dropout": 0.1},
}


@pytest.mark.parametrize("poisoned", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_no_tensor_grows_faster_than_the_tokens(how: str, poisoned: bool):
    peaks: list[int] = []
    for n in (64, 128):
        query, key, value = (torch.randn(1, h, n, 4, requires_grad=True) for h in (2, 1, 1))
        if poisoned:
            with torch.no_grad():
                value[:, :, -1] = float("nan")
        saved = Saved()
        with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(saved, lambda x: x):
            out, _ = blockwise.run(ask(query, key, value, **HOW[how](n)), True, tile=TILE)
            out.sum().backward()
        assert largest.size <= 2 * n * 4 * 8  # [H, n, K] in float32, or as much in int64
        assert saved.numbers <= 8 * 2 * n * 4  # inputs, output, log-sum-exp
        peaks.append(largest.size)
    assert peaks[1] <= 2 * peaks[0]


@pytest.mark.parametrize(("how", "share"), [("causal", 0.6), ("window", 0.25), ("segments", 0.3), ("nothing", 1.0)])
def test_hidden_tiles_cost_nothing(how: str, share: float):
    n = 256
    query, key, value = (torch.randn(1, h, n, 4) for h in (2, 1, 1))
    plan = blockwise.plan_of(ask(query, key, value, **HOW[how](n)), TILE, 0.0)
    tiles = [(rows, columns) for rows in blockwise.rows_of(plan) for columns in blockwise.columns_of(plan, rows)]
    assert len(tiles) <= share * (n / TILE[0]) * (n / TILE[1])


def test_the_tile_shrinks_when_there_are_many_heads():
    def side(B: int, H: int) -> int:
        frame = ask(*(torch.zeros(B, H, 1, 1) for _ in range(3))).frame
        rows, columns = blockwise.tile_for(frame)
        assert rows == columns
        assert B * H * rows * columns <= blockwise.TILE_SCORES or rows == 32
        return rows

    assert (side(1, 8), side(64, 8), side(10_000, 8)) == (256, 128, 32)
