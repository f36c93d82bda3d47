"""The numbers of heads for the page's atlas: those of `polyhead heads`, of every row, or of some rows of a long map.

What each number says, and which rows count, is told in lens/roles.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from polyhead.lens.recording import Call
from polyhead.lens.roles.axis import Axis
from polyhead.lens.roles.measure import measure
from polyhead.lens.roles.metrics import Metric, chosen

LOOKED_AT = 1 << 24  # weights of all heads of a call that are looked at, every one
ANY = ("confidence", "keys", "evenness", "sink", "special")
LINE = ("previous", "next", "itself", "local", "distance")
WORDS = ("duplicate", "prefix", "delimiter")
GRID = ("dx", "dy", "spread", "row", "column", "diagonal")


def metrics_for(kinds: Collection[str], parts: Collection[str]) -> tuple[Metric, ...]:
    """The metrics that there may be where axes are of these kinds of rulers, and calls of these parts."""
    keys = [*ANY, *LINE]
    keys += WORDS if "words" in kinds else ()
    keys += GRID if "patches" in kinds else ()
    keys += ["alignment"] if "cross" in parts else []
    return chosen(keys)


@dataclass(frozen=True, eq=False)
class Asked:
    """A call, the axes of its queries and keys, and which sequence of its batch is shown."""

    call: Call
    rows: Axis
    columns: Axis
    row: int

    @property
    def short(self) -> bool:
        """Whether every weight of it is looked at."""
        _, H, T = self.call.lse.shape
        return H * T * self.call.norms.values.shape[2] <= LOOKED_AT


def of_every_row(asked: Asked) -> dict[str, Tensor]:
    """The metrics of all heads of a call by key, [H] each."""
    own, _ = measure(asked.call, [asked.rows], [asked.columns])
    return {key: x[asked.row] for key, x in own.numbers.items()}


def of_some_rows(asked: Asked, p: Tensor, seen: Tensor, rows: Tensor) -> dict[str, float]:
    """Those metrics of a head that some exact rows p [t, S] of the queries `rows`, which may look at `seen`, tell."""
    S, T = p.shape[1], asked.call.lse.shape[2]
    silent = torch.tensor(sorted(asked.rows.silent), device=p.device, dtype=torch.long)
    counted = (seen.sum(1) > 1) & ~torch.isin(rows, silent)
    p, seen, rows = p[counted], seen[counted], rows[counted]
    if not len(p):
        return {}
    inside = p.clone()
    inside[:, sorted(asked.columns.ends)] = 0.0
    found = {"keys": torch.special.entr(p).sum(1).exp().mean(), "confidence": inside.amax(1).mean()}
    for key, some in (("sink", [0]), ("special", sorted(asked.columns.special))):
        if bool((there := seen[:, some].any(1)).any()):
            found[key] = p[there][:, some].sum(1).mean()
    if asked.call.kind == "self" and asked.columns.grid is None:
        stands = rows + S - T  # the key that each query stands on
        for key, step in (("itself", 0), ("previous", -1), ("next", 1)):
            place = (stands + step)[:, None]
            there = (place >= 0) & (place < S)
            place = place.clamp(0, S - 1)
            there = (there & seen.gather(1, place))[:, 0]
            if bool(there.any()):
                found[key] = p[there].gather(1, place[there]).mean()
        places = torch.arange(S, device=p.device)
        found["distance"] = (p * (places - stands[:, None]).abs()).sum(1).mean()
    return {key: float(x) for key, x in found.items()}
