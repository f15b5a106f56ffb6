"""Cosines of all pairs of token embeddings: the figure of Ekin (2025), for any study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from research.analysis.figures import draw_cosines
from research.analysis.orthogonality import measure

__all__ = ["write_cosines"]


def write_cosines(embeddings: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Draw the cosines of every model and of an untrained embedding, and return their statistics.

    Args:
        embeddings: by model, (V, D) vectors in order of falling term frequency.
        path: the PNG file to write.

    Returns:
        {panel: {model: {"mean": ..., "deviation": ..., ...}}}
    """
    measured = measure(embeddings)
    draw_cosines(measured, path)
    return {
        panel: {
            name: {k: v for k, v in asdict(cosines).items() if k != "histogram"}
            for name, cosines in by_model.items()
        }
        for panel, by_model in measured.items()
    }
