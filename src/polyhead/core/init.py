"""Weights before training: Glorot-uniform matrices, zero biases, embeddings of spread D^-1/2."""

from __future__ import annotations

from torch import nn


def initialise(model: nn.Module) -> None:
    """Glorot and Bengio 2010 for every matrix; with embeddings scaled by sqrt(D), words enter at unit size."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            for bias in (b for name, b in module.named_parameters(recurse=False) if name == "bias"):
                nn.init.zeros_(bias)
    for module in model.modules():  # after the matrices: a head tied to an embedding starts as the embedding
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
