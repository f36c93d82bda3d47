"""What plain loops do not become by themselves: an exponential in vectors, a product in registers, a number taken once.

numba compiles these for the machine that it runs on, whatever its vectors are.
"""

# pyright: basic, reportCallIssue=false
from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

FEATURES = llvm.get_host_cpu_features()
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("fma") else 4  # float32 in one vector
GROUP, PANEL = 6, 2 * LANES  # rows and columns of a tile whose sums stay in registers: 12 vectors

f32, i32, u32 = np.float32, np.int32, np.uint32
LN2, LOG2E = f32(math.log(2.0)), f32(math.log2(math.e))
LOWEST = f32(-127)  # 2 to this or less is taken as 0
ONE = f32(1)
LINE = 64  # bytes that come into a cache at once
# 2^z = 1 + C1 z + ... + C5 z^5 within 1e-7 of it for |z| <= 1/2: the polynomial whose largest relative error is least
C1, C2, C3, C4, C5 = map(f32, (0.69314698, 0.24022242, 0.05550734, 0.00967151, 0.00132647))

INT, WORD, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
VECTOR, FOURS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
DOTS = bool(FEATURES.get("avx512vnni" if LANES == 16 else "avxvnni"))  # whether bytes are multiplied by fours
HALVES = bool(FEATURES.get("avx512bf16") and LANES == 16)  # whether bfloat16 are multiplied by pairs


def nearest_cache() -> int:
    """Bytes of the nearest cache of this processor; 32 KiB where nobody says."""
    try:
        return max(os.sysconf("SC_LEVEL1_DCACHE_SIZE"), 0) or 1 << 15
    except (AttributeError, OSError, ValueError):
        return 1 << 15


NEAREST = nearest_cache()


@intrinsic
def as_bits(typing, x):
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda context, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def as_float(typing, x):
    """The float32 of these bits."""
    return types.float32(types.int32), lambda context, builder, sig, args: builder.bitcast(args[0], FLOAT)


@intrinsic
def larger(typing, x, y):
    """The larger of two float32, neither of them NaN; loops of it become vectors, which those of max do not."""

    def build(context, builder, sig, args):
        above = builder.fcmp_ordered(">", *args, flags=("nnan", "nsz"))
        return builder.select(above, *args, flags=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), build


@intrinsic
def nearest(typing, x):
    """The whole number nearest to a float32, as one."""

    def build(context, builder, sig, args):
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [FLOAT]), args)

    return types.float32(types.float32), build


@njit(inline="always")
def widened(half):
    """The float32 of a bfloat16 by its bits."""
    return as_float(i32(half) << i32(16))


@njit(inline="always")
def rounded(x):
    """The bits of the bfloat16 nearest to a float32, of two the even one."""
    bits = as_bits(x)
    near = (bits + i32(0x7FFF) + ((bits >> i32(16)) & i32(1))) >> i32(16)
    return np.uint16(near) if x == x else np.uint16(0x7FC0)


@njit(inline="always")
def power(t):
    """2^t for t from LOWEST, where it is exactly 0, to 127: 2^n (by the exponent's bits) times 2^z, |z| <= 1/2.

    Cody and Waite's reduction, as a polynomial and a shift, since a call of the library's would not become vectors.
    """
    n = nearest(t)
    z = t - n
    y = ONE + z * (C1 + z * (C2 + z * (C3 + z * (C4 + z * C5))))
    return as_float(as_bits(y) + (i32(n) << i32(23)))


@njit(inline="always")
def exponential(x):
    """e^x for x up to 88, off by at most 2e-7 + 8e-8 |x| of it; 0 from -88.03 down."""
    return power(max(x * LOG2E, LOWEST))


@intrinsic
def fused(typing, x, y, z):
    """x y + z, rounded once."""

    def build(context, builder, sig, args):
        fma = get_or_insert_function(builder.module, ir.FunctionType(FLOAT, [FLOAT] * 3), "llvm.fma.f32")
        return builder.call(fma, args)

    return types.float32(types.float32, types.float32, types.float32), build


