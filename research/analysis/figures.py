"""Figures as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hyperagg._common.atomic import atomic_write
from hyperagg._common.palette import series_styles
from research.analysis.orthogonality import BINS

__all__ = [
    "draw_bars",
    "draw_capacity",
    "draw_cosine_ranges",
    "draw_cosines",
    "draw_deletion",
    "draw_fits",
    "draw_scaling",
    "save_figure",
]

# One row of statistics per model, as `asdict` of `Cosines` without its histogram.
CosineStatistics = Mapping[str, Mapping[str, Any]]


def draw_cosines(measured: Mapping[str, CosineStatistics], path: Path) -> None:
    """Draw the histograms as lines, one panel per set of words.

    Args:
        measured: {panel: {model: fields of `Cosines`, with the histogram}}.
        path: the PNG file to write.
    """
    number = max(len(models) for models in measured.values())
    figure = Figure(figsize=(5.2 * len(measured), 3.6 + 0.2 * number), layout="constrained")
    axes = figure.subplots(1, len(measured), squeeze=False)[0]
    centers = (BINS[1:] + BINS[:-1]) / 2
    for axis, (panel, models) in zip(axes, measured.items()):
        for name, style in series_styles(models).items():
            own = models[name]
            density = np.array(own["histogram"]) / own["pairs"] / (BINS[1] - BINS[0])
            label = f"{name}: {own['mean']:+z.3f} ± {own['deviation']:.3f}"
            if name.startswith("untrained"):
                axis.fill_between(centers, density, color=style.color, alpha=0.25, linewidth=0)
            axis.plot(centers, density, **style._asdict(), markevery=20, markersize=4, label=label)
        axis.set(title=panel, xlabel="cosine of two token embeddings", ylabel="density")
        axis.set_ylim(0)
        # Below the panel, since curves reach into every corner of it.
        axis.legend(
            title="mean ± standard deviation", fontsize=8, title_fontsize=8,
            loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False,
        )  # fmt: skip
    save_figure(figure, path)


def draw_cosine_ranges(measured: Mapping[str, CosineStatistics], path: Path) -> None:
    """Draw mean, standard deviation and range of the cosines of every model, where the histograms
    are not known; arguments as for `draw_cosines`."""
    number = max(len(models) for models in measured.values())
    figure = Figure(figsize=(5.2 * len(measured), 1.2 + 0.32 * number), layout="constrained")
    axes = figure.subplots(1, len(measured), squeeze=False, sharey=True)[0]
    for axis, (panel, models) in zip(axes, measured.items()):
        for k, (name, style) in enumerate(series_styles(models).items()):
            own = models[name]
            mean, deviation = own["mean"], own["deviation"]
            axis.plot([own["minimum"], own["maximum"]], [k, k], color=style.color, linewidth=1)
            axis.plot([mean - deviation, mean + deviation], [k, k], color=style.color, linewidth=5)
            axis.plot(mean, k, "o", color="white", markeredgecolor="black", zorder=3)
            axis.annotate(
                f"{mean:+z.3f} ± {deviation:.3f}".replace("-", "\N{MINUS SIGN}"),
                (mean, k), (0, 6), textcoords="offset points", ha="center", fontsize=7,
            )  # fmt: skip
        axis.axvline(0, color="0.4", linewidth=0.8, zorder=0)
        axis.set(title=panel, xlabel="cosine of two token embeddings", xlim=(-1, 1))
        axis.set_yticks(range(len(models)), list(models), fontsize=8)
        axis.set_ylim(number - 0.4, -0.8)
        axis.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def draw_fits(models: Mapping[str, tuple[float, Sequence[float]]], unit: str, path: Path) -> None:
    """Draw the scores of every model, one point per seed, over the seconds of a whole fit.

    Args:
        models: {model: (seconds, scores)}.
        unit: what the scores are, in percent.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, style in series_styles(models).items():
        seconds, scores = models[name]
        percent = 100 * np.array(scores)
        axis.plot(
            np.full(len(percent), seconds), percent, style.marker, color=style.color,
            markersize=7, alpha=0.7, label=name,
        )  # fmt: skip
        axis.plot(seconds * np.array([0.85, 1.18]), [percent.mean()] * 2, color=style.color)
    axis.set(xscale="log", xlabel="seconds of a whole fit (log scale)", ylabel=f"{unit} (%)")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.grid(alpha=0.3)
    axis.legend(title="one point per seed, a line at their mean", fontsize=8, title_fontsize=8)
    save_figure(figure, path)


