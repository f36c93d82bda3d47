"""Attention on a CPU by loops compiled here: output, log-sum-exp and statistics from one look at every weight.

A request enters and becomes arrays (`Call`); threads take shares of heads; what they found leaves as tensors (`Found`).
numba, an optional library, is imported where it is used.
"""

# pyright: basic
from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.operator.answers import Grid, Sums
from polyhead.operator.kernels.blockwise import spans
from polyhead.operator.observe import Observe
from polyhead.operator.request import Request, norm, usable
from polyhead.operator.rules import Bias, Keys, Rule

FEW = 1 << 18  # fewer scores are soon looked at in any way, before the loops are loaded
BLOCK = 12  # rows of one head whose scores a thread has in its cache, over all keys
SHARES = 16  # of a head at most; what rows add to columns is added up share by share, in their order
LEAST = 1056  # rows of a share
ALONE = 16  # blocks of a share where rows add to no column: small, so that threads end together
SOON = 2.0  # seconds that a person waits without a word
LARGEST = 1e29  # scores beyond would come near the one that stands for -inf
WRITTEN = 1 << 22  # pairs of a mask or bias that are written out at a time
COMPILED = set[Any]()  # loops of a step that are; numba takes longer to say so than to run them
SAID = set[str]()  # what a person was told of that
COMPILING = threading.Lock()
TOLD = threading.local()  # threads: how many numba was told to take by this one; it takes as long as a small product
ONE = threading.Lock()  # one look at a time: it takes all threads, and not every pool of numba's bears two callers


def can(request: Request) -> str | None:
    """None, or why the loops cannot serve."""
    if (reason := missing()) is not None:
        return reason
    if request.query.device.type != "cpu":
        return f"the loops run on a CPU, and the tensors are on {request.query.device}"
    if request.query.dtype == torch.float64:
        return "the loops compute in float32, and float64 was given"
    if request.score_mod is not None:
        return "the loops take no function of scores"
    if not (request.query.shape[:3].numel() * request.value.shape[2:].numel()):
        return "there is nothing to look at"
    bias = request.weights
    if bias is not None and not (usable(bias) and bool(((bias > -LARGEST) | (bias == -torch.inf)).all())):
        return f"the bias holds NaN, Inf or numbers below {-LARGEST}"
    if not abs(request.scale) * norm(request.query) * norm(request.key) < LARGEST:
        return "query or key holds NaN, Inf or numbers so large that their product would be taken for a hidden one"
    return None


@cache
def missing() -> str | None:
    """None, or why nothing can be compiled here."""
    if find_spec("numba") is None:
        return "numba is not installed: pip install 'polyhead[see]'"
    try:
        if for_steps().numba.config.DISABLE_JIT:
            return "numba is told to compile nothing (NUMBA_DISABLE_JIT)"
    except (ImportError, RuntimeError, OSError) as error:  # of another NumPy, or where no cache can be written
        return f"numba cannot be used here: {error}"
    return None


def slower(request: Request) -> str | None:
    """None where this is the fastest way, or the reason why not."""
    (B, H, T, _), S = request.query.shape, request.key.shape[2]
    if B * H * T * S < FEW:
        return f"a map of {B * H * T * S} weights is looked at before the loops are loaded"
    return None


@dataclass(frozen=True)
class Found:
    """What one look gave: output [B, H, T, Kv] and log-sum-exp [B, H, T], where the latter was not known; and sums."""

    out: Tensor | None
    lse: Tensor | None
    sums: Sums


def look(request: Request, observe: Observe, lse: Tensor | None = None) -> Found:
    """Look at every weight: for what is observed and, where the log-sum-exp is not known yet, for the output."""
    from polyhead.operator.loops import blocks

    areas = areas_of(request, observe)
    answers = Answers(request, observe, list(areas), known=lse is not None)
    call = call_of(request, lse, list(areas.values()))
    threads = thread_count()
    for rows, veil, bias in parts(request):
        call = call._replace(veil=veil, bias=bias)
        desk = blocks.desk(call, BLOCK, threads)
        with ONE:
            run(threads, call, answers.arrays, desk, rows.start, rows.stop, answers.share)
    return answers.found(request.query.dtype, request.value.shape[3])


