"""Columns of pictures and sounds: arrays, or the paths of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hyperagg.data.readers.media import read_audio, read_image
from hyperagg.multimodal.columns.tabular import Place
from hyperagg.multimodal.modalities.audio import AudioFrames
from hyperagg.multimodal.modalities.base import Modality
from hyperagg.multimodal.modalities.image import ImagePatches

__all__ = ["AudioColumn", "ImageColumn", "add_noise"]

# Sides of pictures that are learned: smaller ones as they are, larger ones made smaller.
MAX_PIXELS = 32
# So many, evenly spaced, tell the size and the brightness of all.
PICTURES_TO_LEARN = 500
# How training changes what it sees: shifts by a fourteenth of a picture or a sound; and one row in
# four gets noise, up to as much as there is signal.
SHIFT, NOISY = 1 / 14, 0.25


@dataclass(frozen=True)
class ImageColumn:
    """Pictures of one size, grey or in colour as the training rows have them."""

    kind: ClassVar[str] = "image"
    height: int
    width: int
    channels: int
    mean: float
    deviation: float

    @classmethod
    def learn(cls, cells: Sequence[Any], place: Place) -> ImageColumn:
        height = width = channels = 0
        total = squares = number = 0.0
        given = [i for i, cell in enumerate(cells) if cell is not None]
        for i in given[:: max(1, len(given) // PICTURES_TO_LEARN)]:
            pixels = _pixels(cells[i], i, place)
            height, width = max(height, pixels.shape[0]), max(width, pixels.shape[1])
            channels = max(channels, pixels.shape[2])
            x = pixels / np.float64(255)
            total, squares, number = total + x.mean(), squares + (x**2).mean(), number + 1
        scale = min(1.0, MAX_PIXELS / max(height, width))
        mean = total / number
        deviation = max(1e-3, (squares / number - mean**2)) ** 0.5
        height, width = (max(1, round(side * scale)) for side in (height, width))
        return cls(height, width, channels, float(mean), float(deviation))

    def encode(self, cells: Sequence[Any], place: Place) -> ImageCells:
        size = self.channels, self.height, self.width
        images = np.zeros((len(cells), *size), dtype=np.uint8)
        present = np.array([cell is not None for cell in cells], dtype=bool)
        for i in np.flatnonzero(present).tolist():
            images[i] = self._fitted(_pixels(cells[i], i, place))
        return ImageCells(images, present)

    def modality(self, d_model: int, hidden: int) -> Modality:
        return ImagePatches(
            d_model,
            (self.height, self.width),
            channels=self.channels,
            # Half of each side: five by five of them.
            patch=max(1, min(self.height, self.width) // 2),
            stride=max(1, min(self.height, self.width) // 7),
            hidden=hidden,
            mean=self.mean,
            deviation=self.deviation,
        )

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def read(cls, described: Mapping[str, Any], folder: Path, number: int) -> ImageColumn:
        height, width, channels = (int(described[n]) for n in ("height", "width", "channels"))
        return cls(height, width, channels, float(described["mean"]), float(described["deviation"]))

    def names(self, cell: Any, tokens: int) -> list[str]:
        made = self.modality(1, 1)
        assert isinstance(made, ImagePatches)
        return [f"row {int(y)} column {int(x)}" for y, x in made.corners()]

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """(channels, height, width): scaled to the size, and to the number of channels."""
        if pixels.shape[2] > self.channels:
            pixels = np.rint(pixels.mean(2, keepdims=True)).astype(np.uint8)
        x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]  # Pillow's are read-only
        if x.shape[2:] != (self.height, self.width):
            size = (self.height, self.width)
            x = interpolate(x.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255)
        return x[0].expand(self.channels, -1, -1).to(torch.uint8).numpy()


@dataclass(frozen=True)
class ImageCells:
    images: np.ndarray
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        images = self.images[rows].astype(np.float32) / 255
        if rng is not None:
            most = [max(1, round(side * SHIFT)) for side in images.shape[2:]]
            images = _shifted(images, [rng.integers(-m, m + 1, len(rows)) for m in most])
            for i in np.flatnonzero(rng.random(len(rows)) < NOISY):
                images[i] = add_noise(images[i], rng.uniform(0, 0.8), rng)
        return (torch.from_numpy(images),)


@dataclass(frozen=True)
class AudioColumn:
    """Sounds of any length, at one rate."""

    kind: ClassVar[str] = "audio"
    rate: int

    def encode(self, cells: Sequence[Any], place: Place) -> SoundCells:
        # Many rows may have the same file.
        read: dict[Path, np.ndarray] = {}
        sounds = [self._samples(cell, i, place, read) for i, cell in enumerate(cells)]
        return SoundCells(sounds, np.array([sound is not None for sound in sounds], dtype=bool))

    def modality(self, d_model: int, hidden: int) -> Modality:
        return AudioFrames(d_model, self.rate, hidden=hidden)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "rate": self.rate}

    @classmethod
    def read(cls, described: Mapping[str, Any], folder: Path, number: int) -> AudioColumn:
        return cls(int(described["rate"]))

    def names(self, cell: Any, tokens: int) -> list[str]:
        made = self.modality(1, 1)
        assert isinstance(made, AudioFrames)
        return [f"{second:.3f} s" for second in made.seconds(tokens)]

    def _samples(
        self, cell: Any, row: int, place: Place, read: dict[Path, np.ndarray]
    ) -> np.ndarray | None:
        if cell is None:
            return None
        if isinstance(cell, str | Path):
            path = Path(cell)
            if path not in read:
                with _row(place, row):
                    read[path] = read_audio(path, self.rate)
            return read[path]
        samples = np.asarray(cell)
        if samples.ndim != 1 or not len(samples):
            raise ValueError(
                f"{place(row)}: a sound has the shape {samples.shape}; give (samples,) of them"
            )
        if samples.dtype == np.int16:
            return samples
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError(f"{place(row)}: a sound has samples that are not finite")
        return samples


@dataclass(frozen=True)
class SoundCells:
    sounds: Sequence[np.ndarray | None]
    present: np.ndarray

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        own = []
        for i in rows:
            sound = self.sounds[i]
            assert sound is not None
            x = sound / np.float32(32768) if sound.dtype == np.int16 else sound
            own.append(x if rng is None else _varied(x, rng))
        lengths = np.array([len(sound) for sound in own], dtype=np.int64)
        audio = np.zeros((len(own), lengths.max(initial=1)), dtype=np.float32)
        for row, sound in zip(audio, own):
            row[: len(sound)] = sound
        return torch.from_numpy(audio), torch.from_numpy(lengths)


def add_noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of `level`, of a sound times its own deviation."""
    if x.ndim == 1:
        level = level * float(x.std())
    noise = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(level)
    return x + noise if x.ndim == 1 else np.clip(x + noise, 0, 1)


