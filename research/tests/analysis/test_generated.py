"""The Fréchet distance and nearest images against known results."""

from __future__ import annotations

import numpy as np
import pytest

from research.analysis.generated import frechet_distance, nearest_images


def test_frechet_distance_of_normal_distributions():
    random = np.random.default_rng(0)
    a = random.normal(size=(20000, 3)).astype(np.float32)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    # Shifted by m and scaled by s along the axes: |m|^2 + sum (s - 1)^2.
    b = random.normal(size=(20000, 3)) * [1, 2, 0.5] + [3, 0, 0]
    assert frechet_distance(a, b) == pytest.approx(9 + 1 + 0.25, rel=0.03)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    # A common rotation changes nothing, and features may be constant.
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(
        frechet_distance(a, b), rel=1e-4
    )
    constant = np.concatenate([a, np.zeros((len(a), 1))], 1)
    assert frechet_distance(constant, constant + np.array([3, 0, 0, 0])) == pytest.approx(
        9, rel=1e-5
    )


def test_nearest_images():
    random = np.random.default_rng(0)
    among, images = random.random((50, 6)), random.random((300, 6))
    images[7] = among[31]
    found = nearest_images(images, among)
    distances = ((images[:, None] - among) ** 2).sum(-1) ** 0.5
    assert np.array_equal(found.rows, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1), atol=1e-3)
    assert found.rows[7] == 31
