"""Grids of images, as still images and as animations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hyperagg._common.atomic import atomic_write

__all__ = ["check_image_path", "image_grid", "write_animation", "write_image"]

FRAME_MS, LAST_FRAME_MS = 80, 2000


def image_grid(images: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Arrange images row by row, separated by black lines of one pixel.

    Args:
        images: (B, height, width) or (B, height, width, 1 or 3), floats from 0 to 1; values beyond
            are clipped.
        columns: number of images per row.
        scale: factor by which pixels are repeated in both directions.

    Returns:
        an image in mode "L" (one channel) or "RGB". Cells without an image are black.

    >>> image_grid(np.ones((3, 8, 8)), columns=2).size
    (36, 36)
    """
    if images.ndim == 3:
        images = images[..., None]
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height + 1, width + 1, channels), dtype=np.uint8)
    cells[:count, 1:, 1:] = np.rint(255 * np.clip(images, 0, 1))
    grid = cells.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + 1), columns * (width + 1), channels)
    grid = grid.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(grid[..., 0] if channels == 1 else grid)


def check_image_path(path: Path, animated: bool = False) -> None:
    """Check that an image format is known for the file name, before images are generated.

    Args:
        path: the file to be written.
        animated: whether the file has to hold an animation.

    Raises:
        ValueError: the suffix of `path` does not name an image format, or not GIF for an animation.
    """
    if animated and path.suffix.lower() != ".gif":
        raise ValueError(f"{path}: expected a file name that ends in .gif for an animation")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path}: expected a file name that ends in an image format, such as .png")


def write_image(image: Image.Image, path: Path) -> None:
    """Write an image in the format that the suffix of `path` names.

    Raises:
        ValueError: the suffix does not name an image format.
    """
    check_image_path(path)
    with atomic_write(path) as draft:
        image.save(draft)


def write_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """Write frames as an endless GIF that shows the last frame for two seconds.

    Raises:
        ValueError: the suffix of `path` is not .gif.
    """
    check_image_path(path, animated=True)
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    # Sixteen levels are enough to show how noise disappears, in a third of the file size.
    first, *rest = [frame.quantize(16) for frame in frames]
    with atomic_write(path) as draft:
        first.save(draft, save_all=True, append_images=rest, duration=durations, loop=0)
