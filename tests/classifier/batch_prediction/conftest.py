from __future__ import annotations

from pathlib import Path

import pytest

import hyperagg
from hyperagg.classifier import Predictor, load_predictor


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the classes "bad", "fair" and "good"."""
    folder = tmp_path_factory.mktemp("model")
    texts, labels = ["a dull film", "a fine film", "a film"] * 8, ["bad", "good", "fair"] * 8
    hyperagg.TextClassifier(d_model=4).fit(texts, labels, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def predictor(model: Path) -> Predictor:
    return load_predictor(model)
