"""Images and recordings of digits: MNIST and the Free Spoken Digit Dataset."""

from __future__ import annotations

import io
import wave
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg.data.datasets.download import check_digest, download
from hyperagg.data.directories import cache_directory, data_directory
from hyperagg.data.readers.errors import DataError

__all__ = ["FSDD", "MNIST", "AudioClips", "Digits", "Images", "load_fsdd", "load_mnist"]

MNIST, FSDD = "mnist", "fsdd"
MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
FSDD_URL = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/"
    "26eb9aaf76e81b692f806f9140c2d2777410d7a1.zip"
)
# The digest of the samples of all recordings, in the order of digit, speaker and take: the bytes of
# an archive that GitHub creates again can differ.
FSDD_SHA256 = "801bcecb25fa3bfb54fb3c0b1d94732d8456ce5b0c1f036667852a341a3aacd4"
# The number of takes of each speaker and digit in the test split of the data set.
FSDD_TEST_TAKES = 5


@dataclass(frozen=True)
class Images:
    """Hold images and their labels.

    Args:
        images: (rows, height, width) uint8; 0 is the background.
        labels: (rows,) int64.
    """

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class AudioClips:
    """Hold recordings of any length and their labels.

    Args:
        audio: (samples,) int16, one recording after the other.
        offsets: (rows + 1,) int64; recording i is audio[offsets[i]:offsets[i + 1]].
        labels: (rows,) int64.
        speakers: (rows,) strings.
        sample_rate: samples per second.
    """

    audio: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    speakers: np.ndarray = field(repr=False)
    sample_rate: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return the samples of one recording."""
        return self.audio[self.offsets[row] : self.offsets[row + 1]]


Part = TypeVar("Part", Images, AudioClips)


@dataclass(frozen=True)
class Digits(Generic[Part]):
    """Hold a data set of digits.

    Args:
        train: the split to train on.
        test: the split to evaluate on.
        source: one line that says where the rows came from.
    """

    train: Part
    test: Part
    source: str


def load_mnist() -> Digits[Images]:
    """Load MNIST: 60,000 and 10,000 handwritten digits of 28 × 28 pixels.

    The data is read from HYPERAGG_DATA (mnist/train.npz and test.npz with the arrays `image` and
    `label`), from the cache, or from Keras's storage.

    Raises:
        ValueError: the data cannot be downloaded, or a file is damaged.

    Example:
        >>> load_mnist().train.images.shape  # doctest: +SKIP
        (60000, 28, 28)
    """
    train, test, source = _load(MNIST, ("image", "label"), _fetch_mnist)
    return Digits(_images(train), _images(test), source)


def load_fsdd() -> Digits[AudioClips]:
    """Load the Free Spoken Digit Dataset: 2,700 and 300 recordings at 8 kHz by six speakers.

    The test split is that of the data set: takes 0 to 4 of each speaker and digit. The data is read
    from HYPERAGG_DATA (fsdd/train.npz and test.npz with the arrays `audio`, `offsets`, `label`,
    `speaker` and `sample_rate`), from the cache, or from GitHub.

    Raises:
        ValueError: the data cannot be downloaded, or a file is damaged.

    Example:
        >>> load_fsdd().train.sample_rate  # doctest: +SKIP
        8000
    """
    names = ("audio", "offsets", "label", "speaker", "sample_rate")
    train, test, source = _load(FSDD, names, _fetch_fsdd)
    return Digits(_audio_clips(train), _audio_clips(test), source)


Arrays = dict[str, np.ndarray]


def _load(name: str, names: tuple[str, ...], fetch: Any) -> tuple[Arrays, Arrays, str]:
    own, cache = data_directory(), cache_directory() / name
    if own is not None and (own / name).is_dir():
        folder, source = own / name, f"HYPERAGG_DATA={own / name}"
    else:
        folder, source = cache, f"cache {cache}"
        if not all((cache / f"{part}.npz").is_file() for part in ("train", "test")):
            source = fetch(cache)
    train, test = (_read(folder / f"{part}.npz", names) for part in ("train", "test"))
    return train, test, source


def _read(path: Path, names: tuple[str, ...]) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected the arrays {', '.join(names)}"
        ) from error


def _images(arrays: Arrays) -> Images:
    return Images(arrays["image"], arrays["label"].astype(np.int64))


def _audio_clips(arrays: Arrays) -> AudioClips:
    return AudioClips(
        arrays["audio"],
        arrays["offsets"].astype(np.int64),
        arrays["label"].astype(np.int64),
        arrays["speaker"],
        int(arrays["sample_rate"]),
    )


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _fetch_mnist(cache: Path) -> str:
    with np.load(io.BytesIO(download(MNIST_URL, "sha256", MNIST_SHA256))) as arrays:
        for part in ("train", "test"):
            _write(
                cache / f"{part}.npz", {"image": arrays[f"x_{part}"], "label": arrays[f"y_{part}"]}
            )
    return MNIST_URL


def _fetch_fsdd(cache: Path) -> str:
    archive = download(FSDD_URL, "sha256", None)
    rows = read_recordings(archive)
    check_digest(b"".join(audio.tobytes() for _, audio in rows), "sha256", FSDD_SHA256, FSDD_URL)
    for part in ("train", "test"):
        kept = [row for row in rows if (row[0][2] < FSDD_TEST_TAKES) == (part == "test")]
        _write(cache / f"{part}.npz", join_recordings(kept))
    return FSDD_URL


Recording = tuple[tuple[int, str, int], np.ndarray]


def read_recordings(archive: bytes) -> list[Recording]:
    """Return ((digit, speaker, take), samples) of the files <digit>_<speaker>_<take>.wav."""
    rows = []
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for path in map(Path, files.namelist()):
            if path.suffix == ".wav":
                digit, speaker, take = path.stem.split("_")
                with files.open(path.as_posix()) as file, wave.open(file) as recording:
                    audio = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
                rows.append(((int(digit), speaker, int(take)), audio))
    return sorted(rows, key=lambda row: row[0])


def join_recordings(rows: list[Recording]) -> Arrays:
    """Return recordings as the arrays of a split."""
    names = [name for name, _ in rows]
    return {
        "audio": np.concatenate([audio for _, audio in rows]),
        "offsets": np.cumsum([0, *(len(audio) for _, audio in rows)]),
        "label": np.array([digit for digit, _, _ in names]),
        "speaker": np.array([speaker for _, speaker, _ in names]),
        "sample_rate": np.array(8000),
    }
