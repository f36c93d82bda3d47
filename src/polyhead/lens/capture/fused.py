"""PyTorch's fused attention, as it stands below every public function: what went in, and the row sums that came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from polyhead.lens.capture import masks
from polyhead.lens.capture.sighting import Sighting

Reader = Callable[[Mapping[str, Any], Sequence[Any], int | None], Sighting]


def read(kernel: str, mask: str | None, sums: bool) -> Reader:
    """How a kernel's call is read: under which name it takes a mask, and whether it always tells its row sums."""

    def sighting(given: Mapping[str, Any], gave: Sequence[Any], heads: int | None) -> Sighting:
        query, key, value = (given[name].detach() for name in ("query", "key", "value"))
        written = given[mask] if mask else None
        if packed(query, key, heads):
            query = query.flatten(1, 2)[:, :, None]
            written = written if written is None or written.shape[1] == 1 else written.flatten(1, 2)[:, :, None]
        rule, bias = masks.read(
            written,
            causal=given["is_causal"],
            queries=query.shape[2],
            keys=key.shape[2],
            batch=query.shape[0],
            device=query.device,
        )
        told = sums or given["compute_log_sumexp"]
        return Sighting(
            "fused", kernel, query, key, value,
            scale=query.shape[3] ** -0.5 if given["scale"] is None else given["scale"],
            rule=rule, bias=bias, dropout=given["dropout_p"],
            lse=gave[1].reshape(*query.shape[:2], -1)[..., : query.shape[2]] if told else None,
        )  # fmt: skip

    return sighting


def packed(query: Tensor, key: Tensor, heads: int | None) -> bool:
    """Whether one query of a group of heads is handed in as several queries of one, so that heads seem too few."""
    H, T = query.shape[1:3]
    return T > 1 and H == key.shape[1] and heads == H * T


READERS: dict[str, Reader] = {
    f"aten::{name}": read(name.removeprefix("_scaled_dot_product_"), mask, sums)
    for name, mask, sums in (
        ("_scaled_dot_product_flash_attention_for_cpu", "attn_mask", True),
        ("_scaled_dot_product_flash_attention", None, True),
        ("_scaled_dot_product_efficient_attention", "attn_bias", False),
        ("_scaled_dot_product_cudnn_attention", "attn_bias", False),
        ("_scaled_dot_product_fused_attention_overrideable", "attn_bias", True),
    )
}


def named(schema: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """An operation's arguments by name, those left out as its schema has them."""
    given = {
        one.name: args[i] if i < len(args) else kwargs.get(one.name, one.default_value)
        for i, one in enumerate(schema.arguments)
    }
    return given


def output(gave: Any) -> Any:
    """The first thing that an operation gives, which for attention is its output."""
    return gave[0] if isinstance(gave, Sequence) and gave else gave
