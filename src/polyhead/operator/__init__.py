"""Multi-head attention itself, without parameters: queries, keys and values enter; outputs and records leave.

attend.py   the public functions          rules.py    masks and biases as values
request.py  the door: checked arguments   record.py   what a call leaves behind
kernels/    the table of kernels          cache.py    keys and values already computed
"""

from polyhead.operator.answers import Links, Statistics
from polyhead.operator.attend import attend, attention, explain, rows
from polyhead.operator.cache import Cache
from polyhead.operator.kernels import Explanation
from polyhead.operator.observe import Observe
from polyhead.operator.record import Record
from polyhead.operator.rules import (
    Alibi,
    Bias,
    Buckets,
    Causal,
    Dense,
    DenseBias,
    Keys,
    Lengths,
    MaskMod,
    Prefix,
    Rule,
    ScoreMod,
    Segments,
    Window,
)

__all__ = [
    "Alibi",
    "Bias",
    "Buckets",
    "Cache",
    "Causal",
    "Dense",
    "DenseBias",
    "Explanation",
    "Keys",
    "Lengths",
    "Links",
    "MaskMod",
    "Observe",
    "Prefix",
    "Record",
    "Rule",
    "ScoreMod",
    "Segments",
    "Statistics",
    "Window",
    "attend",
    "attention",
    "explain",
    "rows",
]
