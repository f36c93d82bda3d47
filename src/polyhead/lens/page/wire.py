"""Numbers become the bytes that a page reads: 16 bytes that say what follows, then the numbers, little-endian.

byte 0  version, 1              byte 2  transfer: 0 as they are, 1 square roots, 2 signed parts
byte 1  dtype: 0 u8, 1 f16,     byte 3  rank, 1 to 3
        2 f32, 3 u32            bytes 4 to 15  three sizes, u32, 1 where unused

Signed parts are of rank 2 at most, and in the place of the third size stands the largest of them without its sign, m, a
f32: f16 holds x / m; u8 holds 128 + 127 r, where r is the square root of x / m with its sign.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

VERSION = 1
HEAD, PARTS = struct.Struct("<4B3I"), struct.Struct("<4B2If")
DTYPES = {np.dtype("u1"): 0, np.dtype("<f2"): 1, np.dtype("<f4"): 2, np.dtype("<u4"): 3}
LINEAR, ROOT, SIGNED = 0, 1, 2
LARGEST = 65_536 + HEAD.size  # bytes of one answer: 64 kB of numbers, and what they are
HALF = 60_000.0  # what a number of 16 bits holds safely


def packed(x: NDArray[Any], transfer: int = LINEAR) -> bytes:
    """An array of one of the four types, of rank 1 to 3, as bytes."""
    sizes = (*x.shape, *(1,) * (3 - x.ndim))
    return HEAD.pack(VERSION, DTYPES[x.dtype.newbyteorder("<")], transfer, x.ndim, *sizes) + x.tobytes()


def picture(weights: Tensor) -> bytes:
    """Weights from 0 to 1 for the eye: their square roots in 8 bits, so that small ones are seen. NaN is 0."""
    roots = weights.float().nan_to_num(0.0).clamp(0.0, 1.0).sqrt().mul(255.0).round()
    return packed(roots.cpu().numpy().astype("u1"), ROOT)


def signed(x: Tensor, *, coarse: bool = False) -> bytes:
    """Numbers [n] or [n, m] above and below 0 as parts of the largest, in 16 bits, or for the eye (`coarse`) in 8. NaN
    is 0."""
    x = x.double().nan_to_num(0.0, 0.0, 0.0).cpu()
    most = float(x.abs().max()) if x.numel() else 0.0
    parts = x / most if most else x
    if coarse:
        numbers = (parts.sign() * parts.abs().sqrt() * 127 + 128).round().numpy().astype("u1")
    else:
        numbers = parts.numpy().astype("<f2")
    rows, columns = (*x.shape, 1)[:2]
    head = PARTS.pack(VERSION, DTYPES[numbers.dtype.newbyteorder("<")], SIGNED, x.dim(), rows, columns, most)
    return head + numbers.tobytes()


def halves(x: Tensor) -> bytes:
    """Numbers in 16 bits; in 32 where one of them is too large for that."""
    wide = bool((x.abs() > HALF).any())
    return packed(x.float().cpu().numpy().astype("<f4" if wide else "<f2"))


def floats(x: Tensor) -> bytes:
    return packed(x.float().cpu().numpy().astype("<f4"))


def unpacked(body: bytes) -> tuple[NDArray[Any], int]:
    """The array behind `packed` or `signed`, and its transfer; raises ValueError for other bytes."""
    if len(body) < HEAD.size:
        raise ValueError(f"{len(body)} bytes are too few for a head of {HEAD.size}")
    version, dtype, transfer, rank, *sizes = HEAD.unpack_from(body)
    kinds = {code: kind for kind, code in DTYPES.items()}
    if version != VERSION or dtype not in kinds or not 1 <= rank <= 3:
        raise ValueError(f"no such answer: version {version}, dtype {dtype}, rank {rank}")
    numbers = np.frombuffer(body, kinds[dtype], offset=HEAD.size).reshape(sizes[:rank])
    if transfer != SIGNED:
        return numbers, transfer
    parts = numbers.astype("<f4")
    if dtype == DTYPES[np.dtype("u1")]:
        roots = (parts - 128) / 127
        parts = np.sign(roots) * roots**2
    return parts * PARTS.unpack_from(body)[-1], transfer
