"""Splits rows into training and validation rows."""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["contiguous_folds", "train_validation_split"]


def train_validation_split(
    classes: np.ndarray,
    fraction: float,
    seed: int,
    strategy: Literal["contiguous", "stratified", "random"] = "contiguous",
) -> tuple[np.ndarray, np.ndarray]:
    """Split row indices into training and validation rows.

    Args:
        classes: (rows,) class ids, -1 for a row without a class. For "random" only their number
            matters.
        fraction: the fraction of the rows to validate on, 0 <= fraction < 1. The number of rows is
            rounded down, per class unless "random", so a class of fewer than 1 / fraction rows has
            no validation rows.
        seed: determines which rows.
        strategy: "contiguous" takes one run of adjacent rows from each class. Files often hold
            near-duplicates next to each other (reviews of one film), and a validation row whose
            duplicate is a training row measures nothing. "stratified" draws rows of each class at
            random; "random" draws them from all rows.

    Returns:
        The training rows and the validation rows, each in ascending order.

    Example:
        >>> train_validation_split(np.zeros(4, int), 0.5, seed=0)
        (array([1, 2]), array([0, 3]))
    """
    rng = np.random.default_rng(seed)
    groups = [np.arange(len(classes))]
    if strategy != "random":
        groups = [np.flatnonzero(classes == c) for c in np.unique(classes)]
    held_out = [np.empty(0, np.int64)]
    for rows in groups:
        count = int(len(rows) * fraction)
        if strategy == "contiguous":
            held_out.append(np.roll(rows, -rng.integers(len(rows)))[:count])
        else:
            held_out.append(rng.permutation(rows)[:count])
    validation = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(classes)), validation), validation


def contiguous_folds(classes: np.ndarray, number: int, seed: int) -> list[np.ndarray]:
    """Return disjoint folds of validation rows, each with a run of adjacent rows of each class.

    The first fold has the validation rows of `train_validation_split` with the fraction 1 / number.

    Args:
        classes: (rows,) class ids, -1 for a row without a class.
        number: the number of folds, at least 2. Of each class, the rows that are left when their
            number is divided by it are in no fold, so a fold has none of a class with fewer rows.
        seed: determines which rows.

    Returns:
        The rows of each fold, in ascending order.

    Example:
        >>> contiguous_folds(np.zeros(5, int), 2, seed=0)
        [array([0, 4]), array([1, 2])]
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in range(number)]
    for c in np.unique(classes):
        rows = np.flatnonzero(classes == c)
        rows = np.roll(rows, -rng.integers(len(rows)))
        size = len(rows) // number
        for k, part in enumerate(parts):
            part.append(rows[k * size : (k + 1) * size])
    return [np.sort(np.concatenate(part)) for part in parts]
