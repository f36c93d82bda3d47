"""What packed products need of a machine, as marks of tests."""

from __future__ import annotations

import pytest
from torch import nn

from polyhead.core.packed import packable, why_not_int8
from polyhead.core.panels import multiplies_halves
from polyhead.operator import loops

PANELS = [
    pytest.mark.skipif(not packable(nn.Linear(2, 2)), reason="this PyTorch has no packed products"),
    pytest.mark.skipif(loops.missing() is not None, reason="numba is not here"),
]
INT8 = pytest.mark.skipif(
    why_not_int8(nn.Linear(2, 2)) is not None or not loops.multiplies_bytes(),
    reason="this processor multiplies no bytes by fours",
)
BF16 = pytest.mark.skipif(
    not multiplies_halves() or not loops.multiplies_halves(),
    reason="this processor multiplies no bfloat16 by pairs, or it has AMX",
)
