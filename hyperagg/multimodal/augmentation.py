"""Random variations of images and audio clips in training."""

from __future__ import annotations

import numpy as np

__all__ = ["add_noise", "add_noise_to_some", "augment_clip", "shift_images"]

# Images and clips are shifted by at most this fraction of their size.
MAX_SHIFT = 1 / 14
# The probability of noise, and its largest standard deviation: of images, whose pixels lie between
# 0 and 1, and of clips relative to their own standard deviation.
NOISE_PROBABILITY = 0.25
MAX_IMAGE_NOISE, MAX_AUDIO_NOISE = 0.8, 1.0


def add_noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to an image or to an audio clip.

    Args:
        x: (channels, height, width) between 0 and 1, or (samples,).
        level: standard deviation of the noise; of a clip, relative to its own.
        rng: where the noise is drawn from.

    Returns:
        an array of the same shape; images are clipped to 0 to 1.
    """
    if x.ndim == 1:
        level = level * float(x.std())
    noise = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(level)
    return x + noise if x.ndim == 1 else np.clip(x + noise, 0, 1)


def shift_images(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift each of (R, channels, height, width); the border pixels fill what becomes free."""
    height, width = images.shape[2:]
    limits = [max(1, round(side * MAX_SHIFT)) for side in (height, width)]
    down, right = (rng.integers(-m, m + 1, len(images))[:, None] for m in limits)
    y = np.clip(np.arange(height) - down, 0, height - 1)
    x = np.clip(np.arange(width) - right, 0, width - 1)
    row = np.arange(len(images))[:, None, None]
    return images.transpose(0, 2, 3, 1)[row, y[:, :, None], x[:, None, :]].transpose(0, 3, 1, 2)


def add_noise_to_some(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise of random levels to about a quarter of (R, channels, height, width), in place."""
    for i in np.flatnonzero(rng.random(len(images)) < NOISE_PROBABILITY):
        images[i] = add_noise(images[i], rng.uniform(0, MAX_IMAGE_NOISE), rng)
    return images


def augment_clip(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift the start and the end of (samples,), change its speed by up to 10 %, and add noise to
    about a quarter of the clips."""
    limit = int(len(x) * MAX_SHIFT)
    begin, end = rng.integers(-limit, limit + 1, 2)
    shifted = np.zeros(len(x) - begin + end, dtype=np.float32)
    kept = x[max(0, begin) : len(x) + min(0, end)]
    shifted[max(0, -begin) :][: len(kept)] = kept
    times = np.arange(0, len(shifted), rng.uniform(0.9, 1.1))
    x = np.interp(times, np.arange(len(shifted)), shifted).astype(np.float32)
    if rng.random() < NOISE_PROBABILITY:
        x = add_noise(x, float(rng.uniform(0, MAX_AUDIO_NOISE)), rng)
    return x
