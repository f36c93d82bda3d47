"""A model becomes its costs: parameters by part, bytes, products of numbers; read off its modules, nothing is computed.

A product of a matrix and a vector is 2 operations for each number of the matrix. Attention is 4 K for each head and
each pair of query and key that may look: K multiplications and additions for the score, as many for the sum of values.
Norms, softmax, activations and looking words up are not counted, as papers do not; they are a percent or so. Of a
layer's experts, those count that a token goes to, as if none were dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polyhead.core import Stack
from polyhead.core.attention import Attention, CrossAttention
from polyhead.core.experts import Mixture, Router, sketched
from polyhead.errors import ArgumentError
from polyhead.families import Family, family
from polyhead.families.sizes import Size
from polyhead.operator import Rule
from polyhead.operator.rules import Frame

PARTS: tuple[str, ...] = ("embedding", "attention", "mlp", "norms", "head")
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}  # of one number
#  bytes of one parameter in mixed precision with AdamW (Rajbhandari et al. 2020, section 3.1)
MIXED = {"weights, bfloat16": 2, "weights, float32": 4, "gradients, bfloat16": 2, "AdamW's averages, float32": 8}
CACHED = 2  # bytes of one number of a cache: bfloat16
ONCE = ("labels", "image labels", "shared vector")  # what a head says of a whole input; "vectors" leave it unused
UNUSED = ("vectors", "image vectors")
ENDLESS = 512  # tokens of a text, where neither the family nor a size says how many are read


@dataclass(frozen=True)
class Work:
    """Operations of one stack, with its embedding and its head, over one full input of so many places. Of two towers,
    the text's multiplies both vectors.

    looks: of attention itself, scores and sums; products: of everything that is multiplied by weights. What a decoder
    makes once of each place of a memory, keys and values, is among the products of the encoder.
    """

    stack: str
    places: int
    products: int
    looks: int


@dataclass(frozen=True)
class Costs:
    """What a model takes. Bytes, and floating-point operations (FLOPs) over one full input.

    length: tokens of a full text, 0 for an image. parts: parameters by part. active: those that have a part in one
    token, fewer than all where it goes to a few of many experts. weights: bytes by type of number.
    training: bytes of learning in mixed precision with AdamW, without activations: a copy of the weights in bfloat16,
    one in float32, gradients in bfloat16 (twice that where they are added up in float32), two averages in float32.
    cache_token: bytes that one more token of a text adds to the keys and values kept, in bfloat16; cache: of a full
    text, and of the memory where there is one. work: of each stack. forward: FLOPs of one pass; learning: of the pass
    and its gradients, three times as much. next_word: FLOPs of the last word of a full text, the others kept; 0 where a
    model does not speak.
    """

    length: int
    parts: dict[str, int]
    active: int
    weights: dict[str, int]
    training: dict[str, int]
    cache_token: int
    cache: int
    work: list[Work]
    forward: int
    learning: int
    next_word: int


@dataclass(frozen=True)
class Spread:
    """A model with experts over so many devices: its experts are shared out, all else is on each of them.

    experts: of one layer, on the fullest device. parameters: on it. weights: their bytes in bfloat16. training: bytes
    of learning, as in `Costs`. sent: bytes, in bfloat16, of the vectors that one token of a stack sends to experts on
    other devices and gets back in one pass, where every device has as many tokens and every expert gets as many;
    learning sends as many again for gradients (Lepikhin et al. 2020, section 3.2).
    """

    devices: int
    experts: int
    parameters: int
    weights: int
    training: int
    sent: dict[str, int]


DRAWN = (Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_)


class Blank(TorchFunctionMode):
    """Tensors have a shape and no numbers, and nothing is drawn for them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in DRAWN:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def blank(size: Size) -> tuple[Family, Any]:
    """A model of a published size without its weights, one expert of a layer for all: any size fits anywhere."""
    kind = family(size.architecture)
    config = changed(kind.config(), size.settings)
    token = sketched.set(True)
    try:
        with torch.device("meta"), Blank():
            return kind, kind.build(config)
    finally:
        sketched.reset(token)


def changed(config: Any, settings: Mapping[str, Any]) -> Any:
    """A config with other settings, those of an inner config as a dict of its own."""
    return replace(
        config,
        **{name: changed(getattr(config, name), x) if isinstance(x, dict) else x for name, x in settings.items()},
    )


