"""The benchmark of GPUs runs, as far as a CPU can tell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.structure.page import ROOT


def gpu(*options: str) -> subprocess.CompletedProcess[str]:
    """`bash benchmarks/gpu.sh` with the python of these tests."""
    world = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--threads", "1", *options],
        capture_output=True, text=True, env=world,
    )  # fmt: skip


def test_it_checks_every_kernel_and_way_and_prints_its_tables() -> None:
    done = gpu("--quick", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for told in (
        "Against float64",
        "in identities",
        "row statistics and received weight",
        "full, bfloat16",
        "polyhead",
    ):
        assert told in done.stdout
    assert "FAULT" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence() -> None:
    done = gpu()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no GPU") and done.stderr.count("\n") == 1
