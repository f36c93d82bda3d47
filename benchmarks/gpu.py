"""A GPU: every kernel and every way of seeing against float64, then what seeing costs beside blind attention."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import Report, Table, interleaved, parsed, parser_of, progress, ratio, stop
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from polyhead.operator import Alibi, Observe, Statistics, attend, attention, explain
from polyhead.operator.kernels import KERNELS
from polyhead.operator.record import Record
from polyhead.operator.statistics import WAYS, measure

EXAMPLES = """\
  bash benchmarks/gpu.sh                        all of it, under eight minutes
  bash benchmarks/gpu.sh --lengths 4096 --rounds 9
  bash benchmarks/gpu.sh --quick --device cpu   does it run? seconds, no figures to keep"""

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a workspace of its own

# --- correctness -----------------------------------------------------------------------------------------------------

HEADS, WIDTH = 4, 64  # of the calls that are checked
WISH = Observe(
    links=4, entropy=True, squares=True, distance=True, received=True, mean_map=(5, 7), max_map=(5, 7),
    mass={"first": range(1)},
)  # fmt: skip
WISHES = (WISH, replace(WISH, links=0, max_map=None), replace(WISH, links=0, max_map=None, entropy=False))
DTYPES = {torch.float32: (2e-4, 1e-3), torch.bfloat16: (4e-2, 1e-3)}  # tolerance of outputs, and of statistics
CALLS: dict[str, Callable[[int, str], dict[str, Any]]] = {  # n tokens, a device -> keywords
    "full": lambda n, device: {},
    "causal": lambda n, device: {"causal": True},
    "causal, grouped heads": lambda n, device: {"causal": True},
    "causal, fewer queries than keys": lambda n, device: {"causal": True},
    "window": lambda n, device: {"window": (n // 4, 3)},
    "lengths": lambda n, device: {"lengths": torch.tensor([n // 2, n], device=device)},
    "segments": lambda n, device: {"segments": (torch.arange(n, device=device) // 9).expand(2, n), "causal": True},
    "softcap": lambda n, device: {"softcap": 5.0},
    "sinks": lambda n, device: {"sinks": torch.linspace(-1, 2, HEADS, device=device), "causal": True},
    "bias": lambda n, device: {"bias": Alibi(torch.linspace(0.1, 0.5, HEADS, device=device)), "causal": True},
}


def checked(name: str, n: int, dtype: torch.dtype, device: str, faults: list[str]) -> list[str]:
    """One call by every kernel that serves, and its statistics in every way that does: a row; what is wrong in faults.

    The measure is the same call in float64 on the CPU, by the formula. A figure is the largest difference, as a share
    of the largest number where that is above 1.
    """
    tensors, d_out = drawn(name, n, dtype)
    how = CALLS[name](n, device)
    exact = [x.double().requires_grad_() for x in tensors]
    wanted, record = attend(*exact, kernel="reference", observe=WISH, **CALLS[name](n, "cpu"))
    gradients = torch.autograd.grad(wanted, exact, d_out.double())
    tolerance, close = DTYPES[dtype]
    inputs = [x.to(device).requires_grad_() for x in tensors]
    row = [name, str(dtype).removeprefix("torch.")]

    def by_kernel(kernel: str) -> float:
        blind = results(attention(*inputs, kernel=kernel, **how), inputs, d_out)
        out, watched = attend(*inputs, kernel=kernel, observe=WISH, **how)
        if not all(torch.equal(one, other) for one, other in zip(blind, results(out, inputs, d_out), strict=True)):
            faults.append(f"{name}, {row[1]}, {kernel}: watching changed a bit")
        off = [error(one, other) for one, other in zip(blind, (wanted, *gradients), strict=True)]
        return max(*off, error(watched.lse, record.lse))

    def in_way(way: str, wish: Observe) -> float:
        return strayed(measure(call.request, call.lse, wish, way=way), record.statistics)

    def cell(what: str, most: float, work: Callable[[], float]) -> str:
        try:
            off = work()
        except Exception as why:  # one kernel that fails on this machine says nothing against the others
            faults.append(f"{name}, {row[1]}, {what}: {type(why).__name__}: {why}")
            return "FAILS"
        if off > most:
            faults.append(f"{name}, {row[1]}, {what}: off by {off:.0e}")
        return f"{off:.0e}"

    for kernel in KERNELS:
        able = explain(*inputs, kernel=kernel.name, **how).chosen is not None
        row.append(cell(kernel.name, tolerance, partial(by_kernel, kernel.name)) if able else "")
    call = attend(*(x.detach() for x in inputs), kernel="blockwise", **how)[1]
    for way in WAYS:
        wish = next((wish for wish in WISHES if way.can(call.request, wish) is None), None)
        row.append(cell(f"in {way.name}", close, partial(in_way, way.name, wish)) if wish else "")
    return row


def drawn(name: str, n: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Query, key, value of a call, and the gradient of its output."""
    dice = torch.Generator().manual_seed(n)
    groups = HEADS // 2 if "grouped" in name else HEADS
    rows = n // 3 if "fewer" in name else n
    shapes = [(2, HEADS, rows, WIDTH), (2, groups, n, WIDTH), (2, groups, n, WIDTH), (2, HEADS, rows, WIDTH)]
    *tensors, d_out = (torch.randn(shape, generator=dice).to(dtype) for shape in shapes)
    return tensors, d_out


