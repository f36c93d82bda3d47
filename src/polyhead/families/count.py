"""A model becomes its costs: parameters by part, bytes, products of numbers; read off its modules, nothing is computed.

A product of a matrix and a vector is 2 operations for each number of the matrix. Attention is 4 K for each head and
each pair of query and key that may look: K multiplications and additions for the score, as many for the sum of values.
Norms, softmax, activations and looking words up are not counted, as papers do not; they are a percent or so.
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

    length: tokens of a full text, 0 for an image. parts: parameters by part. weights: bytes by type of number.
    training: bytes of learning in mixed precision with AdamW, without activations: a copy of the weights in bfloat16,
    one in float32, gradients in bfloat16 (twice that where they are added up in float32), two averages in float32.
    cache_token: bytes that one more token of a text adds to the keys and values kept, in bfloat16; cache: of a full
    text, and of the memory where there is one. work: of each stack. forward: FLOPs of one pass; learning: of the pass
    and its gradients, three times as much. next_word: FLOPs of the last word of a full text, the others kept; 0 where a
    model does not speak.
    """

    length: int
    parts: dict[str, int]
    weights: dict[str, int]
    training: dict[str, int]
    cache_token: int
    cache: int
    work: list[Work]
    forward: int
    learning: int
    next_word: int


DRAWN = (Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_)


class Blank(TorchFunctionMode):
    """Tensors have a shape and no numbers, and nothing is drawn for them."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in DRAWN:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def blank(size: Size) -> tuple[Family, Any]:
    """A model of a published size without its weights: any size fits anywhere."""
    kind = family(size.architecture)
    config = changed(kind.config(), size.settings)
    with torch.device("meta"), Blank():
        return kind, kind.build(config)


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
        work.append(Work("encoder", source, products + alone, looked(encoder, source)))
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
    numbers, forward = sum(p.numel() for p in model.parameters()), sum(each.products + each.looks for each in work)
    token, memory = kept(decoder)
    return Costs(
        length=0 if kind.reads == "image" else n,
        parts=parts(model),
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


def parts(model: nn.Module) -> dict[str, int]:
    """Parameters by part; those that two parts share count in the first of `PARTS` that has them."""
    found = dict.fromkeys(PARTS, 0)
    owned = [(part_of(path, module), p) for path, module in model.named_modules() for p in module._parameters.values()]
    first = {id(p): (part, p.numel()) for part, p in sorted(owned, key=where, reverse=True) if p is not None}
    for part, numbers in first.values():
        found[part] += numbers
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
    return 2 * module.weight.numel() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) else 0


def crossing(stack: nn.Module) -> Iterator[nn.Module]:
    """What reads a memory: keys and values of cross-attention."""
    for layer in stack.modules():
        if isinstance(layer, CrossAttention):
            yield from (layer.key, layer.value)


def products_of(stack: nn.Module) -> int:
    """For each place of the stack's own."""
    of_memory = set(crossing(stack))
    return sum(product(module) for module in stack.modules() if module not in of_memory)


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
    return sum(product(module) for module in head.modules()) * (1 if kind.does in ONCE else n)


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
