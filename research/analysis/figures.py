"""Figures as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from hyperagg._common.atomic import atomic_write
from research.analysis.orthogonality import BINS, Cosines

__all__ = [
    "draw_bars",
    "draw_capacity",
    "draw_cosines",
    "draw_deletion",
    "draw_scaling",
]

matplotlib.use("Agg")
# Baselines and the untrained reference keep their colors in all figures.
COLORS = {
    "aggregation": "#d1495b",
    "words": "#e8a87c",
    "attention": "#30638e",
    "transformer": "#5b8e7d",
    "untrained": "#9a9a9a",
    "random": "#9a9a9a",
}


def draw_cosines(measured: Mapping[str, Mapping[str, Cosines]], path: Path) -> None:
    """Draw one histogram per panel; `measured` is {panel: {model: cosines}}."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(measured), figsize=(5.2 * len(measured), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (panel, models) in zip(axes[0], measured.items()):
        for name, cosines in models.items():
            density = [n / cosines.pairs / (BINS[1] - BINS[0]) for n in cosines.histogram]
            label = f"{name}: {cosines.mean:+.3f} ± {cosines.deviation:.3f}"
            axis.stairs(density, BINS, fill=True, alpha=0.45, label=label, color=COLORS.get(name))
        axis.set(title=panel, xlabel="cosine of two token embeddings", ylabel="density")
        axis.legend(fontsize=8)
    _save(figure, path)


def draw_scaling(lines: Mapping[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """Draw seconds over length on log axes; {name: (lengths, seconds)}."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, (lengths, seconds) in lines.items():
        axis.plot(lengths, seconds, marker=".", label=name)
    axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds")
    axis.grid(alpha=0.3)
    axis.legend(title="slope at large n", fontsize=8, title_fontsize=8)
    _save(figure, path)


def draw_deletion(
    drops: Mapping[str, Mapping[str, Sequence[float]]], deleted: Sequence[int], path: Path
) -> None:
    """Draw the drop in probability over the number of deletions; {panel: {method: drops}}."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(drops), figsize=(4.6 * len(drops), 3.8), squeeze=False, layout="constrained"
    )
    for axis, (panel, methods) in zip(axes[0], drops.items()):
        for name, drop in methods.items():
            percent = [100 * x for x in drop]
            axis.plot(deleted, percent, marker=".", alpha=0.8, label=name, color=COLORS.get(name))
        axis.set(title=panel, xscale="log", xlabel="deleted (log scale)")
        axis.set_xticks(deleted, [str(k) for k in deleted])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("drop in probability, points")
    axes[0, 0].legend(title="ranked by", fontsize=8, title_fontsize=8)
    _save(figure, path)


def draw_bars(values: Mapping[str, float], unit: str, path: Path) -> None:
    """Draw one bar per name, the first on top."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 0.8 + 0.24 * len(values)), layout="constrained")
    bars = axis.barh(list(values), list(values.values()), color=COLORS["aggregation"])
    axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axis.margins(x=0.1)  # so that the longest bar's number is inside
    axis.invert_yaxis()
    axis.set(xlabel=unit)
    axis.tick_params(axis="y", labelsize=8)
    _save(figure, path)


def draw_capacity(kinds: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over d and n with both frontiers, one panel per kind."""
    from matplotlib import pyplot as plt

    columns, levels = 4, {"0.99": "#ffffff", "0.5": "#ff9f1c"}
    lines = -(-len(kinds) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.7 * columns, 3.7 * lines), squeeze=False, layout="constrained"
    )
    mesh, kept = None, axes.flat[: len(kinds)]
    for axis in axes.flat[len(kinds) :]:
        axis.remove()
    for axis, (kind, grid) in zip(kept, kinds.items()):
        d, n = (np.log2(grid[name]) for name in ("dimensions", "lengths"))
        axis.set(title=kind, xlabel="d", ylabel="tokens n")
        if not len(d) or not len(n):
            continue
        accuracy = np.array(grid["measured"]).T
        mesh = axis.pcolormesh(d, n, accuracy, vmin=0, vmax=1, shading="nearest")
        for level, color in levels.items():
            for name, style in (("measured", "o-"), ("predicted", "x--")):
                # A frontier outside of the grid has no point.
                at = np.log2(np.array(grid["frontiers"][level][name], dtype=float))
                label = f"{float(level):.0%} {name}"
                axis.plot(d, at, style, color=color, markersize=4, linewidth=1, label=label)
        axis.set_xticks(d, [str(each) for each in grid["dimensions"]], fontsize=7)
        axis.set_yticks(n, [str(each) for each in grid["lengths"]], fontsize=7)
    kept[0].legend(fontsize=7, facecolor="#555555", labelcolor="white", loc="upper left")
    if mesh is not None:
        figure.colorbar(mesh, ax=list(kept), label="accuracy of retrieval", shrink=0.6)
    _save(figure, path)


def _save(figure: object, path: Path) -> None:
    from matplotlib import pyplot as plt

    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=130, metadata={"Software": None})  # type: ignore[attr-defined]
    plt.close(figure)  # type: ignore[arg-type]
