"""How aggregation pools; for those who do without PyTorch as well."""

from __future__ import annotations

from typing import Literal

__all__ = ["BLOCKS", "Pooling"]

Pooling = Literal["harmonic", "mean"]
BLOCKS = 16
