"""What each token of each modality of a row adds to the logits.

    z_c = b_c + sum_m sum_t s_m <W_c, e_mt * p_mt * v_m>

The logits are a sum over tokens, so every token has an exact part in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hyperagg.multimodal.batches import Rows

if TYPE_CHECKING:
    from hyperagg.multimodal.estimator import MultimodalModel

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True)
class Explanation:
    """A row's tokens, and what they add to the logits; in regression, to the number.

    Attributes:
        classes: what the columns of numbers are; in regression one, "value".
        tokens: by modality, what each token is called.
        contributions: by modality (T, C) float64.
        bias: (C,).
        logits: (C,) as the model computes them: bias + all contributions, but for rounding.
    """

    classes: list[Any]
    tokens: dict[str, list[str]]
    contributions: dict[str, np.ndarray]
    bias: np.ndarray
    logits: np.ndarray

    @property
    def label(self) -> Any:
        """The most probable label."""
        return self.classes[int(self.logits.argmax())]

    def by_modality(self) -> dict[str, np.ndarray]:
        """(C,) what all tokens of a modality add together."""
        return {name: parts.sum(0) for name, parts in self.contributions.items()}

    def of(self, label: Any) -> dict[str, np.ndarray]:
        """By modality (T,), what each token adds to one class's logit.

        Raises:
            ValueError: no such class.
        """
        if label not in self.classes:
            raise ValueError(
                f"label {label!r}: the classes are {', '.join(map(str, self.classes))}"
            )
        column = self.classes.index(label)
        return {name: parts[:, column] for name, parts in self.contributions.items()}


def explain(model: MultimodalModel, rows: Rows, cells: Mapping[str, Any]) -> Explanation:
    """The Explanation of one encoded row, whose cells give the tokens their names."""
    network = model.network
    assert network is not None
    given = rows.batch(np.arange(1))
    with torch.inference_mode():
        logits = network(given, 1)[0].double().numpy()
        parts = {name: part.numpy() for name, part in network.contributions(given).items()}
        bias = network.head.bias.double().numpy()
    tokens = {
        name: model.columns[name].names(cells[name], len(part)) for name, part in parts.items()
    }
    if model.regression:
        centre, scale = model.targets.centre, model.targets.scale
        parts = {name: part * scale for name, part in parts.items()}
        bias, logits = (x * scale + centre for x in (bias, logits))
    classes = ["value"] if model.regression else list(model.classes_)
    return Explanation(classes, tokens, parts, bias, logits)
