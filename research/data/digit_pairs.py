"""Digits that are written and spoken: mnist and fsdd, paired."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hyperagg.data.datasets.digits import AudioClips, Images

__all__ = ["Pairs", "pair"]


@dataclass(frozen=True)
class Pairs:
    """Images, each with a recording of the same digit.

    Args:
        images: (rows, 28, 28) uint8.
        audio: one recording per row, (samples,) int16; rows share recordings.
        labels: (rows,) int64.
        sample_rate: samples per second.
    """

    images: np.ndarray = field(repr=False)
    audio: list[np.ndarray] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    sample_rate: int

    def __len__(self) -> int:
        return len(self.labels)


def pair(images: Images, recordings: AudioClips, seed: int) -> Pairs:
    """Pair every image with a recording of the same digit.

    The seed decides which recording an image gets. The numbers of times that two recordings of a
    digit are used differ by at most one.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(images), dtype=np.int64)
    for digit in np.unique(images.labels):
        rows, own = (np.flatnonzero(part.labels == digit) for part in (images, recordings))
        repeats = -(-len(rows) // len(own))
        order = np.concatenate([rng.permutation(own) for _ in range(repeats)])
        chosen[rows] = order[: len(rows)]
    clips = [recordings[i] for i in range(len(recordings))]
    return Pairs(
        images.images, [clips[i] for i in chosen.tolist()], images.labels, recordings.sample_rate
    )
