"""Read images: single files, and a folder with one subfolder per class."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR

import numpy as np

from hyperagg.data.readers.errors import DataError

__all__ = ["ImageFolder", "read_image", "read_image_folder"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MAX_SHOWN = 200  # characters of a path in an error


@dataclass(frozen=True)
class ImageFolder:
    """Hold square images of one size and their classes.

    Args:
        images: (rows, size, size) uint8 if all are grayscale, else (rows, size, size, 3).
        labels: (rows,) int64, indices into `names`.
        names: the names of the classes.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_image_folder(folder: Path) -> ImageFolder:
    """Read the images in the subfolders of a folder; a subfolder is a class with its name.

    Args:
        folder: files in it that do not have the extension of an image are ignored.

    Raises:
        ValueError: the folder contains no images, a file is not an image, an image is not square,
            or its size is not that of the first one.
        ImportError: Pillow is not installed.
    """
    folder = Path(folder)
    if not S_ISDIR(_mode(folder)):
        raise DataError(
            f"{display_path(folder)}: expected a folder of images, and it does not exist"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise DataError(
            f"{folder}: contains no subfolders with images; expected one subfolder per class"
        )
    images = [read_image(path) for path, _ in files]
    first = images[0].shape[:2]
    for (path, _), image in zip(files, images):
        height, width = image.shape[:2]
        if width != height:
            raise DataError(f"{path}: size {width} × {height}: expected a square image")
        if image.shape[:2] != first:
            raise DataError(
                f"{path}: size {width} × {height}: expected that of {files[0][0]}, "
                f"{first[1]} × {first[0]}"
            )
    if any(image.ndim == 3 for image in images):
        images = [i if i.ndim == 3 else np.stack([i] * 3, axis=-1) for i in images]
    labels = np.array([label for _, label in files], dtype=np.int64)
    return ImageFolder(np.stack(images), labels, names)


def read_image(path: Path) -> np.ndarray:
    """Read an image, turned upright.

    Args:
        path: a file in a format that Pillow reads.

    Returns:
        (height, width) uint8 of a grayscale image, (height, width, 3) of any other.

    Raises:
        ValueError: the file does not exist, or is not a complete image.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("images require Pillow: pip install 'hyperagg[multimodal]'") from error
    path = Path(path)
    shown = display_path(path)
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            gray = upright.mode in ("1", "L", "LA", "I", "I;16", "F")
            if upright.mode.startswith("I;16"):
                # Pillow clips 16 bits at 255 instead of scaling them.
                return (np.asarray(upright, dtype=np.uint16) >> 8).astype(np.uint8)
            return np.asarray(upright.convert("L" if gray else "RGB"))
    except UnidentifiedImageError as error:
        raise DataError(f"{shown}: not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{shown}: the image is too large ({error})") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise unreadable(path, error, "image") from error


def unreadable(path: Path, error: Exception, kind: str) -> DataError:
    """Return the error about a media file that another library failed to read."""
    shown = display_path(path)
    mode = _mode(path)
    if not mode:
        return DataError(f"{shown}: the file does not exist")
    if S_ISDIR(mode):
        return DataError(f"{shown}: expected an {kind} file, got a folder")
    if isinstance(error, PermissionError) or not os.access(path, os.R_OK):
        return DataError(f"{shown}: permission denied; expected a file that can be read")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    reason = reason.replace(str(path), shown)
    return DataError(f"{shown}: not a complete {kind} file ({reason})")


def _mode(path: Path) -> int:
    """Return the mode of a file; 0 if it does not exist, or if no file can have this path."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def display_path(path: Path) -> str:
    """Return a path as errors name it, cut if it is much longer than the paths of files are."""
    text = str(path)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