def step(
    threads: int, parts: int, addresses: Sequence[int], sizes: Sequence[int], scale: float, strides: Sequence[int]
) -> None:
    """`steps.look`, on so many threads; one is the caller's own. The first call compiles, for some seconds."""
    half, _, H, _, T, S, K, V = sizes
    steps = for_steps().steps
    desks = np.empty((threads, H * T * (S + steps.LANES + half * (K + V))), np.float32)
    go(threads, steps.look, steps.work, (parts, *addresses, *sizes, np.float32(scale), *strides, desks))


def short(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, bias: Tensor | None, scale: float,
    chance: tuple[int, int, float], out: Tensor, lse: Tensor,
    d_out: Tensor | None = None, found: tuple[Tensor, ...] = (),
) -> None:  # fmt: skip
    """Write out and lse of short sequences; or, given the gradient of out, to `found` those of query, key and value.

    chance: the seed of a dropout, the bar that a draw of 32 bits must reach, and by how much what is left grows.
    """
    shorts, (seed, bar, growth) = for_steps().shorts, chance
    (B, H, T, K), (G, S, V) = query.shape, value.shape[1:]
    read = (query, key, value, visible, bias, out, lse, d_out, *(found or (None, None, None)))
    call = shorts.Call(
        *(0 if x is None else x.data_ptr() for x in read),
        int(query.dtype == torch.bfloat16), B, H, G, T, S, K, V, np.float32(scale),
        np.uint32(seed), np.uint32(bar), np.float32(growth),
    )  # fmt: skip
    by = np.array([(0,) * 4 if x is None else x.stride() for x in (query, key, value, visible, bias, d_out)])
    threads = min(thread_count(), B * G)
    desks = np.zeros((threads, shorts.sizes(T, S, K, V)[1 if found else 0]), np.float32)
    shared, alone = (shorts.backwards, shorts.backward) if found else (shorts.forwards, shorts.forward)
    go(threads, shared, alone, (call, by, desks))


def half(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor | None, last: int, scale: float
) -> None:  # fmt: skip
    """Write out and lse of attention in bfloat16, where `multiplies_halves`; query t sees the keys up to t + last."""
    halves, (B, H, T, K), (G, S, V) = for_steps().halves, query.shape, value.shape[1:]
    held = (query, key, value, out, lse)
    call = halves.Call(
        *(0 if x is None else x.data_ptr() for x in held), B, H, G, T, S, K, V,
        *query.stride()[:3], *key.stride()[:3], *value.stride()[:3], last, np.float32(scale),
    )  # fmt: skip
    threads = min(thread_count(), B * H)
    desks = np.empty((threads, halves.room(S, K, V)), np.float32)
    go(threads, halves.look, halves.work, (call, halves.rows_of(S), desks))


class Link(NamedTuple):
    """One link of a chain, as the loops read it: what is done from one slot to another (see `chains`), the numbers of a
    row before and after, the part of a product's depth, from how many rows on several threads pay, whether what is
    written is bfloat16, and addresses."""

    kind: int
    source: int
    target: int
    depth: int = 0
    width: int = 0
    part: int = 0
    crowd: int = 0
    half: int = 0
    panels: int = 0
    bias: int = 0
    zeros: int = 0
    less: int = 0
    scale: int = 0


def chain(kind: str, threads: int, rows: int, links: np.ndarray, slots: tuple[int, ...], deep: int) -> None:
    """These links with so many rows: "floats", "halves" or "wholes" of `chains`, the deepest product of the last having
    `deep` numbers in a row."""
    play, desks = getattr(for_steps().chains, kind), desks_for(threads, rows, deep)
    several = threads > 1 and ONE.acquire(blocking=False)
    try:
        arguments = threads if several else 1, rows, links, slots, *desks
        compile_once(play, arguments)
        if several:
            tell(threads)
        play(*arguments)
    finally:
        if several:
            ONE.release()


