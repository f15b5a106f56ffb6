"""Series of a figure keep apart in color, in simulated color blindness and in grey."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from hyperagg._common import palette
from hyperagg._common.palette import series_styles
from hyperagg.classifier.comparison.models import BASELINES

# The color that is seen instead, both as linear RGB. Source: Machado, Oliveira and Fernandes 2009,
# "A physiologically-based model for simulation of color vision deficiency", severity 1.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}
# From linear RGB to CIE XYZ, whose second row is the luminance.
XYZ = np.array(
    (
        (0.4124564, 0.3575761, 0.1804375),
        (0.2126729, 0.7151522, 0.0721750),
        (0.0193339, 0.1191920, 0.9503041),
    )
)
FIGURES = {
    "classifiers": ("aggregation", *BASELINES),
    "mixers": (
        *("feed-forward only", "prefix_sum (original form)", "decay", "complex_decay", "gated"),
        *("convolution + expanded decay", "expanded gated", "feed-forward + last attention"),
        *("gated + last attention", "expanded gated + last attention", "attention", "mamba"),
        "untrained",
    ),
    "speed": ("expanded gated", "attention", "attention, static cache", "feed-forward only"),
    "deletion": (
        *("explain", "explain, margin", "integrated gradients", "gradient × input"),
        *("occlusion", "random"),
    ),
    "ops": (
        *("causal", "window of 64", "decay", "documents of 256", "torch.cumsum", "copy"),
        "fused attention",
    ),
    "modalities": ("image", "audio"),
}


def linear(color: str) -> np.ndarray:
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB: equal distances look about equally different."""
    x = XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1, 1.08883)
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one: str, other: str) -> float:
    """Of the two colors, for those who tell them apart the least."""
    return min(
        float(
            np.linalg.norm(lab(np.array(seen) @ linear(one)) - lab(np.array(seen) @ linear(other)))
        )
        for seen in VISION.values()
    )


@pytest.mark.parametrize("figure", FIGURES)
def test_series_of_a_figure_keep_apart(figure):
    for (name, one), (other_name, other) in combinations(series_styles(FIGURES[figure]).items(), 2):
        assert one.marker != other.marker, (name, other_name)
        if one.linestyle == other.linestyle:
            assert distance(one.color, other.color) >= 12, (name, other_name)
            in_grey = abs(lab(linear(one.color))[0] - lab(linear(other.color))[0])
            assert in_grey >= 6, (name, other_name)


def test_every_color_has_a_contrast_of_three_to_white():
    colors = {style.color for style in (*palette._MODELS.values(), *palette._OTHERS)}
    for color in colors:
        assert 1.05 / (XYZ[1] @ linear(color) + 0.05) >= 3, color


def test_a_model_has_one_style_in_all_figures_and_others_take_what_is_left():
    alone = series_styles(["attention"])["attention"]
    styles = series_styles(["mine", "yours", "attention", "aggregation", "untrained, d 64"])
    assert list(styles) == ["mine", "yours", "attention", "aggregation", "untrained, d 64"]
    assert styles["attention"] == alone
    assert styles["untrained, d 64"] == series_styles(["untrained"])["untrained"]
    assert len({style.color for style in styles.values()}) == 5
    assert len(series_styles([f"model {i}" for i in range(30)])) == 30


def test_no_other_module_chooses_the_color_of_a_series():
    root = Path(__file__).parents[2]
    if not (root / "hyperagg").is_dir():
        pytest.skip("the package is installed; its source is not beside the tests")
    color = re.compile(r"""["'](?:#[0-9a-fA-F]{6}|C\d|C\{\w+\}|tab:\w+)["']""")
    drawing = {
        path: text
        for folder in ("hyperagg", "research")
        for path in sorted((root / folder).rglob("*.py"))
        if "tests" not in path.parts and "matplotlib" in (text := path.read_text("utf-8"))
    }
    assert len(drawing) > 3
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path, text in drawing.items()
        if path != Path(palette.__file__)
        for line in text.splitlines()
        if color.search(line)
    ]
    assert not found
