"""A picture of what a digit's picture and sound add to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg.multimodal.explanation import Explanation

__all__ = ["Example", "draw_pairs", "heat_of"]

matplotlib.use("Agg")
FOR, AGAINST = "#d1495b", "#30638e"
MODALITIES = ("#e8a87c", "#5b8e7d")


@dataclass(frozen=True)
class Example:
    """A row and its explanation.

    Args:
        title: of its panels.
        image: (height, width) as the model saw it.
        sound: (samples,) as the model heard it.
        rate: samples a second.
        why: with the modalities "picture" and "sound".
        corners: (N, 2) row and column of each patch's first pixel.
        patch: side of a patch.
        seconds: (N,) when each frame begins.
    """

    title: str
    image: np.ndarray
    sound: np.ndarray
    rate: int
    why: Explanation
    corners: np.ndarray
    patch: int
    seconds: np.ndarray


def heat_of(example: Example) -> np.ndarray:
    """(height, width): each patch's part in the answer's logit, spread evenly over its pixels."""
    parts = example.why.of(example.why.label)["picture"]
    heat = np.zeros(example.image.shape)
    for (y, x), part in zip(example.corners.astype(int), parts):
        cut = heat[y : y + example.patch, x : x + example.patch]
        cut += part / max(1, cut.size)
    return heat


def draw_pairs(examples: Sequence[Example], path: Path) -> None:
    """A column a row of the table: the picture, the sound, and what each adds to each logit."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        3, len(examples), figsize=(3.1 * len(examples), 7.2), squeeze=False, layout="constrained"
    )
    for (top, middle, bottom), example in zip(axes.T, examples):
        heat = heat_of(example)
        most = np.abs(heat).max() or 1
        top.imshow(example.image, cmap="gray_r")
        top.imshow(heat, cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.55)
        top.set(title=example.title, xticks=[], yticks=[])
        _draw_sound(middle, example)
        _draw_totals(bottom, example.why)
    axes[0, 0].set_ylabel("picture's patches")
    axes[1, 0].set_ylabel("sound's frames")
    axes[2, 0].set_ylabel("added to each logit")
    axes[2, 0].legend(fontsize=8)
    with atomic_write(path) as draft:
        figure.savefig(draft, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_sound(axis: Any, example: Example) -> None:
    samples = example.sound / max(1e-9, np.abs(example.sound).max())
    axis.plot(np.arange(len(samples)) / example.rate, samples, color="#b0b0b0", linewidth=0.5)
    parts = example.why.of(example.why.label)["sound"]
    width = float(np.diff(example.seconds).min()) if len(parts) > 1 else 0.01
    colours = [FOR if part > 0 else AGAINST for part in parts]
    axis.bar(
        example.seconds,
        parts / max(1e-9, np.abs(parts).max()),
        0.9 * width,
        align="edge",
        color=colours,
        alpha=0.7,
    )
    axis.set(xlabel="seconds", yticks=[])


def _draw_totals(axis: Any, why: Explanation) -> None:
    place = np.arange(len(why.classes))
    shown = zip((-0.2, 0.2), MODALITIES, why.by_modality().items())
    for shift, colour, (name, parts) in shown:
        axis.bar(place + shift, parts, 0.4, label=name, color=colour)
    axis.axhline(0, color="black", linewidth=0.5)
    axis.set(xlabel="digit", xticks=place, xticklabels=[str(c) for c in why.classes])
