"""`with watch(model) as recording: model(...)`: the same kernels compute the same bits, and their calls are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from polyhead.core.attention import Attention, CrossAttention
from polyhead.core.run import watching
from polyhead.errors import ArgumentError, did_you_mean
from polyhead.lens.backward import Backward
from polyhead.lens.budget import Purse
from polyhead.lens.capture.inventory import attentions
from polyhead.lens.capture.kept import Held
from polyhead.lens.capture.onlooker import Onlooker, recomputing
from polyhead.lens.inputs import Inputs, settled, signed_sums
from polyhead.lens.reach import Reach
from polyhead.lens.recording import LEVELS, Call, Level, Recording
from polyhead.operator import Observe, Record, Statistics, attend, attention
from polyhead.operator.request import Request, frame_of

SUMMARY = Observe(entropy=True, received=True, mean_map=(64, 64))


@dataclass(eq=False)
class Watcher:
    """The observer behind `watch`: it names each call by the module that made it, and keeps what its level asks."""

    names: Mapping[nn.Module, str]
    keep: Callable[[Call], object]
    level: Level = "rows"
    observe: Observe | None = None
    read: dict[nn.Module, dict[str, Tensor]] = field(default_factory=dict[nn.Module, dict[str, Tensor]])
    open: dict[nn.Module, Call] = field(default_factory=dict[nn.Module, Call])  # until their outputs are known
    outer: Watcher | None = None  # who looked on already when this one came
    reach: Reach = field(default_factory=Reach)
    attending: bool = False  # whether a call is being computed that will be told
    gradients: bool = False  # whether backward passes are listened to
    silent: dict[nn.Module, list[Call]] = field(default_factory=dict[nn.Module, list[Call]])  # made no graph, yet

    def see(self, at: nn.Module, place: str, x: Tensor) -> Tensor:
        if self.outer is not None:
            self.outer.see(at, place, x)
        if self.level == "inputs" and getattr(at, "original", at) in self.names and not recomputing():
            if place == "x":
                self.read[at] = {}
            if place == "x" or place in getattr(at, "reads", ()):
                self.read[at][place] = x.detach()
            if place == "out" and at in self.open:
                self.finish(self.open.pop(at), x)
        return x

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        watchers = [each for each in self.all() if getattr(at, "original", at) in each.names]
        if not watchers:  # another model's
            return attention(query, key, value, **how)
        for each in watchers:
            each.fits(at, query, key)
            if each.gradients and how.get("dropout"):
                raise ArgumentError(
                    f"{each.names[getattr(at, 'original', at)]} drops some weights out, so that gradients of the others"
                    " are not those of what is shown; call model.eval() first, or watch without gradients"
                )
        first, *others = watchers
        self.attending = True
        try:
            output, record = attend(query, key, value, **how, observe=first.asked(key.shape[2]))
        finally:
            self.attending = False
        record = record.detached()
        if recomputing():  # a checkpointed layer, in a backward pass: its call is kept already
            for each in watchers:
                each.again(at, record, output)
            return output
        first.note(at, record, output)
        for each in others:
            observe = each.asked(key.shape[2])
            told = Statistics() if observe is None else record.observe(observe)
            each.note(at, replace(record, statistics=told), output)
        return output

    def busy(self) -> bool:
        """Whether the attention that is computed now is told by a watcher."""
        return any(each.attending for each in self.all())

    def fits(self, at: nn.Module, query: Tensor, key: Tensor) -> None:
        """Refuse, by the name of the layer, a wish that the map of this call cannot give."""
        observe = self.asked(key.shape[2])
        if observe is None:
            return
        try:
            observe.check(frame_of(query, key, None))
        except ArgumentError as refused:
            raise ArgumentError(
                f"{self.names[getattr(at, 'original', at)]} cannot tell what is observed: {refused}"
            ) from None

    def all(self) -> list[Watcher]:
        """This one, and those who looked on already."""
        return [self, *([] if self.outer is None else self.outer.all())]

    def note(self, at: nn.Module, record: Record, output: Tensor) -> None:
        """Keep of a call of this layer what the level asks."""
        layer = getattr(at, "original", at)
        name, query, value = self.names[layer], record.request.query, record.request.value
        kind = "cross" if isinstance(layer, CrossAttention) else "self"
        norms = self.reach.norms(value, getattr(getattr(layer, "out", None), "weight", None), query.shape[1])
        call = Call(name, kind, record.kernel, record.reasons, record.lse, norms, record.statistics, None)
        match self.level:
            case "summary":
                self.keep(call)
            case "rows":
                kept = replace(record.request.without_values(), bias=settled(record.request.bias))
                call = replace(call, kept=kept, backward=Backward(value).follow(output) if self.gradients else None)
                if call.backward is not None and not call.backward.coming:
                    self.silent.setdefault(layer, []).append(call)
                self.keep(call)
            case "inputs":
                self.open[at] = replace(call, kept=self.inputs(at, name, record))

    def again(self, at: nn.Module, record: Record, output: Tensor) -> None:
        """Hear the gradients of a call that was kept when it made no graph: a reentrant checkpoint makes it only now.

        It is the one of the same queries, keys and values; of several, which a backward pass meets from the last to the
        first, one that was not met yet.
        """
        calls = self.silent.get(getattr(at, "original", at), [])
        met = next((n for n in reversed(range(len(calls))) if same(calls[n], record)), None)
        if met is not None and output.requires_grad:
            call = calls.pop(met)
            calls.insert(0, call)
            cast(Backward, call.backward).follow(output)

    def asked(self, keys: int) -> Observe | None:
        """What is observed of a call with so few keys: it has no more links than keys."""
        return None if self.observe is None else replace(self.observe, links=min(self.observe.links, keys))

    def inputs(self, at: nn.Module, name: str, record: Record) -> Inputs:
        """What the layer read, its output still to come."""
        if at not in self.read:
            raise ArgumentError(f"{name} does not show what it reads; record it with level='rows'")
        tensors, request = self.read.pop(at), record.request
        device, x = request.query.device.type, tensors["x"]
        return Inputs(
            tensors,
            rule=request.rule,
            bias=settled(request.bias) or request.score_mod,
            dropout=request.dropout,
            earlier=0 if "memory" in tensors else request.key.shape[2] - x.shape[1],
            autocast=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None,
            sums=x.new_empty(0),
        )

    def finish(self, call: Call, output: Tensor) -> None:
        """Keep a call whose layer has ended."""
        self.keep(replace(call, kept=replace(cast(Inputs, call.kept), sums=signed_sums(output))))


def same(call: Call, record: Record) -> bool:
    """Whether a record is of queries, keys and values whose call was kept, bit by bit."""
    kept, heard, request = cast(Request, call.kept), cast(Backward, call.backward), record.request
    pairs = (kept.query, request.query), (kept.key, request.key), (heard.value, request.value)
    return all(torch.equal(x, y) for x, y in pairs)


@contextmanager
def watch(
    model: nn.Module,
    *,
    level: Level = "rows",
    observe: Observe | None = None,
    into: str | Path | None = None,
    layers: str | Sequence[str] | None = None,
    budget: int | None = None,
    gradients: bool = False,
) -> Iterator[Recording]:
    """Record every attention call of a model that runs inside the block, polyhead's or anybody's.

    Yields the Recording, filled as the model runs. Outputs, gradients and random state are bit for bit those of an
    unwatched run: attention stays on its kernel. A model that is not polyhead's is seen where PyTorch computes:
    F.scaled_dot_product_attention, nn.MultiheadAttention, nn.Transformer and their fast paths, FlexAttention, and a
    softmax that somebody wrote out, also inside torch.compile. What ran and could not be seen is `recording.missed`.

    level    how much to keep of each call. All keep the rows' log-sum-exp, the norms of the values after the output
             projection, and what `observe` asks for.
             "rows": queries, keys and rules too, so that every weight can be had exactly later.
             "summary": nothing else; without `observe`, entropy, received weight and a 64 x 64 map.
             "inputs": what each layer of a polyhead model read, from which `recording.replay` runs it again.
    observe  statistics that are told in the run; of a call with few keys, no more links than keys.
    into     a file that calls are written to as they are made, so that memory does not grow with the run. It appears,
             and the calls can be read, when the block ends well; a run that fails or is killed leaves none.
    layers   only attention of these names, such as "encoder.*" or ["*.0.attn", "*.1.attn"].
    gradients  listen to backward passes too, inside the block or after it, so that `call.gradients` can be had: values
             and gradients of outputs are kept, about as much as queries and keys. polyhead's own models only.
    budget   bytes that calls may take in memory. When the first call shows that they would take more, the run stops
             before it goes on, with what they would take.

    Raises ArgumentError, also where nothing was there to record, where calls would take more than `budget`, and, with
    `into`, where a rule is code; and for `into` WriteError.
    """
    check_wishes(model, level, observe, budget)
    check_gradients(gradients, level, into)
    chosen = (layers,) if isinstance(layers, str) else layers

    def wanted(name: str) -> bool:
        return chosen is None or any(fnmatchcase(name, pattern) for pattern in chosen)

    names = {module: name for name, module in model.named_modules() if wanted(name)}
    looking = [module for module, name in attentions(model).items() if wanted(name)]
    theirs = not looking or not all(isinstance(module, Attention) for module in looking)
    observe = SUMMARY if observe is None and level == "summary" else observe
    recording = Recording(level, model=model)
    purse = Purse(budget, len(looking))
    from polyhead.lens.recording_file import Writer, load

    with ExitStack() as stack:
        writer = None if into is None else stack.enter_context(Writer(Path(into)))

        def hold(held: Held) -> None:
            name = held.call.name
            if writer is not None:
                writer.add(held.call)
                recording.entries.append((name, unfinished(name, writer.path)))
            else:
                purse.pay(held.call)
                recording.entries.append((name, lambda: held.call))

        with ExitStack() as eyes:
            watcher = Watcher(
                names, lambda call: hold(Held(call)), level, observe, reach=Reach.of_model(model), gradients=gradients
            )
            eyes.enter_context(shown(watcher))
            if theirs and level != "inputs":  # there is no running a layer of theirs again
                onlooker = Onlooker(
                    model, hold, rows=level == "rows", observe=observe, wanted=wanted, elsewhere=watcher.busy
                )
                eyes.enter_context(onlooker.looking_on(recording.missed))
            yield recording
        check(recording, model)
        if gradients:
            check_followed(recording)
        if writer is not None:
            writer.finish(recording)
            recording.entries = load(writer.path).entries


def check_wishes(model: object, level: str, observe: object, budget: object) -> None:
    """Refuse what nobody can mean."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a model, such as polyhead.load('zh-en').model; found {model!r}")
    if level not in LEVELS:
        raise ArgumentError(f"level must be one of {', '.join(LEVELS)}; found {level!r}.{did_you_mean(level, LEVELS)}")
    if not isinstance(observe, Observe | None):
        raise ArgumentError(f"observe must be an Observe, such as Observe(links=8), or None; found {observe!r}")
    if budget is not None and not (type(budget) is int and budget > 0):
        raise ArgumentError(
            f"budget must be a number of bytes above 0, such as 2_000_000_000, or None; found {budget!r}"
        )


