"""The source's picture, the cosines of all pairs of token embeddings, for any study."""

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
    """Draws {model: (V, D) by falling use} and the null; {panel: {model: mean, deviation, ...}}."""
    measured = measure(embeddings)
    draw_cosines(measured, path)
    return {
        panel: {
            name: {k: v for k, v in asdict(cosines).items() if k != "histogram"}
            for name, cosines in by_model.items()
        }
        for panel, by_model in measured.items()
    }
