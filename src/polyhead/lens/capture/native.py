"""PyTorch's fast paths of nn.MultiheadAttention and nn.TransformerEncoderLayer: queries and keys are made once more.

They compute a whole layer in one operation that shows no queries. What it read is known, and so are its weights: the
same products give them again, and some rows of the output say how far these are from what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polyhead.lens.capture import masks
from polyhead.lens.capture.sighting import NOTHING, Sighting, Unseen
from polyhead.operator import Dense, Rule, rows

SAMPLE = 4  # rows of each sequence, which the output is made of again

READS = ("aten::_native_multi_head_attention", "aten::_transformer_encoder_layer_fwd")


@dataclass(frozen=True, eq=False)
class Again:
    """A call whose queries and keys were made again: below the layer's name, its weight of the last projection, and how
    far its output was off, relative to the largest row."""

    sighting: Sighting
    below: str
    out_weight: Tensor
    off: float


def padded(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A tensor [B, T, D], and which of its rows there are [B, T] where it was nested."""
    if not x.is_nested:
        return x, None
    lengths = torch.tensor([len(each) for each in x.unbind()], device=x.device)
    whole = torch.nested.to_padded_tensor(x, 0.0)
    return whole, torch.arange(whole.shape[1], device=x.device) < lengths[:, None]


def read(name: str, given: Mapping[str, Any], output: Tensor) -> Again:
    """The call behind one of the two operations. Raises Unseen."""
    layer = name == "aten::_transformer_encoder_layer_fwd"
    x, there = padded(given["src" if layer else "query"].detach())
    if not x.numel():
        raise Unseen(NOTHING)
    heads = given["num_heads" if layer else "num_head"]
    read = norm(x, given, 1) if layer and given["norm_first"] else x
    query, key, value = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in F.linear(read, given["qkv_weight"].detach(), given["qkv_bias"].detach()).chunk(3, -1)
    )
    scale = query.shape[3] ** -0.5
    rule = visible(given, there, query.shape[2])
    kernel = name.removeprefix("aten::_")
    sighting = Sighting("native", kernel, query, key, value, scale, rule)
    made, wanted = outcome(sighting, x, given, layer), padded(output.detach())[0]
    some = sample(x.shape[1])
    found, wanted = made(some), wanted[:, some]
    if there is not None:
        found, wanted = found[there[:, some]], wanted[there[:, some]]
    size = wanted.square().mean(-1).sqrt().max()
    off = float((found - wanted).square().mean(-1).sqrt().max() / size) if size else 0.0
    return Again(sighting, "self_attn" if layer else "", given["proj_weight"].detach(), off)


def visible(given: Mapping[str, Any], there: Tensor | None, queries: int) -> Rule | None:
    """Who may look at whom; in these masks True hides, and floats are added."""
    rule = None if there is None else Dense(there[:, None, None])
    mask, kind = given["mask"], given["mask_type"]
    if mask is None:
        return rule
    mask = mask.detach()
    hidden = mask if mask.dtype == torch.bool else mask <= masks.FAR
    if mask.dtype != torch.bool and bool(mask.masked_fill(hidden, 0.0).any()):
        raise Unseen("its mask holds numbers that neither hide nor show")
    match kind:
        case 0:
            hidden = hidden[None, None]
        case 1:
            hidden = hidden[:, None, None]
        case _:
            pass
    return masks.merged(rule, masks.visible_as_rule(~hidden, queries, queries))


def norm(x: Tensor, given: Mapping[str, Any], n: int) -> Tensor:
    weight, bias = (given[f"norm_{what}_{n}"].detach() for what in ("weight", "bias"))
    return F.layer_norm(x, x.shape[-1:], weight, bias, given["eps"])


def sample(n: int) -> Tensor:
    return torch.linspace(0, n - 1, min(n, SAMPLE)).round().long()


def outcome(sighting: Sighting, x: Tensor, given: Mapping[str, Any], layer: bool) -> Any:
    """How some rows of the output come out of the queries and keys."""
    record = sighting.record()
    value = sighting.value
    assert value is not None

    def made(some: Tensor) -> Tensor:
        weights = rows(sighting.query, sighting.key, record.lse, sighting.rule, some, scale=sighting.scale)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        out = F.linear(mixed, given["proj_weight"].detach(), given["proj_bias"].detach())
        if not layer:
            return out
        out = x[:, some] + out
        out = out if given["norm_first"] else norm(out, given, 1)
        inner = norm(out, given, 2) if given["norm_first"] else out
        up = F.linear(inner, given["ffn_weight_1"].detach(), given["ffn_bias_1"].detach())
        up = F.gelu(up) if given["use_gelu"] else F.relu(up)
        out = out + F.linear(up, given["ffn_weight_2"].detach(), given["ffn_bias_2"].detach())
        return out if given["norm_first"] else norm(out, given, 2)

    return made
