"""Read audio files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.regular_file import open_regular
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.images import display_path, unreadable

__all__ = ["UNKNOWN_FRAMES", "iter_blocks", "open_audio", "read_audio", "read_samples"]

# The frames of a longer recording would not fit into memory.
MAX_SECONDS, MAX_SAMPLES = 600, 2**26
MAX_BYTES, MAX_CHANNELS = 2**30, 64
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384_000
FORMATS = "WAV, FLAC, Ogg, MP3, AIFF, AU, CAF or W64"
# As libsndfile calls them. It knows others, whose decoders hardly anyone uses or tests.
_FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64"}
_BEGINNINGS = (
    *(b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"dns.", b"caff"),
    b"riff",
    *(bytes([0xFF, second]) for second in range(0xE0, 0x100)),  # a frame of MP3
)
# The number of frames according to libsndfile where the header does not have it: an encoder that
# writes FLAC to a pipe leaves it 0.
UNKNOWN_FRAMES = 2**63 - 1
_SAMPLES_PER_BLOCK = 2**18
# Of the ratio of two sample rates. The length of the filter is proportional to it. All ratios of
# the usual rates are exact, and any other one is, to one in a million.
_MAX_DENOMINATOR = 1000


def read_audio(path: Path, sample_rate: int) -> np.ndarray:
    """Read an audio file as one channel at a given sample rate.

    Args:
        path: a WAV, FLAC, Ogg, MP3, AIFF, AU, CAF or W64 file, recognized by its content. MP3
            that does not begin at a frame is recognized by the extension .mp3.
        sample_rate: in samples per second; a file with another one is resampled.

    Returns:
        (samples,) float32 between -1 and 1, the mean of the channels.

    Raises:
        ValueError: the file does not exist, is not audio, is longer than ten minutes or 2^26
            samples, or has a sample rate beyond 1,000 to 384,000 or more than 64 channels.
        ImportError: soundfile, or SciPy for resampling, is not installed.

    Cost: proportional to the samples in the file, whatever its header promises, and to those of the
        result.
    """
    samples, own_rate = read_samples(path)
    if own_rate != sample_rate:
        samples = _resample(samples, own_rate, sample_rate, display_path(Path(path)))
    return np.ascontiguousarray(samples, dtype=np.float32)


def read_samples(path: Path) -> tuple[np.ndarray, int]:
    """Read an audio file as one channel, and return its samples and its own sample rate.

    Raises:
        ValueError, ImportError: as for `read_audio`.
    """
    with open_audio(path) as file:
        shown, own_rate = display_path(Path(path)), int(file.samplerate)
        blocks = [block.mean(1) for block in iter_blocks(file, shown)]
    if not blocks:
        raise DataError(f"{shown}: has no samples")
    samples = np.concatenate(blocks)
    if not np.isfinite(samples).all():
        raise DataError(f"{shown}: has samples that are not finite")
    return samples, own_rate


def iter_blocks(file: Any, shown: str) -> Iterator[np.ndarray]:
    """Yield the samples of a `soundfile.SoundFile` as (frames, channels) float32 in blocks.

    A header may promise more than there is, or not say how long the recording is.

    Args:
        file: as `open_audio` opens it.
        shown: the file in errors.

    Raises:
        ValueError: as soon as the recording is longer than `read_audio` accepts.
    """
    size, frames = max(1, _SAMPLES_PER_BLOCK // file.channels), 0
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        frames += len(block)
        _check_length(shown, frames, file.samplerate, file.channels)
        yield block


@contextmanager
def open_audio(path: Path) -> Iterator[Any]:
    """Open an audio file whose header has been checked, as a `soundfile.SoundFile`.

    Raises:
        ValueError: as for `read_audio`, also for whatever soundfile raises in the block.
        ImportError: soundfile is not installed.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # an OSError if libsndfile is missing
        raise ImportError("audio requires soundfile: pip install 'hyperagg[multimodal]'") from error

    class SequentialFile(soundfile.SoundFile):
        """Does not seek in a file without a known end, as soundfile does after every read."""

        def seekable(self) -> bool:
            return self.frames != UNKNOWN_FRAMES and bool(super().seekable())

    path = Path(path)
    shown = display_path(path)
    try:
        with open_regular(path, MAX_BYTES) as opened:
            begin = opened.read(4)
        # libsndfile looks for the first frame of MP3 in files of this name only.
        if not begin.startswith(_BEGINNINGS) and path.suffix.lower() != ".mp3":
            raise DataError(f"{shown}: not a complete audio file (expected {FORMATS})")
        with SequentialFile(path) as file:
            if file.format not in _FORMATS:
                raise DataError(f"{shown}: the format {file.format}: expected {FORMATS}")
            _check_header(shown, file.frames, file.samplerate, file.channels)
            yield file
    except DataError:
        raise
    except Exception as error:  # damaged files lead decoders to errors of any class
        raise unreadable(path, error, "audio") from error


def _check_header(shown: str, frames: int, sample_rate: int, channels: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise DataError(
            f"{shown}: {sample_rate} samples per second: expected {MIN_SAMPLE_RATE:,} to "
            f"{MAX_SAMPLE_RATE:,}"
        )
    if channels > MAX_CHANNELS:
        raise DataError(f"{shown}: {channels} channels: expected at most {MAX_CHANNELS}")
    if frames != UNKNOWN_FRAMES:
        _check_length(shown, frames, sample_rate, channels)


def _check_length(shown: str, frames: int, sample_rate: int, channels: int) -> None:
    if frames > MAX_SECONDS * sample_rate:
        raise DataError(
            f"{shown}: length {frames / sample_rate:.0f} s: expected at most {MAX_SECONDS} s; cut "
            "it into clips"
        )
    if frames * channels > MAX_SAMPLES:
        raise DataError(
            f"{shown}: {frames * channels:,} samples: expected at most {MAX_SAMPLES:,}; cut it "
            "into clips"
        )


def _resample(samples: np.ndarray, own_rate: int, sample_rate: int, shown: str) -> np.ndarray:
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise ImportError(
            f"{shown}: resampling from {own_rate} to {sample_rate} samples per second requires "
            "SciPy: pip install 'hyperagg[multimodal]'"
        ) from error
    if sample_rate < own_rate:
        ratio = Fraction(sample_rate, own_rate).limit_denominator(_MAX_DENOMINATOR)
    else:
        ratio = 1 / Fraction(own_rate, sample_rate).limit_denominator(_MAX_DENOMINATOR)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator))
