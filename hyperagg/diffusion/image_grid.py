"""Grids of pictures, still and moving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hyperagg._common.atomic import atomic_write

__all__ = ["check_path", "picture_grid", "write_animation", "write_picture"]

SHORT, LONG = 80, 2000  # milliseconds of a frame, and of the last


def picture_grid(pictures: np.ndarray, columns: int, scale: int = 2) -> Image.Image:
    """Pictures side by side, row by row, with a dark line between.

    Args:
        pictures: (number, height, width) or (number, height, width, 1 or 3) from 0 to 1.
        columns: how many stand in a row.
        scale: how often each pixel is repeated in both directions.
    """
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    number, height, width, channels = pictures.shape
    rows = -(-number // columns)
    cells = np.zeros((rows * columns, height + 1, width + 1, channels), dtype=np.uint8)
    cells[:number, 1:, 1:] = np.rint(255 * np.clip(pictures, 0, 1))
    grid = cells.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + 1), columns * (width + 1), channels)
    grid = grid.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(grid[..., 0] if channels == 1 else grid)


def check_path(path: Path, animated: bool = False) -> None:
    """Whether pictures can be written to `path`, before they are drawn.

    Raises:
        ValueError: its ending names no format of pictures, or none of animations.
    """
    if animated and path.suffix.lower() != ".gif":
        raise ValueError(f"{path}: an animation is a GIF; let its name end in .gif")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{path}: its ending names no format of pictures; .png does")


def write_picture(picture: Image.Image, path: Path) -> None:
    """In the format that the path's ending names."""
    check_path(path)
    with atomic_write(path) as draft:
        picture.save(draft)


def write_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """An animated GIF that stays on its last frame for two seconds."""
    check_path(path, animated=True)
    durations = [SHORT] * (len(frames) - 1) + [LONG]
    # Sixteen levels are enough to watch noise go, and make a third of the file.
    first, *rest = [frame.quantize(16) for frame in frames]
    with atomic_write(path) as draft:
        first.save(draft, save_all=True, append_images=rest, duration=durations, loop=0)
