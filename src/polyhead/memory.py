"""Memory that is freed stays with the process, and comes back to it without new pages: while a training runs on a CPU
all of it, and where answers are given a little.

Every step frees what it took and takes as much again. The allocator of glibc gives large blocks back to the system at
once, which must find, clear and map every page of them anew; that takes a seventh of a step of training, and a tenth
of one of a beam (docs/log.md, 2026-11-30). But batches differ in size, so that blocks that stay scatter, and ever more
pages are touched; hence a training gives back all that is free every few steps (`swept`), and when it ends. What the
numbers mean: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

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
ANSWERING = {**AFTER, TRIM_THRESHOLD: 2**28}  # at most 256 MiB stay at the end of the heap
CHOSEN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # or by a tunable of glibc


STEPS = 50  # between two sweeps
usual = dict[int, int](AFTER)  # what holds where no training does
holding = 0  # trainings that hold


@contextmanager
def kept() -> Iterator[bool]:
    """Keep what is freed, and tell whether it is done: not without glibc, nor where the environment has chosen."""
    libc = allocator()
    if libc is None:
        yield False
        return
    global holding
    holding += 1
    told(libc, TRAINING)
    try:
        yield True
    finally:
        holding -= 1
        if not holding:
            told(libc, usual)
            libc.malloc_trim(0)


def answering() -> None:
    """Let some of what is freed stay from now on: answers take the same blocks again and again. While a training runs,
    what it holds stays."""
    libc = allocator()
    if libc is not None and usual != ANSWERING:
        usual.update(ANSWERING)
        if not holding:
            told(libc, usual)


def told(libc: ctypes.CDLL, settings: Mapping[int, int]) -> None:
    """Tell the allocator."""
    for name, value in settings.items():
        libc.mallopt(name, value)


def swept(step: int) -> None:
    """Give back what is free after every `STEPS` steps."""
    if step % STEPS == 0 and (libc := allocator()):
        libc.malloc_trim(0)


@cache
def allocator() -> ctypes.CDLL | None:
    """glibc, if it is there and nobody has told it in the environment what to do."""
    chosen = any(name in os.environ for name in CHOSEN) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return None if chosen or platform.libc_ver()[0] != "glibc" else ctypes.CDLL(None)