def check_gradients(gradients: object, level: str, into: object) -> None:
    """Refuse gradients where there would be nothing to multiply them with, or no place to put them."""
    if not isinstance(gradients, bool):
        raise ArgumentError(f"gradients must be True or False; found {gradients!r}")
    if gradients and level != "rows":
        raise ArgumentError(f"gradients are of exact weights, which level='{level}' does not keep; use level='rows'")
    if gradients and into is not None:
        raise ArgumentError(
            "gradients come after the calls, when these lie in a file already; leave out into=, and call"
            " recording.save when the backward pass is over"
        )


def check_followed(recording: Recording) -> None:
    """Refuse to wait for gradients that cannot come."""
    heard = [call.backward for call in recording]
    if not any(heard):
        raise ArgumentError(
            "gradients of weights are told by polyhead's own layers, and none of these ran; watch without gradients"
        )
    if not any(each.coming for each in heard if each is not None):
        raise ArgumentError(
            "no gradient can come, for the model ran without: not within torch.no_grad or torch.inference_mode, and"
            " some parameter before the attention must require gradients; under checkpoints with use_reentrant=True,"
            " call backward() inside the block"
        )


def check(recording: Recording, model: nn.Module) -> None:
    """Refuse a recording of nothing, which nobody wants."""
    if not recording.entries:
        raise ArgumentError(
            f"nothing was recorded: {type(model).__name__} made no attention call that can be seen inside the block"
            f"{recording.lacking()}; watch the model that runs there, in the thread that runs it"
            + (", and models that are not polyhead's with level='rows'" if recording.level == "inputs" else "")
        )


@contextmanager
def shown(watcher: Watcher) -> Iterator[None]:
    """Let a watcher look on, beside those who do already."""
    outer = watching.get()
    if not isinstance(outer, Watcher | None):
        raise ArgumentError(f"somebody else looks on already, a {type(outer).__name__}; watch outside of its block")
    watcher.outer = outer
    token = watching.set(watcher)
    try:
        yield
    finally:
        watching.reset(token)


def unfinished(name: str, path: Path) -> Callable[[], Call]:
    """The way to a call that lies in a file without a head."""

    def read() -> Call:
        raise ArgumentError(f"{name} goes to {path}, which can be read when the block of `watch` has ended well")

    return read
