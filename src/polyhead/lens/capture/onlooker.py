"""Every operation of PyTorch passes by, unchanged; the attention among them is noted, with the module that made it.

It looks below autograd, at the very call of the kernel: queries, keys and row sums are those of the run, and nothing is
computed in another way than without it. What is noted costs what `Watcher` pays for our own layers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from polyhead.errors import ArgumentError
from polyhead.lens.capture import explicit, flexible, fused, native
from polyhead.lens.capture.explicit import KEEPS, Trail
from polyhead.lens.capture.inventory import attentions, heads_of, is_attention, unseen
from polyhead.lens.capture.kept import Held, Keeping, lies_in, written
from polyhead.lens.capture.marks import Marks, memory
from polyhead.lens.capture.origin import NONE, Line, Origin
from polyhead.lens.capture.running import Running
from polyhead.lens.capture.sighting import NOTHING, Sighting, Unseen
from polyhead.lens.reach import Reach
from polyhead.lens.recording import Call, Missed, Norms
from polyhead.operator import Observe, Record, Statistics

SOFTMAX = ("aten::_softmax", "aten::_safe_softmax")
COPIES = ("clone", "_to_copy", "_unsafe_view", "view", "_reshape_alias")
PRODUCTS = {"addmm": (1, 2), "mm": (0, 1)}  # where the rows stand among the arguments, and the weight
FOREIGN = ("attention", "attn", "fmha")  # in the names of operations that nobody here can read
INNER = ("backward", "choice")  # in the names of those that are no attention
UNKNOWN = "no attention that polyhead knows was computed while it ran"
NO_TRAIL = "its weights are a softmax of numbers that are no product of queries and keys"
COMPILED = "it was compiled into code of its own; run it without torch.compile, or on scaled_dot_product_attention"
VIEWS = torch._C.DispatchKey.ADInplaceOrView
LINEAR = torch.ops.aten.linear.default
PLAIN = {torch.ops.aten.layer_norm.default, torch.ops.aten.dropout.default}  # made of others, none of them attention
DEEP = 20  # frames between compiled code and this
SAMPLE = 4  # rows of a softmax that are compared with what is rebuilt
WHOLE = 64  # the first time
NEAR = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}  # of a weight


@dataclass(eq=False)
class Open:
    """A call that is not yet told whole: its values and its last projection may still come to light."""

    name: str
    kind: Literal["self", "cross"]
    sighting: Sighting
    record: Record
    line: Line = NONE  # of its queries
    weight: Tensor | None = None  # [D, H Kv]
    sample: Tensor | None = None  # [H, Kv] of the output of the last query of the first sequence
    replayed: float | None = None

    def lies_in(self, place: int) -> bool:
        """Whether what it is told from lies in this memory."""
        more = any(x is not None and memory(x) == place for x in (self.weight, self.sighting.value))
        return more or lies_in(self.record.request, place)


@dataclass(frozen=True, eq=False)
class Likely:
    """A softmax over the last axis of so many numbers that is attention if it is multiplied with values."""

    keys: int
    why: str  # it cannot be told
    call: tuple[Sighting, Record, tuple[Line, Line]] | None = None


class Onlooker(TorchDispatchMode):
    """Sees the attention of one model while it runs, and hands each call to `keep`.

    wanted     whether attention of this name is kept.
    elsewhere  whether the attention that is computed now is told by somebody else.
    """

    supports_higher_order_operators = True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiling goes on as if nobody looked; what was compiled is looked at when it runs."""
        return True

    def __init__(
        self,
        model: nn.Module,
        keep: Callable[[Held], object],
        *,
        rows: bool,
        observe: Observe | None,
        wanted: Callable[[str], bool],
        elsewhere: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.keep, self.rows, self.observe, self.wanted, self.elsewhere = keep, rows, observe, wanted, elsewhere
        self.running = Running({module: name for name, module in model.named_modules()})
        self.looking = {module: name for module, name in attentions(model).items() if wanted(name)}
        self.trails, self.weights, self.outputs = Marks[Trail](), Marks[Open](), Marks[Open]()
        self.likely = Marks[Likely]()
        self.open: Open | None = None
        self.keeping, self.origin, self.reach = Keeping(), Origin(model, self.running), Reach.of_model(model)
        self.trusted: set[tuple[object, ...]] = set()
        self.side_by_side: dict[str, bool] = {}  # whether the last projection of a call reads its heads side by side
        self.calls: list[str] = []
        self.missed: dict[str, str] = {}

    @contextmanager
    def looking_on(self, missed: list[Missed]) -> Iterator[None]:
        """Look on inside the block; what ran and was not seen is known when it has ended well."""
        with self.running.followed(), self:
            yield
        self.end()
        inside = [module for outer in self.running.ran if is_compiled(outer) for module in outer.modules()]
        idle = {self.running.names[module] for module in self.running.idle}
        for name in unseen(self.looking, [*self.running.ran, *inside], [*self.calls, *self.missed]):
            self.missed[name] = NOTHING if name in idle else COMPILED if inside else UNKNOWN
        if idle and not self.calls and not self.missed:
            self.missed[next(iter(idle & {""} or idle))] = NOTHING
        missed += [Missed(name, why) for name, why in self.missed.items() if self.wanted(name)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if composed(func) and not (func in PLAIN or is_projection(func, args, kwargs)):
            # In inference mode, operations made of others come by whole.
            with views_kept(func), self:
                return func.decompose(*args, **kwargs)
        what = operation(func)
        if what.writes:
            for place in written(what.schema, args, kwargs):
                self.before_write(place)
        gave = func(*args, **kwargs)
        if not self.elsewhere() and not recomputing():
            try:
                if not what.views:
                    self.origin.note(what.name, args, kwargs, gave, writes=what.writes)
                elif type(args[0]) is not Tensor:  # the view of a parameter no longer says that it is one
                    self.origin.line(args[0])
                if self.running.stack:
                    self.notice(what, args, kwargs, gave)
            except Unseen as why:
                self.miss(str(why))
            except ArgumentError:  # a wish that cannot be fulfilled
                raise
            except Exception as fault:  # ours: their model goes on, and the call is not silently absent
                self.miss(f"polyhead failed to read it ({type(fault).__name__}: {fault})")
        return gave

    # --- what passes by -----------------------------------------------------------------------------------------

    def notice(self, what: Operation, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Any) -> None:
        whole, name = what.whole, what.name
        if whole in fused.READERS:
            given = fused.named(what.schema, args, kwargs)
            lines = self.origin.of(given["query"], given["key"])
            self.begin(fused.READERS[whole](given, gave, heads_of(self.running.now)), lines, fused.output(gave))
        elif whole in native.READS:
            self.native(whole, fused.named(what.schema, args, kwargs), fused.output(gave))
        elif name == flexible.OPERATION:
            self.begin(flexible.read(args, dict(kwargs), gave), self.origin.of(*args[:2]), fused.output(gave))
        elif whole in SOFTMAX:
            self.softmax(args, gave)
        elif name in ("bmm", "baddbmm"):
            self.product(name, args, kwargs, gave)
        elif name == "mm" and self.origin.is_data(args[1]):
            self.product(name, args, kwargs, gave)
        elif name in PRODUCTS:
            self.projection(*(args[i] for i in PRODUCTS[name]))
        elif name == "linear":
            self.projection(args[0].flatten(0, -2), args[1].mT)
        elif any(part in name for part in FOREIGN) and not any(part in name for part in INNER):
            self.miss(f"{whole} is no operation that polyhead can read")
        elif not what.views:  # marks are seen through these
            self.follow(name, args, kwargs, gave, what.writes)

    def begin(self, seen: Sighting, lines: tuple[Line, Line], output: Tensor | None = None) -> None:
        """A call of a kernel was seen. Raises Unseen."""
        record = self.recorded(seen)
        opened = self.opened(seen, record, lines)
        if output is not None:
            self.gave(opened, output)

    def recorded(self, seen: Sighting) -> Record:
        """What was seen as a record, checked the first time. Raises Unseen."""
        if not seen.query.numel() or not seen.key.numel():
            raise Unseen(NOTHING)
        way = seen.kernel, seen.query.dtype, type(seen.rule), type(seen.bias)
        record = (copied(seen) if compiled() else seen).record(check=way not in self.trusted)
        self.trusted.add(way)  # it tells its row sums as we read them; whoever reads a call checks that call again
        return record

    def opened(self, seen: Sighting, record: Record, lines: tuple[Line, Line]) -> Open:
        """A call; it is told whole when the next one is, or its last projection."""
        self.end()
        kind = self.origin.kind(*lines, known=not compiled())
        self.open = Open(self.running.name(), kind, seen, record, lines[0])
        self.calls.append(self.open.name)
        return self.open

    def gave(self, opened: Open, output: Tensor) -> None:
        """The output of a call came to light, [B, H, T, Kv] or the same with fewer axes."""
        self.outputs.put(output, opened)
        if self.side_by_side.get(opened.name) is None:
            B, H, T, _ = opened.record.request.query.shape
            if B and T:
                opened.sample = output.detach().reshape(B, H, T, -1)[0, :, -1].clone()

    def end(self) -> None:
        """Tell the open call as far as it is known."""
        self.trails.sweep()
        if self.open is not None:
            opened, self.open = self.open, None
            self.weights.clear()
            self.outputs.clear()
            if self.wanted(opened.name.partition("#")[0]):
                self.keep(self.keeping.hold(self.told(opened)))

    def softmax(self, args: Sequence[Any], gave: Tensor) -> None:
        """The end of a trail, and weights; or a softmax of something else, as long as it is not multiplied with values.
        Raises Unseen."""
        scores = args[0]
        trail = self.trails.get(scores)
        if trail is not None and not trail.flat:
            self.weights.put(gave, self.opened(*self.weighed(trail, args, gave), trail.lines))
        elif scores.dim() > 1 and args[1] % scores.dim() == scores.dim() - 1:
            self.likely.put(gave, self.guessed(trail, args, gave))

    def guessed(self, trail: Trail | None, args: Sequence[Any], gave: Tensor) -> Likely:
        if trail is None:
            return Likely(gave.shape[-1], NO_TRAIL)
        try:
            return Likely(gave.shape[-1], "", (*self.weighed(trail, args, gave), trail.lines))
        except Unseen as why:
            return Likely(gave.shape[-1], str(why))

    def weighed(self, trail: Trail, args: Sequence[Any], gave: Tensor) -> tuple[Sighting, Record]:
        """The call behind a softmax, some of whose rows are compared with what is rebuilt. Raises Unseen."""
        seen = explicit.sighting(trail, args[0], args[1], heads_of(self.running.now))
        record = self.recorded(seen)
        (T, S), way = (
            record.request.query.shape[2:3] + record.request.key.shape[2:3],
            (self.running.now, type(seen.rule), type(seen.bias)),
        )
        count = SAMPLE if way in self.trusted else WHOLE
        self.trusted.add(way)
        some = torch.linspace(0, T - 1, min(T, count)).round().long().to(gave.device)
        found = record.weights(some)
        told = gave.detach().reshape(*seen.query.shape[:3], -1)[:, :, some, :S].to(found.dtype)
        alike = (record.lse[:, :, some, None] == -torch.inf) | (found.isnan() & told.isnan())
        off = float((found - told).masked_fill(alike, 0.0).abs().max())
        if not off <= NEAR[seen.query.dtype]:
            raise Unseen(f"its softmax is not that of its queries and keys (off by {off:.2g})")
        return seen, record

    def summed(self, factors: Sequence[Tensor]) -> None:
        """A product with the outcome of a softmax: if it sums over keys, that was attention. Raises Unseen.

        What classifiers and routers make of a softmax is none: they choose by it, or multiply it with a weight, or for
        one place alone.
        """
        for n, x in enumerate(factors):
            likely, (rows, keys) = self.likely.get(x), (-2, -1) if n == 0 else (-1, -2)
            if likely is None or x.shape[keys] != likely.keys or not self.origin.is_data(factors[1 - n]):
                continue
            if x.shape[rows] > 1 or any(is_attention(entered.module) for entered in self.running.stack[-2:]):
                self.likely.drop(memory(x))
                if n or likely.call is None:
                    raise Unseen(likely.why or NO_TRAIL)
                self.weights.put(x, self.opened(*likely.call))

    def product(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Tensor) -> None:
        """A product of batches: weights times values, or the scores of some attention to come."""
        if name != "baddbmm":
            self.summed(args[:2])
        opened = self.weights.get(args[0]) if name != "baddbmm" else None
        if opened is not None and opened is self.open:
            shape = opened.record.request.key.shape
            value = self.of_keys(opened, args[1].detach()).reshape(*shape[:3], -1)
            opened.sighting = replace(opened.sighting, value=value)
            self.origin.attends(gave, opened.line)
            self.gave(opened, gave)
            return
        trail = explicit.begun(name, args, kwargs)
        if trail is not None:
            lines = self.origin.of(*args[name == "baddbmm" :][:2])
            self.trails.put(gave, replace(trail, lines=lines))

    def of_keys(self, opened: Open, value: Tensor) -> Tensor:
        """The values [..., S, Kv] of a call's keys; what takes weight as a sink has none, or zeros. Raises Unseen."""
        S = opened.record.request.key.shape[2]
        if opened.record.request.sinks is None or value.shape[-2] != S + 1:
            return value
        if bool(value[..., S, :].any()):
            self.open = None
            self.calls.remove(opened.name)
            self.weights.clear()
            raise Unseen(explicit.KEY_OF_ITS_OWN)
        return value[..., :S, :]

    def projection(self, rows: Tensor, weight: Tensor) -> None:
        """A product with a weight: the last of an attention, or one of those that open it."""
        opened = self.outputs.get(rows)
        if opened is not None and opened is self.open and self.is_last(opened, rows, weight):
            last = weight.detach().mT
            if opened.weight is None or opened.weight.data_ptr() == last.data_ptr():
                opened.weight = last
            else:  # which of the two is the last, nobody can tell
                opened.weight = None
                self.outputs.clear()

    def is_last(self, opened: Open, rows: Tensor, weight: Tensor) -> bool:
        """Whether rows [B T, H Kv] are the output of a call, its heads side by side."""
        B, H, T, _ = opened.record.request.query.shape
        value = opened.sighting.value
        if value is None or not tuple(rows.shape) == (B * T, H * value.shape[3]) == (B * T, weight.shape[0]):
            return False
        if opened.sample is not None:  # the first time; where heads stand does not change from run to run
            here, sample = rows.detach()[[T - 1, (T - 1) * B]], opened.sample.reshape(1, -1).to(rows.dtype)
            same = (here == sample) | (here.isnan() & sample.isnan())
            self.side_by_side[opened.name], opened.sample = bool(same.all(1).any()), None
        return self.side_by_side.get(opened.name, True)

    def follow(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], gave: Any, writes: bool) -> None:
        """Keep the trails of scores, of weights and of outputs through what is done to them."""
        made = fused.output(gave)
        if not isinstance(made, Tensor) or made.layout != torch.strided:
            return
        for n, x in enumerate(args[0] if name == "cat" else args[:3]):
            trail = self.trails.get(x)
            if trail is not None:
                if memory(made) != memory(x) or writes or name in explicit.STEPS:
                    self.trails.put(made, explicit.followed(trail, name, args, kwargs, n))
                return
        if writes:  # by out=: what was known of this memory is over
            self.trails.drop(memory(made))
        for marks, steps in ((self.weights, KEEPS), (self.likely, KEEPS), (self.outputs, COPIES)):
            if args and name in steps:
                marks.pass_on(args[0], made)

    def native(self, whole: str, given: Mapping[str, Any], output: Tensor) -> None:
        again = native.read(whole, given, output)
        if again.off > NEAR[again.sighting.query.dtype]:
            raise Unseen(f"run again, its output was off by {again.off:.2g}")
        self.end()
        name = self.running.name(again.below)
        self.calls.append(name)
        self.open = Open(
            name, "self", again.sighting, again.sighting.record(), NONE, again.out_weight, replayed=again.off
        )
        self.end()

    # --- what becomes of it -------------------------------------------------------------------------------------

    def told(self, opened: Open) -> Call:
        """What the level of the recording keeps of a call."""
        record, seen = opened.record, opened.sighting
        statistics = Statistics() if self.observe is None else record.observe(fitting(self.observe, record))
        return Call(
            opened.name, opened.kind, record.kernel, {}, record.lse, self.norms(opened), statistics,
            record.request.without_values() if self.rows else None, opened.replayed, seen.route,
        )  # fmt: skip

    def norms(self, opened: Open) -> Norms:
        """The norms of its values after the last projection, or their own; not known where none came to light."""
        value, request = opened.sighting.value, opened.record.request
        B, H = request.query.shape[:2]
        if value is None:
            return Norms(torch.full((B, H, request.key.shape[2]), torch.nan, device=request.key.device), after=False)
        return self.reach.norms(value, opened.weight, H)

    def before_write(self, place: int) -> None:
        """Tell and keep what lies in memory that is about to be written to."""
        if self.open is not None and self.open.lies_in(place):
            self.end()
        self.keeping.before_write(place)
        for at, trail in self.trails.items():
            self.trails.change(at, trail.apart(place))
        self.outputs.drop(place)

    def miss(self, why: str) -> None:
        self.missed.setdefault(self.running.name().partition("#")[0], why)


@dataclass(frozen=True, eq=False)
class Operation:
    """What an operation of PyTorch's is called, with its library and without, and whether it writes or only views."""

    schema: Any
    whole: str
    name: str
    writes: bool
    views: bool


@cache
def operation(func: Any) -> Operation:
    schema = getattr(func, "_schema", None)
    whole = schema.name if schema is not None else func.name()
    name = whole.rpartition("::")[2].removesuffix("_")
    return Operation(
        schema, whole, name, schema is not None and schema.is_mutable, bool(getattr(func, "is_view", False))
    )


@contextmanager
def views_kept(func: Any) -> Iterator[None]:
    """Let views of parameters know that these learn, as without a mode: products choose their kernel by that."""
    excluded = torch._C._dispatch_tls_is_dispatch_key_excluded(VIEWS)
    torch._C._dispatch_tls_set_dispatch_key_excluded(VIEWS, excluded and makes_views(func))
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(VIEWS, excluded)


@cache
def makes_views(func: Any) -> bool:
    """Whether an operation sees to that itself, after it has passed by."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "ADInplaceOrView")


@cache
def composed(func: Any) -> bool:
    """Whether an operation is made of others and no more: some have a kernel of their own too, and that one runs."""
    if not isinstance(func, torch._ops.OpOverload):
        return False
    made, *own = (
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)
        for key in ("CompositeImplicitAutograd", "CPU", "CUDA")
    )
    return made and not any(own)


def is_projection(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation multiplies rows that lie side by side [..., K] with a weight [D, K], and no more."""
    if func is not LINEAR or kwargs or args[0].dim() < 2 or args[1].dim() != 2:
        return False
    return (
        all(type(x) in (Tensor, nn.Parameter) and x.layout == torch.strided for x in args[:2])
        and args[0].is_contiguous()
    )


def recomputing() -> bool:
    """Whether this is a backward pass, in which checkpointed layers run a second time."""
    return torch._C._current_graph_task_id() != -1


def is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def compiled() -> bool:
    """Whether compiled code makes this call: it reuses memory in ways that nobody is told."""
    frame = sys._getframe(2)
    for _ in range(DEEP):
        if "extern_kernels" in frame.f_globals:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def copied(seen: Sighting) -> Sighting:
    """The same, in memory of its own."""
    value = None if seen.value is None else seen.value.clone()
    return replace(seen, query=seen.query.clone(), key=seen.key.clone(), value=value)


def fitting(observe: Observe, record: Record) -> Observe:
    """No more links than keys."""
    return replace(observe, links=min(observe.links, record.request.key.shape[2]))
