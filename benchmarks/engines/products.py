"""The matrix products of a translation and nothing else: the time below which no engine of the same products goes.

Rows without padding; query, key and value are one product; keys and values of the memory are made once a source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache

import torch
from common import serve
from torch import Tensor, nn

from polyhead.core.packed import PackedLinear
from polyhead.core.panels import wake

Product = tuple[int, Callable[[Tensor], Tensor]]  # the width it reads, and itself


class Products:
    """Every matrix of the model, random, each in memory of its own, as the model reads them."""

    def __init__(self, d_model: int, encoder: tuple[int, int], decoder: tuple[int, int], words: int, packed: bool):
        """encoder, decoder: the number of layers and the width inside their MLPs."""
        d = d_model

        def products(layers: int, *shapes: tuple[int, int]) -> list[Product]:
            found = [(shape[0], nn.Linear(*shape)) for _ in range(layers) for shape in shapes]
            return [(width, PackedLinear(m.weight, m.bias)) for width, m in found] if packed else list(found)

        (n, f), (m, g) = encoder, decoder
        self.encoder = products(n, (d, 3 * d), (d, d), (d, f), (f, d))
        self.memory = products(m, (d, 2 * d))
        self.step = products(m, (d, 3 * d), (d, d), (d, d), (d, d), (d, g), (g, d)) + products(1, (d, words))


kinds: dict[str, Products] = {}


def load(threads: int, **sizes: int | list[int]) -> None:
    torch.set_num_threads(threads)
    wake()
    kinds["plain"] = Products(**sizes, packed=False)  # pyright: ignore[reportArgumentType]
    kinds["packed"] = Products(**sizes, packed=True)  # pyright: ignore[reportArgumentType]


@cache
def rows_of(count: int, width: int) -> Tensor:
    return torch.randn(count, width)


@torch.inference_mode()
def measure(batches: list[list[int]], beams: int, new: int, kind: str) -> dict[str, float]:
    """The seconds of `new` steps for batches of sources of the given lengths."""
    products = kinds[kind]
    start = time.perf_counter()
    for lengths in batches:
        run(products.encoder, sum(lengths))
        run(products.memory, sum(lengths))
        for step in range(new):
            run(products.step, len(lengths) * (beams if step else 1))
    return {"seconds": time.perf_counter() - start}


@torch.inference_mode()
def encode(rows: list[int], kind: str) -> dict[str, float]:
    """The seconds of the encoder's products for so many rows each time."""
    start = time.perf_counter()
    for count in rows:
        run(kinds[kind].encoder, count)
    return {"seconds": time.perf_counter() - start}


def run(products: Sequence[Product], count: int) -> None:
    for width, product in products:
        product(rows_of(count, width))


if __name__ == "__main__":
    serve({"load": load, "measure": measure, "encode": encode})
