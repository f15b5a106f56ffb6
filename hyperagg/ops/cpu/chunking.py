"""How rows are cut into stretches of places, and dealt out to threads.

How they are cut depends on shapes alone, and a border of a share is a border of a stretch, so that
what is computed does not depend on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hyperagg._numba.threads import even_borders, parts

__all__ = ["Stretches", "cut_rows", "shares", "shares_of_places", "whole_rows"]


class Stretches(NamedTuple):
    """Runs of places of rows, in order of place: row, first place, first token, length of each."""

    row: np.ndarray
    place: np.ndarray
    start: np.ndarray
    length: np.ndarray


def whole_rows(starts: np.ndarray, lengths: np.ndarray) -> Stretches:
    """Every row one stretch."""
    return Stretches(np.arange(len(starts)), np.zeros_like(starts), starts, lengths)


def cut_rows(starts: np.ndarray, lengths: np.ndarray, size: int) -> Stretches:
    """Every row cut at the multiples of `size`; a row without tokens stays one stretch."""
    pieces = np.maximum(1, -(-lengths // size))
    row = np.repeat(np.arange(len(starts)), pieces)
    piece = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    order = np.argsort(piece, kind="stable")
    row, place = row[order], piece[order] * size
    return Stretches(row, place, starts[row] + place, np.minimum(size, lengths[row] - place))


def shares(costs: np.ndarray, d: int) -> np.ndarray:
    """Borders of the stretches of each thread, given how many tokens each has, of d channels."""
    return even_borders(costs, parts(int(costs.sum()) * d))


def shares_of_places(stretches: Stretches, d: int) -> np.ndarray:
    """Whole places to a thread, so that each row of the gradient of p has one owner."""
    _, counts = np.unique(stretches.place, return_counts=True)
    ends = np.cumsum(counts)
    if not len(ends):
        return np.array([0, 0])
    tokens = np.add.reduceat(stretches.length, ends - counts)
    return np.concatenate([[0], ends])[shares(tokens, d)]
