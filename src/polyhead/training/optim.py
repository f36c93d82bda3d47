"""Summed gradients go in, changed weights come out: AdamW on the mean gradient, clipped, norms and biases undecayed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polyhead.training.settings import Training

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def adamw(model: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019). Weight decay pulls on matrices only, not on norms and biases (1-d)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def scale_gradients(model: nn.Module, *, targets: int, clip: float) -> float:
    """Turn gradients of a sum over `targets` into those of the mean, no longer than `clip` (0: of any length).

    Returns the length before clipping. One multiplication does both.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients)) / targets
    shorter = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
    for gradient in gradients:
        gradient *= shorter / targets
    return norm


def moments(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """What AdamW remembers, under each parameter's own name: "<parameter>.exp_avg" and so on."""
    return {
        f"{name}.{moment}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in MOMENTS
    }


def load_moments(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `moments` gave."""
    for name, parameter in model.named_parameters():
        if f"{name}.step" in tensors:
            optimizer.state[parameter] = {
                moment: tensors[f"{name}.{moment}"].to(parameter.device, copy=True) for moment in MOMENTS
            }
