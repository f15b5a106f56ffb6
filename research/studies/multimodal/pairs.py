"""Rows of written and spoken digits, clean and noisy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hyperagg.data.datasets.digits import AudioClips
from hyperagg.multimodal.augmentation import add_noise
from research.data.digit_pairs import Pairs

__all__ = ["columns_of", "noisy_audio", "noisy_image", "subset_pairs", "subset_recordings"]

# Deviation of white noise, for images from 0 to 1, and for audio in multiples of its own deviation
# (0 dB). Training adds at most this much.
IMAGE_NOISE, AUDIO_NOISE = 0.8, 1.0


def noisy_image(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise to uint8 pixels."""
    x = add_noise(pixels[None].astype(np.float32) / 255, IMAGE_NOISE, rng)[0]
    return np.rint(255 * x).astype(np.uint8)


def noisy_audio(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise to int16 samples, scaled to -1 ... 1."""
    return add_noise(samples / np.float32(32768), AUDIO_NOISE, rng)


def columns_of(pairs: Pairs) -> dict[str, Any]:
    """Build the columns of a model from pairs."""
    return {"image": list(pairs.images), "audio": pairs.audio}


def subset_pairs(pairs: Pairs, end: int | None, begin: int = 0) -> Pairs:
    """Select the pairs from `begin` to `end`."""
    part = slice(begin, end)
    return replace(
        pairs, images=pairs.images[part], audio=pairs.audio[part], labels=pairs.labels[part]
    )


def subset_recordings(recordings: AudioClips, rows: np.ndarray) -> AudioClips:
    """Select recordings by row."""
    clips = [recordings[i] for i in rows.tolist()]
    return replace(
        recordings,
        audio=np.concatenate(clips),
        offsets=np.cumsum([0, *(len(clip) for clip in clips)]),
        labels=recordings.labels[rows],
        speakers=recordings.speakers[rows],
    )