def draw_scaling(
    lines: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    slopes: Mapping[str, str],
    path: Path,
) -> None:
    """Draw seconds over length on log axes.

    Args:
        lines: {name: (lengths, seconds)}.
        slopes: {name: slope at large n}, for the legend.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    for name, style in series_styles(lines).items():
        lengths, seconds = lines[name]
        label = f"{name}: {slopes[name]}"
        axis.plot(lengths, seconds, **style._asdict(), markersize=5, label=label)
    axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds")
    axis.grid(alpha=0.3)
    axis.legend(title="slope at large n", fontsize=8, title_fontsize=8)
    save_figure(figure, path)


def draw_deletion(
    drops: Mapping[str, Mapping[str, Sequence[float]]], deleted: Sequence[int], path: Path
) -> None:
    """Draw the drop in probability over the number of deletions; {panel: {method: drops}}."""
    figure = Figure(figsize=(4.6 * len(drops), 3.8), layout="constrained")
    axes = figure.subplots(1, len(drops), squeeze=False)[0]
    for axis, (panel, methods) in zip(axes, drops.items()):
        for name, style in series_styles(methods).items():
            percent = [100 * x for x in methods[name]]
            axis.plot(deleted, percent, **style._asdict(), markersize=5, alpha=0.8, label=name)
        axis.set(title=panel, xscale="log", xlabel="deleted (log scale)")
        axis.set_xticks(deleted, [str(k) for k in deleted])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("drop in probability, points")
    axes[0].legend(title="ranked by", fontsize=8, title_fontsize=8)
    save_figure(figure, path)


def draw_bars(values: Mapping[str, float], unit: str, reference: str, path: Path) -> None:
    """Draw one bar per ratio, the first on top, and a line at 1.

    Args:
        values: {name: ratio}.
        unit: what the ratios are.
        reference: what has the ratio 1.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(6.4, 0.9 + 0.24 * len(values)), layout="constrained")
    axis = figure.subplots()
    color = series_styles(["aggregation"])["aggregation"].color
    bars = axis.barh(list(values), list(values.values()), color=color)
    axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    line = axis.axvline(1, color="black", linewidth=1.2, linestyle="--", label=reference)
    line.set_path_effects([withStroke(linewidth=3, foreground="white")])
    axis.margins(x=0.1)  # so that the longest bar's number is inside
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.set(xlabel=unit)
    axis.tick_params(axis="y", labelsize=8)
    figure.legend(loc="outside upper right", fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_capacity(kinds: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw accuracy over d and n with both frontiers, one panel per kind.

    A kind that reaches no frontier at any d and n has no panel: it would be a single color.
    """
    colors = {level: style.color for level, style in series_styles(("0.99", "0.5")).items()}
    shown = {
        kind: grid
        for kind, grid in kinds.items()
        if any(n is not None for level in colors for n in grid["frontiers"][level]["measured"])
    } or kinds
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.7 * columns, 3.7 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    mesh, kept = None, axes.flat[: len(shown)]
    for axis, (kind, grid) in zip(kept, shown.items()):
        d, n = (np.log2(grid[name]) for name in ("dimensions", "lengths"))
        axis.set(title=kind, xlabel="d", ylabel="tokens n")
        if not len(d) or not len(n):
            continue
        accuracy = np.array(grid["measured"]).T
        mesh = axis.pcolormesh(d, n, accuracy, vmin=0, vmax=1, shading="nearest", cmap="Greys")
        for level, color in colors.items():
            measured, predicted = ("o-", "x--") if level == "0.99" else ("s-", "+--")
            for name, style in (("measured", measured), ("predicted", predicted)):
                # A frontier outside of the grid has no point.
                at = np.log2(np.array(grid["frontiers"][level][name], dtype=float))
                axis.plot(
                    d, at, style, color=color, markersize=5, linewidth=1.5,
                    label=f"{float(level):.0%} {name}",
                    path_effects=[withStroke(linewidth=3.5, foreground="white")],
                )  # fmt: skip
        axis.set_xticks(d, [str(each) for each in grid["dimensions"]], fontsize=7)
        axis.set_yticks(n, [str(each) for each in grid["lengths"]], fontsize=7)
    free = axes.flat[len(shown) :]
    for axis in free:
        axis.axis("off")
    legend = dict(fontsize=9, loc="center") if len(free) else dict(fontsize=7, loc="upper left")
    (free[0] if len(free) else kept[0]).legend(*kept[0].get_legend_handles_labels(), **legend)
    if mesh is not None:
        figure.colorbar(mesh, ax=list(kept), label="accuracy of retrieval", shrink=0.6)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, the same bytes for the same figure."""
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=130, format="png", metadata={"Software": None})
