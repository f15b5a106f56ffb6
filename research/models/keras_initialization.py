"""Initialization of weights as in Keras, for the models of Ekin (2025)."""

from __future__ import annotations

from torch import nn

__all__ = ["initialize_like_keras"]


def initialize_like_keras(model: nn.Module) -> None:
    """Initialize embeddings uniformly in ±0.05, linear maps after Glorot and biases to zero.

    The parameters change in place.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -0.05, 0.05)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