def results(out: Tensor, inputs: list[Tensor], d_out: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients."""
    return out.detach(), *torch.autograd.grad(out, inputs, d_out.to(out.device))


def error(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two tensors; infinite where one is not finite and the other is."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double()
    size = max(1.0, float(wanted[wanted.isfinite()].abs().max()))
    off = (found - wanted).abs().masked_fill(found == wanted, 0.0) / size
    return float(off.nan_to_num(torch.inf).max())


def strayed(found: Statistics, wanted: Statistics) -> float:
    """The largest difference of all that was found; of spreads that of their squares, as a root magnifies roundings."""
    off = [error(found.mass["first"], wanted.mass["first"])]
    for name in ("entropy", "squares", "distance", "offset", "spread", "received", "mean_map", "max_map"):
        a, b = getattr(found, name), getattr(wanted, name)
        if a is not None:
            off.append(error(a.square(), b.square()) if name == "spread" else error(a, b))
    if found.links is not None and wanted.links is not None:
        off.append(error(found.links.weights, wanted.links.weights))
    return max(off)


# --- time ------------------------------------------------------------------------------------------------------------

FASTEST_FIRST = [  # the order in which SDPA tries its kernels
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
ROWS = Observe(entropy=True, squares=True, distance=True)
TIMED: dict[str, Observe | None] = {
    "recording": None,
    "row statistics": ROWS,
    "row statistics and received weight": replace(ROWS, received=True),
    "these, top-8 links and a 256 x 256 map": replace(ROWS, received=True, links=8, mean_map=(256, 256)),
}
MOST = 4096  # tokens for the last of these, which no identity gives
ENOUGH = 0.02  # seconds that one measurement lasts, unless a single call does


def timed(call: Callable[[], Any], device: str) -> dict[str, float]:
    """Median seconds of a call, and the most memory that it took besides what was there, in bytes."""
    meter = METERS[device]
    call()
    before, seconds = meter.settle(), list[float]()
    while not seconds or (sum(seconds) < ENOUGH and len(seconds) < 50):
        seconds.append(meter.seconds(call))
    return {"seconds": statistics.median(seconds), "bytes": meter.peak() - before}


@dataclass(frozen=True)
class Meter:
    """How a device is measured."""

    seconds: Callable[[Callable[[], Any]], float]  # of one call
    settle: Callable[[], int]  # bytes in use now, from which on `peak` counts
    peak: Callable[[], int]  # the most bytes in use since


def by_events(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def by_the_clock(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settled() -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


METERS = {
    "cuda": Meter(by_events, settled, torch.cuda.max_memory_allocated),
    "cpu": Meter(by_the_clock, lambda: 0, lambda: 0),
}


@torch.inference_mode()
def measured(options: argparse.Namespace, n: int, causal: bool) -> tuple[Table, dict[str, Any]]:
    """Blind attention and every wish, on the same tensors, in turns."""
    torch.manual_seed(n)
    heads, width = (2, 16) if options.quick else (options.heads, 128)
    shape, how = (1, heads, n, width), {"device": options.device, "dtype": torch.bfloat16}
    query, key, value = (torch.randn(shape, **how) for _ in range(3))

    def blind() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)

    def seeing(observe: Observe | None) -> tuple[Tensor, Record]:
        return attend(query, key, value, causal=causal, observe=observe)

    wishes = {name: wish for name, wish in TIMED.items() if wish is None or not wish.links or n <= MOST}
    title = f"{heads} heads of {width}, {n:,} tokens, {'causal' if causal else 'full'}, bfloat16"
    with sdpa_kernel(FASTEST_FIRST, set_priority=True):
        plain, base = blind(), attention(query, key, value, causal=causal)
        choice = torch._fused_sdp_choice(query, key, value, is_causal=causal)  # pyright: ignore[reportPrivateImportUsage]
        seen = {name: seeing(wish) for name, wish in wishes.items()}
        record = seen["recording"][1]
        calls: dict[str, Callable[[], Any]] = {"blind": blind}
        calls |= {name: partial(seeing, wish) for name, wish in wishes.items()}
        calls |= {f"later: {name}": partial(record.observe, wish) for name, wish in wishes.items() if wish is not None}
        asks = {name: partial(timed, call, options.device) for name, call in calls.items()}
        found = interleaved(asks, rounds=options.rounds, say=title)
    told = {
        name: (record.kernel, record.statistics.way, torch.equal(out, base)) for name, (out, record) in seen.items()
    }
    rows = [
        [
            "blind",
            f"SDPA, {SDPBackend(choice).name.lower()}",
            *figures(found, "blind"),
            "yes" if torch.equal(plain, base) else "no",
        ]
    ]
    for name, (kernel, way, same) in told.items():
        rows.append([name, f"{kernel}, {way}" if way else kernel, *figures(found, name), "yes" if same else "no"])
    for name, (_, way, _) in told.items():
        if way:
            rows.append([f"later: {name}", way, *figures(found, f"later: {name}"), ""])
    return Table(title, ("way", "how", "time", "ratio", "memory", "same bits"), rows), found


def figures(found: dict[str, list[dict[str, float]]], name: str) -> list[str]:
    """Time, ratio to blind attention, and memory."""
    seconds, blind = ([answer["seconds"] for answer in found[each]] for each in (name, "blind"))
    most = max(answer["bytes"] for answer in found[name]) / 2**20
    return [f"{1000 * statistics.median(seconds):,.2f} ms", ratio(seconds, blind), f"{most:,.0f} MiB"]


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.monotonic()
    parser = parser_of("gpu", __doc__ or "", EXAMPLES)
    parser.add_argument("--lengths", default="4096,8192,16384", help="tokens, by comma (default %(default)s)")
    parser.add_argument("--heads", type=int, default=16, help="heads of the calls that are timed (default %(default)s)")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu only to see that it runs")
    parser.add_argument("--minutes", type=float, default=6, help="begin nothing after these (default %(default)s)")
    options = parsed(parser, arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        stop("there is no GPU that this torch can use, and the figures of this run are those of a GPU; nothing was run")
    torch.set_num_threads(options.threads)
    report, faults = Report("gpu", options), list[str]()
    head = ["call", "dtype", *(kernel.name for kernel in KERNELS), *(f"in {way.name}" for way in WAYS)]
    rows: list[list[str]] = []
    torch.use_deterministic_algorithms(True, warn_only=True)  # or PyTorch's own backward gives other bits every time
    for name in CALLS:
        for dtype in [torch.float32] if options.quick else DTYPES:
            progress(f"checking {name}, {dtype}")
            rows.append(checked(name, 40 if options.quick else 300, dtype, options.device, faults))
    torch.use_deterministic_algorithms(False)
    report.tables.append(Table("Against float64", head, rows))
    left_out: list[str] = []
    for n in [64] if options.quick else [int(n) for n in options.lengths.split(",")]:
        for causal in (True, False):
            what = f"{n:,} tokens, {'causal' if causal else 'full'}"
            if time.monotonic() - began > 60 * options.minutes:
                left_out.append(what)
                continue
            try:
                table, report.raw[what] = measured(options, n, causal)
            except Exception as why:  # what was found so far is worth its page
                faults.append(f"{what}: {type(why).__name__}: {why}")
                continue
            report.tables.append(table)
            faults += [f"{what}, {row[0]}: other bits than blind attention" for row in table.rows if row[-1] == "no"]
    report.raw["faults"] = faults
    report.finish(*notes(options, left_out), *(f"FAULT: {fault}" for fault in faults))
    if faults:
        stop(f"{len(faults)} of the checks failed; they are named above")


def notes(options: argparse.Namespace, left_out: list[str]) -> list[str]:
    """What the figures mean, and where they were taken."""
    said = [
        "Against float64: the largest difference of output, log-sum-exp and gradients, and of all statistics; empty"
        " where a kernel or way refuses. Output and gradients of each kernel were the same bits with and without"
        " watching, unless a fault below says otherwise.",
        "The ratio is the median of the rounds' own ratios to blind attention. Same bits: the output is that of blind"
        " `attention`. Later: asked of a record that is there. Goals: row statistics at most 1.25x, and with received"
        " weight at most 1.7x.",
    ]
    if options.device == "cuda":
        cudnn = torch.backends.cudnn.version()
        said.append(f"On one {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {cudnn}.")
    if left_out:
        said.append(f"Left out, for {options.minutes} minutes were over: {'; '.join(left_out)}.")
    return said


if __name__ == "__main__":
    main()
