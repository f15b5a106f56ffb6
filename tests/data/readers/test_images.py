"""Image folders, and the errors about their files."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
from PIL import Image, features

from hyperagg.data.datasets.digits import load_mnist
from hyperagg.data.readers import audio
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


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled(tmp_path, suffix):
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    found = read_image(tmp_path / f"a.{suffix}")
    assert np.array_equal(found, levels >> 8) and found.dtype == np.uint8


def _tiff(width: int, bits: int, photometric: int, pixels: bytes) -> bytes:
    """A grayscale image of one row."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1, 278: 1}
    tags |= {279: len(pixels), 339: 1}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + pixels


def test_12_bits_and_16_bits_with_white_as_zero_are_scaled(tmp_path):
    (tmp_path / "a.tif").write_bytes(_tiff(2, 12, 1, bytes([0x80, 0x0F, 0xFF])))
    assert read_image(tmp_path / "a.tif").tolist() == [[0x80, 0xFF]]
    (tmp_path / "a.tif").write_bytes(_tiff(2, 16, 0, struct.pack("<HH", 0, 0x4000)))
    assert read_image(tmp_path / "a.tif").tolist() == [[0xFF, 0xBF]]


@pytest.mark.parametrize(
    ("pixels", "kind"), [(np.float32(0.5), "floating-point"), (np.int32(70_000), "32-bit")]
)
def test_numbers_without_a_defined_white_are_refused(tmp_path, pixels, kind):
    Image.fromarray(np.full((4, 4), pixels)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: the pixels are {kind}.*: expected 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def _streamed_flac(path):
    """A file without its length, as an encoder writes it to a pipe."""
    soundfile = pytest.importorskip("soundfile")
    samples = np.sin(np.arange(300_000) / 9)
    soundfile.write(path, samples, 8000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return samples


def test_flac_without_its_length_is_read_up_to_the_limit(tmp_path, monkeypatch):
    samples = _streamed_flac(tmp_path / "a.flac")
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac", 8000), samples, atol=1e-4)
    monkeypatch.setattr(audio, "MAX_SECONDS", 35)
    with pytest.raises(DataError, match=r"a\.flac: length .* s: expected at most 35 s"):
        read_audio(tmp_path / "a.flac", 8000)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("wav", {"endian": "BIG"}), ("au", {"endian": "LITTLE"}), ("rf64", {"format": "RF64"})],
)
def test_either_byte_order_is_read(tmp_path, suffix, options):
    soundfile = pytest.importorskip("soundfile")
    samples = np.sin(np.arange(1000) / 9)
    soundfile.write(tmp_path / f"a.{suffix}", samples, 8000, "PCM_16", **options)
    found = read_audio(tmp_path / f"a.{suffix}", 8000)
    np.testing.assert_allclose(found, samples, atol=1e-4)


def test_mp3_that_does_not_begin_at_a_frame_is_read(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "a.mp3", samples, 16_000)
    content = (tmp_path / "a.mp3").read_bytes()
    for changed in (bytes(100) + content, content[700:]):
        (tmp_path / "a.mp3").write_bytes(changed)
        assert len(read_audio(tmp_path / "a.mp3", 16_000)) > 8000


@pytest.mark.parametrize("format", ["SVX", "VOC", "NIST", "PAF", "AVR", "MAT5"])
@pytest.mark.parametrize("suffix", ["bin", "mp3"])
def test_other_audio_formats_are_refused(tmp_path, format, suffix):
    soundfile = pytest.importorskip("soundfile")
    with (tmp_path / f"a.{suffix}").open("wb") as file:
        soundfile.write(file, np.zeros(100), 8000, "PCM_16", format=format)
    with pytest.raises(DataError, match=rf"a\.{suffix}: .*expected WAV, FLAC, Ogg"):
        read_audio(tmp_path / f"a.{suffix}", 8000)


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


def test_no_more_memory_is_asked_for_than_the_file_is_long(tmp_path):
    """Pillow reads the rest of the last chunk of pixels, as long as its header says."""
    path = tmp_path / "image.png"
    pixels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(pixels).save(path)
    before, after = path.read_bytes().split(b"IDAT")
    path.write_bytes(before[:-4] + (10**9).to_bytes(4, "big") + b"IDAT" + after)
    tracemalloc.start()
    try:
        assert np.array_equal(read_image(path), pixels)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_a_byte_of_an_avif_image_may_be_wrong(tmp_path):
    """Pillow raises a TypeError for some of them."""
    if not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    path = tmp_path / "image.avif"
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    content, refused = path.read_bytes(), 0
    for at in range(0, len(content), 2):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            read_image(path)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 50


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
