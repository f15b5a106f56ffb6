"""Columns of images: arrays, or the paths of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hyperagg._common.validation import check_integer, check_real
from hyperagg.data import read_image
from hyperagg.multimodal.augmentation import add_noise_to_some, shift_images
from hyperagg.multimodal.columns.base import RowName, errors_name_row, is_missing
from hyperagg.multimodal.modalities.image import ImagePatches

__all__ = ["ImageColumn"]

# The longer side of the images that a model sees; larger images are scaled down to it.
MAX_SIDE = 32
# As many evenly spaced images determine the size and the brightness.
MAX_IMAGES_TO_FIT = 500


@dataclass(frozen=True)
class ImageColumn:
    """The size, the number of channels and the brightness of the training images."""

    kind: ClassVar[str] = "image"
    height: int
    width: int
    channels: int
    mean: float
    std: float

    @classmethod
    def fit(cls, cells: Sequence[Any], row_name: RowName) -> ImageColumn:
        height = width = channels = 0
        total = total_squares = count = 0.0
        given = [i for i, cell in enumerate(cells) if not is_missing(cell)]
        for i in given[:: max(1, len(given) // MAX_IMAGES_TO_FIT)]:
            pixels = _checked_pixels(cells[i], i, row_name)
            height, width = max(height, pixels.shape[0]), max(width, pixels.shape[1])
            channels = max(channels, pixels.shape[2])
            x = pixels / np.float64(255)
            total, total_squares, count = total + x.mean(), total_squares + (x**2).mean(), count + 1
        scale = min(1.0, MAX_SIDE / max(height, width))
        mean = total / count
        std = max(1e-3, (total_squares / count - mean**2)) ** 0.5
        height, width = (max(1, round(side * scale)) for side in (height, width))
        return cls(height, width, channels, float(mean), float(std))

    def encode(self, cells: Sequence[Any], row_name: RowName) -> EncodedImages:
        size = self.channels, self.height, self.width
        images = np.zeros((len(cells), *size), dtype=np.uint8)
        present = np.array([not is_missing(cell) for cell in cells], dtype=bool)
        for i in np.flatnonzero(present).tolist():
            images[i] = self._resize(_checked_pixels(cells[i], i, row_name))
        return EncodedImages(images, present)

    def make_modality(self, d_model: int, hidden_dim: int) -> ImagePatches:
        side = min(self.height, self.width)
        return ImagePatches(
            d_model,
            (self.height, self.width),
            channels=self.channels,
            # Half of the shorter side, which gives a grid of at least five by five patches.
            patch_size=max(1, side // 2),
            stride=max(1, side // 7),
            hidden_dim=hidden_dim,
            mean=self.mean,
            std=self.std,
        )

    def to_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImageColumn:
        height, width = (check_integer(k, config[k], 1, MAX_SIDE) for k in ("height", "width"))
        if check_integer("channels", config["channels"]) not in (1, 3):
            raise ValueError(f"channels={config['channels']}: expected 1 or 3")
        mean = check_real("mean", config["mean"], 0, 1)
        std = check_real("std", config["std"], 0, open_minimum=True)
        return cls(height, width, config["channels"], mean, std)

    def token_names(self, cell: Any, num_tokens: int) -> list[str]:
        origins = self.make_modality(1, 1).patch_origins()
        return [f"row {int(y)} column {int(x)}" for y, x in origins]

    def _resize(self, pixels: np.ndarray) -> np.ndarray:
        """(channels, height, width) of the size and the number of channels of the column."""
        if pixels.shape[2] > self.channels:
            pixels = np.rint(pixels.mean(2, keepdims=True)).astype(np.uint8)
        x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]  # Pillow's are read-only
        if x.shape[2:] != (self.height, self.width):
            size = (self.height, self.width)
            # One channel after the other: floats take four times the memory of a large image.
            resized = [
                interpolate(part.float(), size, mode="bilinear", antialias=True)
                for part in x.split(1, dim=1)
            ]
            x = torch.cat(resized, 1).round().clamp(0, 255)
        return x[0].expand(self.channels, -1, -1).to(torch.uint8).numpy()


@dataclass(frozen=True)
class EncodedImages:
    images: np.ndarray
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        images = self.images[rows].astype(np.float32) / 255
        if rng is not None:
            images = add_noise_to_some(shift_images(images, rng), rng)
        return (torch.from_numpy(images),)

    def arrays(self) -> Iterator[np.ndarray]:
        yield self.images


def _checked_pixels(cell: Any, row: int, row_name: RowName) -> np.ndarray:
    """(height, width, channels) uint8 with 1 or 3 channels."""
    if isinstance(cell, str | Path):
        with errors_name_row(row_name, row):
            cell = read_image(Path(cell))
    pixels = np.asarray(cell)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"{row_name(row)}: an image of shape {np.shape(cell)}: expected (height, width) or "
            "(height, width, 3)"
        )
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"{row_name(row)}: an image of type {pixels.dtype}: expected uint8 from 0 to 255"
        )
    return pixels
