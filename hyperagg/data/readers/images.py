"""Pictures of the user's own: a folder with a folder a class."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.media import read_image

__all__ = ["ImageFolder", "read_image_folder"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageFolder:
    """Square pictures of one size, and their classes.

    Args:
        images: (rows, size, size) uint8 where all are grey, else (rows, size, size, 3).
        labels: (rows,) int64 places in `names`.
        names: of the classes.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_image_folder(folder: Path) -> ImageFolder:
    """The pictures in the folders of a folder, each of which is a class with the folder's name.

    Raises:
        ValueError: there are none, a file is no picture, or it has another size than the first.
        ImportError: Pillow is absent.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of pictures")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(
            f"{folder}: there are no pictures in folders in it; put those of each class in a "
            "folder with its name"
        )
    images = [read_image(path) for path, _ in files]
    first = images[0].shape[:2]
    for (path, _), image in zip(files, images):
        height, width = image.shape[:2]
        if width != height:
            raise DataError(f"{path}: is {width} × {height}; pictures have to be square")
        if image.shape[:2] != first:
            raise DataError(
                f"{path}: is {width} × {height} and {files[0][0]} {first[1]} × {first[0]}; make "
                "all pictures of one size"
            )
    if any(image.ndim == 3 for image in images):
        images = [i if i.ndim == 3 else np.stack([i] * 3, axis=-1) for i in images]
    labels = np.array([label for _, label in files], dtype=np.int64)
    return ImageFolder(np.stack(images), labels, names)