def costs(kind: Family, model: Any, *, length: int | None = None) -> Costs:
    """The costs of a built model, with weights or without, that reads texts of `length` tokens (None: as many as it
    has places). Raises ArgumentError for a length that it cannot read."""
    n, source = places(kind, model, length)
    encoder: Stack | None = getattr(model, "encoder", None)
    decoder: Stack | None = getattr(model, "decoder", None)
    work: list[Work] = []
    if encoder is not None:
        embed = model.source if decoder is not None else model.embed
        made = sum(product(m) for m in crossing(decoder)) if decoder is not None else 0
        products = products_of(encoder) * source + made * source + embedded(embed, source)
        alone = 0 if decoder is not None else headed(kind, model.head, source)
        work.append(Work("encoder", source, products + alone, looked(encoder, source) + probed(model.head, source)))
    for reads, architecture in kind.towers.items():
        tower = costs(family(architecture), getattr(model, reads), length=n if reads == "text" else None)
        vectors = 2 * model.config.d_shared if reads == "text" else 0
        work += [replace(one, stack=reads, products=one.products + vectors) for one in tower.work]
    last = 0
    if decoder is not None:
        embed = model.target if encoder is not None else model.embed
        word = embedded(embed, 1) + products_of(decoder) + headed(kind, model.head, 1)
        across = sum(4 * queries(layer) * source for layer in decoder.modules() if isinstance(layer, CrossAttention))
        work.append(Work("decoder", n, word * n, looked(decoder, n) + across * n))
        last = word + looked(decoder, n) - looked(decoder, n - 1) + across
    of_parts, forward = parts(model), sum(each.products + each.looks for each in work)
    numbers, (token, memory) = sum(of_parts.values()), kept(decoder)
    return Costs(
        length=0 if kind.reads == "image" else n,
        parts=of_parts,
        active=numbers - sum((mixture.how.n - mixture.how.per_token) * one_of(mixture) for mixture in mixtures(model)),
        weights={name: numbers * size for name, size in BYTES.items()},
        training={name: numbers * size for name, size in MIXED.items()},
        cache_token=token * CACHED,
        cache=(token * n + memory * source) * CACHED,
        work=work,
        forward=forward,
        learning=3 * forward,
        next_word=last,
    )


def places(kind: Family, model: Any, length: int | None) -> tuple[int, int]:
    """How many places the text side and the source side of one full input have; the same where there is one side."""
    if kind.reads == "image":
        if length is not None:
            raise ArgumentError("length counts the tokens of a text; this model reads images, which have one size")
        n = model.embed.positions.shape[-2]
        return n, n
    config: Any = model.config
    most = config.max_len
    endless = "max_len" not in config.__dataclass_fields__ and not kind.towers
    n = length if length is not None else ENDLESS if endless else most
    if isinstance(n, bool) or not 0 < n <= most:
        raise ArgumentError(f"length must be a whole number from 1 to {most}, the places of this model; found {n!r}")
    return n, config.n_frames if kind.reads == "sound" else n


