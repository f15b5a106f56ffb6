"""Written and spoken digits of three classes as a table with missing cells."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.data.datasets.digits import load_fsdd, load_mnist

NAMES = ["zero", "one", "two"]


@pytest.fixture(scope="session")
def digits():
    """400 rows in five columns, each cell but the image missing in one row of four; labels."""
    images, clips = load_mnist().train, load_fsdd().train
    rows = np.flatnonzero(images.labels < len(NAMES))[:400]
    labels, rng = images.labels[rows].tolist(), np.random.default_rng(0)
    clips_of = [np.flatnonzero(clips.labels == digit) for digit in range(len(NAMES))]
    complete = {
        "image": list(images.images[rows]),
        "audio": [clips[int(rng.choice(clips_of[digit]))] for digit in labels],
        "word": [f"the digit {NAMES[digit]}" for digit in labels],
        "parity": [str(digit % 2) for digit in labels],
        "ink": [float(image.mean()) for image in images.images[rows]],
    }
    columns = {
        name: [cell if name == "image" or rng.random() > 0.25 else None for cell in column]
        for name, column in complete.items()
    }
    return columns, [NAMES[digit] for digit in labels]