@intrinsic
def take(typing, counter):
    """The number at the front of an int64 array, which is raised by one: each thread takes another."""

    def build(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(INT, 1), "monotonic")

    return types.int64(counter), build


class Numbers(NamedTuple):
    """What a tile multiplies: what is read of a at once, the vectors of b and of the sums, and how a sum grows by the
    product of two vectors, and by a vector."""

    one: ir.Type
    vector: ir.Type
    total: ir.Type
    grow: Callable[[Any, Any, Any, Any], Any]
    add: Callable[[Any, Any, Any], Any]


def floats_grow(builder, total, x, y):
    fma = get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [x, y, total])


def bytes_grow(builder, total, x, y):
    name = f"llvm.x86.avx512.vpdpbusd.{LANES * 32}"
    dot = get_or_insert_function(builder.module, ir.FunctionType(FOURS, [FOURS] * 3), name)
    return builder.call(dot, [total, x, y])


def pairs_grow(builder, total, x, y):
    name = f"llvm.x86.avx512bf16.dpbf16ps.{LANES * 32}"
    dot = get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR, FOURS, FOURS]), name)
    return builder.call(dot, [total, x, y])


FLOATS = Numbers(FLOAT, VECTOR, VECTOR, floats_grow, lambda builder, x, y: builder.fadd(x, y))
BYTES = Numbers(WORD, FOURS, FOURS, bytes_grow, lambda builder, x, y: builder.add(x, y))  # fours of a row, by fours
PAIRS = Numbers(WORD, FOURS, VECTOR, pairs_grow, lambda builder, x, y: builder.fadd(x, y))  # pairs of bfloat16


ONCE, SECOND = 0, 2  # LLVM's "locality": what is fetched is read once, and need not stay; or the second cache keeps it