def desks_for(threads: int, rows: int, deep: int) -> tuple[np.ndarray, ...]:
    """Room for the sums of a panel, and of a part of it, for rows as whole numbers and for the largest number of each,
    for each thread; kept for the next call of this thread of Python's."""
    had, desks = getattr(TOLD, "desks", ((0, 0, 0), ()))
    if threads > had[0] or deep > had[2] or had[1] < min(rows, for_steps().products.BLOCK):
        products = for_steps().products
        threads, rows, deep = had = max(threads, had[0]), max(min(rows, products.BLOCK), had[1]), max(deep, had[2])
        sizes = 2 * rows * products.PANEL, rows * -(-deep // 4), rows
        desks = tuple(np.empty((threads, size), np.float32) for size in sizes)
        TOLD.desks = had, desks
    return desks


def go(threads: int, shared: Any, alone: Any, call: tuple[Any, ...]) -> None:
    """One of two loops: all threads', or the caller's own where it is to be one, or another caller has them; no bit
    depends on it."""
    if threads > 1 and ONE.acquire(blocking=False):
        try:
            arguments = threads, *call
            compile_once(shared, arguments)
            tell(threads)
            shared(*arguments)
        finally:
            ONE.release()
    else:
        arguments = 0, 1, *call
        compile_once(alone, arguments)
        alone(*arguments)


def tell(threads: int) -> None:
    """Let numba take so many threads for this one of Python's."""
    if getattr(TOLD, "threads", 0) != threads:
        TOLD.threads = threads
        with own_threads():
            for_steps().numba.set_num_threads(threads)


@contextmanager
def own_threads() -> Iterator[None]:
    """PyTorch's number of threads stays as it is: numba, as it starts its own, tells OpenMP to take all that there are,
    and PyTorch asks OpenMP."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def compile_once(loop: Any, arguments: tuple[Any, ...]) -> None:
    """Compile a loop for such arguments, or load it; all of its calls have arguments of the same types."""
    if loop in COMPILED:
        return
    with COMPILING:
        if loop not in COMPILED:
            with compiling(), own_threads():
                loop.compile(tuple(map(for_steps().numba.typeof, arguments)))
            COMPILED.add(loop)


class Compilers(NamedTuple):
    """numba, and what it compiles for a step of decoding."""

    numba: Any
    steps: Any
    products: Any
    half_products: Any
    whole_products: Any
    chains: Any
    shorts: Any
    halves: Any


@cache
def for_steps() -> Compilers:
    """Imported once: a step takes microseconds."""
    import numba

    from polyhead.operator.loops import chains, half_products, halves, products, shorts, steps, whole_products

    forget_others(Path(str(products.share.stats.cache_path)))
    return Compilers(numba, steps, products, half_products, whole_products, chains, shorts, halves)


def forget_others(kept: Path) -> None:
    """Remove what was compiled of other versions of these files: numba compares the file that a loop stands in alone,
    not those whose tiles and numbers it holds, and the loops trust addresses."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    version, stamp = sha256(b"".join(file.read_bytes() for file in files)).hexdigest(), kept / "loops.version"
    with suppress(OSError):  # where nothing can be written, nothing is kept
        kept.mkdir(parents=True, exist_ok=True)
        if not stamp.exists() or stamp.read_text("ascii") != version:
            for index in kept.glob("*.nbi"):
                index.unlink(missing_ok=True)
            stamp.write_text(version, "ascii")


def fuses() -> bool:
    """Whether this processor multiplies and adds at once, as oneDNN then does: x86 of the last ten years; and numba
    compiles for it, not for another that it is told."""
    from polyhead.operator.loops import vectors

    told = for_steps().numba.config
    return vectors.LANES > 4 and not (told.CPU_NAME or told.CPU_FEATURES)


def multiplies_bytes() -> bool:
    """Whether this processor multiplies and adds up bytes by fours (VNNI)."""
    from polyhead.operator.loops import vectors

    return vectors.DOTS


def multiplies_halves() -> bool:
    """Whether this processor multiplies and adds up numbers of bfloat16 by pairs (AVX512-BF16)."""
    from polyhead.operator.loops import vectors

    return vectors.HALVES


def multiplies_tiles() -> bool:
    """Whether this processor multiplies bfloat16 by tiles (AMX)."""
    return bool(cast(Any, torch.cpu)._is_amx_tile_supported())


def thread_count() -> int:
    """As many as PyTorch would take, and no more than numba has."""
    return min(torch.get_num_threads(), for_steps().numba.config.NUMBA_NUM_THREADS)


def run(threads: int, *work: Any) -> None:
    """Look, on so many threads: one is the caller's own, so that a forked process, which may start no other, can too.

    The first look compiles, half a minute once on a machine, and says so if it takes long.
    """
    import numba

    from polyhead.operator.loops import blocks

    arguments = work if threads > 1 else (*work[:3], np.int64(0), *work[3:])
    loop = blocks.look if threads > 1 else blocks.work
    if not loop.signatures:
        with compiling(), own_threads():
            loop.compile(tuple(map(numba.typeof, arguments)))
    if threads > 1:
        tell(threads)
    loop(*arguments)


@contextmanager
def compiling() -> Iterator[None]:
    """A line for the person, who may wait so long, unless it is soon over."""
    line = "polyhead: compiling its loops for this processor, in half a minute or less, to keep for the next time"

    def say() -> None:
        if line not in SAID:  # a process may compile several
            SAID.add(line)
            print(line, file=sys.stderr, flush=True)

    timer = threading.Timer(SOON, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Answers:
    """Room for what is asked, and its names."""

    def __init__(self, request: Request, observe: Observe, parts: list[str], *, known: bool):
        from polyhead.operator.loops import blocks, rows, vectors

        (B, H, T, _), (S, Kv) = request.query.shape, request.value.shape[2:]
        adds = observe.received or observe.mean_map is not None or observe.max_map is not None
        self.share = share_of(T) if adds else ALONE * BLOCK
        N, k = -(-T // self.share), observe.links
        means, peaks = (Cells.of(grid, T, S) for grid in (observe.mean_map, observe.max_map))

        def room(wanted: object, *shape: int, like: Any = np.float64, fill: Any = 0) -> np.ndarray:
            return np.full(shape if wanted else (0,) * len(shape), fill, like)

        self.parts, f32 = parts, np.float32
        self.arrays = blocks.Answers(
            out=np.empty((0, 0, 0, 0) if known else (B, T, H, -(-Kv // vectors.PANEL) * vectors.PANEL), f32),
            lse=np.empty((0, 0, 0) if known else (B, H, T), f32),
            sums=np.empty((6 if observe.distance else 3, B, H, T)),
            parts=np.zeros((len(parts), B, H, T)),
            best=room(k, B, H, T, k, like=f32, fill=rows.HIDDEN), keys=room(k, B, H, T, k, like=np.int64, fill=-1),
            received=room(observe.received, N, B, H, S),
            mean_map=room(observe.mean_map, N, B, H, *means.shape, like=f32),
            max_map=room(observe.max_map, N, B, H, *peaks.shape, like=f32),
            mean_rows=means.rows, mean_ends=means.ends, max_rows=peaks.rows, max_ends=peaks.ends,
        )  # fmt: skip

    def found(self, dtype: torch.dtype, width: int) -> Found:
        """What the arrays hold, as tensors; out in the dtype of the call, cut to its width."""
        arrays = self.arrays

        def told(x: np.ndarray) -> Tensor | None:
            return torch.from_numpy(x) if x.size else None

        def whole(x: np.ndarray, join: np.ufunc) -> Tensor | None:
            return told(x if not x.size else x[0] if len(x) == 1 else join.reduce(x, 0))

        out = told(arrays.out)
        mass, entropy, squares = torch.from_numpy(arrays.sums[:3])
        offset, offset2, distance = torch.from_numpy(arrays.sums[3:]) if len(arrays.sums) > 3 else (None, None, None)
        return Found(
            out=None if out is None else out.transpose(1, 2)[..., :width].to(dtype),
            lse=told(arrays.lse),
            sums=Sums(
                mass=mass, entropy=entropy, squares=squares, offset=offset, offset2=offset2, distance=distance,
                scores=told(arrays.best), keys=told(arrays.keys), received=whole(arrays.received, np.add),
                mean_map=whole(arrays.mean_map, np.add), max_map=whole(arrays.max_map, np.maximum),
                parts=dict(zip(self.parts, torch.from_numpy(arrays.parts), strict=True)),
            ),
        )  # fmt: skip


def call_of(request: Request, lse: Tensor | None, areas: list[Area]) -> Any:
    """What the loops read of a request and of the parts of its map, side by side in memory."""
    from polyhead.operator.loops import blocks, vectors

    T, S = request.query.shape[2], request.key.shape[2]
    frame, none = request.frame, np.zeros((0, 0, 0, 0), np.float32)
    level = None if lse is None else lse.float().masked_fill(lse == -torch.inf, torch.inf)
    low, high = seen(request) or (torch.zeros(1, T, dtype=torch.long), torch.full((1, T), S))
    nearest = -T - frame.highest  # the farthest left that a key may lie of its query
    near = along(request.bias, range(nearest, S - frame.lowest + 1))
    return blocks.Call(
        query=array(request.query.float()), scale=np.float32(request.scale), keys=panels(request.key, vectors.PANEL),
        value=none if lse is not None else array(filled(request.value.float(), 3, vectors.PANEL)),
        n_keys=S, seen=array(torch.stack((low, high.expand_as(low)))),
        shift=np.atleast_1d(np.asarray(frame.diagonal, np.int64).reshape(-1)),
        softcap=np.float32(request.softcap or 0), along=np.zeros((0, 0), np.float32) if near is None else array(near),
        nearest=nearest, veil=none.astype(bool), bias=none,
        sinks=np.zeros(0, np.float32) if request.sinks is None else array(request.sinks.float()),
        level=np.zeros((0, 0, 0), np.float32) if level is None else array(level),
        spans=array(spans_in(areas, T)), span_owners=owners(areas, lambda area: area.ndim > 2),
        runs=array(runs_in(areas)), run_owners=owners(areas, lambda area: area.ndim == 2),
    )  # fmt: skip


def array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def panels(key: Tensor, width: int) -> np.ndarray:
    """Keys [B, G, S, K] as panels [B, G, P, K, width] of so many keys side by side."""
    return array(filled(key.detach().float(), 2, width).unflatten(2, (-1, width)).mT)


def filled(x: Tensor, dim: int, width: int) -> Tensor:
    """x with zeros along one axis up to a multiple of width; itself where there is none to add."""
    lacking = -x.shape[dim] % width
    return F.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, lacking)) if lacking else x


Area = Tensor  # a part of the map: runs of keys [n, 2] that all queries share, or a span of keys of each, [1, 2, B, T]


def areas_of(request: Request, observe: Observe) -> dict[str, Area]:
    """Each part of the map whose weight is asked, but for those that are neither groups nor spans of keys."""
    T, found = request.query.shape[2], dict[str, Area]()
    for name, region in observe.regions(request.frame).items():
        if isinstance(region, Keys):
            found[name] = runs_of(region.keys)
        elif (span := region.interval(request.frame, range(T))) is not None:
            found[name] = torch.stack(torch.broadcast_tensors(*span))[None]
    return found


def runs_of(keys: Tensor) -> Area:
    """The runs that keys form, each from its first to one past its last."""
    keys = keys.unique()
    ends = torch.nonzero(keys.diff() > 1).flatten()
    first, last = torch.cat((keys[:1], keys[ends + 1])), torch.cat((keys[ends], keys[-1:]))
    return torch.stack((first, last + 1), -1)


def runs_in(areas: list[Area]) -> Tensor:
    return torch.cat([torch.zeros(0, 2, dtype=torch.long), *(area for area in areas if area.ndim == 2)])


def spans_in(areas: list[Area], rows: int) -> Tensor:
    spans_ = [area for area in areas if area.ndim > 2]
    return torch.cat(torch.broadcast_tensors(*spans_)) if spans_ else torch.zeros(0, 2, 1, rows, dtype=torch.long)


def owners(areas: list[Area], of_kind: Callable[[Area], bool]) -> np.ndarray:
    """Which area each of its runs, or spans, belongs to."""
    return np.array([n for n, area in enumerate(areas) if of_kind(area) for _ in range(len(area))], np.int64)


def seen(request: Request) -> tuple[Tensor, Tensor] | None:
    """The keys that each query sees, from the first to one past the last, each [1 or B, T]; None: not an interval."""
    T, S = request.query.shape[2], request.key.shape[2]
    if request.rule is None:
        return torch.zeros(1, T, dtype=torch.long), torch.full((1, T), S)
    return request.rule.interval(request.frame, range(T))


def along(bias: Bias | None, distances: range) -> Tensor | None:
    """A bias that depends on distance alone, [H, n]."""
    found = None if bias is None else bias.along(torch.arange(distances.start, distances.stop))
    return None if found is None else found.detach().float().clamp(min=-1e30)  # -inf hides


def written(request: Request) -> tuple[Rule | None, Bias | None]:
    """The rule and the bias that no interval and no row of distances stand for, so that they must be written out."""
    bias = request.bias
    return None if seen(request) else request.rule, None if bias is None or along(bias, range(1)) is not None else bias


def parts(request: Request) -> Iterator[tuple[range, np.ndarray, np.ndarray]]:
    """The rows, all at once; or, where a mask or a bias must be written out, some at a time, with these.

    Each is [1 or B, 1 or H, t, S], of no size where there is none.
    """
    frame, (rule, bias) = request.frame, written(request)
    extents = [x.extent(frame) for x in (rule, bias) if x is not None]
    heads = max((e[0] * e[1] for e in extents if e is not None), default=0)
    T, columns = frame.n_queries, range(frame.n_keys)
    for rows in spans(range(T), max(BLOCK, WRITTEN // (heads * len(columns))) if heads else T):
        shape = -1, -1, len(rows), len(columns)
        visible = None if rule is None else rule.visible(frame, rows, columns)
        tile = None if bias is None else bias.tile(bias.weights.detach(), frame, rows, columns).float()
        yield (
            rows,
            np.zeros((0, 0, 0, 0), bool) if visible is None else array(visible.expand(shape)),
            np.zeros((0, 0, 0, 0), np.float32) if tile is None else array(tile.expand(shape)),
        )


def share_of(rows: int) -> int:
    """How many rows of a head a thread takes at a time: by the number of rows alone, so that sums are always alike."""
    return -(-max(LEAST, -(-rows // SHARES)) // BLOCK) * BLOCK


@dataclass(frozen=True)
class Cells:
    """A grid as the loops read it: which row of it each query falls into [T], and where its columns end [C]."""

    rows: np.ndarray
    ends: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, grid: tuple[int, int] | None, T: int, S: int) -> Cells:
        if grid is None:
            return cls(np.zeros(T, np.int64), np.zeros(0, np.int64), (0, 0))
        cells = Grid.of(grid, T, S)
        return cls(np.arange(T) * cells.rows // T, np.array(cells.column_ends()), (cells.rows, cells.columns))
