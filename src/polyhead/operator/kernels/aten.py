"""PyTorch's own fused attention below its public function, where the rows' log-sum-exp comes out beside the output.

These operations are private and have moved between releases: they are called from here alone, and one that a release
lacks is as if it could not serve. Forward, each gives the output and the log-sum-exp [B, H, T], float32 (float64 for
float64).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

ops: Any = torch.ops.aten
Call = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, float], tuple[Tensor, Tensor]]


def flash_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """The flash kernel for CPUs: values as wide as keys, a float mask, and a log-sum-exp of 0 in an empty row."""
    return ops._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, attn_mask=mask, scale=scale
    )  # fmt: skip


def flash_on_cpu_backward(
    d_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor,
    mask: Tensor | None, causal: bool, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Its gradients of query, key and value, from any kernel's output and log-sum-exp."""
    return ops._scaled_dot_product_flash_attention_for_cpu_backward(
        d_out, query, key, value, out, lse, 0.0, causal, attn_mask=mask, scale=scale
    )


def flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """FlashAttention-2 on a GPU: no mask, widths that are multiples of 8."""
    assert mask is None
    out, lse, *_ = ops._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
    return out, lse


def cudnn(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """cuDNN's kernel: its log-sum-exp has one more axis, of size 1."""
    out, lse, *_ = ops._scaled_dot_product_cudnn_attention(query, key, value, mask, True, 0.0, causal, scale=scale)
    return out, lse.reshape(query.shape[:3])


def efficient(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """The memory-efficient kernel, the only one of a GPU for float32: rows of tensors and of a float mask must start on
    16 bytes, and its log-sum-exp is as long as a multiple of 32."""
    out, lse, *_ = ops._scaled_dot_product_efficient_attention(query, key, value, mask, True, 0.0, causal, scale=scale)
    return out, lse[..., : query.shape[2]]


CALLS: dict[tuple[str, SDPBackend], tuple[str, Call]] = {
    ("cpu", SDPBackend.FLASH_ATTENTION): ("_scaled_dot_product_flash_attention_for_cpu", flash_on_cpu),
    ("cuda", SDPBackend.FLASH_ATTENTION): ("_scaled_dot_product_flash_attention", flash),
    ("cuda", SDPBackend.CUDNN_ATTENTION): ("_scaled_dot_product_cudnn_attention", cudnn),
    ("cuda", SDPBackend.EFFICIENT_ATTENTION): ("_scaled_dot_product_efficient_attention", efficient),
}


def call_of(device: str, backend: SDPBackend) -> Call | None:
    """The operation behind one of SDPA's backends, or None where this PyTorch has none that tells its log-sum-exp."""
    name, call = CALLS.get((device, backend), ("", None))
    return call if call is not None and hasattr(ops, name) else None


def has_backward() -> bool:
    """Whether `flash_on_cpu_backward` is there."""
    return hasattr(ops, "_scaled_dot_product_flash_attention_for_cpu_backward")


def chosen(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool, scale: float
) -> SDPBackend:
    """The backend that scaled_dot_product_attention would take for these arguments; MATH where it cannot be asked."""
    if not hasattr(torch, "_fused_sdp_choice"):
        return SDPBackend.MATH
    grouped = query.shape[1] != key.shape[1]
    number = torch._fused_sdp_choice(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        query, key, value, mask, dropout, causal, scale=scale, enable_gqa=grouped
    )
    return SDPBackend(number)