def fetch(builder: Any, address: Any, kept: int) -> None:
    """Ask a cache for the line at an address, whatever lies there; nobody waits for it."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, WORD, WORD, WORD])
    read, data = WORD(0), WORD(1)
    prefetch = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(prefetch, [builder.inttoptr(address, byte), read, WORD(kept), data])


@intrinsic
def asked(typing, address):
    """Ask the second cache for the line at an address."""

    def build(context, builder, sig, args):
        fetch(builder, args[0], SECOND)
        return context.get_dummy_value()

    return types.void(types.int64), build


def tile(height: int, *, adds: bool = False, linear: bool = False, numbers: Numbers = FLOATS) -> Any:
    """out = a b, or out += a b, for `height` rows of a [height, depth] and a panel of b [depth, PANEL], all float32.

    Arguments are the addresses of a, b and out, each followed by the distance of its rows, in numbers. The sums, two
    vectors a row, are kept in registers while the depth goes by, in its order: with 6 rows, 2 loads and 6 broadcasts
    feed 12 multiply-adds (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication", 4).
    linear: out = before + a b + last, one after the other, where the sums of a b go on from `begin`. That is seven
    arguments more: the addresses of `begin` and `before`, each followed by the distance of its rows; that of `last`,
    which are PANEL numbers for every row; and an address and a distance in bytes: each step of the depth asks for a
    row of a panel that lies there.
    numbers: BYTES, and a number is four bytes side by side: unsigned ones of a, signed ones of b, and in out a sum of
    32 bits; PAIRS, and it is two of bfloat16, whose sum is a float32.
    """

    def build(context, builder, sig, args):
        a, a_step, b, b_step, out, out_step, depth, *more = args
        pointer, vector, total = numbers.one.as_pointer(), numbers.vector, numbers.total
        undefined = ir.Constant(vector, ir.Undefined)
        first = ir.Constant(ir.VectorType(WORD, LANES), [0] * LANES)

        def rows(address, step):
            start = builder.inttoptr(address, pointer)
            return [builder.gep(start, [builder.mul(step, ir.Constant(INT, i))]) for i in range(height)]

        def vectors(start, kind):
            ends = [builder.gep(start, [ir.Constant(INT, v * LANES)]) for v in range(2)]
            return [builder.bitcast(end, kind.as_pointer()) for end in ends]

        def loaded(start, kind=total):
            return [builder.load(at, align=4) for at in vectors(start, kind)]

        if linear:
            begin, begin_step, before, before_step, last, ahead, ahead_step = more
            begun = [loaded(row) for row in rows(begin, begin_step)]
        else:
            begun = [[ir.Constant(total, None)] * 2] * height
        a_rows, b = rows(a, a_step), builder.inttoptr(b, pointer)
        entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)

        builder.position_at_end(loop)
        n = builder.phi(INT)
        n.add_incoming(ir.Constant(INT, 0), entry)
        sums = [[builder.phi(total) for _ in row] for row in begun]
        if linear:
            wanted = builder.add(ahead, builder.mul(n, ahead_step))
            for line in range(0, 4 * PANEL, LINE):
                fetch(builder, builder.add(wanted, ir.Constant(INT, line)), ONCE)
        panel = loaded(builder.gep(b, [builder.mul(n, b_step)]), vector)
        grown = []
        for row, own in zip(a_rows, sums, strict=True):
            x = builder.insert_element(undefined, builder.load(builder.gep(row, [n]), align=4), WORD(0))
            x = builder.shuffle_vector(x, undefined, first)
            grown.append([numbers.grow(builder, z, x, y) for y, z in zip(panel, own, strict=True)])
        after = builder.add(n, ir.Constant(INT, 1))
        n.add_incoming(after, loop)
        for own, *both in zip(sums, begun, grown, strict=True):
            for phi, x, y in zip(own, *both, strict=True):
                phi.add_incoming(x, entry)
                phi.add_incoming(y, loop)
        builder.cbranch(builder.icmp_signed("<", after, depth), loop, done)

        builder.position_at_end(done)

        def plus(x, y):
            return [numbers.add(builder, *both) for both in zip(x, y, strict=True)]

        found, out_rows = grown, rows(out, out_step)
        if linear:
            final = loaded(builder.inttoptr(last, pointer))
            found = [plus(plus(loaded(row), x), final) for row, x in zip(rows(before, before_step), grown, strict=True)]
        elif adds:
            found = [plus(loaded(row), x) for row, x in zip(out_rows, grown, strict=True)]
        for row, own in zip(out_rows, found, strict=True):
            for at, x in zip(vectors(row, total), own, strict=True):
                builder.store(x, at, align=4)
        return context.get_dummy_value()

    @intrinsic
    def product(typing, a, a_step, b, b_step, out, out_step, depth):
        return types.void(*[types.intp] * 7), build

    @intrinsic
    def linear_product(
        typing, a, a_step, b, b_step, out, out_step, depth,
        begin, begin_step, before, before_step, last, ahead, ahead_step,
    ):  # fmt: skip
        return types.void(*[types.intp] * 14), build

    return linear_product if linear else product


set_tile, add_tile = tile(GROUP), tile(GROUP, adds=True)


# --- whole vectors: of n numbers at an address; what is left over of LANES is left out --------------------------------


def each_vector(builder: Any, n: Any, begun: list[Any], step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Go through n numbers, vector by vector: `step` is told where one begins, and what was found so far, and gives
    what is found then."""
    entry, loop, done = builder.block, *(builder.append_basic_block(name) for name in ("vectors", "end"))
    last = builder.and_(n, ir.Constant(INT, -LANES))
    builder.cbranch(builder.icmp_signed("<", ir.Constant(INT, 0), last), loop, done)
    builder.position_at_end(loop)
    at, states = builder.phi(INT), [builder.phi(x.type) for x in begun]
    found = step(at, states)
    after = builder.add(at, ir.Constant(INT, LANES))
    for phi, first, then in zip([at, *states], [ir.Constant(INT, 0), *begun], [after, *found], strict=True):
        phi.add_incoming(first, entry)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", after, last), loop, done)
    builder.position_at_end(done)
    ends = [builder.phi(x.type) for x in begun]
    for end, first, then in zip(ends, begun, found, strict=True):
        end.add_incoming(first, entry)
        end.add_incoming(then, loop)
    return ends


def vector_at(builder: Any, address: Any, at: Any) -> Any:
    """Where the vector lies that begins so many numbers after an address."""
    start = builder.gep(builder.inttoptr(address, FLOAT.as_pointer()), [at])
    return builder.bitcast(start, VECTOR.as_pointer())


def read(builder: Any, address: Any, at: Any, half: bool) -> Any:
    """The vector that begins so many numbers after an address; half: these are bfloat16."""
    if not half:
        return builder.load(vector_at(builder, address, at), align=4)
    kind = ir.IntType(16)
    start = builder.gep(builder.inttoptr(address, kind.as_pointer()), [at])
    found = builder.load(builder.bitcast(start, ir.VectorType(kind, LANES).as_pointer()), align=2)
    return builder.bitcast(builder.shl(builder.zext(found, FOURS), lanes(16, FOURS)), VECTOR)


def lanes(x: Any, kind: ir.Type = VECTOR) -> Any:
    """The same number in all lanes."""
    return ir.Constant(kind, [x] * LANES)


def spread(builder: Any, x: Any) -> Any:
    """A number that is not known yet in all lanes."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, x, WORD(0)), undefined, lanes(0, FOURS))


def called(builder: Any, name: str, *args: Any, gives: ir.Type = VECTOR, flags: tuple[str, ...] = ()) -> Any:
    """What one of LLVM's own functions makes of these."""
    kind = ir.FunctionType(gives, [x.type for x in args])
    return builder.call(get_or_insert_function(builder.module, kind, f"llvm.{name}"), args, fastmath=flags)


def sums(builder: Any, vectors: list[Any]) -> Any:
    """A vector of the sums of each of some vectors, as many as a power of two: halves of two lie down side by side and
    are added to the other halves, until nothing is left to halve."""
    size = LANES  # numbers that are still to be added up, side by side
    while size > 1:
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True)) if len(vectors) > 1 else [(vectors[0], None)]
        vectors = []
        for x, y in pairs:
            starts = range(0, x.type.count * (1 if y is None else 2), size)
            other = ir.Constant(x.type, ir.Undefined) if y is None else y
            halves = []
            for half in (0, size // 2):
                chosen = [start + half + i for start in starts for i in range(size // 2)]
                mask = ir.Constant(ir.VectorType(WORD, len(chosen)), chosen)
                halves.append(builder.shuffle_vector(x, other, mask))
            vectors.append(builder.fadd(*halves))
        size //= 2
    return vectors[0]


def inner_products(count: int, *, half: bool = False) -> Any:
    """scale times the inner products of the n numbers at `a` with those of `count` rows, a power of two of them, which
    begin at `b` and so many numbers apart: written side by side. half: rows are bfloat16."""

    @intrinsic
    def products(typing, a, b, apart, n, scale, out):
        def build(context, builder, sig, args):
            a, b, apart, n, scale, out = args
            rows = rows_of(builder, b, apart, count, half)

            def step(at, totals):
                x = read(builder, a, at, False)
                ys = [read(builder, row, at, half) for row in rows]
                return [floats_grow(builder, total, x, y) for total, y in zip(totals, ys, strict=True)]

            found = sums(builder, each_vector(builder, n, [lanes(0.0)] * count, step))
            kind, undefined = found.type, ir.Constant(found.type, ir.Undefined)
            scales = builder.insert_element(undefined, scale, WORD(0))
            zeros = ir.Constant(ir.VectorType(WORD, kind.count), [0] * kind.count)
            scales = builder.shuffle_vector(scales, undefined, zeros)
            builder.store(builder.fmul(found, scales), builder.inttoptr(out, kind.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4, types.float32, types.int64), build

    return products


def weighted_sum(count: int, *, half: bool = False) -> Any:
    """Add to the n numbers at `out` those of `count` rows, which begin at `b` and so many numbers apart, each times its
    weight: these lie side by side. half: rows are bfloat16."""

    @intrinsic
    def weighted(typing, weights, b, apart, n, out):
        def build(context, builder, sig, args):
            weights, b, apart, n, out = args
            rows, first = rows_of(builder, b, apart, count, half), builder.inttoptr(weights, FLOAT.as_pointer())
            shares = [
                spread(builder, builder.load(builder.gep(first, [ir.Constant(INT, i)]), align=4)) for i in range(count)
            ]

            def step(at, _):
                place = vector_at(builder, out, at)
                total = builder.load(place, align=4)
                for share, row in zip(shares, rows, strict=True):
                    total = floats_grow(builder, total, share, read(builder, row, at, half))
                builder.store(total, place, align=4)
                return []

            each_vector(builder, n, [], step)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), build

    return weighted


def rows_of(builder: Any, start: Any, apart: Any, count: int, half: bool) -> list[Any]:
    """The addresses of rows that begin so many numbers apart."""
    step = builder.mul(apart, ir.Constant(INT, 2 if half else 4))
    return [builder.add(start, builder.mul(step, ir.Constant(INT, i))) for i in range(count)]


@intrinsic
def peak(typing, a, n):
    """The largest of the numbers at an address; NaN where one of them is NaN or Inf."""

    def build(context, builder, sig, args):
        def step(at, states):
            top, odd = states
            x = builder.load(vector_at(builder, args[0], at), align=4)
            above = builder.fcmp_ordered(">", x, top)
            strange = builder.fcmp_unordered(">=", x, lanes(math.inf))
            return [builder.select(above, x, top), builder.or_(odd, builder.sext(strange, FOURS))]

        top, odd = each_vector(builder, args[1], [lanes(-math.inf), lanes(0, FOURS)], step)
        top = called(builder, f"vector.reduce.fmax.v{LANES}f32", top, gives=FLOAT, flags=("nnan", "nsz"))
        odd = called(builder, f"vector.reduce.or.v{LANES}i32", odd, gives=WORD)
        return builder.select(builder.icmp_signed("==", odd, WORD(0)), top, FLOAT(math.nan))

    return types.float32(*[types.int64] * 2), build


@intrinsic
def exponentials(typing, a, n, top):
    """Turn each number x at an address into e^(x - top), as `exponential` does, and return their sum."""

    def build(context, builder, sig, args):
        a, n, top = args
        top, fma = spread(builder, top), f"fma.v{LANES}f32"

        def step(at, totals):
            place = vector_at(builder, a, at)
            t = builder.fmul(builder.fsub(builder.load(place, align=4), top), lanes(float(LOG2E)))
            low = lanes(float(LOWEST))
            t = builder.select(builder.fcmp_ordered(">", t, low), t, low)
            whole = called(builder, f"rint.v{LANES}f32", t)
            z, y = builder.fsub(t, whole), lanes(float(C5))
            for coefficient in (C4, C3, C2, C1, ONE):
                y = called(builder, fma, z, y, lanes(float(coefficient)))
            exponent = builder.shl(builder.fptosi(whole, FOURS), lanes(23, FOURS))
            y = builder.bitcast(builder.add(builder.bitcast(y, FOURS), exponent), VECTOR)
            builder.store(y, place, align=4)
            return [builder.fadd(totals[0], y)]

        (total,) = each_vector(builder, n, [lanes(0.0)], step)
        return called(builder, f"vector.reduce.fadd.v{LANES}f32", FLOAT(0.0), total, gives=FLOAT, flags=("reassoc",))

    return types.float32(types.int64, types.int64, types.float32), build


@intrinsic
def multiplied(typing, a, n, share):
    """Multiply the numbers at an address."""

    def build(context, builder, sig, args):
        share = spread(builder, args[2])

        def step(at, _):
            place = vector_at(builder, args[0], at)
            builder.store(builder.fmul(builder.load(place, align=4), share), place, align=4)
            return []

        each_vector(builder, args[1], [], step)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), build
