"""Read images: single files, and a folder with one subfolder per class."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any, BinaryIO

import numpy as np

from hyperagg._common.regular_file import open_regular
from hyperagg.data.readers.errors import DataError

__all__ = ["ImageFolder", "open_image", "read_image", "read_image_folder"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM")
MAX_BYTES, MAX_PIXELS = 2**29, 2**26
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
        path: a PNG, JPEG, GIF, WebP, TIFF, BMP, AVIF or PPM file; of an animation, the first frame
            is read.

    Returns:
        (height, width) uint8 of a grayscale image, (height, width, 3) of any other; of 16 bits per
        channel, the upper eight.

    Raises:
        ValueError: the file does not exist, is not a complete image, has more than 2^26 pixels, or
            pixels of 32 bits, floating-point or with a sign, which have no defined white.
        ImportError: Pillow is not installed.
    """
    with open_image(path) as image:
        from PIL import ImageOps

        bits, white_is_zero = _gray_levels(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            # Pillow clips more than 8 bits at 255 instead of scaling them.
            pixels = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
            return ~pixels if white_is_zero else pixels
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        return np.asarray(image if image.mode == mode else image.convert(mode))


@contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """Open an image whose size has been checked; its pixels are decoded when it is loaded.

    Pillow recognizes formats by content, whatever the name, and some of its fifty decoders start
    other programs (EPS starts Ghostscript), so the expected formats are passed to it.

    Raises:
        ValueError: as for `read_image`, also for whatever Pillow raises in the block.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("images require Pillow: pip install 'hyperagg[multimodal]'") from error
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    path = Path(path)
    shown = display_path(path)
    try:
        # A decoder asks for as many bytes as the file claims to have, and Python makes room for
        # them before it reads; of bytes in memory it gets no more than there are.
        with open_regular(path, MAX_BYTES) as file:
            content = io.BytesIO(file.read())
        _check_size(shown, *_webp_size(content))
        with Image.open(content, formats=formats) as image:
            _check_size(shown, *image.size)
            _check_range(shown, image)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(
            f"{shown}: not an image that Pillow can read; expected one of {', '.join(FORMATS)}"
        ) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise DataError(f"{shown}: the image is too large ({error})") from error
    except Exception as error:  # damaged files lead decoders to errors of any class
        raise unreadable(path, error, "image") from error


def _check_size(shown: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{shown}: the image is too large ({width} × {height}): expected at most "
            f"{MAX_PIXELS:,} pixels"
        )


def _check_range(shown: str, image: Any) -> None:
    """Refuse numbers that no range is defined for, so that none of them stands for white."""
    # The mode I is 16 bits in PPM and PNG; in TIFF it is 32 bits, or 16 with a sign.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PPM", "PNG")):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit or signed integers"
        raise DataError(
            f"{shown}: the pixels are {kind}: expected 8 or 16 bits per channel without a sign"
        )


def _gray_levels(image: Any) -> tuple[int, bool]:
    """The bits of a grayscale image of more than 8, and whether 0 is white: only TIFF has 12 bits,
    and Pillow inverts no more than 8."""
    if image.format != "TIFF":
        return 16, False
    bits, photometric = image.tag_v2.get(258, (16,)), image.tag_v2.get(262, 1)
    return (12 if bits == (12,) else 16), photometric == 0


def _webp_size(file: BinaryIO) -> tuple[int, int]:
    """The size of a WebP image by its header, since Pillow makes the canvas when it opens one;
    (0, 0) of any other file."""
    header = file.read(30)
    file.seek(0)
    if header[:4] != b"RIFF" or header[8:16] != b"WEBPVP8X" or len(header) < 30:
        return 0, 0
    width, height = (int.from_bytes(header[i : i + 3], "little") + 1 for i in (24, 27))
    return width, height


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
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = reason.removeprefix(f"{path}: ")
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
