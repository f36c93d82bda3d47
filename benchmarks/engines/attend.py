"""One way to attend, in a process of its own: the same tensors for every way, its seconds and its peak memory."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import serve
from torch import Tensor

from polyhead.operator import Observe, Window, attend

STATUS = Path("/proc/self/status")
TILE = 128, 1024  # rows and columns of the products alone
ROWS = Observe(
    links=8, entropy=True, squares=True, distance=True,
    mass={"first": range(1), "self": Window(0, 0), "near": Window(32, 32), "group": range(100, 500)},
)  # fmt: skip
ALL = replace(ROWS, received=True, mean_map=(256, 256))


def blind(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


def unfused(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, ...]:
    """What a library does when it is asked for weights: all of them, and the same statistics from them."""
    scores = query @ key.mT * query.shape[-1] ** -0.5
    if causal:
        n = scores.shape[-1]
        scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
    weights = scores.softmax(-1)
    entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1)
    return weights @ value, weights.topk(8).values, entropy, weights.sum(2)


def products(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> None:
    """The floor of a second look at every score: the products of queries and keys, in the same blocks and threads."""
    n, threads = query.shape[2], torch.get_num_threads()

    def head(place: tuple[int, int]) -> None:
        keys, room = key[place].T, torch.empty(TILE[0] * TILE[1])
        for i in range(0, n, TILE[0]):
            rows = query[place][i : i + TILE[0]]
            end = min(i + TILE[0], n) if causal else n
            for j in range(0, end, TILE[1]):
                columns = keys[:, j : min(j + TILE[1], end)]
                torch.mm(rows, columns, out=room[: len(rows) * columns.shape[1]].view(len(rows), -1))

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(head, [(b, h) for b in range(len(query)) for h in range(query.shape[1])]))
    torch.set_num_threads(threads)


def observed(observe: Observe | None, kernel: str = "auto") -> Callable[..., Any]:
    return lambda query, key, value, causal: attend(query, key, value, causal=causal, observe=observe, kernel=kernel)


WAYS: dict[str, Callable[..., Any]] = {
    "blind": blind,
    "products": products,
    "recording": observed(None),
    "received": observed(Observe(received=True)),
    "rows": observed(ROWS),
    "everything": observed(ALL),
    "rows beside": observed(ROWS, "fused"),
    "everything beside": observed(ALL, "fused"),
    "unfused": unfused,
}


class Bench:
    """The tensors of one length, and the memory that was in use before anything was computed from them."""

    def prepare(self, heads: int, length: int, width: int, causal: bool, threads: int, learns: bool) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(length)
        self.tensors = [torch.randn(1, heads, length, width, requires_grad=learns) for _ in range(3)]
        self.causal, self.learns = causal, learns

    def warm(self, way: str) -> None:
        """Load what this way needs, so that it does not count as memory of the call: the smallest map for the loops."""
        if way != "unfused":
            WAYS[way](*(torch.randn(1, 1, 2100, 64) for _ in range(3)), self.causal)

    def run(self, way: str) -> dict[str, float]:
        before = settled()
        start = time.perf_counter()
        with torch.inference_mode(not self.learns):
            found = WAYS[way](*self.tensors, self.causal)
            if self.learns:
                out = found[0] if isinstance(found, tuple) else found
                torch.autograd.grad(out.sum(), self.tensors)
        return {"seconds": time.perf_counter() - start, "bytes": peak() - before, "resident": peak()}


def settled() -> float:
    """The memory of this process now, in bytes, from which on `peak` counts: what was freed is given back first."""
    gc.collect()
    if not STATUS.exists():  # not Linux: only the most that there ever was is known
        return peak()
    ctypes.CDLL(None).malloc_trim(0)
    STATUS.with_name("clear_refs").write_text("5")
    return told("VmRSS")


def peak() -> float:
    """The most memory that this process has had since, in bytes."""
    if STATUS.exists():
        return told("VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def told(name: str) -> float:
    return next(1024 * int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    bench = Bench()
    serve({"prepare": bench.prepare, "warm": bench.warm, "run": bench.run})
