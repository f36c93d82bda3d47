"""While a training runs on a CPU, memory that is freed stays with the process, and comes back to it without new pages.

Every step frees what it took and takes as much again. The allocator of glibc gives large blocks back to the system at
once, which must find, clear and map every page of them anew; that takes a fifth to a third of a step (docs/log.md,
2026-11-30). The process holds no more than the largest step needs, and all that is free goes back when the training
ends. What is set, and what the numbers mean: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # M_... of malloc.h
TRAINING = {
    MMAP_MAX: 0,  # no block is mapped by itself, to be unmapped when it is freed
    TRIM_THRESHOLD: -1,  # the heap never shrinks
}
AFTER = {  # what glibc comes to by itself once it has seen a block of 32 MiB freed
    MMAP_MAX: 65536,
    MMAP_THRESHOLD: 2**25,
    TRIM_THRESHOLD: 2**26,
}
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # or by a tunable of glibc


@contextmanager
def kept() -> Iterator[bool]:
    """Keep what is freed, and tell whether it is done: not without glibc, nor where the environment has chosen."""
    chosen = any(name in os.environ for name in CHOSEN) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or platform.libc_ver()[0] != "glibc":
        yield False
        return
    libc = ctypes.CDLL(None)
    for name, value in TRAINING.items():
        libc.mallopt(name, value)
    try:
        yield True
    finally:
        for name, value in AFTER.items():
            libc.mallopt(name, value)
        libc.malloc_trim(0)