def spread(model: Any, devices: int) -> Spread:
    """What one of so many devices holds and sends. Raises ArgumentError for a model without experts, and for more
    devices than a layer has experts."""
    layers = mixtures(model)
    if not layers:
        raise ArgumentError("devices share out the experts of a model; this one has none")
    n = layers[0].how.n
    if isinstance(devices, bool) or not 0 < devices <= n:
        raise ArgumentError(f"devices must be a whole number from 1 to {n}, the experts of a layer; found {devices!r}")
    held = -(-n // devices)
    numbers = sum(parts(model).values()) - sum((n - held) * one_of(layer) for layer in layers)
    stacks = {name: stack for name in ("encoder", "decoder") if (stack := getattr(model, name, None))}
    return Spread(
        devices=devices,
        experts=held,
        parameters=numbers,
        weights=numbers * BYTES["bfloat16"],
        training=numbers * sum(MIXED.values()),
        sent={name: exchanged(stack) * (devices - 1) // devices for name, stack in stacks.items()},
    )


def exchanged(stack: nn.Module) -> int:
    """Bytes of the vectors that go from one token to its experts and back."""
    return sum(2 * each.how.per_token * each.router.weight.shape[1] * BYTES["bfloat16"] for each in mixtures(stack))


def mixtures(model: nn.Module) -> list[Mixture]:
    return [module for module in model.modules() if isinstance(module, Mixture)]


def one_of(mixture: Mixture) -> int:
    """Parameters of one expert; all of a layer are alike."""
    return sum(p.numel() for p in mixture.experts[0].parameters())


def times(model: nn.Module) -> dict[int, int]:
    """How often a parameter is there, by its id: those of an expert that stands for all in a blank model, often."""
    layers = ((layer, layer.how.n // len(layer.experts)) for layer in mixtures(model))
    return {id(p): n for layer, n in layers for p in layer.experts.parameters()}


def named_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by its name, those of experts that another one stands for too."""
    often = times(model)
    for name, parameter in model.named_parameters():
        for e in range(often.get(id(parameter), 1)):
            yield name.replace(".experts.0.", f".experts.{e}.") if e else name, parameter


def parts(model: nn.Module) -> dict[str, int]:
    """Parameters by part; those that two parts share count in the first of `PARTS` that has them."""
    found, often = dict.fromkeys(PARTS, 0), times(model)
    owned = [(part_of(path, module), p) for path, module in model.named_modules() for p in module._parameters.values()]
    first = {id(p): (part, p.numel()) for part, p in sorted(owned, key=where, reverse=True) if p is not None}
    for key, (part, numbers) in first.items():
        found[part] += numbers * often.get(key, 1)
    return found


def where(owned: tuple[str, object]) -> int:
    return PARTS.index(owned[0])


def part_of(path: str, module: nn.Module) -> str:
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return "norms"
    first, *rest = path.split(".")
    if first in ("text", "image"):  # a tower
        first, *rest = rest
    if first in ("embed", "source", "target", ""):
        return "embedding"
    return "head" if first == "head" else "mlp" if "mlp" in rest else "attention"


def product(module: nn.Module) -> int:
    """Operations of a linear layer or a convolution for each place that it writes."""
    return 2 * module.weight.numel() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | Router) else 0


def crossing(stack: nn.Module) -> Iterator[nn.Module]:
    """What reads a memory: keys and values of cross-attention."""
    for layer in stack.modules():
        if isinstance(layer, CrossAttention):
            yield from (layer.key, layer.value)


def products_of(stack: nn.Module) -> int:
    """For each place of the stack's own, which goes to a few of the experts."""
    layers = mixtures(stack)
    apart = {*crossing(stack), *(module for layer in layers for module in layer.experts.modules())}
    experts = sum(layer.how.per_token * sum(map(product, layer.experts[0].modules())) for layer in layers)
    return experts + sum(product(module) for module in stack.modules() if module not in apart)


def embedded(embed: nn.Module, n: int) -> int:
    """Of what makes n vectors: a product for each, patches of an image, which the first vectors are not, or two
    convolutions of a sound, the first of which writes two columns for each place."""
    sound = [product(module) for module in embed.modules() if isinstance(module, nn.Conv1d)]
    if sound:
        return (2 * sound[0] + sound[1]) * n
    firsts = sum(getattr(embed, name, None) is not None for name in ("first", "second"))
    return sum(product(module) for module in embed.modules()) * (n - firsts)


def headed(kind: Family, head: nn.Module, n: int) -> int:
    """Of the head, over n places."""
    if kind.does in UNUSED:
        return 0
    of_places, whole = set(crossing(head)), kind.does in ONCE
    return sum(product(module) * (n if module in of_places or not whole else 1) for module in head.modules())


def probed(head: nn.Module, n: int) -> int:
    """Operations of attention itself in a head that looks at n places by a probe."""
    return sum(4 * queries(layer) * n for layer in head.modules() if isinstance(layer, CrossAttention))


def queries(layer: Attention) -> int:
    """H K: how many numbers of queries a place has."""
    return layer.query.out_features


def looked(stack: Stack, n: int) -> int:
    """Operations of attention itself in all layers over a text of n places."""
    pairs = {rule: seen(rule, n) for rule in set(stack.rules)}
    layers: Any = zip(stack.blocks, stack.rules, strict=True)
    return sum(4 * queries(block.attn) * pairs[rule] for block, rule in layers)


def seen(rule: Rule | None, n: int) -> int:
    """Of n queries on n keys, how many pairs may look."""
    if rule is None:
        return n * n
    frame = Frame(1, 1, n, n, 0, torch.device("cpu"))
    spans = rule.interval(frame, range(n))
    if spans is None:
        tile = rule.visible(frame, range(n), range(n))
        return n * n if tile is None else int(tile.expand(1, 1, n, n).sum())
    low, high = (bound.clamp(0, n) for bound in spans)
    return int((high - low).clamp(min=0).sum())


def kept(decoder: nn.Module | None) -> tuple[int, int]:
    """Numbers of keys and values that a decoder keeps: of each token of its text, and of each place of its memory."""
    own = memory = 0
    for layer in decoder.modules() if decoder is not None else ():
        if isinstance(layer, CrossAttention):
            memory += 2 * layer.key.out_features
        elif isinstance(layer, Attention):
            own += 2 * layer.key.out_features
    return own, memory
