"""A digit that is written and spoken: mnist and fsdd, paired."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hyperagg.data.digits import Images, Sounds, load_fsdd, load_mnist

__all__ = ["DigitPairs", "Pairs", "load_digit_pairs", "pair"]


@dataclass(frozen=True)
class Pairs:
    """Pictures, each with a recording of the same digit.

    Args:
        images: (rows, 28, 28) uint8.
        sounds: one a row, (samples,) int16 at `rate`; many rows share a recording.
        labels: (rows,) int64.
        rate: samples a second.
    """

    images: np.ndarray = field(repr=False)
    sounds: list[np.ndarray] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    rate: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DigitPairs:
    """What to learn from and what to measure on, and where it came from."""

    train: Pairs
    test: Pairs
    source: str


def load_digit_pairs(seed: int = 0) -> DigitPairs:
    """Every picture of mnist with a recording of fsdd of the same digit.

    The test pairs are of both test splits, 10,000 pictures and 300 recordings; which recording a
    picture gets, the seed decides. All recordings of a digit are used equally often, give or take
    one.

    Raises:
        ValueError: one of the two cannot be had.
    """
    written, spoken = load_mnist(), load_fsdd()
    return DigitPairs(
        pair(written.train, spoken.train, seed),
        pair(written.test, spoken.test, seed),
        f"{written.source}; {spoken.source}",
    )


def pair(images: Images, sounds: Sounds, seed: int) -> Pairs:
    """Each picture with a recording of the same digit."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(images), dtype=np.int64)
    for digit in np.unique(images.labels):
        rows, own = (np.flatnonzero(part.labels == digit) for part in (images, sounds))
        turns = -(-len(rows) // len(own))
        order = np.concatenate([rng.permutation(own) for _ in range(turns)])
        chosen[rows] = order[: len(rows)]
    recordings = [sounds[i] for i in range(len(sounds))]
    heard = [recordings[i] for i in chosen.tolist()]
    return Pairs(images.images, heard, images.labels, sounds.rate)
