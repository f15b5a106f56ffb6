"""The contribution of each token of each modality of a row to the logits.

z_c = b_c + sum_m sum_t s_m <W_c, e_mt * p_mt * v_m>

The logits are a sum over tokens, so the contribution of every token is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hyperagg.multimodal.encoder import ModalityInput, MultimodalNetwork
from hyperagg.text import Alignment

__all__ = ["VALUE", "ExplainedText", "Explanation", "explain"]

VALUE = "value"  # the only "class" of a regressor; a classifier has at least two


@dataclass(frozen=True)
class ExplainedText:
    """A text of a row, word by word.

    Attributes:
        text: the cell.
        spans: the first character of each word in it and its last character + 1.
        contributions: (words, C) float64. A token that stands for several words, such as a bigram,
            contributes equally to each.
    """

    text: str
    spans: list[tuple[int, int]]
    contributions: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """The tokens of a row and what each of them adds to each logit.

    A regressor has one "logit", the predicted value, whose class is called `VALUE`.

    Attributes:
        classes: C labels, in the order of the columns of `contributions`.
        tokens: by column, the names of its T tokens.
        contributions: by column, (T, C) float64.
        bias: (C,).
        logits: (C,) as the model computes them: bias plus all contributions, up to rounding.
        texts: by column of text that is not empty, the same contributions by the words of the text.
    """

    classes: list[Any]
    tokens: dict[str, list[str]]
    contributions: dict[str, np.ndarray]
    bias: np.ndarray
    logits: np.ndarray
    texts: dict[str, ExplainedText] = field(default_factory=dict)

    @property
    def is_value(self) -> bool:
        """Whether a continuous value is explained, and not labels."""
        return self.classes == [VALUE]

    @property
    def label(self) -> Any:
        """The most probable label."""
        return self.classes[int(self.logits.argmax())]

    def by_modality(self) -> dict[str, np.ndarray]:
        """Return by column the sum of its tokens' contributions, (C,)."""
        return {name: parts.sum(0) for name, parts in self.contributions.items()}

    def for_label(self, label: Any) -> dict[str, np.ndarray]:
        """Return by column what each of its tokens adds to the logit of one label, (T,).

        Raises:
            ValueError: the model does not have this label.
        """
        if label not in self.classes:
            raise ValueError(
                f"label={label!r}: expected one of {', '.join(map(str, self.classes))}"
            )
        column = self.classes.index(label)
        return {name: parts[:, column] for name, parts in self.contributions.items()}


def explain(
    network: MultimodalNetwork,
    inputs: Mapping[str, ModalityInput],
    classes: Sequence[Any],
    token_names: Callable[[str, int], list[str]],
    texts: Mapping[str, tuple[str, Alignment]],
    *,
    offset: float = 0.0,
    scale: float = 1.0,
) -> Explanation:
    """Explain a single row.

    Args:
        network: a network whose fusion is the sum.
        inputs: by column, the values of a batch of one row.
        classes: names of the outputs.
        token_names: returns the names of a column's tokens, given the column and their number.
        texts: by column of text, the cell and the words that its tokens stand for.
        offset, scale: of the target; the outputs are multiplied by `scale`, then `offset` is added.

    Raises:
        ValueError: the fusion is not the sum.
    """
    with torch.inference_mode():
        parts = {name: part.numpy() for name, part in network.contributions(inputs).items()}
        logits = network(inputs, 1)[0].double().numpy()
        bias = network.head.bias.double().numpy()
    contributions = {name: part * scale for name, part in parts.items()}
    explained = {}
    for name, (text, alignment) in texts.items():
        by_word = alignment.by_word(contributions[name])
        explained[name] = ExplainedText(text, alignment.spans[: len(by_word)], by_word)
    return Explanation(
        list(classes),
        {name: token_names(name, len(part)) for name, part in parts.items()},
        contributions,
        bias * scale + offset,
        logits * scale + offset,
        explained,
    )
