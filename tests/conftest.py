"""Every test: one thread, since tiny tensors gain nothing from more and a busy machine loses much."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from polyhead.core.packed import Int8Linear, why_not_int8
from polyhead.core.panels import Panels, WholePanels
from polyhead.core.straight import Chain
from polyhead.operator import attention, loops


@pytest.fixture(scope="session", autouse=True)
def compiled_step() -> None:
    """The loops of a step are compiled once on a machine, here and not while a test reads what a command writes."""
    query, key = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 2, 4)
    attention(query, key, key, kernel="step")
    panels = Panels(torch.zeros(32, 4), None)
    panels(torch.zeros(1, 4))
    chain = Chain((cast(Any, SimpleNamespace(weight=panels)),))
    assert chain.ready()
    chain(torch.zeros(1, 1, 4))
    if loops.multiplies_bytes() and why_not_int8(torch.nn.Linear(4, 32)) is None:
        whole = torch.ops.quantized.linear_unpack(Int8Linear(torch.zeros(32, 4), None).weight)[0]
        WholePanels(whole, None)(torch.zeros(1, 4))
