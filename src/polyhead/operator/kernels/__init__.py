"""The table of kernels: a request enters, the first kernel that serves it well runs, and those ahead say why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError, did_you_mean
from polyhead.operator.answers import Sums
from polyhead.operator.kernels import blockwise, compiled, explicit, flex, fused, half, reference, short, step
from polyhead.operator.kernels.cost import Cost, cost
from polyhead.operator.kernels.pieces import piece_of, pieces, together
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request


@dataclass(frozen=True)
class Kernel:
    """One way to compute a request."""

    name: str
    can: Callable[[Request], str | None]  # None, or the reason why not
    run: Callable[[Request, bool], tuple[Tensor, Tensor | None]]  # output, and the rows' log-sum-exp if asked for
    room: Callable[[Request], int]  # about how many bytes it needs besides inputs and output, forward
    slower: Callable[[Request], str | None] = lambda request: None  # why "auto" passes it by though it could serve
    see: Callable[[Request, Observe], tuple[Tensor, Tensor, Sums]] | None = None  # the same, and what is observed


KERNELS = (
    Kernel("short", short.can, short.run, short.room, short.slower),
    Kernel("explicit", explicit.can, explicit.run, explicit.room, explicit.slower),
    Kernel("step", step.can, step.run, step.room, step.slower),
    Kernel("half", half.can, half.run, half.room, half.slower),
    Kernel("compiled", compiled.can, compiled.run, compiled.room, compiled.slower, compiled.see),
    Kernel("fused", fused.can, fused.run, fused.room),
    Kernel("blockwise", blockwise.can, blockwise.run, blockwise.room),
    Kernel("flex", flex.can, flex.run, flex.room, flex.slower),
    Kernel("reference", reference.can, reference.run, reference.room, reference.slower),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}
AND = " + "  # between the names of several

# What each kernel can do, at a glance; a test holds the table against the kernels. "small": while the scores or the
# mask that it would write out are within its bound (SCORES of explicit, step, fused, flex and reference, PLANE of
# fused), and the queries few (FEW of step), or they and the keys (SHORT of short).
TABLE = {
    #                        short    explicit  step     half     compiled  fused    blockwise  flex     reference
    "no mask":              ("small", "small",  "small", "yes",   "yes",    "yes",   "yes",     "small", "small"),
    "causal, T = S":        ("small", "small",  "small", "yes",   "yes",    "yes",   "yes",     "small", "small"),
    "causal, T != S":       ("small", "small",  "small", "yes",   "yes",    "small", "yes",     "small", "small"),
    "window":               ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "prefix":               ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "lengths":              ("small", "small",  "small", "no",    "yes",    "yes",   "yes",     "small", "small"),
    "lengths of queries":   ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "segments":             ("small", "small",  "small", "yes",   "yes",    "yes",   "yes",     "small", "small"),
    "mask tensor":          ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "bias tensor":          ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "bias that learns":     ("no",    "small",  "no",    "no",    "yes",    "small", "yes",     "small", "small"),
    "alibi":                ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "buckets":              ("small", "small",  "small", "no",    "yes",    "small", "yes",     "small", "small"),
    "softcap":              ("no",    "small",  "no",    "no",    "yes",    "no",    "yes",     "small", "small"),
    "score_mod":            ("no",    "small",  "no",    "no",    "no",     "no",    "yes",     "small", "small"),
    "sinks":                ("no",    "no",     "no",    "no",    "yes",    "no",    "yes",     "no",    "small"),
    "dropout":              ("small", "small",  "no",    "no",    "no",     "small", "yes",     "no",    "small"),
    "grouped heads":        ("small", "small",  "small", "yes",   "yes",    "yes",   "yes",     "small", "small"),
    "Kv != K":              ("small", "small",  "small", "yes",   "yes",    "small", "yes",     "small", "small"),
    "hidden NaN or Inf":    ("no",    "no",     "small", "no",    "no",     "no",    "yes",     "no",    "small"),
    "differentiable twice": ("small", "small",  "no",    "no",    "yes",    "no",    "yes",     "small", "no"),
}  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """Which kernels would serve a request (None) or why not, in the order of the table, which one would run, and what
    it costs. Of packed documents several may run: "compiled + fused".

    cost  pairs that may look at each other, floating-point operations of both products, bytes in and out.
    room  of each kernel, about how many bytes it needs besides inputs and output, forward.
    """

    kernels: dict[str, str | None]
    chosen: str | None
    cost: Cost
    room: dict[str, int]

    def __str__(self) -> str:
        rows: list[str] = []
        for name, reason in self.kernels.items():
            arrow, room = "->" if name in (self.chosen or "").split(AND) else "  ", told(self.room[name], "B")
            rows.append(f"{arrow} {name:<10} {room:>8}  {reason or 'can serve'}")
        pairs, flops, traffic = told(self.cost.pairs, ""), told(self.cost.flops, "FLOP"), told(self.cost.traffic, "B")
        return "\n".join(
            [
                *rows,
                f"{pairs} pairs may look: {flops}, {traffic} in and out",
                "beside each name: the memory that it takes",
            ]
        )


def told(number: int, unit: str) -> str:
    """A large number as people read it: 1.5 GFLOP."""
    size, scale = float(number), ""
    for scale in ("", "k", "M", "G", "T", "P"):
        if size < 1000 or scale == "P":
            break
        size /= 1000
    return f"{size:.3g} {scale}{unit}".rstrip()


def named(name: str) -> Kernel:
    """The kernel of this name."""
    if not isinstance(cast(object, name), str):
        raise ArgumentError(f"kernel must be 'auto' or the name of one; found {name!r}")
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


@dataclass(frozen=True)
class Ran:
    """What came of a request: output, log-sum-exp if asked for, and what the kernel saw on the way, if it can see."""

    out: Tensor
    lse: Tensor | None
    sums: Sums | None
    kernel: str
    reasons: dict[str, str]  # why not those ahead of it


def run(request: Request, name: str, *, lse: bool, observe: Observe | None = None) -> Ran:
    """Run the kernel that is chosen by the request alone, whatever is asked of it besides the output."""
    device = request.query.device.type
    if torch.is_autocast_enabled(device):  # the operator computes in the dtypes that it is given
        with torch.autocast(device, enabled=False):
            return run(request, name, lse=lse, observe=observe)
    kernel, reasons = choose(request, name)
    if parts := apart(request, name, kernel):
        outs, levels = zip(*(own.run(part, lse) for own, part in parts), strict=True)
        batch = len(request.query)
        level = together(levels, batch) if lse else None
        return Ran(together(outs, batch), level, None, joined(own for own, _ in parts), reasons)
    if observe is not None and kernel.see is not None:
        return Ran(*kernel.see(request, observe), kernel.name, reasons)
    return Ran(*kernel.run(request, lse), None, kernel.name, reasons)


def apart(request: Request, name: str, kernel: Kernel) -> list[tuple[Kernel, Request]] | None:
    """Packed documents, each with the kernel that it would have alone, where these differ: a long or a damaged one
    sends none beside it to another. None where one kernel serves all; SDPA's takes them one by one itself."""
    documents = None if name != "auto" or kernel.name == "fused" else pieces(request)
    parts = [piece_of(request, each) for each in documents or ()]
    own = [choose(part, name)[0] for part in parts]
    return list(zip(own, parts, strict=True)) if len(set(own)) > 1 else None


def joined(some: Iterable[Kernel]) -> str:
    """Their names, each once, in the order of the table."""
    names = {kernel.name for kernel in some}
    return AND.join(name for name in BY_NAME if name in names)


def explain(request: Request, name: str) -> Explanation:
    """Ask every kernel: "auto" also says why it passes by one that could serve; a name asks for that one."""
    room = {kernel.name: kernel.room(request) for kernel in KERNELS}
    if name == "auto":
        found = {kernel.name: kernel.slower(request) or kernel.can(request) for kernel in KERNELS}
        first = next((name for name, reason in found.items() if reason is None), None)
        parts = None if first is None else apart(request, name, BY_NAME[first])
        chosen = first if parts is None else joined(kernel for kernel, _ in parts)
    else:
        found = {kernel.name: kernel.can(request) for kernel in KERNELS}
        chosen = name if found[named(name).name] is None else None
    return Explanation(found, chosen, cost(request), room)
