"""Bytes of the wire say what they are, and are read back as they were."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from polyhead.lens.page import wire


def test_the_head_is_as_it_is_written_down() -> None:
    body = wire.floats(torch.arange(6.0).reshape(2, 3))
    assert body[:4] == bytes([1, 2, 0, 2])
    assert struct.unpack("<3I", body[4:16]) == (2, 3, 1)
    assert struct.unpack("<6f", body[16:]) == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("dtype", ["u1", "<f2", "<f4", "<u4"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (0, 5)])
def test_numbers_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.random.RandomState(0).randint(0, 200, shape).astype(dtype)
    again, transfer = wire.unpacked(wire.packed(x, wire.ROOT))
    assert (again.dtype, transfer) == (x.dtype, wire.ROOT)
    np.testing.assert_array_equal(again, x)


def test_pictures_are_square_roots_so_that_small_weights_are_seen() -> None:
    x, transfer = wire.unpacked(wire.picture(torch.tensor([0.0, 1e-4, 0.25, 1.0, 1.0001, torch.nan])))
    assert x.tolist() == [0, 3, 128, 255, 255, 0] and transfer == wire.ROOT


def test_what_16_bits_cannot_hold_takes_32() -> None:
    assert wire.unpacked(wire.halves(torch.tensor([1.5])))[0].dtype == np.float16
    found = wire.unpacked(wire.halves(torch.tensor([1e6])))[0]
    assert found.dtype == np.float32 and found[0] == 1e6


@pytest.mark.parametrize(
    "body", [b"", b"1234", bytes(16), bytes([1, 9, 0, 1]) + bytes(12), bytes([2, 0, 0, 1]) + bytes(12)]
)
def test_other_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        wire.unpacked(body)
