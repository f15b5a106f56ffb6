"""Read audio files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.images import display_path, unreadable

__all__ = ["read_audio"]

MAX_SECONDS = 600  # the frames of a longer recording would not fit into memory


def read_audio(path: Path, sample_rate: int) -> np.ndarray:
    """Read an audio file as one channel at a given sample rate.

    Args:
        path: a file in a format that soundfile reads.
        sample_rate: in samples per second; a file with another one is resampled.

    Returns:
        (samples,) float32 between -1 and 1, the mean of the channels.

    Raises:
        ValueError: the file does not exist, is not audio, or is longer than ten minutes.
        ImportError: soundfile, or SciPy for resampling, is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # an OSError if libsndfile is missing
        raise ImportError("audio requires soundfile: pip install 'hyperagg[multimodal]'") from error
    path = Path(path)
    shown = display_path(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > MAX_SECONDS * file.samplerate:
                raise DataError(
                    f"{shown}: length {file.frames / file.samplerate:.0f} s: expected at most "
                    f"{MAX_SECONDS} s; cut it into clips"
                )
            samples, own_rate = file.read(dtype="float32", always_2d=True).mean(1), file.samplerate
    except DataError:
        raise
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise unreadable(path, error, "audio") from error
    if not len(samples):
        raise DataError(f"{shown}: has no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{shown}: has samples that are not finite")
    if own_rate != sample_rate:
        try:
            from scipy.signal import resample_poly
        except ImportError as error:
            raise ImportError(
                f"{shown}: resampling from {own_rate} to {sample_rate} samples per second requires "
                "SciPy: pip install 'hyperagg[multimodal]'"
            ) from error
        divisor = int(np.gcd(own_rate, sample_rate))
        samples = resample_poly(samples, sample_rate // divisor, own_rate // divisor)
    return np.ascontiguousarray(samples, dtype=np.float32)
