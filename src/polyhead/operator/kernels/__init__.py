"""The table of kernels: a request enters, the first kernel that serves it well runs, and those ahead say why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.operator.kernels import blockwise, explicit, fused, reference
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
    Kernel("reference", reference.can, reference.run, reference.slower),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}

# What each kernel can do, at a glance; a test holds the table against the kernels. "small": while the scores or the
# mask that it would write out are within its bound (explicit.SCORES, fused.PLANE, fused.SCORES, reference.SCORES).
TABLE = {
    #                        explicit  fused    blockwise  reference
    "no mask":              ("small",  "yes",   "yes",     "small"),
    "causal, T = S":        ("small",  "yes",   "yes",     "small"),
    "causal, T != S":       ("small",  "small", "yes",     "small"),
    "window":               ("small",  "small", "yes",     "small"),
    "prefix":               ("small",  "small", "yes",     "small"),
    "lengths":              ("small",  "yes",   "yes",     "small"),
    "lengths of queries":   ("small",  "small", "yes",     "small"),
    "segments":             ("small",  "small", "yes",     "small"),
    "mask tensor":          ("small",  "small", "yes",     "small"),
    "bias tensor":          ("small",  "small", "yes",     "small"),
    "bias that learns":     ("small",  "small", "yes",     "small"),
    "alibi":                ("small",  "small", "yes",     "small"),
    "buckets":              ("small",  "small", "yes",     "small"),
    "softcap":              ("small",  "no",    "yes",     "small"),
    "sinks":                ("no",     "no",    "yes",     "small"),
    "dropout":              ("small",  "small", "yes",     "small"),
    "grouped heads":        ("small",  "yes",   "yes",     "small"),
    "Kv != K":              ("small",  "small", "yes",     "small"),
    "hidden NaN or Inf":    ("no",     "no",    "yes",     "small"),
    "differentiable twice": ("small",  "no",    "yes",     "no"),
}  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """Which kernels would serve a request (None) or why not, in the order of the table, and which one would run."""

    kernels: dict[str, str | None]
    chosen: str | None

    def __str__(self) -> str:
        return "\n".join(
            f"{'->' if name == self.chosen else '  '} {name:<10} {reason or 'can serve'}"
            for name, reason in self.kernels.items()
        )


def named(name: str) -> Kernel:
    """The kernel of this name."""
    if name not in BY_NAME:
        known = ", ".join(f"'{known}'" for known in BY_NAME)
        raise ArgumentError(f"kernel must be 'auto' or one of {known}; found {name!r}.{did_you_mean(name, BY_NAME)}")
    return BY_NAME[name]


def choose(request: Request, name: str) -> tuple[Kernel, dict[str, str]]:
    """The kernel that serves the request, and why those ahead of it in the table do not."""
    if name != "auto":
        kernel = named(name)
        reason = kernel.can(request)
        if reason is not None:
            raise ArgumentError(f"kernel '{name}' cannot serve this request: {reason}")
        return kernel, {}
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
    """Ask every kernel: "auto" also says why it passes by one that could serve; a name asks for that one."""
    if name == "auto":
        found = {kernel.name: kernel.slower(request) or kernel.can(request) for kernel in KERNELS}
        return Explanation(found, next((name for name, reason in found.items() if reason is None), None))
    found = {kernel.name: kernel.can(request) for kernel in KERNELS}
    return Explanation(found, name if found[named(name).name] is None else None)
