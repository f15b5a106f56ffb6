"""Image folders, and the errors about their files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hyperagg.data.datasets.digits import load_mnist
from hyperagg.data.readers.audio import read_audio
from hyperagg.data.readers.images import read_image, read_image_folder


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
