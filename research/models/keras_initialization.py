"""How the weights of Keras's layers start, for the source's models."""

from __future__ import annotations

from torch import nn

__all__ = ["start_as_keras"]


def start_as_keras(model: nn.Module) -> None:
    """Embeddings uniform within 0.05, linear maps after Glorot, biases zero; in place."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -0.05, 0.05)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
