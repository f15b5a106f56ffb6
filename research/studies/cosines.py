"""Cosines of all pairs of token embeddings: the figure of Ekin (2025), for any study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from research.analysis.figures import draw_cosine_ranges, draw_cosines
from research.analysis.orthogonality import measure

__all__ = ["redraw_cosines", "write_cosines"]


def write_cosines(embeddings: Mapping[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """Measure the cosines of every model and of an untrained embedding.

    Writes cosines.json, with the histograms, and the figure of them, cosines.png.

    Args:
        embeddings: by model, (V, D) vectors in order of falling term frequency.
        folder: the folder to write to.

    Returns:
        {panel: {model: {"mean": ..., "deviation": ..., ...}}} without the histograms.
    """
    measured = {
        panel: {name: asdict(cosines) for name, cosines in by_model.items()}
        for panel, by_model in measure(embeddings).items()
    }
    with atomic_write(folder / "cosines.json") as draft:
        draft.write_text(json.dumps(measured) + "\n", "utf-8")
    draw_cosines(measured, folder / "cosines.png")
    return {
        panel: {
            name: {k: v for k, v in cosines.items() if k != "histogram"}
            for name, cosines in by_model.items()
        }
        for panel, by_model in measured.items()
    }


def redraw_cosines(results: Mapping[str, Any], folder: Path) -> None:
    """Draw cosines.png of a study again: the histograms of cosines.json, or only mean, deviation
    and range, from the results of a study that did not write that file yet."""
    path = folder / "cosines.json"
    if path.exists():
        draw_cosines(json.loads(path.read_text("utf-8")), folder / "cosines.png")
    else:
        draw_cosine_ranges(results["orthogonality"], folder / "cosines.png")
