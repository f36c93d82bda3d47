"""The device that a person names becomes one that this machine has, or one sentence."""

from __future__ import annotations

import torch

from polyhead.errors import ArgumentError, did_you_mean

Device = str | torch.device


def device_of(name: Device) -> torch.device:
    """ "cpu", "cuda", "cuda:1" or "mps" as it is; "auto" is CUDA where there is one, else the CPU.

    Raises ArgumentError for what is no device, and for one that is not here.
    """
    kind, _, number = str(name).partition(":")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind == "auto" and not number:
        return torch.device("cuda" if here["cuda"] else "cpu")
    if kind not in here or not (number or "0").isdecimal():
        raise ArgumentError(
            f"device must be auto, cpu, cuda, cuda:N or mps, found '{name}'.{did_you_mean(kind, ('auto', *here))}"
        )
    if int(number or 0) >= here[kind]:
        found = [f"{kind}:{i}" if count > 1 else kind for kind, count in here.items() for i in range(count)]
        raise ArgumentError(f"There is no device '{name}' here; PyTorch finds {', '.join(found)}.")
    return torch.device(str(name))


def same(one: torch.device, other: torch.device) -> bool:
    """Whether both are one device; "cuda" is the first."""
    return (one.type, one.index or 0) == (other.type, other.index or 0)
