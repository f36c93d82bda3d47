"""One layer is run again from what it read; its queries and keys, marked as replayed, come out if its output agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polyhead.core.attention import Attention
from polyhead.errors import ArgumentError, DataError
from polyhead.lens.inputs import Inputs, apart, signed_sums
from polyhead.lens.recording import Call
from polyhead.lens.watch import Watcher

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Again(Watcher):
    """Keeps the rows of a layer that runs alone, in which nothing is dropped out whatever the model's mode."""

    def attend(self, at: nn.Module, query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        return super().attend(at, query, key, value, **how | {"dropout": 0.0})


def replay(call: Call, model: nn.Module | None) -> Call:
    """The call with queries and keys; its lse, norms and kernel are those of now, its statistics those of the run."""
    inputs, name = call.kept, call.name
    if not isinstance(inputs, Inputs):
        raise ArgumentError(
            f"{name} was recorded at level '{call.level}', which keeps no inputs to replay; use level='inputs'"
        )
    if model is None:
        raise ArgumentError(f"A recording that was loaded knows no model; write recording.replay('{name}', model=...)")
    if inputs.earlier:
        raise DataError(
            f"{name} looked at {inputs.earlier} earlier keys of a cache, which its inputs do not hold;"
            " record it with level='rows', or run without a cache"
        )
    if inputs.dropout:
        raise DataError(
            f"{name} ran with dropout, which cannot be repeated; record after model.eval(), or with level='rows'"
        )
    layer = dict(model.named_modules()).get(name)
    if not isinstance(layer, Attention):
        raise ArgumentError(f"The model has no attention '{name}'; give the model that was recorded")
    found: list[Call] = []
    try:
        output = inputs.through(layer, Again({layer: name}, found.append))
    except RuntimeError as refused:
        raise DataError(
            f"The model's {name} cannot read what was recorded ({str(refused).splitlines()[0]});"
            " give the model that was recorded, on the device of the recording"
        ) from refused
    again = found[-1]
    off, level = apart(signed_sums(output), inputs.sums), lse_apart(again.lse, call.lse)
    if not (off <= ROUNDING[output.dtype] and level <= ROUNDING[output.dtype]):
        raise DataError(
            f"{name} does not compute what was recorded: its output is off by {off:.2g}, its log-sum-exp by {level:.2g}"
            "; give the model as it was when it was recorded"
        )
    return replace(again, statistics=call.statistics, replayed=off)


def lse_apart(found: Tensor, kept: Tensor) -> float:
    """The largest difference of two log-sum-exps, relative to the largest where that is above 1.

    Where values are alike, a layer's output hardly tells its weights; these do.
    """
    if found.shape != kept.shape:
        return torch.inf
    if not kept.numel():
        return 0.0
    off = (found - kept).abs().masked_fill(found == kept, 0.0).max()
    return float(off / kept.abs().masked_fill(kept == -torch.inf, 0.0).max().clamp(min=1))
