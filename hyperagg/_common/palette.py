"""The color, the line and the marker of every model in all figures.

The colors keep apart for people with protanopia or deuteranopia, and have a contrast of at least 3
to white. In print without colors, series of similar lightness differ by their lines; the markers
of a figure are all different.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import NamedTuple

__all__ = ["AGAINST", "FOR", "SeriesStyle", "series_styles"]

_RED, _BLUE, _GREEN, _ORANGE = "#c1272d", "#1f4fa3", "#00805a", "#cf7d00"
_SKY, _PINK, _BROWN, _BLACK, _GREY = "#3a97cf", "#c9609d", "#6b3f1d", "#222222", "#8a8a8a"

FOR, AGAINST = _ORANGE, _BLUE  # a label, as on the pages of explanations


class SeriesStyle(NamedTuple):
    """How a series is drawn; the fields are arguments of `plot` of matplotlib."""

    color: str
    linestyle: str
    marker: str


_OURS = SeriesStyle(_RED, "-", "o")
_ATTENTION = SeriesStyle(_BLUE, "-", "s")
_REFERENCE = SeriesStyle(_GREY, ":", ".")

_MODELS = {
    "aggregation": _OURS,
    "words": SeriesStyle(_ORANGE, "-", "v"),
    "attention": _ATTENTION,
    "transformer": SeriesStyle(_GREEN, "--", "^"),
    "linear_svc": SeriesStyle(_BLACK, "--", "P"),
    "logistic_regression": SeriesStyle(_BROWN, ":", "X"),
    "complement_nb": SeriesStyle(_GREY, "-.", "d"),
    "nb_svm": SeriesStyle(_PINK, "--", "<"),
    "fasttext": SeriesStyle(_SKY, ":", "D"),
    # language models
    "gated": SeriesStyle(_RED, ":", "h"),
    "expanded gated": _OURS,
    "gated + last attention": SeriesStyle(_GREEN, "-.", "d"),
    "expanded gated + last attention": SeriesStyle(_GREEN, "--", "D"),
    "decay": SeriesStyle(_ORANGE, "--", "v"),
    "complex_decay": SeriesStyle(_BLACK, "--", "<"),
    "convolution + expanded decay": SeriesStyle(_PINK, "-", "^"),
    "prefix_sum (original form)": SeriesStyle(_BLACK, ":", "x"),
    "feed-forward only": SeriesStyle(_BROWN, "-.", "P"),
    "feed-forward + last attention": SeriesStyle(_SKY, "-.", "X"),
    "attention, static cache": SeriesStyle(_BLUE, "--", "D"),
    "mamba": SeriesStyle(_BLACK, "-.", ">"),
    # ops, explanations, modalities
    "causal": _OURS,
    "fused attention": _ATTENTION,
    "copy": _REFERENCE,
    "explain": _OURS,
    "image": SeriesStyle(_SKY, "-", "o"),
    "audio": SeriesStyle(_BROWN, "-", "s"),
    # what nothing was learned for
    "untrained": _REFERENCE,
    "random": _REFERENCE,
}
_OTHERS = (
    SeriesStyle(_BLUE, "-", "s"),
    SeriesStyle(_GREEN, "--", "^"),
    SeriesStyle(_ORANGE, "-.", "v"),
    SeriesStyle(_BLACK, ":", "x"),
    SeriesStyle(_SKY, "-.", "D"),
    SeriesStyle(_PINK, "--", "P"),
    SeriesStyle(_BROWN, ":", "X"),
    SeriesStyle(_RED, "-", "o"),
)


def series_styles(names: Iterable[str]) -> dict[str, SeriesStyle]:
    """Return the style of every series of a figure.

    A model has the same style in all figures. A name that is not a model gets one of the styles
    that are left, in the order of the names.

    >>> series_styles(["aggregation", "something else"])["aggregation"].color
    '#c1272d'
    """
    # There is one untrained embedding per dimension: "untrained, d 64".
    found = {
        name: _MODELS.get("untrained" if name.startswith("untrained, ") else name) for name in names
    }
    known = [style for style in found.values() if style is not None]
    colors, markers = {style.color for style in known}, {style.marker for style in known}
    left = [each for each in _OTHERS if each.color not in colors and each.marker not in markers]
    others = cycle(left or _OTHERS)
    return {name: next(others) if style is None else style for name, style in found.items()}
