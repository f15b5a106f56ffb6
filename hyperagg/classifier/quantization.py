"""What makes a saved classifier small: fewer tokens, and 8 bits a number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hyperagg.classifier.model import Classifier

__all__ = ["most_important", "round_rows"]


def most_important(model: Classifier, uses: Tensor, most: int) -> Tensor:
    """Row 0, [UNK], and the `most` rows that matter most, in their order.

    By uses_v sum_c (<W_c - mean W, e_v>)^2: what a token adds to the logits, squared, over all its
    uses in training.
    """
    with torch.no_grad():
        scores = model.embedding @ (model.head.weight - model.head.weight.mean(0)).T
        worth = scores.square().sum(1) * uses
        worth[0] = torch.inf
        return worth.topk(min(most + 1, len(worth))).indices.sort().values


def round_rows(rows: Tensor) -> np.ndarray:
    """Rounds each row, in place, to whole multiples of a 127th of its largest number.

    Returns:
        (V,) what they are multiples of.
    """
    with torch.no_grad():
        scales = rows.abs().amax(1).clamp(min=1e-30) / 127
        rows.copy_((rows / scales[:, None]).round() * scales[:, None])
    return scales.numpy()
