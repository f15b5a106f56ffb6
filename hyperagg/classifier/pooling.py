"""Defines how the token vectors of a text are pooled."""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["NUM_BLOCKS", "POOLINGS", "Pooling", "position_blocks"]

Pooling = Literal["harmonic", "mean"]
POOLINGS: tuple[Pooling, ...] = ("harmonic", "mean")
NUM_BLOCKS = 16  # position vectors, each for a block of positions of doubling length


def position_blocks(n: int, num_blocks: int = NUM_BLOCKS) -> np.ndarray:
    """Return (n,) int64, the block min(floor(log2(t + 1)), num_blocks - 1) of each position t.

    The exponent of t + 1 is exact, where a logarithm may round up just below a power of two.
    """
    _, exponents = np.frexp(np.arange(1, n + 1, dtype=np.float64))
    return np.minimum(exponents - 1, num_blocks - 1).astype(np.int64)
