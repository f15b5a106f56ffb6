"""Image folders, and the errors about their files."""

from __future__ import annotations

import math
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from hyperagg.data.datasets.digits import load_mnist
from hyperagg.data.readers.audio import read_audio
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.images import read_image, read_image_folder
from tests.fuzz.corpus import MEDIA


@pytest.fixture
def folder(tmp_path):
    digits = load_mnist().test
    for i in range(12):
        name = "even" if digits.labels[i] % 2 == 0 else "odd"
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(digits.images[i]).save(tmp_path / name / f"{i:02}.png")
    (tmp_path / "odd" / "notes.txt").write_text("not an image, and without its extension")
    return tmp_path


def test_a_folder_is_a_class(folder):
    digits = load_mnist().test
    found = read_image_folder(folder)
    assert found.names == ["even", "odd"] and found.images.shape == (12, 28, 28)
    even = [i for i in range(12) if digits.labels[i] % 2 == 0]
    assert np.array_equal(found.images[: len(even)], digits.images[even])
    assert found.labels.tolist() == [0] * len(even) + [1] * (12 - len(even))


def test_one_color_image_gives_all_three_channels(folder):
    Image.new("RGB", (28, 28), (255, 0, 0)).save(folder / "odd" / "99.png")
    found = read_image_folder(folder)
    assert found.images.shape == (13, 28, 28, 3)
    assert found.images[-1, 0, 0].tolist() == [255, 0, 0]


def test_errors_name_the_file(folder, tmp_path):
    path = folder / "odd" / "99.png"
    path.write_bytes((folder / "odd" / "notes.txt").read_bytes())
    with pytest.raises(ValueError, match=r"odd/99\.png: not an image"):
        read_image_folder(folder)
    whole = next((folder / "even").iterdir()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"odd/99\.png: not a complete image"):
        read_image_folder(folder)
    Image.new("L", (28, 27)).save(path)
    with pytest.raises(ValueError, match=r"99\.png: size 28 × 27: expected a square image"):
        read_image_folder(folder)
    Image.new("L", (32, 32)).save(path)
    with pytest.raises(
        ValueError, match=r"99\.png: size 32 × 32: expected that of .*\.png, 28 × 28"
    ):
        read_image_folder(folder)
    with pytest.raises(ValueError, match="nowhere: expected a folder of images"):
        read_image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="even: contains no subfolders with images"):
        read_image_folder(folder / "even")


@pytest.mark.parametrize("name", ["a review " * 190, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_one_short_line(name):
    with pytest.raises(ValueError, match="the file does not exist") as error:
        read_image(name)
    assert len(str(error.value)) < 300 and str(error.value).isprintable()
    pytest.importorskip("soundfile")
    with pytest.raises(ValueError, match="the file does not exist"):
        read_audio(name, 8000)
    with pytest.raises(ValueError, match="expected a folder of images"):
        read_image_folder(name)


def test_an_audio_file_of_an_unknown_format_is_named(tmp_path):
    pytest.importorskip("soundfile")
    (tmp_path / "clip.raw").write_text("no header")
    with pytest.raises(ValueError, match=r"clip\.raw: not a complete audio file"):
        read_audio(tmp_path / "clip.raw", 8000)


@pytest.mark.parametrize("name", [*MEDIA["image"], "a folder"])
def test_images_of_other_formats_and_sizes_are_refused(tmp_path, name):
    path = tmp_path / "image.png"
    if name == "a folder":
        path.mkdir()
    elif (content := MEDIA["image"][name]) is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"image\.png: ") as caught:
        read_image(path)
    assert len(str(caught.value).splitlines()) == 1


def test_no_other_program_is_started_for_an_image(tmp_path, monkeypatch):
    def start(*args, **kwargs):
        raise AssertionError(args)

    monkeypatch.setattr(subprocess, "Popen", start)
    (tmp_path / "a.png").write_bytes(MEDIA["image"]["EPS"] or b"")
    with pytest.raises(DataError, match="expected one of PNG, JPEG, GIF, WEBP"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", MEDIA["audio"])
def test_audio_whose_header_is_out_of_bounds_is_refused(tmp_path, name):
    pytest.importorskip("soundfile")
    path = tmp_path / "clip.wav"
    if (content := MEDIA["audio"][name]) is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.wav: ") as caught:
        read_audio(path, 8000)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("own_rate", "rate"), [(44_100, 8000), (11_025, 16_000), (48_000, 44_100)])
def test_usual_rates_are_resampled_exactly(tmp_path, own_rate, rate):
    soundfile, signal = pytest.importorskip("soundfile"), pytest.importorskip("scipy.signal")
    samples = np.sin(np.arange(own_rate // 20) / 9).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, own_rate, subtype="FLOAT")
    divisor = math.gcd(own_rate, rate)
    expected = signal.resample_poly(samples, rate // divisor, own_rate // divisor)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", rate), expected)


@pytest.mark.parametrize(("own_rate", "rate"), [(383_987, 8000), (7919, 16_001), (44_101, 44_100)])
def test_the_filter_of_odd_rates_is_not_longer(tmp_path, monkeypatch, own_rate, rate):
    soundfile, signal = pytest.importorskip("soundfile"), pytest.importorskip("scipy.signal")
    resample, ratios = signal.resample_poly, []

    def record(samples, up, down):
        ratios.append((up, down))
        return resample(samples, up, down)

    monkeypatch.setattr(signal, "resample_poly", record)
    samples = np.sin(np.arange(own_rate // 4) / own_rate * 2 * np.pi * 100).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, own_rate, subtype="FLOAT")
    found = read_audio(tmp_path / "a.wav", rate)
    ((up, down),) = ratios
    assert min(up, down) <= 1000 and abs(up / down * own_rate / rate - 1) < 1e-4
    expected = np.sin(np.arange(len(found)) / rate * 2 * np.pi * 100)
    inner = slice(len(found) // 10, -len(found) // 10)
    np.testing.assert_allclose(found[inner], expected[inner], atol=5e-3)
