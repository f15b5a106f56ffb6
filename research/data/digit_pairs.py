"""A digit that is written and spoken: mnist and fsdd, paired."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hyperagg.data.datasets.digits import AudioClips, Images

__all__ = ["Pairs", "pair"]


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


def pair(images: Images, sounds: AudioClips, seed: int) -> Pairs:
    """Every picture with a recording of the same digit.

    Which one a picture gets, the seed decides; all recordings of a digit are used equally often,
    give or take one.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(images), dtype=np.int64)
    for digit in np.unique(images.labels):
        rows, own = (np.flatnonzero(part.labels == digit) for part in (images, sounds))
        turns = -(-len(rows) // len(own))
        order = np.concatenate([rng.permutation(own) for _ in range(turns)])
        chosen[rows] = order[: len(rows)]
    recordings = [sounds[i] for i in range(len(sounds))]
    heard = [recordings[i] for i in chosen.tolist()]
    return Pairs(images.images, heard, images.labels, sounds.sample_rate)
