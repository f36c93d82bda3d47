"""Settings go in; threads, determinism, precision and the memory that is kept hold while a training runs, no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from polyhead.memory import kept
from polyhead.training.settings import Training


@contextmanager
def prepared(settings: Training) -> Iterator[None]:
    """Hold threads, the choice of deterministic algorithms and memory that is freed for the length of a training."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fills = memory.fill_uninitialized_memory
    torch.set_num_threads(settings.threads or threads)
    torch.use_deterministic_algorithms(settings.deterministic)
    memory.fill_uninitialized_memory = False  # it writes every new tensor twice, to find bugs
    try:
        with kept():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        memory.fill_uninitialized_memory = fills


def precision(wanted: str, device: torch.device) -> str:
    """ "fp32" or "bf16": what "auto" means on this processor. bf16 is taken where the hardware multiplies in it."""
    if wanted != "auto":
        return wanted
    able = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return "bf16" if able else "fp32"


def casting(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """What the forward pass runs under. Weights, gradients and the optimiser stay in float32 either way."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
