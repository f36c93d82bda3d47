"""What a training frees stays with the process while it runs, and goes back to the system after it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from polyhead import memory

BLOCK = 2**26  # bytes, 16,384 pages of 4 KiB
PROCESS = """
import json, mmap, resource, sys
import torch
from polyhead.memory import STEPS, kept, swept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(int(sys.argv[1]), dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE

found = {"before": [faults() for _ in range(3)]}
with kept() as able:
    found |= {"able": able, "during": [faults() for _ in range(20)], "held": resident()}
    swept(STEPS - 1)
    found |= {"unswept": resident()}
    swept(STEPS)
    found |= {"swept": resident(), "again": [faults() for _ in range(20)], "full": resident()}
found |= {"left": resident(), "after": [faults() for _ in range(3)]}
json.dump(found, sys.stdout)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator can be told")


def measured(**environment: str) -> Mapping[str, Any]:
    """Page faults of equal blocks, each freed before the next, before, during and after; bytes resident at the end."""
    found = subprocess.run(
        [sys.executable, "-c", PROCESS, str(BLOCK)],
        env={"OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(found.stdout)


@glibc
def test_a_freed_block_comes_back_without_new_pages_until_the_training_ends() -> None:
    found = measured()
    few = min(found["before"]) // 100  # whatever size the pages of this machine have
    assert found["able"]
    assert found["during"][0] > few  # from the system, once
    assert max(found["during"][-8:]) <= few  # glibc before 2.39 needs up to ten rounds to see that a freed one fits
    assert found["held"] - found["unswept"] < 0.1 * BLOCK
    assert found["held"] - found["swept"] > 0.9 * BLOCK
    assert found["again"][0] > few
    assert max(found["again"][-8:]) <= few
    assert found["full"] - found["left"] > 0.9 * BLOCK
    assert found["after"][0] > few


@glibc
@pytest.mark.parametrize(
    "chosen", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}]
)
def test_what_the_environment_chose_stays(chosen: dict[str, str]) -> None:
    found = measured(**chosen)
    assert not found["able"]
    assert min(found["during"]) > min(found["before"]) // 100


def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    memory.allocator.cache_clear()
    with memory.kept() as able:
        memory.swept(memory.STEPS)
        assert not able
    memory.allocator.cache_clear()


def test_where_answers_are_given_a_little_stays_but_a_training_that_runs_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[dict[int, int]] = [{}]
    listener = SimpleNamespace(mallopt=lambda name, value: told[-1].update({name: value}), malloc_trim=lambda room: 1)
    monkeypatch.setattr(memory, "allocator", lambda: listener)
    monkeypatch.setattr(memory, "usual", dict(memory.AFTER))
    with memory.kept():
        memory.answering()
        assert told == [memory.TRAINING]
        told.append({})
    assert told[1] == memory.ANSWERING
    told.append({})
    memory.answering()
    assert told[2] == {}  # once is enough
    with memory.kept(), memory.kept():
        pass
    assert told[2] == memory.ANSWERING
