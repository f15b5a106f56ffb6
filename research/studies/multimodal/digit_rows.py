"""Rows of written and spoken digits, whole and damaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hyperagg.data.datasets.digits import AudioClips
from hyperagg.multimodal.columns.media import add_noise
from research.data.digit_pairs import Pairs

__all__ = ["cells_of", "damaged_picture", "damaged_sound", "some_pairs", "some_sounds"]

# Of white noise: of a picture's 0 to 1, and of a sound's own deviation (0 dB). The most that
# training puts in.
PICTURE_NOISE, SOUND_NOISE = 0.8, 1.0


def damaged_picture(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x = add_noise(pixels[None].astype(np.float32) / 255, PICTURE_NOISE, rng)[0]
    return np.rint(255 * x).astype(np.uint8)


def damaged_sound(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return add_noise(samples / np.float32(32768), SOUND_NOISE, rng)


def cells_of(pairs: Pairs) -> dict[str, Any]:
    return {"picture": list(pairs.images), "sound": pairs.sounds}


def some_pairs(pairs: Pairs, end: int | None, begin: int = 0) -> Pairs:
    part = slice(begin, end)
    return replace(
        pairs, images=pairs.images[part], sounds=pairs.sounds[part], labels=pairs.labels[part]
    )


def some_sounds(sounds: AudioClips, rows: np.ndarray) -> AudioClips:
    own = [sounds[i] for i in rows.tolist()]
    borders = np.cumsum([0, *(len(sound) for sound in own)])
    return replace(
        sounds,
        audio=np.concatenate(own),
        offsets=borders,
        labels=sounds.labels[rows],
        speakers=sounds.speakers[rows],
    )
