"""How much each value can move the residual stream: its norm after the output projection, never projected itself.

A large weight on a value that the projection sends to nothing changes nothing (Kobayashi et al. 2020, 2004.10102).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from polyhead.errors import ArgumentError
from polyhead.operator.rules import check_tensor

linalg = cast(Any, torch.linalg)
AT_ONCE = 1 << 20  # numbers that are projected at once


@torch.no_grad()
def value_norms(value: Tensor, output_weight: Tensor) -> Tensor:
    """||W_h v_j|| of every query head h and key j: value [B, G, S, K], output_weight [D, H K] -> [B, H, S].

    `output_weight` is that of the layer's last projection, as `nn.Linear` keeps it: its columns h K to (h + 1) K are
    W_h. Query head h reads value head h // (H / G). Float32, float64 where one of the two is; off by at most 1e-6 of
    ||W_h|| max ||v||, whatever the rank of W_h. A NaN or Inf in a value stays in its own norm. Raises ArgumentError.

    Where W_h^T W_h = L L^T, ||W_h v|| = ||v^T L||, and L is K x K: all costs H K^2 (D + S), not H K D S.
    """
    if check_tensor("value", value).dim() != 4:
        raise ArgumentError(f"value must have 4 axes [B, G, S, K]; found {list(value.shape)}")
    _, G, _, K = value.shape
    if check_tensor("output_weight", output_weight).dim() != 2 or output_weight.shape[1] % (G * K or 1):
        raise ArgumentError(
            f"output_weight must have shape [D, H K] with H a multiple of {G} and K = {K};"
            f" found {list(output_weight.shape)}"
        )
    if not K:
        raise ArgumentError("value must have a width K of at least 1; found 0, as of a record that keeps no values")
    wide = torch.promote_types(torch.promote_types(value.dtype, output_weight.dtype), torch.float32)
    return lengths(value, roots(output_weight, output_weight.shape[1] // K).to(wide))


@torch.no_grad()
def roots(output_weight: Tensor, heads: int) -> Tensor:
    """What the projection does to lengths: [H, K, K] float64, with ||W_h v|| = ||v^T roots_h||."""
    with torch.autocast(output_weight.device.type, enabled=False):
        each = torch.unflatten(output_weight.double(), 1, (heads, -1)).transpose(0, 1)  # [H, D, K]
        return root(each.mT @ each)


@torch.no_grad()
def lengths(value: Tensor, roots: Tensor) -> Tensor:
    """||v^T roots_h|| of every query head and key, in the dtype of the roots: value [B, G, S, K] -> [B, H, S]."""
    B, G, S, K = value.shape
    H = len(roots)
    norms = roots.new_empty(B, H, S)
    most = max(AT_ONCE // max(B * S * K, 1), 1)  # heads at once, so that little more than the answer is in memory
    with torch.autocast(value.device.type, enabled=False):
        for start in range(0, H, most):
            some = slice(start, min(start + most, H))
            read = value[:, some] if G == H else value[:, [h * G // H for h in range(H)[some]]]  # [B, h, S, K]
            norms[:, some] = linalg.vector_norm(read.to(roots.dtype) @ roots[some], dim=-1)
    return norms


def root(gram: Tensor) -> Tensor:
    """L of L L^T = gram [H, K, K]: Cholesky's, or, where some head is short of rank, one from the eigenvalues."""
    lower, failed = linalg.cholesky_ex(gram)
    if not failed.any():
        return lower
    broken = ~gram.isfinite().flatten(1).all(1)[:, None, None]  # of a weight that holds NaN or Inf
    values, vectors = linalg.eigh(gram.masked_fill(broken, 0.0))
    return (vectors * values.clamp(min=0).sqrt()[:, None]).masked_fill(broken, torch.nan)
