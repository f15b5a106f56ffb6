"""Figure of the contributions of image and audio to the logits of digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from hyperagg._common.palette import AGAINST, FOR, series_styles
from hyperagg.multimodal import Explanation
from research.analysis.figures import save_figure

__all__ = ["ExplainedPair", "draw_pairs", "heat_of"]

_DIVERGING = LinearSegmentedColormap.from_list("contributions", [AGAINST, "white", FOR])


@dataclass(frozen=True)
class ExplainedPair:
    """A pair of image and audio with its explanation.

    Args:
        title: title of its panels.
        image: (height, width) input of the model.
        audio: (samples,) input of the model.
        sample_rate: samples per second.
        explanation: has the modalities "image" and "audio".
        corners: (N, 2) row and column of the first pixel of each patch.
        patch_size: side of a patch.
        seconds: (N,) start of each frame.
    """

    title: str
    image: np.ndarray
    audio: np.ndarray
    sample_rate: int
    explanation: Explanation
    corners: np.ndarray
    patch_size: int
    seconds: np.ndarray


def heat_of(pair: ExplainedPair) -> np.ndarray:
    """Spread the contribution of each patch evenly over its pixels, (height, width)."""
    contributions = pair.explanation.for_label(pair.explanation.label)["image"]
    heat = np.zeros(pair.image.shape)
    for (y, x), contribution in zip(pair.corners.astype(int), contributions):
        pixels = heat[y : y + pair.patch_size, x : x + pair.patch_size]
        pixels += contribution / max(1, pixels.size)
    return heat


def draw_pairs(pairs: Sequence[ExplainedPair], path: Path) -> None:
    """Draw one column per pair: image, audio, and their contributions to every logit."""
    figure = Figure(figsize=(3.1 * len(pairs), 7.2), layout="constrained")
    axes = figure.subplots(3, len(pairs), squeeze=False)
    for (top, middle, bottom), pair in zip(axes.T, pairs):
        heat = heat_of(pair)
        limit = np.abs(heat).max() or 1
        top.imshow(pair.image, cmap="gray_r")
        top.imshow(heat, cmap=_DIVERGING, vmin=-limit, vmax=limit, alpha=0.55)
        top.set(title=pair.title, xticks=[], yticks=[])
        _draw_audio(middle, pair)
        _draw_totals(bottom, pair.explanation)
    axes[0, 0].set_ylabel("patches of the image")
    axes[1, 0].set_ylabel("frames of the audio")
    axes[2, 0].set_ylabel("contribution to the logit")
    axes[2, 0].legend(fontsize=8)
    save_figure(figure, path)


def _draw_audio(axis: Any, pair: ExplainedPair) -> None:
    samples = pair.audio / max(1e-9, np.abs(pair.audio).max())
    axis.plot(np.arange(len(samples)) / pair.sample_rate, samples, color="0.7", linewidth=0.5)
    contributions = pair.explanation.for_label(pair.explanation.label)["audio"]
    width = float(np.diff(pair.seconds).min()) if len(contributions) > 1 else 0.01
    axis.bar(
        pair.seconds,
        contributions / max(1e-9, np.abs(contributions).max()),
        0.9 * width,
        align="edge",
        color=[FOR if x > 0 else AGAINST for x in contributions],
        alpha=0.7,
    )
    axis.set(xlabel="seconds", yticks=[])


def _draw_totals(axis: Any, explanation: Explanation) -> None:
    x = np.arange(len(explanation.classes))
    sums = explanation.by_modality()
    for shift, (name, style) in zip((-0.2, 0.2), series_styles(sums).items()):
        axis.bar(x + shift, sums[name], 0.4, label=name, color=style.color)
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set(xlabel="digit", xticks=x, xticklabels=[str(c) for c in explanation.classes])
