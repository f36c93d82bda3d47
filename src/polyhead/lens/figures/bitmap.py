"""Weights become colours, and colours a PNG, without a library."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyhead.lens.draw.colour import RGB, ink_on

# cividis: lightness rises evenly, along the axis that red-green blindness leaves whole, and so it prints in grey.
CIVIDIS = ((0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
           (195, 179, 105), (225, 204, 85), (254, 232, 56))  # fmt: skip
UNKNOWN = (236, 238, 240)  # a weight that is no number
LEAST = 900  # pixels of the longer side, so that no viewer has to make up pixels between cells
VEIL = (9, 14, 28)  # over what is not looked at
HIDDEN = 205  # of 255: how much of a place the veil hides that nothing looks at


def colours(weights: NDArray[Any]) -> NDArray[np.uint8]:
    """Weights of any shape between 0 and 1 as red, green and blue [..., 3]: their square roots along the ramp, so that
    small ones are seen."""
    share = np.sqrt(np.clip(np.nan_to_num(weights.astype(float)), 0.0, 1.0)) * (len(CIVIDIS) - 1)
    places = np.arange(len(CIVIDIS))
    found = np.stack([np.interp(share, places, [rgb[c] for rgb in CIVIDIS]) for c in range(3)], -1).round()
    found[np.isnan(weights)] = UNKNOWN
    return found.astype(np.uint8)


def veil(weights: NDArray[Any]) -> NDArray[np.uint8]:
    """Weights as a dark veil [..., 4] that is lifted where much is looked at; the last is how much it hides."""
    share = np.sqrt(np.clip(np.nan_to_num(weights.astype(float)), 0.0, 1.0))
    hides = np.round(HIDDEN * (1 - share))[..., None]
    return np.concatenate([np.broadcast_to(np.array(VEIL, float), (*weights.shape, 3)), hides], -1).astype(np.uint8)


def hexed(rgb: NDArray[np.uint8] | RGB) -> str:
    return "#" + "".join(f"{int(c):02x}" for c in rgb)


def ink(rgb: NDArray[np.uint8]) -> str:
    """Black or white, whichever stands out more on a colour."""
    red, green, blue = (int(c) for c in rgb)
    return hexed(ink_on((red, green, blue)))


def png(pixels: NDArray[np.uint8], *, least: int = LEAST) -> bytes:
    """A picture [height, width, 3 or 4] as a PNG; a small one with each pixel several times."""
    times = max(least // max(*pixels.shape[:2], 1), 1)
    large = np.repeat(np.repeat(pixels, times, 0), times, 1)
    height, width, channels = large.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), large.reshape(height, -1)], 1)  # 0: no filter
    head = struct.pack(">2I5B", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