def _varied(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Begins and ends a little earlier or later, is a little faster or slower, may have noise."""
    most = int(len(x) * SHIFT)
    begin, end = rng.integers(-most, most + 1, 2)
    moved = np.zeros(len(x) - begin + end, dtype=np.float32)
    kept = x[max(0, begin) : len(x) + min(0, end)]
    moved[max(0, -begin) :][: len(kept)] = kept
    x = moved
    at = np.arange(0, len(x), rng.uniform(0.9, 1.1))
    x = np.interp(at, np.arange(len(x)), x).astype(np.float32)
    if rng.random() < NOISY:
        x = add_noise(x, float(rng.uniform(0, 1)), rng)
    return x


def _shifted(images: np.ndarray, by: Sequence[np.ndarray]) -> np.ndarray:
    """Each picture moved down and right; what comes in is the picture's own border."""
    height, width = images.shape[2:]
    y = np.clip(np.arange(height) - by[0][:, None], 0, height - 1)
    x = np.clip(np.arange(width) - by[1][:, None], 0, width - 1)
    row = np.arange(len(images))[:, None, None]
    return images.transpose(0, 2, 3, 1)[row, y[:, :, None], x[:, None, :]].transpose(0, 3, 1, 2)


def _pixels(cell: Any, row: int, place: Place) -> np.ndarray:
    """(height, width, channels) uint8, 1 or 3 channels."""
    if isinstance(cell, str | Path):
        with _row(place, row):
            cell = read_image(Path(cell))
    pixels = np.asarray(cell)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"{place(row)}: a picture has the shape {np.shape(cell)}; give (height, width) or "
            "(height, width, 3)"
        )
    if pixels.dtype != np.uint8:
        raise TypeError(f"{place(row)}: a picture is of {pixels.dtype}; give uint8, 0 to 255")
    return pixels


class _row:
    """What goes wrong with a file inside is told with its row."""

    def __init__(self, place: Place, row: int) -> None:
        self.place, self.row = place, row

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"{self.place(self.row)}: {error}") from error
