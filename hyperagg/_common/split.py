"""The one split of training rows into rows to learn from and rows to validate on."""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["train_validation_split"]


def train_validation_split(
    classes: np.ndarray,
    fraction: float,
    seed: int,
    strategy: Literal["contiguous", "stratified", "random"] = "contiguous",
) -> tuple[np.ndarray, np.ndarray]:
    """Splits row numbers into a training and a validation part.

    Args:
        classes: (rows,) class ids; -1 for a row without one. For "random" only their number counts.
        fraction: of the rows to validate on, 0 <= fraction < 1. The count is rounded down, per
            class unless "random", so a class of fewer than 1 / fraction rows gives none.
        seed: decides which rows.
        strategy: "contiguous" takes one run of neighbouring rows from each class: files often hold
            near-duplicates next to each other (reviews of one film), and a validation row whose
            twin is trained on says nothing. "stratified" draws rows of each class independently;
            "random" draws them from all rows.

    Returns:
        the training and the validation rows, each in ascending order.

    >>> train_validation_split(np.zeros(4, int), 0.5, seed=0)
    (array([1, 2]), array([0, 3]))
    """
    rng = np.random.default_rng(seed)
    groups = [np.arange(len(classes))]
    if strategy != "random":
        groups = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    held = [np.empty(0, np.int64)]
    for rows in groups:
        count = int(len(rows) * fraction)
        if strategy == "contiguous":
            held.append(np.roll(rows, -rng.integers(len(rows)))[:count])
        else:
            held.append(rng.permutation(rows)[:count])
    validation = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(classes)), validation), validation
