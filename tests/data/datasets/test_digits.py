"""MNIST and FSDD: the local copies, and small imitations of the official files."""

from __future__ import annotations

import hashlib
import io
import os
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hyperagg.data.datasets import digits
from hyperagg.data.readers.errors import DataError


@pytest.fixture
def shared():
    folder = Path(os.environ.get("HYPERAGG_DATA", ""))
    if not (folder / "mnist").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no mnist")
    return folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path / "cache"))


def test_local_mnist(shared):
    data = digits.load_mnist()
    assert data.train.images.shape == (60_000, 28, 28) and len(data.test) == 10_000
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert str(shared) in data.source


def test_local_fsdd(shared):
    data = digits.load_fsdd()
    assert (len(data.train), len(data.test), data.train.sample_rate) == (2_700, 300, 8_000)
    assert np.bincount(data.test.labels).tolist() == [30] * 10
    assert sum(len(data.test[row]) for row in range(300)) == len(data.test.audio)


def test_local_fsdd_equals_the_official_one(shared):
    """The digest that a download is checked against is that of these recordings."""
    rows = []
    for part in ("train", "test"):
        with np.load(shared / "fsdd" / f"{part}.npz") as arrays:
            audio, borders = arrays["audio"], arrays["offsets"]
            names = zip(arrays["label"].tolist(), arrays["speaker"].tolist(), arrays["take"])
            pieces = np.split(audio, borders[1:-1])
            rows += [(name, piece.tobytes()) for name, piece in zip(names, pieces)]
    rows.sort(key=lambda row: row[0])
    found = hashlib.sha256(b"".join(content for _, content in rows)).hexdigest()
    assert found == digits.FSDD_SHA256


def test_mnist_from_its_official_source(empty_cache, monkeypatch):
    rng = np.random.default_rng(0)
    stored = io.BytesIO()
    arrays = {}
    for part, rows in (("train", 6), ("test", 3)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(rows, dtype=np.uint8)
    np.savez(stored, **arrays)
    monkeypatch.setattr(digits, "download", lambda *_: stored.getvalue())
    data = digits.load_mnist()
    assert data.source == digits.MNIST_URL
    assert (data.test.images == arrays["x_test"]).all() and data.test.labels.tolist() == [0, 1, 2]
    monkeypatch.setattr(digits, "download", None)
    assert digits.load_mnist().source.startswith("cache ")


def archive(takes):
    """A zip as GitHub makes it, and the samples of its recordings in the order of the digest."""
    stored, samples = io.BytesIO(), b""
    with zipfile.ZipFile(stored, "w") as files:
        files.writestr("fsdd/README.md", "digits")
        for take in takes:
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(8000)
                sound.writeframes(np.full(10 + take, take, "<i2").tobytes())
            files.writestr(f"fsdd/recordings/3_theo_{take}.wav", content.getvalue())
    for take in sorted(takes):
        samples += np.full(10 + take, take, "<i2").tobytes()
    return stored.getvalue(), hashlib.sha256(samples).hexdigest()


def test_fsdd_from_its_official_source(empty_cache, monkeypatch):
    content, digest = archive([7, 0, 12, 4, 5])
    monkeypatch.setattr(digits, "download", lambda *_: content)
    monkeypatch.setattr(digits, "FSDD_SHA256", digest)
    data = digits.load_fsdd()
    assert [len(data.train[row]) for row in range(3)] == [15, 17, 22]
    assert [data.test[row].tolist() for row in range(2)] == [[0] * 10, [4] * 14]
    assert data.train.labels.tolist() == [3, 3, 3] and data.train.speakers[0] == "theo"


def test_fsdd_with_other_samples_is_refused(empty_cache, monkeypatch):
    content, _ = archive([0, 5])
    monkeypatch.setattr(digits, "download", lambda *_: content)
    with pytest.raises(DataError, match="damaged or changed at its source"):
        digits.load_fsdd()


def test_error_names_a_damaged_file(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train.npz").write_bytes(b"PK\x03\x04 no more")
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"train\.npz: cannot be read .* arrays image, label"):
        digits.load_mnist()
