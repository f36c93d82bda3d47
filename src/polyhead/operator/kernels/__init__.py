"""The table of kernels: a request enters, the first kernel that can serve it runs, and the others say why they did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.operator.kernels import blockwise, explicit, fused
from polyhead.operator.request import Request


@dataclass(frozen=True)
class Kernel:
    """One way to compute a request."""

    name: str
    can: Callable[[Request], str | None]  # None, or the reason why not
    run: Callable[[Request, bool], tuple[Tensor, Tensor | None]]  # output, and the rows' log-sum-exp if asked for
    slower: Callable[[Request], str | None] = lambda request: None  # why "auto" passes it by though it could serve


KERNELS = (
    Kernel("explicit", explicit.can, explicit.run, explicit.slower),
    Kernel("fused", fused.can, fused.run),
    Kernel("blockwise", blockwise.can, blockwise.run),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}


@dataclass(frozen=True)
class Explanation:
    """Which kernels can serve a request (None) or why not, in the order of the table, and which one would run."""

    kernels: dict[str, str | None]
    chosen: str | None

    def __str__(self) -> str:
        return "\n".join(
            f"{'->' if name == self.chosen else '  '} {name:<10} {reason or 'can serve'}"
            for name, reason in self.kernels.items()
        )


def choose(request: Request, name: str) -> tuple[Kernel, dict[str, str]]:
    """The kernel that serves the request, and why those ahead of it in the table do not."""
    if name != "auto":
        if name not in BY_NAME:
            raise ArgumentError(
                f"kernel must be 'auto' or one of {', '.join(BY_NAME)}; found {name!r}.{did_you_mean(name, BY_NAME)}"
            )
        reason = BY_NAME[name].can(request)
        if reason is not None:
            raise ArgumentError(f"kernel '{name}' cannot serve this request: {reason}")
        return BY_NAME[name], {}
    reasons: dict[str, str] = {}
    for kernel in KERNELS:
        reason = kernel.slower(request) or kernel.can(request)
        if reason is None:
            return kernel, reasons
        reasons[kernel.name] = reason
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise ArgumentError(f"no kernel can serve this request: {listed}")


def run(request: Request, name: str, *, lse: bool) -> tuple[Tensor, Tensor | None, str, dict[str, str]]:
    """Output, log-sum-exp if asked for, the kernel's name, and the reasons of those ahead of it."""
    device = request.query.device.type
    if torch.is_autocast_enabled(device):  # the operator computes in the dtypes that it is given
        with torch.autocast(device, enabled=False):
            return run(request, name, lse=lse)
    kernel, reasons = choose(request, name)
    return *kernel.run(request, lse), kernel.name, reasons


def explain(request: Request, name: str) -> Explanation:
    """Ask every kernel."""
    found = {kernel.name: kernel.can(request) for kernel in KERNELS}
    able = [kernel.name for kernel in KERNELS if found[kernel.name] is None and name in (kernel.name, "auto")]
    return Explanation(found, able[0] if able else None)
