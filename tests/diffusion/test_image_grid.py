from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hyperagg.diffusion.image_grid import image_grid, write_animation, write_image


@pytest.fixture
def images():
    images = np.zeros((5, 4, 4))
    images[3] = 1
    return images


def test_images_are_arranged_row_by_row(images):
    grid = image_grid(images, 3, scale=2)
    assert grid.size == (30, 20) and grid.mode == "L"
    assert grid.getpixel((5, 15)) == 255 and grid.getpixel((15, 5)) == 0


def test_three_channels_give_a_color_image():
    assert image_grid(np.zeros((2, 4, 4, 3)), 1, scale=1).mode == "RGB"


def test_written_images_and_animations_are_read_back(images, tmp_path):
    grid = image_grid(images, 3)
    write_image(grid, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(grid))
    write_animation([grid, image_grid(1 - images, 3), grid], tmp_path / "grid.gif")
    with Image.open(tmp_path / "grid.gif") as image:
        assert image.n_frames == 3


def test_file_names_without_an_image_format_are_refused(images, tmp_path):
    grid = image_grid(images, 3)
    with pytest.raises(ValueError, match=r"grid\.xyz: expected a file name that ends in an image"):
        write_image(grid, tmp_path / "grid.xyz")
    with pytest.raises(ValueError, match=r"grid\.png: expected a file name that ends in \.gif"):
        write_animation([grid], tmp_path / "grid.png")
