"""What a multimodal model has learned, as one value that its readers take once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hyperagg.multimodal.columns import Column
from hyperagg.multimodal.encoder import MultimodalNetwork
from hyperagg.multimodal.history import History

__all__ = ["FittedState"]


@dataclass(frozen=True)
class FittedState:
    """All that a fit or a file determines.

    `fit` makes another one and puts it in the place of the last. A reader that takes the state once
    therefore sees columns, weights and targets that belong together, whatever another thread does
    meanwhile.

    Args:
        columns: what was learned about each column.
        target: the labels, or the scale of the values: a `ClassTarget` or a `ContinuousTarget`.
        network: the PyTorch module, in evaluation mode.
        history: the course of the training.
    """

    columns: Mapping[str, Column]
    target: Any
    network: MultimodalNetwork
    history: History
