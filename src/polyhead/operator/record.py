"""What one call of the operator leaves behind for a reader: the rows' log-sum-exp, the kernel that ran, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Record:
    """What `attend` tells beside its output. Statistics that `observe` asks for will stand here too.

    lse      [B, H, T] the logarithm of each row's sum of exponentials, sink included, before dropout; float32
             (float64 for float64 inputs); -inf in rows that may look nowhere and have no sink. Exact weights are
             exp(score - lse), see `rows`. A number to read: it carries no gradient.
    kernel   the name of the kernel that computed the output.
    reasons  for each kernel ahead of it in the table, why it could not.
    """

    lse: Tensor
    kernel: str
    reasons: Mapping[str, str]
