"""Draws the figures of studies and benchmarks again, from the results.json files beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hyperagg.classifier.comparison.report import draw_learning_curves
from research.analysis.figures import draw_fits
from research.benchmarks.language_page import draw_language
from research.benchmarks.ops_page import draw_forms, draw_lengths
from research.benchmarks.text_page import draw_text
from research.studies.capacity import draw_retrieval
from research.studies.cosines import redraw_cosines
from research.studies.deletion import draw_drops
from research.studies.learning_curves import draw_curves

__all__ = ["redraw"]

Draw = Callable[[Mapping[str, Any], Path], None]


def redraw(root: Path) -> list[Path]:
    """Draw all figures again that the results.json files below a folder have the numbers for.

    Only files that exist are replaced.

    Returns:
        the files, in order.
    """
    drawn = []
    for file in sorted(root.rglob("results.json")):
        folder, results = file.parent, json.loads(file.read_text("utf-8"))
        for name, draw in FIGURES.items():
            if (folder / name).exists():
                draw(results, folder)
                drawn.append(folder / name)
    return drawn


def _draw_fits(results: Mapping[str, Any], folder: Path) -> None:
    metric = results["metric"]
    models = {name: (own["fit_seconds"], own[metric]) for name, own in results["models"].items()}
    draw_fits(models, f"test {metric.replace('_', '-')}", folder / "fits.png")


def _draw_curves(results: Mapping[str, Any], folder: Path) -> None:
    draw_learning_curves(results["learning_curves"], folder / "learning_curves.png")


def _draw_few_labels(results: Mapping[str, Any], folder: Path) -> None:
    draw_curves(results, folder / "curves.png")


# By the name of the file.
FIGURES: dict[str, Draw] = {
    "capacity.png": draw_retrieval,
    "cosines.png": redraw_cosines,
    "curves.png": _draw_few_labels,
    "deletion.png": draw_drops,
    "fits.png": _draw_fits,
    "forms.png": draw_forms,
    "learning_curves.png": _draw_curves,
    "ratios.png": draw_text,
    "scaling.png": draw_lengths,
    "speed.png": draw_language,
}
