"""Multi-head attention itself, without parameters: queries, keys and values enter; outputs and records leave.

attend.py    the public functions           rules.py    masks and biases as values
request.py   the door: checked arguments    cache.py    keys and values already computed
kernels/     the table of kernels           norms.py    how long values are after the output projection
observe.py   what is asked of the weights   answers.py  what was found out
statistics/  ways to find it out            record.py   what a call leaves behind; record_file.py as a file
loops/       kernel and statistics in one   paged.py    a cache in blocks that many sequences share
             look, compiled for a CPU
"""

from polyhead.operator.answers import Links, Statistics
from polyhead.operator.attend import attend, attention, explain, rows
from polyhead.operator.cache import Cache
from polyhead.operator.kernels import Explanation
from polyhead.operator.observe import Observe
from polyhead.operator.paged import Pages, Pool, Table
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
    "Pages",
    "Pool",
    "Prefix",
    "Record",
    "Rule",
    "ScoreMod",
    "Segments",
    "Statistics",
    "Table",
    "Window",
    "attend",
    "attention",
    "explain",
    "rows",
]
