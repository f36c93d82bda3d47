"""A loss or gradient that is no number goes in; the batches and weights that made it lie in a folder when we stop."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from polyhead.errors import NonFiniteLoss, WriteError
from polyhead.files import save_tensors, writable
from polyhead.training.learner import NotFinite, weights_of
from polyhead.training.state import Group
from polyhead.training.task import tensors_of


def refuse(met: NotFinite, *, step: int, group: Group, model: nn.Module, training: Path) -> NonFiniteLoss:
    """Save what a person needs to see it happen again; returns the error to raise, which names the folder."""
    folder = training / f"not-finite-step-{step:08d}"
    where = {"step": step, "epoch": group.epoch, "index": group.index, "what": met.what, "value": str(met.value)}
    try:
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for place, batch in met.batches.items():
                save_tensors(folder / f"batch-{group.index + place}.safetensors", tensors_of(batch))
            save_tensors(folder / "weights.safetensors", weights_of(model))
            (folder / "where.json").write_text(json.dumps(where, indent=1), encoding="utf-8")
        kept = f"the batch and the weights it met are in {folder}: look at them, or"
    except WriteError as full:
        kept = f"the batch and the weights it met could not be kept in {folder} ({full.why}):"
    return NonFiniteLoss(
        f"the {met.what} is {met.value} at step {step} (epoch {group.epoch}, batch {group.index}); {kept} "
        "start anew with a lower lr, a longer warmup or fp32"
    )
