"""Pictures and sounds from files, by Pillow and soundfile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperagg.data.readers.errors import DataError

__all__ = ["read_audio", "read_image"]

LONGEST = 600  # seconds; what is longer is no clip, and its frames would not fit into memory


def read_image(path: Path) -> np.ndarray:
    """(height, width) uint8 of a grey picture, (height, width, 3) of any other.

    Raises:
        ValueError: there is no such file, or no whole picture in it.
        ImportError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise _absent("pictures need Pillow") from error
    try:
        with Image.open(path) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            grey = upright.mode in ("1", "L", "LA", "I", "I;16", "F")
            if upright.mode.startswith("I;16"):
                # Pillow cuts 16 bits off at 255 and does not scale them.
                return (np.asarray(upright, dtype=np.uint16) >> 8).astype(np.uint8)
            return np.asarray(upright.convert("L" if grey else "RGB"))
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is no picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large a picture ({error})") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise _unreadable(path, error, "picture") from error


def read_audio(path: Path, rate: int) -> np.ndarray:
    """(samples,) float32 between -1 and 1, channels averaged, at `rate` samples a second.

    Raises:
        ValueError: there is no such file, no sound in it, or one of more than ten minutes.
        ImportError: soundfile is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # an OSError where libsndfile is missing
        raise _absent("sounds need soundfile") from error
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > LONGEST * file.samplerate:
                raise DataError(
                    f"{path} lasts {file.frames / file.samplerate:.0f} seconds: cut it into clips "
                    f"of {LONGEST} at most"
                )
            samples, own = file.read(dtype="float32", always_2d=True).mean(1), file.samplerate
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _unreadable(path, error, "sound") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise DataError(f"{path} has {'no samples' if not len(samples) else 'broken samples'}")
    if own != rate:
        from scipy.signal import resample_poly  # type: ignore[import-untyped]

        divisor = int(np.gcd(own, rate))
        samples = resample_poly(samples, rate // divisor, own // divisor)
    return np.ascontiguousarray(samples, dtype=np.float32)


def _absent(what: str) -> ImportError:
    return ImportError(f'{what}; pip install "hyperagg[media]" brings it')


def _unreadable(path: Path, error: Any, what: str) -> DataError:
    if not path.exists():
        return DataError(f"{path}: there is no such file")
    if path.is_dir():
        return DataError(f"{path} is a folder, not a {what}")
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} is no whole {what} ({reason})")
